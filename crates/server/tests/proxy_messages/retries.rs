//! What is tried again, and what never is.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::proxied::answers::{head, text};
use crate::proxied::client::Expected;
use crate::proxied::eventually;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

/// An upstream that fails each request in the same way.
fn failing(next: Next, before: &'static str) -> Upstream {
    Upstream::new(move |exchange| {
        if next != Next::Reset {
            let _ = exchange.receive_content();
        }
        if !before.is_empty() {
            exchange.send(before)?;
        }
        Ok(next)
    })
}

fn good() -> Upstream {
    Upstream::new(|exchange| {
        let _ = exchange.receive_content();
        let length = exchange.asked.content.len();
        text(exchange, &format!("good {length}"))
    })
}

/// The address of nobody.
fn nobody() -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    format!("{:?}", listener.local_addr().unwrap().to_string())
}

/// Requests with these methods and contents, all of which reach the bad server first at least
/// once: the statuses of the answers.
fn ask(proxied: &Proxied, method: &str, content: &str) -> Vec<u16> {
    (0..4)
        .map(|number| {
            let mut client = proxied.client();
            let length = format!("Content-Length: {}", content.len());
            let fields = if content.is_empty() { vec![] } else { vec![length.as_str()] };
            client.ask(&format!("{method} /{method}/{number}/{} HTTP/1.1", content.len()), &fields);
            client.send(content);
            client.reply(method, Expected::Any).status
        })
        .collect()
}

#[test]
fn what_is_idempotent_is_tried_elsewhere_and_nothing_else_is() {
    for next in [Next::Close, Next::Reset] {
        let (bad, good) = (failing(next, ""), good());
        let proxied =
            Proxied::start(&Setup::to(&[&bad, &good]).pool("ejection = false").workers(1));
        for (method, content, is_repeated) in [
            ("GET", "", true),
            ("HEAD", "", true),
            ("PUT", "", true),
            ("DELETE", "", true),
            ("OPTIONS", "", true),
            ("POST", "hello", false),
            ("PATCH", "hello", false),
            ("POST", "", false),
        ] {
            let statuses = ask(&proxied, method, content);
            let failed = statuses.iter().filter(|status| **status == 502).count();
            let fine = statuses.iter().filter(|status| **status == 200).count();
            assert_eq!(failed + fine, 4, "{method}: {statuses:?}");
            if is_repeated {
                assert_eq!(failed, 0, "{next:?} {method} {content}: {statuses:?}");
            } else {
                assert!(failed > 0, "{next:?} {method}: {statuses:?}");
            }
            let mut both = bad.asked();
            both.extend(good.asked());
            if !is_repeated {
                for asked in &both {
                    let same = both.iter().filter(|other| other.target() == asked.target());
                    assert!(asked.method() != method || same.count() == 1, "twice: {asked:#?}");
                }
            }
        }
    }
}

#[test]
fn what_was_never_sent_is_tried_elsewhere_whatever_it_is() {
    let good = good();
    let mut setup = Setup::to(&[&good]).pool("ejection = false");
    setup.servers.insert(0, nobody());
    let proxied = Proxied::start(&setup);
    for (method, content) in [("GET", ""), ("POST", "hello"), ("POST", &*"x".repeat(300_000))] {
        assert_eq!(ask(&proxied, method, content), [200; 4]);
    }
    assert!(good.repeated().is_empty(), "{:?}", good.repeated());
    assert!(good.asked().iter().all(|asked| asked.is_whole));
    eventually("some were tried twice", || {
        proxied.log().iter().any(|line| line["upstream_tries"] == 2)
    });
}

#[test]
fn nothing_is_tried_again_once_an_answer_has_begun() {
    let bad = failing(Next::Close, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
    let good = good();
    let proxied = Proxied::start(&Setup::to(&[&bad, &good]).pool("ejection = false").workers(1));
    for number in 0..6 {
        let target = format!("/{number}");
        let mut client = proxied.client();
        client.ask(&format!("GET {target} HTTP/1.1"), &[]);
        if let Ok(reply) = client.try_reply("GET", Expected::Any) {
            let is_good = reply.broken.is_none() && reply.text().starts_with("good");
            assert!(is_good || reply.status == 502 || reply.broken.is_some(), "{reply:?}");
        }
    }
    let mut both = bad.asked();
    both.extend(good.asked());
    assert_eq!(both.len(), 6, "{both:#?}");
}

#[test]
fn nothing_is_tried_again_that_an_interim_answer_was_passed_on_of() {
    const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let good = good();
    // On a new connection, and on one that was used before.
    for used in [false, true] {
        let bad = Upstream::new(move |exchange| {
            if used && exchange.asked.number == 0 {
                return text(exchange, "good 0");
            }
            exchange.send(HINTS)?;
            Ok(Next::Close)
        });
        let setup = Setup::to(&[&bad, &good]).pool("ejection = false").workers(1);
        let proxied = Proxied::start(&setup);
        for number in 0..8 {
            let target = format!("/{used}/{number}");
            let mut client = proxied.client();
            client.ask(&format!("GET {target} HTTP/1.1"), &[]);
            let reply = client.reply("GET", Expected::Any);
            let mut both = bad.asked();
            both.extend(good.asked());
            both.retain(|asked| asked.target() == target);
            assert_eq!(both.len(), 1, "{both:#?}");
            assert_eq!(reply.status == 502, reply.interim.len() == 1, "{reply:?}");
        }
        eventually("some failed", || proxied.log().iter().any(|line| line["trouble"] == "closed"));
    }
}

#[test]
fn with_no_retries_one_server_is_asked() {
    let bad = failing(Next::Close, "");
    let good = good();
    let setup = Setup::to(&[&bad, &good]).pool("ejection = false").proxy("retries = 0");
    let proxied = Proxied::start(&setup.workers(1));
    let statuses = ask(&proxied, "GET", "");
    assert!(statuses.contains(&502), "{statuses:?}");
    assert_eq!(bad.asked().len() + good.asked().len(), 4);
}

#[test]
fn a_post_on_a_connection_that_was_closed_is_asked_once_or_not_at_all() {
    // It closes each connection as the second request comes.
    let answered = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&answered);
    let upstream = Upstream::new(move |exchange| {
        if exchange.asked.number > 0 {
            return Ok(Next::Reset);
        }
        let _ = exchange.receive_content();
        count.fetch_add(1, Ordering::SeqCst);
        exchange.send(head("200 OK", &["Content-Length: 0"]))?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).pool("ejection = false").workers(1));
    for number in 0..20 {
        let (method, fields) =
            if number % 2 == 0 { ("POST", vec!["Content-Length: 2"]) } else { ("GET", vec![]) };
        let mut client = proxied.client();
        client.ask(&format!("{method} /{number} HTTP/1.1"), &fields);
        if method == "POST" {
            client.send("hi");
        }
        let reply = client.reply(method, Expected::Any);
        // A reset before the answer: a GET is asked anew on another connection.
        assert!(reply.status == 200 || (method == "POST" && reply.status == 502), "{reply:?}");
    }
    for asked in upstream.asked().iter().filter(|asked| asked.method() == "POST") {
        upstream.one(asked.target());
    }
}
