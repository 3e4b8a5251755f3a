//! Fields between two parties, each way.

use crate::proxied::answers::{head, text};
use crate::proxied::client::Expected;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Asked, Next, Upstream};

fn echo() -> Upstream {
    Upstream::new(|exchange| {
        let target = exchange.asked.target().to_owned();
        text(exchange, &target)
    })
}

/// What the upstream gets of a request with these fields.
fn asked(setup: &Setup, upstream: &Upstream, fields: &[&str]) -> Asked {
    let proxied = Proxied::start(setup);
    let mut client = proxied.client();
    client.ask("GET /seen HTTP/1.1", fields);
    client.reply("GET", Expected::Any).whole(200);
    upstream.one("/seen")
}

#[test]
fn what_belongs_to_one_connection_goes_no_further() {
    let upstream = echo();
    let asked = asked(
        &Setup::to(&[&upstream]),
        &upstream,
        &[
            "Connection: keep-alive, X-Mine, x-other",
            "Keep-Alive: timeout=5",
            "X-Mine: 1",
            "X-Other: 2",
            "X-Theirs: 3",
            "Proxy-Authorization: Basic eA==",
            "Proxy-Connection: keep-alive",
            "TE: gzip",
            "Upgrade: h2c",
            "HTTP2-Settings: AAMAAABkAAQAAP__",
        ],
    );
    for gone in [
        "Keep-Alive",
        "X-Mine",
        "X-Other",
        "Proxy-Authorization",
        "Proxy-Connection",
        "TE",
        "Upgrade",
        "HTTP2-Settings",
    ] {
        assert_eq!(asked.head.field(gone), None, "{}", asked.head.raw);
    }
    assert_eq!(asked.head.field("X-Theirs"), Some("3"));
    assert_eq!(asked.head.field("Host"), Some("site.test"));
}

/// httpoxy: it would be the environment's HTTP_PROXY to a CGI program behind the upstream.
#[test]
fn a_proxy_field_is_not_passed_on() {
    let upstream = echo();
    let asked = asked(&Setup::to(&[&upstream]), &upstream, &["Proxy: http://evil.test/"]);
    assert_eq!(asked.head.field("Proxy"), None, "{}", asked.head.raw);
}

/// What turns hyphens into underscores would take the one for the other.
#[test]
fn x_forwarded_for_with_underscores_does_not_stand_in_for_ours() {
    let upstream = echo();
    let asked = asked(
        &Setup::to(&[&upstream]),
        &upstream,
        &[
            "X_Forwarded_For: 203.0.113.1",
            "X-Forwarded_Proto: https",
            "X-Forwarded-For: 203.0.113.2",
        ],
    );
    assert_eq!(asked.head.field("X_Forwarded_For"), None, "{}", asked.head.raw);
    assert_eq!(asked.head.field("X-Forwarded_Proto"), None, "{}", asked.head.raw);
    assert_eq!(asked.head.field("X-Forwarded-For"), Some("127.0.0.1"));
    assert_eq!(asked.head.field("X-Forwarded-Proto"), Some("http"));
    assert_eq!(asked.head.field("X-Forwarded-Host"), Some("site.test"));
}

/// Connections to us are not encrypted: who ends TLS before us says so, or its operator.
#[test]
fn behind_a_front_that_ends_tls_an_upstream_is_told_https() {
    for (keys, sent, told) in [
        ("forwarded = \"append\"", "X-Forwarded-Proto: https", "https"),
        ("set_headers = { X-Forwarded-Proto = \"https\" }", "X-Nothing: said", "https"),
        ("set_headers = { X-Forwarded-Proto = \"https\" }", "X-Forwarded-Proto: gopher", "https"),
        // Nobody has said that who came here is to be believed.
        ("forwarded = \"replace\"", "X-Forwarded-Proto: https", "http"),
    ] {
        let upstream = echo();
        let asked = asked(&Setup::to(&[&upstream]).proxy(keys), &upstream, &[sent]);
        assert_eq!(asked.head.all("X-Forwarded-Proto"), [told], "{keys}: {}", asked.head.raw);
    }
}

#[test]
fn an_upstream_is_told_of_the_client_as_its_route_says() {
    let sent = ["X-Forwarded-For: 203.0.113.2", "Forwarded: for=203.0.113.3"];
    for (rule, x, forwarded) in [
        ("append", Some("203.0.113.2, 127.0.0.1"), None),
        ("off", Some("203.0.113.2"), Some("for=203.0.113.3")),
        ("rfc7239", None, Some("for=127.0.0.1")),
    ] {
        let upstream = echo();
        let setup = Setup::to(&[&upstream]).proxy(&format!("forwarded = \"{rule}\""));
        let asked = asked(&setup, &upstream, &sent);
        assert_eq!(asked.head.field("X-Forwarded-For"), x, "{rule}: {}", asked.head.raw);
        if let Some(forwarded) = forwarded {
            let value = asked.head.field("Forwarded").unwrap();
            assert!(value.starts_with(forwarded), "{rule}: {}", asked.head.raw);
        }
    }
}

#[test]
fn host_and_fields_are_as_the_route_says() {
    for (host, expected) in
        [("preserve", None), ("upstream", Some("")), ("app.test", Some("app.test"))]
    {
        let upstream = echo();
        let setup = Setup::to(&[&upstream]).proxy(&format!(
            "host = \"{host}\", set_headers = {{ \"X-Env\" = \"prod\", \"X-Empty\" = \"\" }}, \
             remove_headers = [\"Cookie\"]"
        ));
        let name = upstream.name.clone();
        let asked =
            asked(&setup, &upstream, &["X-Env: test", "x-env: other", "Cookie: a=b", "X: y"]);
        let expected = match expected {
            None => "site.test",
            Some("") => &name,
            Some(fixed) => fixed,
        };
        assert_eq!(asked.head.field("Host"), Some(expected));
        assert_eq!(asked.head.field("X-Env"), Some("prod"));
        assert_eq!(asked.head.field("X-Empty"), Some(""));
        assert_eq!(asked.head.field("Cookie"), None);
        assert_eq!(asked.head.field("X"), Some("y"));
    }
}

#[test]
fn a_prefix_is_taken_off_and_no_other_path_can_be_read() {
    let upstream = echo();
    let routes = "[[site.route]]\npath = \"/app/\"\nproxy = { pool = \"app\", strip_prefix = \"/app\" }\n\
                  [[site.route]]\npath = \"/secret\"\nrespond = { status = 403 }\n";
    let proxied = Proxied::start(&Setup::to(&[&upstream]).routes(routes));
    let mut client = proxied.client();
    for (asked, seen) in [
        ("/app/", "/"),
        ("/app/a/b?c=/app/d", "/a/b?c=/app/d"),
        ("/app/a%3Bb;c", "/a%3Bb;c"),
        ("/app/@scope%2Fname", "/@scope%2Fname"),
        ("/other//double", "/other//double"),
    ] {
        let got = client.get(asked).whole(200);
        assert_eq!(got.text(), seen, "{asked}");
    }
    // PATH_INFO with a line's end has been two paths for some.
    for odd in ["/a%0ab", "/b/%0d%0a"] {
        assert_eq!(client.get(odd).whole(200).text(), odd);
    }
    for hidden in ["/secret/a", "/app/../secret/a", "/x/%2e%2e/secret", "/app/x/../../secret/a"] {
        client.ask(&format!("GET {hidden} HTTP/1.1"), &[]);
        client.reply("GET", Expected::Any).whole(403);
    }
    assert_eq!(upstream.count(|asked| asked.target().contains("secret")), 0);
}

#[test]
fn fields_of_an_answer_are_passed_on_but_for_those_of_its_connection() {
    let upstream = Upstream::new(|exchange| {
        exchange.send(head(
            "200 Fine By Me",
            &[
                "Connection: X-Hop, keep-alive",
                "Keep-Alive: timeout=5",
                "X-Hop: 1",
                "Proxy-Authenticate: Basic",
                "Content-Length: 2",
                "Set-Cookie: a=b; Path=/",
                "Set-Cookie: c=d",
                "ETag: \"x\"",
                "X-Odd: \u{fc}ber",
                "Server: theirs",
            ],
        ))?;
        exchange.send("ok")?;
        Ok(Next::Keep)
    });
    let proxied = Proxied::new(&upstream);
    let mut client = proxied.client();
    let reply = client.get("/").whole(200);
    for gone in ["X-Hop", "Keep-Alive", "Proxy-Authenticate"] {
        assert_eq!(reply.field(gone), None, "{}", reply.head.raw);
    }
    assert_eq!(reply.head.all("Set-Cookie"), ["a=b; Path=/", "c=d"]);
    assert_eq!(reply.field("ETag"), Some("\"x\""));
    assert_eq!(reply.field("X-Odd"), Some("\u{fc}ber"));
    assert_eq!(reply.text(), "ok");
    assert_eq!(reply.head.all("Date").len(), 1);
    client.assert_usable("/again");
    assert_eq!(upstream.connections(), 1);
}
