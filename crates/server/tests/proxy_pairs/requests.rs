//! Requests: right ones, and what becomes of them by a mistake that two readers could take
//! differently.

use crate::proxied::chance::Chance;
use crate::proxied::upstream::Asked;

/// What two readers could take for a request.
const HIDDEN: &str = "0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: site.test\r\nX-Id: none\r\n\r\n";

/// What a client has sent, and stands for.
#[derive(Clone, Debug)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) method: &'static str,
    target: String,
    content: Vec<u8>,
    /// It is a request of HTTP/1.1 with all of its content.
    pub(crate) is_right: bool,
    /// An upstream may not be asked it at all.
    is_refused: bool,
}

fn content(chance: &mut Chance, id: &str) -> Vec<u8> {
    let length = *chance.of(&[0, 1, 100, 5_000, 70_000]);
    let unit = if chance.below(3) == 0 { HIDDEN.to_owned() } else { format!("asked-{id};") };
    unit.bytes().cycle().take(length as usize).collect()
}

fn chunked(chance: &mut Chance, content: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = content;
    while !rest.is_empty() {
        let size = (1 + chance.below(9_000) as usize).min(rest.len());
        let line = match chance.below(4) {
            0 => format!("{size:X};name=\"a;b\"\r\n"),
            1 => format!("000{size:x}\r\n"),
            _ => format!("{size:x}\r\n"),
        };
        bytes.extend(line.bytes());
        bytes.extend(&rest[..size]);
        bytes.extend(b"\r\n");
        rest = &rest[size..];
    }
    bytes.extend(*chance.of(&[&b"0\r\n\r\n"[..], b"0\r\nX-Trailer: 1\r\n\r\n", b"00;a\r\n\r\n"]));
    bytes
}

impl Sent {
    /// One by chance, and its bytes. One that is the last of its connection may end early.
    pub(crate) fn new(chance: &mut Chance, id: String, is_last: bool) -> (Sent, Vec<u8>) {
        let method = *chance.of(&["GET", "GET", "HEAD", "POST", "POST", "PUT", "PATCH"]);
        let place = *chance.of(&["", "/buffered"]);
        let target = format!("{place}/p/{id}");
        let has_content = !matches!(method, "GET" | "HEAD");
        let content = if has_content { content(chance, &id) } else { Vec::new() };
        let length = content.len();
        let mut sent = Sent { id, method, target, content, is_right: true, is_refused: false };
        let is_chunked = has_content && chance.below(2) == 0;
        let mut framing = match (has_content, is_chunked) {
            (false, _) => String::new(),
            (true, true) => "Transfer-Encoding: chunked\r\n".to_owned(),
            (true, false) => format!("Content-Length: {length}\r\n"),
        };
        let mut body =
            if is_chunked { chunked(chance, &sent.content) } else { sent.content.clone() };
        // Behind a mistake, nobody knows where the next begins.
        if is_last && chance.below(2) == 0 {
            sent.spoil(chance, &mut framing, &mut body, is_chunked);
        }
        let Sent { id, method, target, .. } = &sent;
        let head = format!("{method} {target} HTTP/1.1\r\nHost: site.test\r\nX-Id: {id}\r\n");
        let fields = if chance.below(2) == 0 {
            "Connection: X-Gone, keep-alive\r\nX-Gone: 1\r\n"
        } else {
            ""
        };
        let mut bytes = [head.as_bytes(), framing.as_bytes(), fields.as_bytes(), b"\r\n"].concat();
        bytes.extend(body);
        (sent, bytes)
    }

    fn spoil(
        &mut self,
        chance: &mut Chance,
        framing: &mut String,
        body: &mut Vec<u8>,
        is_chunked: bool,
    ) {
        let length = self.content.len();
        self.is_right = false;
        if chance.below(3) == 0 && !body.is_empty() {
            // It ends early, or what delimits its chunks is wrong.
            if is_chunked && chance.below(2) == 0 {
                let wrong = *chance.of(&[
                    "5\r\nhelloX\r\n0\r\n\r\n",
                    "0x5\r\nhello\r\n0\r\n\r\n",
                    "fffffffffffffffff\r\nhello\r\n0\r\n\r\n",
                    "5\nhello\n0\n\n",
                    "-1\r\nhello\r\n0\r\n\r\n",
                    "0\r\nContent-Length: 5\r\n\r\n",
                ]);
                let end = body.windows(5).rposition(|five| five == b"0\r\n\r\n");
                body.truncate(end.unwrap_or(0));
                body.extend(wrong.bytes());
            } else {
                body.truncate(chance.below(body.len() as u64) as usize);
            }
            return;
        }
        let other = format!("Content-Length: {}\r\n", length + 1);
        let same = format!("Content-Length: {length}\r\n");
        let coding = "Transfer-Encoding: chunked\r\n";
        *framing = match chance.below(14) {
            0 => same.clone() + &other,
            1 => other + &same,
            2 => same + coding,
            3 => coding.to_owned() + &same,
            4 => coding.to_owned() + "Transfer-Encoding: identity\r\n",
            5 => "Transfer-Encoding: chunked, identity\r\n".to_owned(),
            6 => "Transfer-Encoding: xchunked\r\n".to_owned(),
            7 => "Transfer-Encoding:\x0bchunked\r\n".to_owned(),
            8 => "Transfer-Encoding : chunked\r\n".to_owned(),
            9 => format!("Content-Length: +{length}\r\n"),
            10 => format!("Content-Length : {length}\r\n"),
            11 => format!("X: y\nContent-Length: {length}\r\n"),
            12 => format!("X: y\r\n Content-Length: {length}\r\n{same}"),
            _ => format!("Content-Length: {length}, {}\r\n", length + 1),
        };
        self.is_refused = true;
        body.extend(HIDDEN.bytes());
    }

    /// An upstream was asked this, and nothing that it is not.
    pub(crate) fn assert_is(&self, asked: &Asked) {
        assert!(!self.is_refused, "it was to be refused: {self:?} {asked:#?}");
        let same = asked.method() == self.method && asked.target() == self.target;
        assert!(same, "{self:?} {asked:#?}");
        assert!(asked.head.field("X-Gone").is_none(), "{}", asked.head.raw);
        // A body that never came to its end comes to none there.
        assert!(!asked.is_whole || self.is_right, "a part for the whole: {}", asked.head.raw);
        let content = &asked.content;
        assert!(!asked.is_whole || *content == self.content, "{self:?} {}", asked.head.raw);
        let sent = self.content.starts_with(content);
        assert!(sent || !self.is_right, "what nobody has sent: {self:?} {}", asked.head.raw);
    }
}
