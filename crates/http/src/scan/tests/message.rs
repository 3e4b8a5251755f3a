use proptest::prelude::*;
use proptest::sample::select;

/// Fields that leave a request acceptable, and a few of them together.
const GOOD_FIELDS: &[&str] = &[
    "Accept: */*\r\n",
    "X:\r\n",
    "X-Y: \t a b\t \r\n",
    "Connection: close, keep-alive\r\n",
    "Expect: 100-continue\r\n",
    "If-None-Match: \"a\"\r\n",
    "X: \u{e4}\u{f6}\r\n",
    "User-Agent: a-long-enough-agent/1.0 (of words)\r\n",
];

const BAD_FIELDS: &[&str] = &[
    "Host: b c\r\n",
    "Content-Length: +1\r\n",
    "content-length: 0\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding: chunked, x\r\n",
    "Expect: tea\r\n",
    "X : y\r\n",
    " folded\r\n",
    "X: y\n",
    "X: \r y\r\n",
    ": y\r\n",
];

const GOOD_LINES: &[&str] = &[
    "GET / HTTP/1.1\r\n",
    "POST /a?b HTTP/1.1\r\n",
    "PUT http://h:1/x HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "CONNECT h:1 HTTP/1.1\r\n",
    "\r\nBREW /%zz|\"{} HTTP/1.1\r\n",
];

const BAD_LINES: &[&str] = &[
    "GET  / HTTP/1.1\r\n",
    "GET / HTTP/2.0\r\n",
    "GET /a HTTP/1.0\r\n",
    "GET /\r\n",
    "GET / HTTP/1.1\n",
];

const GOOD_CHUNKS: &[&str] = &[
    "3\r\nabc\r\n",
    "3;x=\"y;\\\"\";z\r\nabc\r\n",
    "10\r\n0123456789abcdef\r\n",
    "1;signature=0123456789abcdef\r\na\r\n",
];

const BAD_CHUNKS: &[&str] = &[
    "g\r\n",
    "3 \r\nabc\r\n",
    "3\r\nabcd\r\n",
    "ffffffffffffffff\r\n",
    "00000000000000001\r\n",
    "1;=\r\na\r\n",
];

const GOOD_ENDS: &[&str] = &["0\r\n\r\n", "00;x\r\nA: b\r\nC:\r\n\r\n"];

const BAD_ENDS: &[&str] = &["", "0\r\nHost: x\r\n\r\n", "0\r\n x\r\n\r\n", "0\r\nA: b\n\r\n"];

/// Mostly the first, so that messages get far before they go wrong.
fn mostly(
    good: &'static [&'static str],
    bad: &'static [&'static str],
) -> impl Strategy<Value = &'static str> {
    prop_oneof![12 => select(good), 1 => select(bad)]
}

/// One or two requests with bodies, mostly right, some of their bytes changed.
pub(crate) fn message() -> impl Strategy<Value = Vec<u8>> {
    let chunks =
        (prop::collection::vec(mostly(GOOD_CHUNKS, BAD_CHUNKS), 0..4), mostly(GOOD_ENDS, BAD_ENDS));
    let body = prop_oneof![
        2 => Just(("", String::new())),
        1 => Just(("Content-Length: 3\r\n", "abc".to_owned())),
        3 => chunks.prop_map(|(chunks, end)| ("Transfer-Encoding: chunked\r\n", chunks.concat() + end)),
    ];
    let fields = prop::collection::vec(mostly(GOOD_FIELDS, BAD_FIELDS), 0..4);
    let host = prop_oneof![12 => Just("Host: a.test\r\n"), 1 => Just("")];
    let request = (mostly(GOOD_LINES, BAD_LINES), host, fields, body).prop_map(
        |(line, host, fields, (framing, body))| {
            format!("{line}{host}{}{framing}\r\n{body}", fields.concat()).into_bytes()
        },
    );
    let noise = select(b"\r\n\0 \t:,;\"aG0\x7f\xff/%".to_vec());
    let mutation = (any::<prop::sample::Index>(), 0..3u8, noise);
    let requests = prop::collection::vec(request, 1..3);
    (requests, prop::collection::vec(mutation, 0..3)).prop_map(|(requests, mutations)| {
        let mut bytes = requests.concat();
        for (index, kind, byte) in mutations {
            let at = index.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes
    })
}
