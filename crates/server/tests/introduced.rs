//! Connections of a load balancer, which begin by telling whose they are.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM, Served};

/// Serves only a client that comes from 203.0.113.0/24; heads may take a second.
fn run() -> (Served, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let config = r#"
        listen = ["127.0.0.1:0"]
        workers = 2
        admin = "127.0.0.1:0"
        proxy_protocol_from = ["192.0.2.0/24", "127.0.0.1/32"]

        [timeouts]
        head = "1s"

        [[site]]
        [[site.route]]
        path = "/"
        allow = ["203.0.113.0/24"]
        respond = { status = 200, text = "known" }
    "#;
    let path = directory.path().join("test.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(path);
    (Served::by(command), directory)
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// The status of the answer to these pieces, each sent by itself; 0 where the
/// connection is closed without one.
fn status(served: &Served, pieces: &[&[u8]]) -> u16 {
    let mut stream = served.connect();
    stream.set_nodelay(true).unwrap();
    for piece in pieces {
        if stream.write_all(piece).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(3));
    }
    read_status(&mut stream)
}

fn read_status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    // A reset is an end too.
    let _ = stream.read_to_end(&mut answer);
    let text = String::from_utf8_lossy(&answer);
    text.split(' ').nth(1).map_or(0, |status| status.parse().unwrap())
}

/// Connections that ended since they were not introduced, once they are `expected`.
fn strangers(admin: SocketAddr, expected: u64) {
    let begin = Instant::now();
    loop {
        let mut stream = TcpStream::connect(admin).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut metrics = String::new();
        stream.read_to_string(&mut metrics).unwrap();
        let name = "sluicegate_connections_ended_early_total{reason=\"proxy_header\"} ";
        let line = metrics.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        if line.trim().parse::<u64>().unwrap() == expected {
            return;
        }
        assert!(begin.elapsed() < PATIENCE, "{line} and not {expected}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_header_names_the_client_however_it_comes() {
    let (mut served, _directory) = run();
    let admin = served.admin();
    let line = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n";
    let both = [&line[..], REQUEST].concat();
    assert_eq!(status(&served, &[&both]), 200);
    assert_eq!(status(&served, &[line, REQUEST]), 200);
    let bytes: Vec<&[u8]> = both.chunks(1).collect();
    assert_eq!(status(&served, &bytes), 200);
    // In the middle of the request's first line.
    assert_eq!(status(&served, &[&both[..50], &both[50..]]), 200);
    let other = [&b"PROXY TCP4 203.0.114.9 198.51.100.1 4711 80\r\n"[..], REQUEST].concat();
    assert_eq!(status(&served, &[&other]), 403);
    let mut binary = b"\r\n\r\n\0\r\nQUIT\n\x21\x11".to_vec();
    // With more behind the addresses than was looked at first.
    binary.extend_from_slice(&(12_u16 + 3000).to_be_bytes());
    binary.extend_from_slice(&[203, 0, 113, 9, 198, 51, 100, 1, 1, 2, 0, 80]);
    binary.extend_from_slice(&[7; 3000]);
    binary.extend_from_slice(REQUEST);
    assert_eq!(status(&served, &[&binary]), 200);
    assert_eq!(status(&served, &[&binary[..900], &binary[900..3000], &binary[3000..]]), 200);
    // Who speaks for itself is its own client: 127.0.0.1.
    assert_eq!(status(&served, &[b"PROXY UNKNOWN\r\n", REQUEST]), 403);
    strangers(admin, 0);
    served.stop();
}

#[test]
fn who_is_not_introduced_is_closed_and_counted() {
    let (mut served, _directory) = run();
    let admin = served.admin();
    assert_eq!(status(&served, &[REQUEST]), 0);
    strangers(admin, 1);
    assert_eq!(status(&served, &[b"PROXY TCP4 x y 1 2\r\n", REQUEST]), 0);
    strangers(admin, 2);
    // It ends in the middle of its header.
    let mut stream = served.connect();
    stream.write_all(b"PROXY TC").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!(read_status(&mut stream), 0);
    strangers(admin, 3);
    // The rest does not come, nor anything.
    let mut late = [served.connect(), served.connect()];
    late[0].write_all(b"PROXY TC").unwrap();
    assert_eq!(late.each_mut().map(read_status), [0, 0]);
    strangers(admin, 5);
    // Somebody looks whether we are here.
    drop(served.connect());
    let known = [&b"PROXY TCP6 ::1 ::2 1 2\r\n"[..], REQUEST].concat();
    assert_eq!(status(&served, &[&known]), 403);
    strangers(admin, 5);
    // One that waits with its header keeps nobody from ending.
    let _waiting = served.connect();
    std::thread::sleep(Duration::from_millis(50));
    let begin = Instant::now();
    served.stop();
    assert!(begin.elapsed() < PATIENCE);
}

#[test]
fn a_site_is_found_where_the_connection_came_in() {
    // Its own `listen` has to name a port.
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let log = directory.path().join("log");
    let config = format!(
        "workers = 1\naccess_log = {{ path = {log:?}, format = \"json\" }}\n\
         proxy_protocol_from = [\"127.0.0.1/32\"]\n\
         [[site]]\nlisten = [\"127.0.0.1:{port}\"]\n[[site.route]]\npath = \"/\"\n\
         respond = {{ status = 200, text = \"here\" }}\n"
    );
    let path = directory.path().join("test.toml");
    std::fs::write(&path, config).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(path);
    let served = Served::by(command);
    // Whatever address of its own the balancer names: that is for the log.
    let line = b"PROXY TCP4 203.0.113.9 198.51.100.1 4711 80\r\n";
    assert_eq!(status(&served, &[line, REQUEST]), 200);
    assert_eq!(status(&served, &[b"PROXY UNKNOWN\r\n", REQUEST]), 200);
    served.stop();
    let log = std::fs::read_to_string(log).unwrap();
    assert!(log.contains("\"server\":\"198.51.100.1:80\""), "{log}");
    assert!(log.contains(&format!("\"server\":\"127.0.0.1:{port}\"")), "{log}");
}
