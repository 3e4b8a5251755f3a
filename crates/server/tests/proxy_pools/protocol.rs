//! HAProxy's PROXY protocol, in and out.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use crate::proxied::answers::text;
use crate::proxied::client::{Client, Expected};
use crate::proxied::incoming::{Broken, Incoming};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Stream, Upstream};

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";

/// What headers said: source, destination.
type Told = Arc<Mutex<Vec<(SocketAddr, SocketAddr)>>>;

/// An upstream whose connections begin with a header, and what these said.
fn told() -> (Upstream, Told) {
    let told = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&told);
    let preface = move |incoming: &mut Incoming<Stream>| {
        let first = incoming.exactly(12)?;
        let addresses = if first == SIGNATURE {
            let rest = incoming.exactly(4)?;
            assert_eq!(rest[..2], [0x21, 0x11], "version 2, PROXY, TCP over IPv4");
            let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
            let body = incoming.exactly(length)?;
            let address = |at: usize, port: usize| {
                let host = [body[at], body[at + 1], body[at + 2], body[at + 3]];
                SocketAddr::from((host, u16::from_be_bytes([body[port], body[port + 1]])))
            };
            (address(0, 8), address(4, 10))
        } else {
            let line = String::from_utf8_lossy(&first).into_owned() + &incoming.line()?;
            let words: Vec<&str> = line.split(' ').collect();
            let ["PROXY", "TCP4", from, to, from_port, to_port] = words[..] else {
                return Err(Broken::Malformed(line));
            };
            let address = |host: &str, port: &str| format!("{host}:{port}").parse().unwrap();
            (address(from, from_port), address(to, to_port))
        };
        seen.lock().unwrap().push(addresses);
        Ok(())
    };
    (Upstream::after(preface, |exchange| text(exchange, "told")), told)
}

#[test]
fn an_upstream_is_told_of_each_client_on_a_connection_of_its_own() {
    for version in ["v1", "v2"] {
        let (upstream, told) = told();
        let setup = Setup::to(&[&upstream]).pool(&format!("proxy_protocol = \"{version}\""));
        let proxied = Proxied::start(&setup.workers(1));
        let mut clients = Vec::new();
        for _ in 0..5 {
            let mut client = proxied.client();
            client.get("/one").whole(200);
            client.get("/two").whole(200);
            clients.push(client.stream().local_addr().unwrap());
        }
        for (source, destination) in told.lock().unwrap().iter() {
            assert!(clients.contains(source), "{source} of {clients:?}");
            assert_eq!(*destination, proxied.address, "{version}");
        }
        // No request came on a connection that had told of another client.
        for asked in upstream.asked() {
            let (source, _) = told.lock().unwrap()[asked.connection];
            let others = upstream.asked();
            let of_client = others.iter().filter(|other| other.connection == asked.connection);
            assert!(of_client.count() <= 2 && clients.contains(&source));
        }
    }
}

fn header(version: u8, from: &str) -> Vec<u8> {
    let from: SocketAddr = from.parse().unwrap();
    let SocketAddr::V4(from) = from else { unreachable!() };
    if version == 1 {
        return format!("PROXY TCP4 {} 192.0.2.1 {} 443\r\n", from.ip(), from.port()).into_bytes();
    }
    let mut header = SIGNATURE.to_vec();
    // With one extension behind the addresses, which is passed over.
    header.extend([0x21, 0x11, 0, 12 + 5]);
    header.extend(from.ip().octets());
    header.extend([192, 0, 2, 1]);
    header.extend(from.port().to_be_bytes());
    header.extend(443_u16.to_be_bytes());
    header.extend([0x04, 0, 2, 0, 0]);
    header
}

#[test]
fn a_load_balancer_tells_who_the_client_is() {
    let upstream = Upstream::new(|exchange| text(exchange, "fine"));
    let top = "proxy_protocol_from = [\"127.0.0.0/8\"]";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).top(top));
    for version in [1, 2] {
        let mut client = Client::new(proxied.address);
        let mut bytes = header(version, "203.0.113.7:5555");
        bytes.extend(format!("GET /{version} HTTP/1.1\r\nHost: h\r\n\r\n").into_bytes());
        // In pieces, wherever they are cut.
        for piece in bytes.chunks(7) {
            client.send(piece);
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        client.reply("GET", Expected::Any).whole(200);
        let target = format!("/{version}");
        assert_eq!(upstream.one(&target).head.field("X-Forwarded-For"), Some("203.0.113.7"));
        let line = proxied.logged(&target);
        assert_eq!((&line["client"], &line["client_port"]), (&"203.0.113.7".into(), &5555.into()));
        client.assert_usable("/again");
    }
    // Without one, nobody is believed.
    let mut client = Client::new(proxied.address);
    client.ask("GET /without HTTP/1.1", &[]);
    match client.try_reply("GET", Expected::Any) {
        Ok(reply) => assert_eq!(reply.status, 400),
        Err(broken) => assert!(!matches!(broken, Broken::Silent), "{broken:?}"),
    }
    assert_eq!(upstream.count(|asked| asked.target() == "/without"), 0);

    // From elsewhere, one with it is no request.
    let top = "proxy_protocol_from = [\"192.0.2.0/24\"]";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).top(top));
    let mut client = Client::new(proxied.address);
    let request = "GET /elsewhere HTTP/1.1\r\nHost: h\r\n\r\n";
    client.send([&header(1, "203.0.113.7:5555"), request.as_bytes()].concat());
    let reply = client.try_reply("GET", Expected::Any);
    assert!(reply.as_ref().map_or(true, |reply| reply.status == 400), "{reply:?}");
    assert_eq!(upstream.count(|asked| asked.target() == "/elsewhere"), 0);
    proxied.client().get("/plain").whole(200);
}
