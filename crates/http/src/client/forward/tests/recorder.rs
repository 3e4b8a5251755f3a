//! Who reads what we have written, and what stands between the two.

use super::*;
use crate::{CRLF, ChunkedDecoder, Event, LAST_CHUNK, Offence, chunk_head};

/// A message as somebody has read it: what was asked for or answered, and the body.
pub(super) type Read = (String, Vec<u8>);

/// A reader as lenient as they come: lines end with LF, names are trimmed. It panics where a message
/// could be read in two ways.
pub(super) struct Recorder<'a> {
    pub(super) rest: &'a [u8],
    /// To whoever gets fields as variables, as servers may and clients do not.
    pub(super) hyphens_are_underscores: bool,
}

impl<'a> Recorder<'a> {
    fn line(&mut self) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| byte == b'\n')?;
        let (line, rest) = self.rest.split_at(end);
        self.rest = &rest[1..];
        let line = line.strip_suffix(b"\r").expect("a line ends with LF alone");
        assert!(!line.iter().any(|byte| b"\r\0".contains(byte)), "a control byte in a line");
        Some(line)
    }

    fn take(&mut self, len: usize) -> Vec<u8> {
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken.to_vec()
    }

    /// The next message: its first line, and its body, which `has_body` may rule out.
    pub(super) fn message(&mut self, has_body: impl Fn(&str) -> bool) -> Option<Read> {
        let first = String::from_utf8(self.line()?.to_vec()).unwrap();
        let (mut length, mut chunked) = (None, false);
        loop {
            let line = self.line().expect("a head without an end");
            if line.is_empty() {
                break;
            }
            assert!(!line.starts_with(b" ") && !line.starts_with(b"\t"), "a folded line");
            let colon = line.iter().position(|&byte| byte == b':').expect("a line without a colon");
            let mut name = String::from_utf8_lossy(&line[..colon]).trim().to_ascii_lowercase();
            if self.hyphens_are_underscores {
                name = name.replace('_', "-");
            }
            let value = String::from_utf8_lossy(&line[colon + 1..]).trim().to_ascii_lowercase();
            match name.as_str() {
                "content-length" => {
                    assert_eq!((length, chunked), (None, false), "another length");
                    length = Some(value.parse().unwrap());
                }
                "transfer-encoding" => {
                    assert_eq!((length, chunked), (None, false), "another coding");
                    assert_eq!(value, "chunked");
                    chunked = true;
                }
                "upgrade" => panic!("an upgrade: {value}"),
                "expect" | "keep-alive" | "proxy" | "proxy-connection" => panic!("{name} went on"),
                _ => {}
            }
        }
        let body = match (has_body(&first), chunked) {
            (false, _) => Vec::new(),
            (true, true) => self.chunks(),
            (true, false) => self.take(length.unwrap_or(0)),
        };
        Some((first, body))
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let line = String::from_utf8(self.line().unwrap().to_vec()).unwrap();
            let len = usize::from_str_radix(&line, 16).unwrap();
            if len == 0 {
                while !self.line().unwrap().is_empty() {}
                return body;
            }
            body.extend(self.take(len));
            assert_eq!(self.line(), Some(b"".as_slice()), "data behind a chunk");
        }
    }
}

pub(super) fn decode(
    decoder: &mut ChunkedDecoder,
    rest: &mut &[u8],
    limits: &Limits,
) -> Result<Option<Vec<u8>>, Offence> {
    let mut content = Vec::new();
    loop {
        let step = decoder.decode(rest, limits)?;
        if let Event::Data(range) = &step.event {
            content.extend_from_slice(&rest[range.clone()]);
        }
        *rest = &rest[step.consumed..];
        match step.event {
            Event::NeedMore => return Ok(None),
            Event::Done => return Ok(Some(content)),
            Event::Data(_) => {}
        }
    }
}

/// A body, as we send it.
pub(super) fn send(
    out: &mut Vec<u8>,
    content: &[u8],
    chunked: bool,
    trailers: &crate::response::Fields,
) {
    if !chunked {
        out.extend_from_slice(content);
        return;
    }
    for piece in content.chunks(7) {
        for part in [chunk_head(piece.len() as u64).as_bytes(), piece, CRLF] {
            out.extend_from_slice(part);
        }
    }
    out.extend_from_slice(&LAST_CHUNK[..3]);
    out.extend_from_slice(trailers.as_bytes());
    out.extend_from_slice(CRLF);
}
