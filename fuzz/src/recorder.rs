//! Who gets what we have written: a reader as lenient as they come, which panics where a message
//! could be read in two ways. Shares no code with the parsers that it checks.

use crate::{is_token, trim};

/// A message as the recorder has read it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The request line or the status line.
    pub line: String,
    /// Names in lower case, and values.
    pub fields: Vec<(String, Vec<u8>)>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Names of the trailer section, in lower case.
    pub trailers: Vec<String>,
}

impl Message {
    /// The values of the fields of that name, in lower case.
    #[must_use]
    pub fn values(&self, name: &str) -> Vec<&[u8]> {
        let named = self.fields.iter().filter(|(found, _)| found == name);
        named.map(|(_, value)| value.as_slice()).collect()
    }
}

/// Reads message after message.
#[derive(Clone, Copy, Debug)]
pub struct Recorder<'a> {
    /// What was not read yet.
    pub rest: &'a [u8],
}

impl Recorder<'_> {
    /// The next message, if there is one; it must be whole. `has_body` rules a body out by the first
    /// line.
    ///
    /// # Panics
    /// Where the message is not the canonical one, so that two readers might part.
    pub fn message(&mut self, has_body: impl Fn(&str) -> bool) -> Option<Message> {
        if self.rest.is_empty() {
            return None;
        }
        let line = String::from_utf8(self.line()).expect("a first line of text");
        let mut message = Message { line, ..Message::default() };
        message.fields = self.section();
        let lengths = message.values("content-length");
        let codings = message.values("transfer-encoding");
        assert!(lengths.len() + codings.len() <= 1, "framed twice");
        let length = lengths.first().map(|length| {
            assert!(length.iter().all(u8::is_ascii_digit), "a length of other than digits");
            str::from_utf8(length).ok().and_then(|length| length.parse().ok()).expect("a length")
        });
        let is_chunked = codings.first().inspect(|coding| assert_eq!(**coding, b"chunked"));
        if !has_body(&message.line) {
            return Some(message);
        }
        if is_chunked.is_some() {
            (message.body, message.trailers) = self.chunks();
        } else {
            message.body = self.take(length.unwrap_or(0));
        }
        Some(message)
    }

    /// A line without its end, which is LF to the most lenient and CRLF to the strictest.
    fn line(&mut self) -> Vec<u8> {
        let end = self.rest.iter().position(|&byte| byte == b'\n').expect("a line without an end");
        let mut line = self.take(end + 1);
        line.pop();
        assert_eq!(line.pop(), Some(b'\r'), "a line ends with LF alone");
        let is_control = |byte: &u8| byte.is_ascii_control() && *byte != b'\t';
        assert!(!line.iter().any(is_control), "a control byte in a line");
        line
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.rest.split_at_checked(len).expect("a message that is cut off");
        self.rest = rest;
        taken.to_vec()
    }

    /// Fields up to the empty line.
    fn section(&mut self) -> Vec<(String, Vec<u8>)> {
        let mut fields = Vec::new();
        loop {
            let line = self.line();
            if line.is_empty() {
                return fields;
            }
            let colon = line.iter().position(|&byte| byte == b':').expect("a line without a colon");
            assert!(is_token(&line[..colon]), "a name that is no token");
            let name = String::from_utf8_lossy(&line[..colon]).to_ascii_lowercase();
            fields.push((name, trim(&line[colon + 1..]).to_vec()));
        }
    }

    fn chunks(&mut self) -> (Vec<u8>, Vec<String>) {
        let mut body = Vec::new();
        loop {
            let line = self.line();
            let digits = str::from_utf8(&line).expect("digits");
            let len = usize::from_str_radix(digits, 16).expect("a chunk size and nothing else");
            if len == 0 {
                let trailers = self.section().into_iter().map(|(name, _)| name);
                return (body, trailers.collect());
            }
            body.extend(self.take(len));
            assert!(self.line().is_empty(), "data behind a chunk");
        }
    }
}
