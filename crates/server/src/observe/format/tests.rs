use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use sluicegate::{SpoolBytes, WayBytes};
use sluicegate_http::{Endpoints, Failure, Limits, RequestHead};

use super::*;
use crate::proxy::{Note, Told};

pub(super) fn head(text: &[u8]) -> RequestHead {
    let mut head = RequestHead::new();
    head.parse(text, &Limits::default()).unwrap();
    head
}

pub(in crate::observe) fn answered(head: Option<&RequestHead>) -> Answered<'_> {
    let socket = |text: &str| Some(text.parse::<SocketAddr>().unwrap());
    Answered {
        head,
        endpoints: Endpoints {
            peer: socket("192.0.2.7:50123"),
            local: socket("[::1]:8080"),
            balanced: None,
        },
        status: Some(200),
        head_only: false,
        head_bytes: 211,
        content_bytes: 1024,
        announced: Some(4096),
        ways: WayBytes { copied: 235, sendfile: 1000, ..WayBytes::default() },
        acked: None,
        time: Duration::new(1_795_340_111, 7_900_000),
        handled: Duration::from_nanos(1_999),
        accepted: Duration::from_micros(52),
        acked_after: None,
        requests: 3,
        failure: None,
        note: None,
    }
}

fn line(format: LogFormat, answered: &Answered<'_>) -> String {
    let mut out = Vec::new();
    render(format, &mut out, &mut Clock::default(), answered);
    String::from_utf8(out).unwrap()
}

const REQUEST: &[u8] = b"GET /a?b=%22c\" HTTP/1.1\r\nHost: example.test:8080\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux) \\o/ \xe9\t\xc3\xa9\r\nReferer: http://r.test/\"x\r\n\r\n";

#[test]
fn combined_has_the_fields_of_apache_and_the_escapes_of_nginx() {
    let head = head(REQUEST);
    assert_eq!(
        line(LogFormat::Combined, &answered(Some(&head))),
        "192.0.2.7 - - [22/Nov/2026:09:35:11 +0000] \"GET /a?b=%22c\\x22 HTTP/1.1\" 200 1024 \
         \"http://r.test/\\x22x\" \"Mozilla/5.0 (X11; Linux) \\x5Co/ \\xE9\\x09\\xC3\\xA9\"\n"
    );
}

#[test]
fn combined_has_a_dash_or_a_number_for_what_there_is_not() {
    let mut nothing = answered(None);
    (nothing.status, nothing.content_bytes, nothing.endpoints) = (None, 0, Endpoints::default());
    assert_eq!(
        line(LogFormat::Combined, &nothing),
        "- - - [22/Nov/2026:09:35:11 +0000] \"-\" 499 0 \"-\" \"-\"\n"
    );
}

#[test]
fn json_has_everything_and_is_json() {
    let head = head(REQUEST);
    let mut full = answered(Some(&head));
    full.acked = Some(711);
    full.acked_after = Some(Duration::from_millis(80));
    full.failure = Some(&Failure::Unread);
    assert_eq!(
        line(LogFormat::Json, &full),
        "{\"time\":\"2026-11-22T09:35:11.007Z\",\"client\":\"192.0.2.7\",\"client_port\":50123,\
         \"server\":\"[::1]:8080\",\"host\":\"example.test:8080\",\"method\":\"GET\",\
         \"target\":\"/a?b=%22c\\\"\",\"protocol\":\"HTTP/1.1\",\"status\":200,\"head_bytes\":211,\
         \"bytes\":1024,\"announced\":4096,\"acked\":500,\"copied\":235,\"sendfile\":1000,\
         \"spliced\":0,\"zerocopy\":0,\"duration_us\":52,\"handler_us\":1,\"acked_us\":80000,\
         \"requests\":3,\"referer\":\"http://r.test/\\\"x\",\
         \"user_agent\":\"Mozilla/5.0 (X11; Linux) \\\\o/ \\u00e9\\u0009é\",\"failure\":\"unread\"}\n"
    );
}

#[test]
fn json_leaves_out_what_there_is_not() {
    let mut nothing = answered(None);
    (nothing.status, nothing.announced, nothing.endpoints) = (None, None, Endpoints::default());
    assert_eq!(
        line(LogFormat::Json, &nothing),
        "{\"time\":\"2026-11-22T09:35:11.007Z\",\"head_bytes\":211,\"bytes\":1024,\"copied\":235,\
         \"sendfile\":1000,\"spliced\":0,\"zerocopy\":0,\"duration_us\":52,\"handler_us\":1,\
         \"requests\":3}\n"
    );
}

#[test]
fn json_has_what_a_proxied_request_tells() {
    let head = head(REQUEST);
    let of = |told: Told| {
        let note = Note::default();
        note.change(|kept| *kept = told);
        let mut proxied = answered(Some(&head));
        proxied.note = Some(&note);
        let line = line(LogFormat::Json, &proxied);
        let (_, rest) = line.split_once("\\u0009é\"").unwrap();
        rest.to_owned()
    };
    let told = Told {
        upstream: Some("unix:/run/\"a\"".into()),
        status: Some(200),
        tries: 2,
        queue_ms: Some(12),
        connect_ms: Some(1),
        head_ms: Some(23),
        held_ms: Some(456),
        lost_disk: false,
        spool: SpoolBytes { spliced: 1, ring: 2, disk: 3, copied: 4 },
        trouble: Some("truncated"),
        request_bytes: 5,
        proofs: [0; 4],
    };
    assert_eq!(
        of(told),
        ",\"upstream\":\"unix:/run/\\\"a\\\"\",\"upstream_status\":200,\"upstream_tries\":2,\
         \"upstream_queue_ms\":12,\"upstream_connect_ms\":1,\"upstream_head_ms\":23,\"upstream_held_ms\":456,\
         \"spool_spliced\":1,\"spool_ring\":2,\"spool_disk\":3,\"spool_copied\":4,\
         \"request_bytes\":5,\"trouble\":\"truncated\"}\n"
    );
    assert_eq!(of(Told::default()), ",\"upstream_tries\":0}\n");
    let mut foreign = answered(Some(&head));
    foreign.note = Some(&"a note of nobody's");
    assert_eq!(line(LogFormat::Json, &foreign), line(LogFormat::Json, &answered(Some(&head))));
    // The format of others stays what others read.
    let note = Note::default();
    foreign.note = Some(&note);
    let combined = |answered: &Answered<'_>| line(LogFormat::Combined, answered);
    assert_eq!(combined(&foreign), combined(&answered(Some(&head))));
}

#[test]
fn every_byte_of_a_value_comes_out_as_valid_text_that_tells_it() {
    // All that a head lets through, at every place of a chunk and beyond it.
    for byte in (0..=255_u8).filter(|&byte| byte == b'\t' || (byte >= b' ' && byte != 0x7f)) {
        for before in [0, 1, 14, 15, 16, 17, 40] {
            let mut request = b"GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a".to_vec();
            request.extend(std::iter::repeat_n(b'x', before));
            request.extend([byte, b'z']);
            request.extend_from_slice(b"\r\n\r\n");
            let head = head(&request);
            let shown = match byte {
                b'"' | b'\\' => format!("\\{}", char::from(byte)),
                b' '..0x7f => char::from(byte).to_string(),
                _ => format!("\\u00{byte:02x}"),
            };
            let value = format!("a{}{shown}z", "x".repeat(before));
            let json = line(LogFormat::Json, &answered(Some(&head)));
            assert!(json.ends_with(&format!("\"user_agent\":\"{value}\"}}\n")), "{byte}: {json}");
            let shown = match byte {
                b'"' | b'\\' | 0..b' ' | 0x7f.. => format!("\\x{byte:02X}"),
                _ => char::from(byte).to_string(),
            };
            let value = format!("a{}{shown}z", "x".repeat(before));
            let combined = line(LogFormat::Combined, &answered(Some(&head)));
            assert!(combined.ends_with(&format!(" \"{value}\"\n")), "{byte}: {combined}");
        }
    }
}

#[test]
fn numbers_are_those_of_the_standard_library() {
    for shift in 0..64 {
        for number in [1_u64 << shift, (1 << shift) - 1, u64::MAX >> shift] {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }
}

#[test]
fn addresses_are_those_of_the_standard_library() {
    for text in [
        "0.0.0.0",
        "127.0.0.1",
        "255.255.255.255",
        "::",
        "::1",
        "1::",
        "2001:db8::1:0:0:1",
        "2001:0:0:1:0:0:0:1",
        "1:2:3:4:5:6:7:8",
        "0:2:3:4:5:6:7:8",
        "1:2:3:4:5:6:7:0",
        "1:0:3:0:5:0:7:0",
        "fe80::abcd:ef01",
        "64:ff9b::c000:221",
        "0:0:1::",
    ] {
        let ip: IpAddr = text.parse().unwrap();
        let mut out = Vec::new();
        address::push_ip(&mut out, ip);
        assert_eq!(String::from_utf8(out).unwrap(), ip.to_string());
        let mut out = Vec::new();
        address::push_socket(&mut out, (ip, 65535).into());
        assert_eq!(String::from_utf8(out).unwrap(), SocketAddr::from((ip, 65535)).to_string());
    }
    let mut out = Vec::new();
    address::push_ip(&mut out, "::ffff:192.0.2.1".parse().unwrap());
    assert_eq!(out, b"192.0.2.1", "a client by IPv4 on a socket for both");
}

#[test]
fn times_are_those_of_the_calendar() {
    let mut clock = Clock::default();
    for (second, rfc_3339, common) in [
        (0, "1970-01-01T00:00:00", "01/Jan/1970:00:00:00"),
        (951_782_400, "2000-02-29T00:00:00", "29/Feb/2000:00:00:00"),
        (951_868_799, "2000-02-29T23:59:59", "29/Feb/2000:23:59:59"),
        (951_868_800, "2000-03-01T00:00:00", "01/Mar/2000:00:00:00"),
        (1_709_164_800, "2024-02-29T00:00:00", "29/Feb/2024:00:00:00"),
        (1_735_689_599, "2024-12-31T23:59:59", "31/Dec/2024:23:59:59"),
        (4_107_542_400, "2100-03-01T00:00:00", "01/Mar/2100:00:00:00"),
        (253_402_300_799, "9999-12-31T23:59:59", "31/Dec/9999:23:59:59"),
    ] {
        for millis in [0, 9, 10, 999] {
            let time = Duration::new(second, millis * 1_000_000 + 999_999);
            let (mut one, mut other) = (Vec::new(), Vec::new());
            clock.push_rfc_3339(&mut one, time);
            clock.push_common(&mut other, time);
            assert_eq!(String::from_utf8(one).unwrap(), format!("{rfc_3339}.{millis:03}Z"));
            assert_eq!(String::from_utf8(other).unwrap(), format!("[{common} +0000]"));
        }
    }
    // Every day of eight centuries follows the one before.
    let mut last = String::new();
    for day in 0..292_200 {
        let mut out = Vec::new();
        clock.push_rfc_3339(&mut out, Duration::from_secs(day * 86_400));
        let text = String::from_utf8(out).unwrap();
        assert!(text > last, "{last} {text}");
        last = text;
    }
    assert!(last.starts_with("2770-01-"), "{last}");
}
