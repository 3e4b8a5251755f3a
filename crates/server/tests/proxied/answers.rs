//! What upstreams of the tests answer.

use std::io::{self, ErrorKind};
use std::thread;
use std::time::Duration;

use sluicegate_testkit::corpus;

use super::incoming::Framing;
use super::upstream::{Exchange, Next};

/// What is sent at a time.
const BLOCK: usize = 128 << 10;

/// A head with these lines.
pub fn head(status: &str, lines: &[&str]) -> String {
    let lines: String = lines.iter().map(|line| format!("{line}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{lines}\r\n")
}

/// A short answer.
pub fn text(exchange: &mut Exchange, content: &str) -> io::Result<Next> {
    let length = format!("Content-Length: {}", content.len());
    exchange.send(head("200 OK", &[&length, "Content-Type: text/plain"]) + content)?;
    Ok(Next::Keep)
}

/// Content that verifies itself, and how it is sent.
#[derive(Clone, Copy, Debug)]
pub struct Body {
    pub seed: u64,
    pub length: u64,
    pub framing: Framing,
    /// Bytes of a chunk, the first of which are these; later ones differ.
    pub chunk: usize,
    /// After so many bytes of content, such a pause; 0 bytes: none.
    pub every: u64,
    pub pause: Duration,
    /// Where it ends before its end: so many bytes of content come.
    pub until: Option<u64>,
}

impl Body {
    pub fn sized(seed: u64, length: u64) -> Self {
        Self::new(Framing::Sized(length), seed, length)
    }

    pub fn new(framing: Framing, seed: u64, length: u64) -> Self {
        let (chunk, every, pause, until) = (BLOCK, 0, Duration::ZERO, None);
        Body { seed, length, framing, chunk, every, pause, until }
    }

    /// The head and the content, as far as it is to come.
    pub fn send(self, exchange: &mut Exchange) -> io::Result<Next> {
        let length = format!("Content-Length: {}", self.length);
        let (line, next) = match self.framing {
            Framing::Sized(_) => (&*length, Next::Keep),
            Framing::Chunked => ("Transfer-Encoding: chunked", Next::Keep),
            Framing::Close => ("Connection: close", Next::Close),
        };
        exchange.send(head("200 OK", &[line, "Content-Type: application/octet-stream"]))?;
        self.send_content(exchange)?;
        Ok(if self.until.is_some() { Next::Reset } else { next })
    }

    pub fn send_content(self, exchange: &mut Exchange) -> io::Result<()> {
        let end = self.until.unwrap_or(self.length).min(self.length);
        let (mut at, mut paused) = (0, 0);
        let mut piece = Vec::with_capacity(BLOCK + 64);
        while at < end {
            if exchange.is_stopped() {
                return Err(ErrorKind::Interrupted.into());
            }
            // Some sizes for chunks that are not all the same.
            let turn = (at as usize / self.chunk.max(1)) % 3;
            let size = if self.framing == Framing::Chunked { self.chunk + turn } else { BLOCK };
            // What was announced of a chunk is what is sent of it, wherever the body is to end.
            let size = (size as u64).min(self.length - at);
            piece.clear();
            if self.framing == Framing::Chunked {
                piece.extend_from_slice(format!("{size:x}\r\n").as_bytes());
            }
            let mut left = size.min(end - at);
            let is_cut = left < size;
            while left > 0 {
                let count = left.min(BLOCK as u64);
                let start = piece.len();
                piece.resize(start + count as usize, 0);
                corpus::fill(self.seed, at, &mut piece[start..]);
                (at, left) = (at + count, left - count);
                if left > 0 {
                    exchange.send(&piece)?;
                    piece.clear();
                }
            }
            if self.framing == Framing::Chunked && !is_cut {
                piece.extend_from_slice(b"\r\n");
            }
            exchange.send(&piece)?;
            if self.every > 0 && at - paused >= self.every {
                paused = at;
                thread::sleep(self.pause);
            }
        }
        if self.framing == Framing::Chunked && self.until.is_none() {
            exchange.send("0\r\n\r\n")?;
        }
        Ok(())
    }
}

/// Answers as the target asks: `/sized/SEED/LENGTH`, `/chunked/…`, `/close/…`, with
/// `?chunk=BYTES`. Ranges are none of its concerns.
pub fn catalogue(exchange: &mut Exchange) -> io::Result<Next> {
    let target = exchange.asked.target().to_owned();
    let path = target.split('?').next().unwrap_or_default();
    let words: Vec<&str> = path.split('/').collect();
    let [_, kind, seed, length] = words[..] else {
        return text(exchange, &format!("{} {target}\n", exchange.asked.method()));
    };
    let (Ok(seed), Ok(length)) = (seed.parse(), length.parse()) else {
        exchange.send(head("400 Bad Request", &["Content-Length: 0"]))?;
        return Ok(Next::Keep);
    };
    let framing = match kind {
        "chunked" => Framing::Chunked,
        "close" => Framing::Close,
        _ => Framing::Sized(length),
    };
    let mut body = Body::new(framing, seed, length);
    if let Some(chunk) = exchange.asked.query("chunk") {
        body.chunk = chunk.parse().map_err(|_| ErrorKind::InvalidInput)?;
    }
    body.send(exchange)
}
