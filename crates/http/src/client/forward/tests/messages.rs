//! What goes on of one message.

use super::*;
use crate::Method;
use crate::client::ResponseFraming;
use crate::response::Fields;

/// The fields that an upstream gets of a GET with `fields`, without Host, with which they begin.
fn fields_by(peer: Option<&str>, fields: &str, rules: &RequestRules) -> String {
    let text = format!("GET / HTTP/1.1\r\nHost: h.test\r\n{fields}\r\n");
    let sent = sent_by(peer, &text, rules).unwrap();
    let start = "GET / HTTP/1.1\r\nHost: h.test\r\n";
    let fields = sent.strip_prefix(start).and_then(|rest| rest.strip_suffix("\r\n")).unwrap();
    fields.replace("Via: 1.1 sluicegate\r\n", "")
}

fn fields(fields: &str, rules: &RequestRules) -> String {
    fields_by(Some("192.0.2.7:1234"), fields, rules)
}

#[test]
fn a_request_goes_on_in_our_words() {
    let text = "GET /a?b=c HTTP/1.1\r\nUser-Agent: x\r\nhost: h.test\r\nAccept:*/*\r\n\r\n";
    assert_eq!(
        sent(text, &rules(Forwarded::Replace)),
        "GET /a?b=c HTTP/1.1\r\nHost: h.test\r\nUser-Agent: x\r\nAccept: */*\r\n\
         X-Forwarded-For: 192.0.2.7\r\nX-Forwarded-Host: h.test\r\nX-Forwarded-Proto: http\r\n\
         Via: 1.1 sluicegate\r\n\r\n"
    );
    let text = "POST http://real.test HTTP/1.0\r\nHost: other\r\nContent-Length: 003\r\n\r\n";
    assert_eq!(
        sent(text, &rules(Forwarded::Off)),
        "POST / HTTP/1.1\r\nHost: real.test\r\nVia: 1.0 sluicegate\r\nContent-Length: 3\r\n\r\n"
    );
}

#[test]
fn a_usual_request_goes_on_as_any_other() {
    let usual = "GET /a.b?c=/.. HTTP/1.1\r\nHost: h.test\r\nAccept: x\r\n\r\n";
    let set = Fields::default();
    let all = [Forwarded::Replace, Forwarded::Append, Forwarded::Rfc7239, Forwarded::Off];
    for (from, to) in [
        ("", ""),
        ("GET", "HEAD"),
        ("GET", "DELETE"),
        ("/a.b", "/"),
        ("/a.b", "//a"),
        ("/a.b", "/a/../b"),
        ("/a.b", "http://g.test/a"),
        ("1.1\r", "1.0\r"),
        ("1.1\r", "1.2\r"),
        ("Host: h", "hOst: h"),
        ("Host: h", "Host:h"),
        ("Host: h", "Host:  h"),
        ("h.test\r", "h.test \r"),
        ("h.test\r", "\r"),
        ("Host:", "X: y\r\nHost:"),
        ("Accept", "X-Real-IP"),
        ("Accept: x", "TE: trailers\r\nConnection: TE"),
        ("Accept: x", "Connection: y\r\nY: z"),
        ("Accept: x", "Content-Length: 5"),
        ("Accept: x", "Connection: upgrade\r\nUpgrade: websocket"),
    ] {
        let text = usual.replacen(from, to, 1);
        for forwarded in all {
            let stripped = RequestRules::new(HostOf::Client, forwarded, b"a.b", true);
            let gone = rules(forwarded).with_fields(&set, &["Via".to_owned()]);
            for rules in [rules(forwarded), stripped, gone] {
                for peer in [None, Some("192.0.2.7:1"), Some("[::1]:1"), Some("[::ffff:1.2.3.4]:1")]
                {
                    // Which compares.
                    let _ = sent_by(peer, &text, &rules);
                }
            }
        }
    }
}

#[test]
fn host_is_what_the_rule_says() {
    let host = |of: HostOf, text: &str| {
        let sent = sent(text, &RequestRules::new(of, Forwarded::Replace, b"", false));
        let fields: Vec<_> = sent.split("\r\n").filter(|line| line.contains("ost: ")).collect();
        fields.join(" ")
    };
    let text = "GET / HTTP/1.1\r\nHost: h.test:8\r\n\r\n";
    assert_eq!(host(HostOf::Client, text), "Host: h.test:8 X-Forwarded-Host: h.test:8");
    assert_eq!(host(HostOf::Upstream, text), "Host: app.test:81 X-Forwarded-Host: h.test:8");
    assert_eq!(
        host(HostOf::fixed("f.test").unwrap(), text),
        "Host: f.test X-Forwarded-Host: h.test:8"
    );
    assert_eq!(host(HostOf::Client, "GET / HTTP/1.0\r\n\r\n"), "Host: app.test:81");
    assert!(HostOf::fixed("a\r\nX: y").is_err());
    let rules = rules(Forwarded::Off).with_fields(&one("Host", "evil.test"), &["hOst".to_owned()]);
    assert_eq!(fields("X: y\r\n", &rules), "X: y\r\n", "Host is HostOf's, and always there");
}

fn one(name: &str, value: &str) -> Fields {
    let mut fields = Fields::default();
    fields.add(name, value).unwrap();
    fields
}

#[test]
fn what_is_of_the_clients_connection_ends_here() {
    for (fields_in, out) in [
        ("Connection: keep-alive\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n", ""),
        ("Connection: close, X-Gone\r\nx-gone: 1\r\nX-Gone: 2\r\nX-Kept: 3\r\n", "X-Kept: 3\r\n"),
        ("Connection: a\r\nConnection: ,b,\r\nA: 1\r\nB: 2\r\nC: 3\r\n", "C: 3\r\n"),
        ("Proxy: http://evil\r\nProxy-Authorization: x\r\n", ""),
        ("Expect: 100-continue\r\n", ""),
        ("TE: gzip\r\n", ""),
        ("TE: gzip, Trailers;q=1\r\n", ""),
        ("TE: gzip, Trailers\r\n", "Connection: TE\r\nTE: trailers\r\n"),
        ("Trailer: X\r\n", ""),
        ("HTTP2-Settings: AAMAAABkAAQ\r\nConnection: HTTP2-Settings\r\n", ""),
        ("X_Forwarded_For: 1.2.3.4\r\nX_Y: z\r\nContent_Length: 5\r\n", ""),
        ("Max-Forwards: 3\r\n", "Max-Forwards: 3\r\n"),
        ("Via: 1.0 a, 1.1 b\r\n", "Via: 1.0 a, 1.1 b\r\n"),
        // What is known to be for the upstream cannot be listed away.
        (
            "Connection: Cookie, authorization, Range, X-Forwarded-For, host, via, \"\r\n\
             Cookie: c\r\nAuthorization: a\r\nRange: bytes=0-0\r\nX-Forwarded-For: 10.0.0.1\r\n",
            "Cookie: c\r\nAuthorization: a\r\nRange: bytes=0-0\r\nX-Forwarded-For: 10.0.0.1\r\n",
        ),
    ] {
        assert_eq!(fields(fields_in, &rules(Forwarded::Off)), out, "{fields_in:?}");
    }
    let text = |fields: &str| format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n");
    let framed = "Transfer-Encoding: chunked\r\nConnection: Transfer-Encoding\r\nTrailer: X\r\n";
    assert_eq!(
        sent(&text(framed), &rules(Forwarded::Off)),
        text("Trailer: X\r\nVia: 1.1 sluicegate\r\nTransfer-Encoding: chunked\r\n")
    );
    let framed = "Connection: Content-Length\r\nContent-Length: 5\r\n";
    assert_eq!(
        sent(&text(framed), &rules(Forwarded::Off)),
        text("Via: 1.1 sluicegate\r\nContent-Length: 5\r\n")
    );
}

#[test]
fn what_is_told_of_the_client_is_what_the_rule_says() {
    let came = "Forwarded: for=1.1.1.1\r\nX-Forwarded-For: 1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\n\
                X-Forwarded-For: 2.2.2.2\r\nX-Forwarded-Port: 1\r\nX-Forwarded-Proto: https\r\n";
    let (v4, v6) = (Some("192.0.2.7:1"), Some("[2001:db8::7]:1"));
    let replaced = |address: &str| {
        format!(
            "X-Forwarded-For: {address}\r\nX-Forwarded-Host: h.test\r\nX-Forwarded-Proto: http\r\n"
        )
    };
    for (rule, peer, out) in [
        (Forwarded::Off, v4, came.to_owned()),
        (Forwarded::Replace, v4, replaced("192.0.2.7")),
        (Forwarded::Replace, v6, replaced("2001:db8::7")),
        (Forwarded::Replace, Some("[::ffff:192.0.2.7]:1"), replaced("192.0.2.7")),
        (
            Forwarded::Replace,
            None,
            "X-Forwarded-Host: h.test\r\nX-Forwarded-Proto: http\r\n".to_owned(),
        ),
        (
            Forwarded::Append,
            v6,
            "Forwarded: for=1.1.1.1\r\nX-Real-IP: 1.1.1.1\r\nX-Forwarded-Port: 1\r\n\
             X-Forwarded-Proto: https\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 2001:db8::7\r\n\
             X-Forwarded-Host: h.test\r\n"
                .to_owned(),
        ),
        (
            Forwarded::Rfc7239,
            v4,
            "Forwarded: for=192.0.2.7;host=\"h.test\";proto=http\r\n".to_owned(),
        ),
        (
            Forwarded::Rfc7239,
            v6,
            "Forwarded: for=\"[2001:db8::7]\";host=\"h.test\";proto=http\r\n".to_owned(),
        ),
        (
            Forwarded::Rfc7239,
            None,
            "Forwarded: for=unknown;host=\"h.test\";proto=http\r\n".to_owned(),
        ),
    ] {
        assert_eq!(fields_by(peer, came, &rules(rule)), out, "{rule:?} {peer:?}");
        // No way to have it taken off again.
        let listed = format!(
            "{came}Connection: X-Forwarded-For, Forwarded, X-Forwarded-Host, X-Forwarded-Proto\r\n"
        );
        assert_eq!(fields_by(peer, &listed, &rules(rule)), out, "{rule:?} {peer:?}, listed");
    }
    assert_eq!(fields_by(None, "X-Forwarded-Host: f\r\n", &rules(Forwarded::Append)), {
        "X-Forwarded-Host: f\r\nX-Forwarded-Proto: http\r\n"
    });
}

#[test]
fn an_operators_fields_take_the_place_of_the_clients() {
    let set = [("X-User", "us"), ("Authorization", "ours"), ("X-Forwarded-For", "-")];
    let mut fields_set = Fields::default();
    for (name, value) in set {
        fields_set.add(name, value).unwrap();
    }
    let rules = rules(Forwarded::Replace)
        .with_fields(&fields_set, &["COOKIE".to_owned(), "x-forwarded-proto".to_owned()]);
    let came = "x-user: them\r\nX_User: them\r\nCookie: a\r\ncookie: b\r\nA: b\r\n\
                Authorization: theirs\r\nConnection: X-User, Authorization\r\n";
    assert_eq!(
        fields(came, &rules),
        "A: b\r\nX-User: us\r\nAuthorization: ours\r\nX-Forwarded-For: -\r\n\
         X-Forwarded-Host: h.test\r\n"
    );
    let rules = self::rules(Forwarded::Off).with_fields(&one("X", "y"), &["Via".to_owned()]);
    let text = "GET / HTTP/1.1\r\nHost: h\r\nVia: 1.1 a\r\n\r\n";
    assert_eq!(sent(text, &rules), "GET / HTTP/1.1\r\nHost: h\r\nX: y\r\n\r\n");
    // What frames or belongs to the connection is not the operator's.
    let rules = self::rules(Forwarded::Off).with_fields(&one("Expect", "x"), &[]);
    assert_eq!(fields("", &rules), "");
}

#[test]
fn upgrades_go_on_where_they_may() {
    let good = "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n";
    let passed = "Connection: upgrade\r\nUpgrade: websocket\r\n";
    assert_eq!(fields(good, &rules(Forwarded::Off)), passed);
    let off = RequestRules::new(HostOf::Client, Forwarded::Off, b"", false);
    assert_eq!(fields(good, &off), "");
    for refused in [
        "Upgrade: websocket\r\n",
        "Connection: upgrade\r\n",
        "Connection: upgrade\r\nUpgrade: websocket, h2c\r\n",
        "Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: x\r\n",
        "Connection: upgrade\r\nUpgrade: web socket\r\n",
        "Connection: upgrade\r\nUpgrade: a/b/c\r\n",
        "Connection: upgrade\r\nUpgrade:\r\n",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n",
        "Connection: upgrade\r\nUpgrade: H2C/1\r\n",
        "Connection: upgrade\r\nUpgrade: HTTP/2.0\r\n",
        "Connection: upgrade\r\nUpgrade: TLS/1.0\r\n",
    ] {
        assert_eq!(fields(refused, &rules(Forwarded::Off)), "", "{refused:?}");
    }
    for text in [
        format!("POST / HTTP/1.1\r\nHost: h\r\n{good}\r\n"),
        format!("GET / HTTP/1.0\r\nHost: h\r\n{good}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n{good}\r\n"),
        format!("GET / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n{good}\r\n"),
    ] {
        let sent = sent(&text, &rules(Forwarded::Off));
        assert!(!sent.to_lowercase().contains("upgrade"), "{text:?}: {sent:?}");
    }
}

#[test]
fn what_may_not_go_on_is_refused() {
    let refusal = |text: &str| sent_by(None, text, &rules(Forwarded::Off)).unwrap_err();
    let trace = refusal("TRACE / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!((trace, trace.status()), (Refusal::Trace, 405));
    let last = refusal("OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: 0\r\n\r\n");
    assert_eq!((last, last.status()), (Refusal::LastHop, 204));
    for (came, goes) in [("1", "Max-Forwards: 0\r\n"), ("x", ""), ("-1", "")] {
        let text = format!("OPTIONS / HTTP/1.1\r\nHost: h\r\nMax-Forwards: {came}\r\n\r\n");
        let sent = sent(&text, &rules(Forwarded::Off));
        assert!(sent.contains(&format!("Host: h\r\n{goes}Via")), "{came}: {sent}");
    }
}

#[test]
fn a_response_goes_on_without_what_is_of_its_connection() {
    let head = response(
        "HTTP/1.1 200 \u{e4}\r\nServer: x\r\nDate: y\r\nSet-Cookie: a\r\nset-cookie:b \r\n\
         Connection: X-Gone, close\r\nX-Gone: 1\r\nKeep-Alive: 5\r\nContent-Length: 3\r\n\
         X-Accel-Redirect: /f\r\nX-Accel-Buffering: no\r\nX-Accel-Limit-Rate: 1\r\n\
         Upgrade: h2c\r\nTrailer: X\r\nProxy-Authenticate: x\r\nLocation: http://x/\r\n\
         Via: 1.0 up\r\n\r\n",
    );
    let passed = response_fields(&head);
    assert_eq!(
        str::from_utf8(passed.fields.as_bytes()).unwrap(),
        "Set-Cookie: a\r\nset-cookie: b\r\nLocation: http://x/\r\nVia: 1.0 up\r\n\
         Via: 1.1 sluicegate\r\n"
    );
    assert_eq!(passed.accel, Accel { redirect: Some(b"/f".to_vec()), buffering: Some(false) });
    assert_eq!(passed.fields.value("SET-COOKIE"), Some(b"a".as_slice()));
    assert_eq!(ResponseFraming::of(&head, Method::Get), Ok(ResponseFraming::Sized(3)));
    assert!(!head.keep_alive());

    let head = response("HTTP/1.0 200 OK\r\nConnection: close\r\nclose: 1\r\n\r\n");
    assert_eq!(response_fields(&head).fields.as_bytes(), b"Via: 1.0 sluicegate\r\n");
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n";
    let passed = response_fields(&response(chunked)).fields;
    assert_eq!(passed.as_bytes(), b"Trailer: X\r\nVia: 1.1 sluicegate\r\n");
}

/// Lines go on in one piece with their neighbours, or one by one where Connection names one: the
/// client gets the same.
#[test]
fn a_responses_lines_are_written_alike_one_by_one_and_together() {
    let lines = [
        ("A: b\r\n", "A: b\r\n"),
        ("Set-Cookie: \u{e4}; b\r\n", "Set-Cookie: \u{e4}; b\r\n"),
        ("set-cookie:b\r\n", "set-cookie: b\r\n"),
        ("X_1: \t c\td \r\n", "X_1: c\td\r\n"),
        ("Empty:\r\n", "Empty: \r\n"),
        ("Server: x\r\n", ""),
        ("Content-Length: 3\r\n", ""),
        ("X-Accel-Expires: 3\r\n", ""),
        ("Location:\thttp://x/\r\n", "Location: http://x/\r\n"),
        ("x-long-enough-name: and a value\r\n", "x-long-enough-name: and a value\r\n"),
    ];
    for first in 0..lines.len() {
        for second in 0..lines.len() {
            for third in 0..lines.len() {
                let chosen = [first, second, third].map(|line| lines[line]);
                let came = chosen.map(|(came, _)| came).concat();
                let expected = chosen.map(|(_, expected)| expected).concat();
                for option in ["", "Connection: X-Gone\r\nX-Gone: 1\r\n"] {
                    let head = response(&format!("HTTP/1.1 200 \r\n{came}{option}\r\n"));
                    let passed = response_fields(&head).fields;
                    let expected = format!("{expected}Via: 1.1 sluicegate\r\n");
                    assert_eq!(passed.as_bytes(), expected.as_bytes(), "{came:?} {option:?}");
                    let count = 3 + option.split_terminator("\r\n").count();
                    assert_eq!(head.fields().count(), count);
                }
            }
        }
    }
}

#[test]
fn trailers_that_frame_route_or_authenticate_do_not_go_on() {
    let came = [
        ("Digest", "a"),
        ("content-length", "5"),
        ("Transfer-Encoding", "chunked"),
        ("Host", "x"),
        ("Authorization", "x"),
        ("Cookie", "x"),
        ("Set-Cookie", "x"),
        ("X-Forwarded-For", "x"),
        ("X-Forwarded-Port", "x"),
        ("X_Forwarded_For", "x"),
        ("X-Real-IP", "x"),
        ("Connection", "x"),
        ("Trailer", "x"),
        ("Content-Type", "x"),
        ("Server", "x"),
        ("grpc-status", "0"),
    ];
    let section: Vec<_> =
        came.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    assert_eq!(trailers(&section).as_bytes(), b"Digest: a\r\ngrpc-status: 0\r\n");

    let body = b"0\r\nHost: x\r\nA: b\r\nCookie: y\r\n\r\n";
    let mut decoder = crate::ChunkedDecoder::of_responses();
    for _ in 0..2 {
        let step = decoder.decode(body, &limits()).unwrap();
        assert_eq!((step.consumed, step.event), (body.len(), crate::Event::Done));
        assert_eq!(trailers_of(&decoder).as_bytes(), b"A: b\r\n");
        decoder.reset();
    }
    assert!(crate::ChunkedDecoder::new().decode(body, &limits()).is_err());
}

#[test]
fn trailers_that_connection_names_do_not_go_on() {
    let section =
        ["X-Sum", "x-hop", "Digest"].map(|name| (name.to_owned(), bytes::Bytes::from("a")));
    let fields = "Connection: close, X-Hop\r\nConnection: digest\r\n";
    let request = request(&format!("PUT / HTTP/1.1\r\nHost: h\r\n{fields}\r\n"));
    let response = response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n"));
    for nominated in [Nominated::by_request(&request), Nominated::by_response(&response)] {
        assert_eq!(nominated.trailers(&section).as_bytes(), b"X-Sum: a\r\n");
    }
}
