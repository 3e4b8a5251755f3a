//! Answers that make us serve a file.

use sluicegate_testkit::corpus::Tree;

use crate::proxied::PATIENCE;
use crate::proxied::answers::{head, text};
use crate::proxied::client::Expected;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

const LENGTH: u64 = 400_000;

fn upstream() -> Upstream {
    Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        let Some(to) = target.strip_prefix("/to") else { return text(exchange, "plain") };
        let lines = [
            &*format!("X-Accel-Redirect: {to}"),
            "Content-Type: application/x-theirs",
            "Content-Disposition: attachment",
            "X-Accel-Limit-Rate: 1",
            "X-Accel-Expires: 60",
            "X-Accel-Charset: koi8-r",
            "Set-Cookie: a=b",
            "Content-Length: 6",
        ];
        exchange.send(head("200 OK", &lines) + "unseen")?;
        Ok(Next::Keep)
    })
}

#[test]
fn an_upstream_has_us_serve_a_file_that_nobody_else_can_ask_for() {
    let tree = Tree::new().unwrap().file("hidden/data", 5, LENGTH).unwrap();
    let tree = tree.file("hidden/deep/data", 6, LENGTH).unwrap();
    let routes = format!(
        "[[site.route]]\npath = \"/hidden/\"\ninternal = true\nfiles = {{ root = {:?} }}\n",
        tree.path()
    );
    std::thread::sleep(std::time::Duration::from_millis(150));
    let upstream = upstream();
    let setup = Setup::to(&[&upstream]).proxy("accel = true").routes(&routes);
    let proxied = Proxied::start(&setup);
    let mut client = proxied.client();
    client.get("/hidden/data").whole(404);
    client.ask("GET /to/hidden/data HTTP/1.1", &[]);
    let reply = client.reply("GET", Expected::Corpus(5, 0)).whole(200);
    assert_eq!(reply.length, LENGTH);
    assert_eq!(reply.field("Content-Type"), Some("application/x-theirs"));
    assert_eq!(reply.field("Content-Disposition"), Some("attachment"));
    assert_eq!(reply.field("Set-Cookie"), Some("a=b"));
    assert!(!reply.head.raw.to_ascii_lowercase().contains("x-accel-"), "{}", reply.head.raw);
    client.ask("GET /to/hidden/data HTTP/1.1", &["Range: bytes=1000-1999"]);
    let reply = client.reply("GET", Expected::Corpus(5, 1_000)).whole(206);
    assert_eq!(reply.length, 1_000);
    client.ask("HEAD /to/hidden/data HTTP/1.1", &[]);
    let reply = client.reply("HEAD", Expected::Any).whole(200);
    assert_eq!(reply.field("Content-Length"), Some(&*LENGTH.to_string()));
    client.get("/to/hidden/none").whole(404);
    // A directory is no file, and where it is is none of the client's business.
    let reply = client.get("/to/hidden/deep").whole(502);
    assert_eq!(reply.field("Location"), None);
    assert_eq!(proxied.logged("/to/hidden/deep")["trouble"], "accel");
    // One that leads to the upstream again is no way to turn for ever: it is asked once.
    let reply = client.get("/to/to/to/hidden/data").whole(502);
    assert!(reply.field("Set-Cookie").is_none() && reply.field("X-Accel-Redirect").is_none());
    assert_eq!(proxied.logged("/to/to/to/hidden/data")["trouble"], "accel");
    assert_eq!(upstream.count(|asked| asked.target().starts_with("/to/to")), 1);
    // Beyond the root there is nothing.
    client.get("/to/hidden/%2e%2e/%2e%2e/%2e%2e/etc/passwd").whole(400);
    client.assert_usable("/plain");
    proxied.stop();
}

#[test]
fn an_upstream_that_is_not_trusted_with_it_has_us_serve_nothing() {
    let tree = Tree::new().unwrap().file("hidden/data", 5, LENGTH).unwrap();
    let routes = format!(
        "[[site.route]]\npath = \"/hidden/\"\ninternal = true\nfiles = {{ root = {:?} }}\n",
        tree.path()
    );
    let upstream = upstream();
    // The configuration may say that nothing leads there.
    let other = "[[site.route]]\npath = \"/trusted/\"\nproxy = { pool = \"app\", accel = true }\n";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).routes(&(routes + other)));
    let reply = proxied.client().get("/to/hidden/data").whole(200);
    assert_eq!(reply.text(), "unseen");
    assert!(!reply.head.raw.to_ascii_lowercase().contains("x-accel-"), "{}", reply.head.raw);
}

/// Server-sent events: each is with the client before the next is made.
#[test]
fn events_go_on_as_they_come() {
    for fields in [&["X-Accel-Buffering: no"][..], &[]] {
        for framing in ["Transfer-Encoding: chunked", "Connection: close"] {
            let (seen, is_seen) = std::sync::mpsc::channel::<()>();
            let is_seen = std::sync::Mutex::new(is_seen);
            let fields = fields.to_vec();
            let upstream = Upstream::new(move |exchange| {
                let mut lines = vec!["Content-Type: text/event-stream", framing];
                lines.extend_from_slice(&fields);
                exchange.send(head("200 OK", &lines))?;
                let is_chunked = framing.ends_with("chunked");
                for number in 0..5 {
                    let event = format!("data: {number}\n\n");
                    if is_chunked {
                        exchange.send(format!("{:x}\r\n{event}\r\n", event.len()))?;
                    } else {
                        exchange.send(event)?;
                    }
                    is_seen.lock().unwrap().recv_timeout(PATIENCE).unwrap();
                }
                if is_chunked {
                    exchange.send("0\r\n\r\n")?;
                    return Ok(Next::Keep);
                }
                Ok(Next::Close)
            });
            let proxied = Proxied::new(&upstream);
            let mut client = proxied.client();
            client.ask("GET /events HTTP/1.1", &[]);
            let head = client.incoming.head().unwrap().unwrap();
            assert!(!head.raw.to_ascii_lowercase().contains("x-accel-"), "{}", head.raw);
            for number in 0..5 {
                // Both framings are chunks here.
                let size = client.incoming.line().unwrap();
                assert_eq!(size, "9");
                let event = client.incoming.exactly(9).unwrap();
                assert_eq!(event, format!("data: {number}\n\n").as_bytes());
                assert_eq!(client.incoming.line().unwrap(), "");
                seen.send(()).unwrap();
            }
            assert_eq!(client.incoming.line().unwrap(), "0");
        }
    }
}
