//! HTTP/1.1 as it comes from a peer, read by its grammar and by nothing of the program's: what
//! is not exactly right is told.

use std::io::{self, Read};
use std::time::Duration;

/// Why a message could not be read to its end.
#[derive(Debug)]
pub enum Broken {
    /// The peer closed before its end.
    Truncated,
    /// The peer reset the connection.
    Reset,
    /// It is none.
    Malformed(String),
    /// Nothing came for as long as a test waits.
    Silent,
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Broken::Reset,
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Broken::Silent,
            _ => Broken::Malformed(error.to_string()),
        }
    }
}

fn malformed<T>(what: impl Into<String>) -> Result<T, Broken> {
    Err(Broken::Malformed(what.into()))
}

/// How content is delimited. RFC 9112 section 6.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    Sized(u64),
    Chunked,
    Close,
}

/// How fast it is read.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Bytes at a time.
    pub bytes: usize,
    /// Between two reads.
    pub pause: Duration,
}

impl Pace {
    pub const FAST: Pace = Pace { bytes: 256 << 10, pause: Duration::ZERO };

    /// So many bytes every few milliseconds.
    pub const fn slow(bytes: usize) -> Pace {
        Pace { bytes, pause: Duration::from_millis(4) }
    }
}

/// A start line and its fields.
#[derive(Clone, Debug, Default)]
pub struct Head {
    pub line: String,
    pub fields: Vec<(String, String)>,
    /// As it came, its empty line included.
    pub raw: String,
}

impl Head {
    /// The values of a field, in order.
    pub fn all(&self, name: &str) -> Vec<&str> {
        let same = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        same.map(|(_, value)| value.as_str()).collect()
    }

    /// The value of a field that comes once at most.
    #[track_caller]
    pub fn field(&self, name: &str) -> Option<&str> {
        let all = self.all(name);
        assert!(all.len() <= 1, "{name} comes more than once: {}", self.raw);
        all.first().copied()
    }

    /// By its fields alone; `None` where they tell of no content.
    pub fn framing(&self) -> Result<Option<Framing>, Broken> {
        let (lengths, codings) = (self.all("Content-Length"), self.all("Transfer-Encoding"));
        match (&lengths[..], &codings[..]) {
            ([], []) => Ok(None),
            ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
            ([length], []) if length.bytes().all(|byte| byte.is_ascii_digit()) => {
                match length.parse() {
                    Ok(length) => Ok(Some(Framing::Sized(length))),
                    Err(error) => malformed(format!("{error}: {}", self.raw)),
                }
            }
            // What two readers could take differently is what smuggling is made of.
            _ => malformed(format!("framing that can be read two ways: {}", self.raw)),
        }
    }
}

/// Bytes of a connection, as they come.
pub struct Incoming<S> {
    pub stream: S,
    buffer: Vec<u8>,
    pace: Pace,
    /// All bytes that came.
    pub received: u64,
}

impl<S: Read> Incoming<S> {
    pub fn new(stream: S) -> Self {
        Incoming { stream, buffer: Vec::new(), pace: Pace::FAST, received: 0 }
    }

    pub fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    /// What was received and not read yet.
    pub fn buffered(&self) -> &[u8] {
        &self.buffer
    }

    /// Receives more; `false` at the end of the stream.
    pub fn receive(&mut self) -> Result<bool, Broken> {
        let start = self.buffer.len();
        self.buffer.resize(start + self.pace.bytes, 0);
        let result = loop {
            match self.stream.read(&mut self.buffer[start..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result,
            }
        };
        self.buffer.truncate(start + result.as_ref().map_or(0, |count| *count));
        let count = result?;
        self.received += count as u64;
        if !self.pace.pause.is_zero() {
            std::thread::sleep(self.pace.pause);
        }
        Ok(count > 0)
    }

    fn more(&mut self) -> Result<(), Broken> {
        if self.receive()? { Ok(()) } else { Err(Broken::Truncated) }
    }

    /// The next bytes, `most` at the most and one at least.
    pub fn take(&mut self, most: usize) -> Result<Vec<u8>, Broken> {
        if self.buffer.is_empty() {
            self.more()?;
        }
        let count = most.min(self.buffer.len());
        if count == self.buffer.len() {
            return Ok(std::mem::take(&mut self.buffer));
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// So many bytes.
    pub fn exactly(&mut self, count: usize) -> Result<Vec<u8>, Broken> {
        while self.buffer.len() < count {
            self.more()?;
        }
        Ok(self.buffer.drain(..count).collect())
    }

    /// A line without its CRLF.
    pub fn line(&mut self) -> Result<String, Broken> {
        let end = loop {
            if let Some(end) = self.buffer.iter().position(|byte| *byte == b'\n') {
                break end;
            }
            self.more()?;
        };
        let line: Vec<u8> = self.buffer.drain(..=end).collect();
        let Some(text) = line.strip_suffix(b"\r\n") else {
            return malformed(format!("a line that ends in LF alone: {}", line.escape_ascii()));
        };
        if text.iter().any(|byte| *byte < b' ' && *byte != b'\t') {
            return malformed(format!("a control character: {}", line.escape_ascii()));
        }
        String::from_utf8(text.to_vec()).or_else(|_| malformed("a line that is not UTF-8"))
    }

    /// A head, or `None` where the stream ends before its first byte.
    pub fn head(&mut self) -> Result<Option<Head>, Broken> {
        if self.buffer.is_empty() && !self.receive()? {
            return Ok(None);
        }
        let line = self.line()?;
        let mut head = Head { raw: format!("{line}\r\n"), line, fields: Vec::new() };
        head.fields = self.fields(&mut head.raw)?;
        Ok(Some(head))
    }

    /// Fields, up to and with the empty line.
    fn fields(&mut self, raw: &mut String) -> Result<Vec<(String, String)>, Broken> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?;
            raw.push_str(&line);
            raw.push_str("\r\n");
            if line.is_empty() {
                return Ok(fields);
            }
            let token =
                |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
            match line.split_once(':') {
                Some((name, value)) if !name.is_empty() && name.bytes().all(token) => {
                    fields.push((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()));
                }
                _ => return malformed(format!("`{line}` is no field")),
            }
        }
    }

    /// Gives the content to `sink`, as it comes; returns the trailer section.
    pub fn content(
        &mut self,
        framing: Framing,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<Vec<(String, String)>, Broken> {
        match framing {
            Framing::Sized(length) => self.counted(length, sink)?,
            Framing::Close => loop {
                if self.buffer.is_empty() && !self.receive()? {
                    break;
                }
                sink(&std::mem::take(&mut self.buffer));
            },
            Framing::Chunked => loop {
                let line = self.line()?;
                let digits = line.split(';').next().unwrap_or_default().trim_end();
                let plain = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
                let Some(size) = u64::from_str_radix(digits, 16).ok().filter(|_| plain) else {
                    return malformed(format!("`{line}` is no chunk's size"));
                };
                if size == 0 {
                    return self.fields(&mut String::new());
                }
                self.counted(size, sink)?;
                let end = self.exactly(2)?;
                if end != b"\r\n" {
                    return malformed(format!("a chunk ends in `{}`", end.escape_ascii()));
                }
            },
        }
        Ok(Vec::new())
    }

    fn counted(&mut self, mut left: u64, sink: &mut dyn FnMut(&[u8])) -> Result<(), Broken> {
        while left > 0 {
            let piece = self.take(usize::try_from(left).unwrap_or(usize::MAX))?;
            left -= piece.len() as u64;
            sink(&piece);
        }
        Ok(())
    }
}
