//! What the proxy does between two parties that do not take turns, and what a small
//! answer costs it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod proxied;

use std::io::Write;
use std::process::Command;
use std::time::Duration;

use proxied::answers::{head, text};
use proxied::client::Expected;
use proxied::program::{PROGRAM, Proxied, Setup};
use proxied::upstream::{Next, Upstream};
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

#[test]
fn an_answer_may_come_while_its_request_still_goes() {
    // It answers each piece as it comes, as whoever translates or compresses does.
    const PIECES: usize = 50;
    let upstream = Upstream::new(|exchange| {
        if exchange.asked.method() != "POST" {
            return text(exchange, "alive");
        }
        exchange.send(head("200 OK", &["Transfer-Encoding: chunked"]))?;
        for _ in 0..PIECES {
            let piece = exchange.incoming.exactly(20_000).unwrap();
            exchange.send(format!("{:x}\r\n", piece.len()))?;
            exchange.send(&piece)?;
            exchange.send("\r\n")?;
        }
        exchange.send("0\r\n\r\n")?;
        Ok(Next::Keep)
    });
    let setup = Setup::to(&[&upstream]).proxy("request_body = \"streamed\"");
    let proxied = Proxied::start(&setup);
    let mut client = proxied.client();
    client.ask("POST /echo HTTP/1.1", &[&format!("Content-Length: {}", PIECES * 20_000)]);
    client.send(vec![0; 20_000]);
    // The head is here before the second piece is sent.
    let answer = client.incoming.head().unwrap().unwrap();
    assert!(answer.line.starts_with("HTTP/1.1 200 "), "{}", answer.raw);
    let framing = answer.framing().unwrap().unwrap();
    let mut writer = client.stream().try_clone().unwrap();
    let mut got = Vec::new();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for number in 1..PIECES {
                writer.write_all(&vec![number as u8; 20_000]).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        client.incoming.content(framing, &mut |piece| got.extend_from_slice(piece)).unwrap();
    });
    assert_eq!(got.len(), PIECES * 20_000);
    assert!(got.chunks(20_000).enumerate().all(|(number, piece)| piece == [number as u8; 20_000]));
    assert_eq!(proxied.logged("/echo")["request_bytes"], PIECES * 20_000);
    proxied.client().assert_usable("/alive");
}

#[test]
fn who_answers_early_and_then_falls_silent_is_given_up_and_who_waits_for_its_client_is_not() {
    const PIECES: usize = 4;
    // It echoes all pieces; `/silent` then says nothing more.
    let upstream = Upstream::new(|exchange| {
        if exchange.asked.method() != "POST" {
            return text(exchange, "alive");
        }
        exchange.send(head("200 OK", &["Transfer-Encoding: chunked"]))?;
        for _ in 0..PIECES {
            let piece = exchange.incoming.exactly(10).unwrap();
            exchange.send([b"a\r\n", &*piece, b"\r\n"].concat())?;
        }
        if exchange.asked.target() == "/silent" {
            exchange.wait_for_end();
            return Ok(Next::Close);
        }
        exchange.send("0\r\n\r\n")?;
        Ok(Next::Keep)
    });
    let setup = Setup::to(&[&upstream])
        .pool("ejection = false")
        .proxy("request_body = \"streamed\", read_timeout = \"300ms\"");
    let proxied = Proxied::start(&setup);
    for (target, pause) in [("/silent", 1), ("/patient", 700)] {
        let mut client = proxied.client();
        client.ask(
            &format!("POST {target} HTTP/1.1"),
            &[&format!("Content-Length: {}", PIECES * 10)],
        );
        for _ in 0..PIECES {
            client.send([b'x'; 10]);
            std::thread::sleep(Duration::from_millis(pause));
        }
        let reply = client.reply("POST", Expected::Any);
        if target == "/silent" {
            reply.cut();
            assert_eq!(proxied.logged(target)["trouble"], "read_timeout");
        } else {
            assert_eq!(reply.whole(200).length, 40);
        }
    }
    proxied.client().assert_usable("/alive");
}

#[test]
fn an_upstream_that_takes_nothing_of_a_request_is_given_up() {
    let upstream = Upstream::new(|exchange| {
        while exchange.asked.method() == "POST" && !exchange.is_stopped() {
            std::thread::sleep(Duration::from_millis(10));
        }
        text(exchange, "alive")
    });
    let setup = Setup::to(&[&upstream])
        .pool("ejection = false")
        .proxy("request_body = \"streamed\", read_timeout = \"300ms\", body_limit = \"1GiB\"");
    let proxied = Proxied::start(&setup);
    let mut client = proxied.client();
    client.ask("POST /stuck HTTP/1.1", &["Content-Length: 200000000"]);
    let mut writer = client.stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || while writer.write_all(&[0; 65_536]).is_ok() {});
        client.reply("POST", Expected::Any).whole(504);
        client.stream().shutdown(std::net::Shutdown::Both).ok();
    });
    assert_eq!(proxied.logged("/stuck")["trouble"], "write_timeout");
    proxied.client().assert_usable("/alive");
}

#[test]
fn names_that_no_file_has_go_on_and_pass_by_no_rule() {
    let upstream = Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        text(exchange, &target)
    });
    let routes = "[[site.route]]\npath = \"/a/secret\"\nrespond = { status = 403 }\n";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).routes(routes));
    let long = format!("/{}", "x".repeat(5_000));
    for target in ["/npm/@scope%2Fname", "/api/group%2fproject/x?y=%2F", &long] {
        let got = proxied.client().get(target).whole(200);
        assert_eq!(got.text(), target);
    }
    // What another reading leads elsewhere is nobody's.
    for target in ["/a%2Fsecret", "/a/x%2F..%2Fsecret", "/..%2Fa", "/%2Fa%2Fsecret/"] {
        let status = proxied.client().get(target).status;
        assert!([400, 403].contains(&status), "{target}: {status}");
    }
    assert_eq!(upstream.count(|asked| asked.target().contains("secret")), 0);
}

#[test]
fn a_file_that_an_upstream_names_is_given_whatever_was_asked_for() {
    let tree = Tree::new().unwrap().file("small", 5, 1_000).unwrap();
    let root = tree.path();
    let routes = format!(
        "[[site.route]]\npath = \"/open/\"\ninternal = true\n\
         files = {{ root = {root:?}, strip_prefix = \"/open\" }}\n\
         [[site.route]]\npath = \"/denied/\"\ninternal = true\ndeny = [\"127.0.0.0/8\"]\n\
         files = {{ root = {root:?}, strip_prefix = \"/denied\" }}\n"
    );
    std::thread::sleep(Duration::from_millis(150));
    let upstream = Upstream::new(|exchange| {
        let to = format!("X-Accel-Redirect: {}", exchange.asked.query("to").unwrap());
        exchange.send(head("200 OK", &[&to, "Cache-Control: private", "Content-Length: 0"]))?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy("accel = true").routes(&routes));
    let mut client = proxied.client();
    for line in ["GET /?to=/open/small HTTP/1.1", "POST /?to=/open/small HTTP/1.1"] {
        // Twice: the second one is answered from memory, with a head that was composed before.
        for _ in 0..2 {
            client.ask(line, &[]);
            let reply = client.reply("GET", Expected::Corpus(5, 0)).whole(200);
            assert_eq!((reply.length, reply.field("Cache-Control")), (1_000, Some("private")));
        }
    }
    client.get("/?to=/denied/small").whole(403);
    for nowhere in ["/", "/none", "open/small", "/open/../../etc/passwd", "http://h/open/small"] {
        let status = client.get(&format!("/?to={nowhere}")).status;
        assert!([404, 502].contains(&status), "{nowhere}: {status}");
    }
    client.get("/open/small").whole(404);
}

#[test]
fn a_small_answer_costs_four_calls_and_two_waits() {
    require!(Need::Program("strace"));
    let upstream = Upstream::new(|exchange| text(exchange, &"x".repeat(1024)));
    let under = |directory: &str| {
        let mut command = Command::new(find_program("strace").unwrap());
        command.args(["-f", "-o", &format!("{directory}/calls")]).arg(PROGRAM);
        command
    };
    let listen = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    let setup = Setup::to(&[&upstream]).workers(1);
    let proxied = Proxied::start_by(&setup, listen, under);
    let mut client = proxied.client();
    // The first one makes a connection.
    client.get("/first").whole(200);
    let count = 50;
    for _ in 0..count {
        client.get("/again").whole(200);
    }
    client.get("/last").whole(200);
    proxied::eventually("the trace is written", || {
        std::fs::read_to_string(proxied.path("calls")).unwrap().contains("GET /last")
    });
    let trace = std::fs::read_to_string(proxied.path("calls")).unwrap();
    let begin = trace.find("GET /again").unwrap();
    let end = trace.find("GET /last").unwrap();
    // Of the thread that answers: another one writes the log.
    let worker = trace[..begin].rsplit('\n').next().unwrap().split_whitespace().next().unwrap();
    let calls = |name: &str| {
        let lines = trace[begin..end].lines().skip(1);
        lines.filter(|line| line.starts_with(worker) && line.contains(name)).count()
    };
    let all = calls("(");
    assert_eq!(calls("recvfrom("), 2 * count, "{all}");
    assert_eq!(calls("sendto(") + calls("sendmsg("), 2 * count, "{all}");
    // The log's thread is woken now and then.
    assert!(all <= 6 * count + count / 4, "{all} calls for {count} requests");
}
