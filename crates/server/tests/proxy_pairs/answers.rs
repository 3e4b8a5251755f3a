//! Answers: what each is follows from the request's name, so that a client knows what it must get.

use std::io;
use std::thread::sleep;
use std::time::Duration;

use crate::proxied::answers::{head, text};
use crate::proxied::chance::Chance;
use crate::proxied::upstream::{Exchange, Next};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Sized,
    Chunked,
    Close,
    None204,
    /// Whole, and behind it what nobody has asked for.
    More,
    // These are wrong.
    Lengths,
    Both,
    Chunks,
    Cut,
    Reset,
    Nothing,
    Garbage,
}

const KINDS: [Kind; 16] = [
    Kind::Sized,
    Kind::Sized,
    Kind::Chunked,
    Kind::Chunked,
    Kind::Chunked,
    Kind::Close,
    Kind::None204,
    Kind::More,
    Kind::More,
    Kind::Lengths,
    Kind::Both,
    Kind::Chunks,
    Kind::Cut,
    Kind::Reset,
    Kind::Nothing,
    Kind::Garbage,
];

#[derive(Clone, Debug)]
pub(crate) struct Answer {
    kind: Kind,
    length: usize,
    /// Bytes that are sent at a time.
    piece: usize,
    is_early: bool,
    has_interim: bool,
    chance: Chance,
}

impl Answer {
    pub(crate) fn new(seed: u64, id: &str) -> Self {
        let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
        let mut chance = Chance::new(id.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, hash));
        Answer {
            kind: *chance.of(&KINDS),
            length: *chance.of(&[0, 1, 50, 3_000, 20_000, 200_000]),
            piece: *chance.of(&[usize::MAX, usize::MAX, 10_000, 100]),
            is_early: chance.below(6) == 0,
            has_interim: chance.below(6) == 0,
            chance,
        }
    }

    pub(crate) fn status(&self) -> u16 {
        if self.kind == Kind::None204 { 204 } else { 200 }
    }

    /// A client may take it for whole.
    pub(crate) fn is_right(&self) -> bool {
        use Kind::{Chunked, Close, More, None204, Sized};
        matches!(self.kind, Sized | Chunked | Close | None204 | More)
    }

    /// Each byte tells whose it is.
    pub(crate) fn content(&self, id: &str) -> Vec<u8> {
        let length = if self.kind == Kind::None204 { 0 } else { self.length };
        format!("answer-{id};").bytes().cycle().take(length).collect()
    }

    /// As much as anybody may have got, who was cut then: what a wrong chunk has is content
    /// up to its fault.
    pub(crate) fn most(&self, id: &str) -> Vec<u8> {
        let mut most = self.content(id);
        if self.kind == Kind::Chunks {
            most.extend(IN_WRONG_CHUNK.bytes());
        }
        most
    }

    fn chunked(&mut self, content: &[u8]) -> Vec<u8> {
        let (mut bytes, mut rest) = (Vec::new(), content);
        while !rest.is_empty() {
            let size = (1 + self.chance.below(9_000) as usize).min(rest.len());
            bytes.extend(format!("{size:x}\r\n").bytes());
            bytes.extend(&rest[..size]);
            bytes.extend(b"\r\n");
            rest = &rest[size..];
        }
        bytes.extend(*self.chance.of(&[&b"0\r\n\r\n"[..], b"0\r\nX-Trailer: 2\r\n\r\n"]));
        bytes
    }
}

/// The content of a chunk that goes on behind it.
const IN_WRONG_CHUNK: &str = "hello";

const MORE: &str = "HTTP/1.1 200 OK\r\nX-Answer: nobody\r\nContent-Length: 7\r\n\r\nsmuggle";

pub(crate) fn answer(exchange: &mut Exchange, seed: u64) -> io::Result<Next> {
    let Some(id) = exchange.asked.head.field("X-Id").map(str::to_owned) else {
        return text(exchange, "alive");
    };
    let mut answer = Answer::new(seed, &id);
    let is_early = answer.is_early || answer.kind == Kind::Nothing;
    if !is_early && exchange.receive_content().is_err() {
        return Ok(Next::Close);
    }
    if answer.has_interim {
        exchange.send(head("103 Early Hints", &["Link: </a.css>"]))?;
    }
    let content = answer.content(&id);
    let own = format!("X-Answer: {id}");
    let length = format!("Content-Length: {}", content.len());
    let other = format!("Content-Length: {}", content.len() + 1);
    let coding = "Transfer-Encoding: chunked";
    let is_head = exchange.asked.method() == "HEAD";
    let lines: Vec<&str> = match answer.kind {
        Kind::Sized | Kind::More => vec![&length],
        Kind::Chunked | Kind::Chunks => vec![coding],
        Kind::Close => vec!["Connection: close"],
        Kind::None204 => vec![],
        Kind::Lengths => vec![&length, &other],
        Kind::Both => vec![&length, coding],
        Kind::Cut | Kind::Reset => vec![&other],
        Kind::Nothing => {
            return Ok(if answer.chance.below(2) == 0 { Next::Close } else { Next::Reset });
        }
        Kind::Garbage => {
            exchange.send("this is no answer\r\n\r\n")?;
            return Ok(Next::Close);
        }
    };
    let lines: Vec<&str> = [&*own].into_iter().chain(lines).collect();
    let status = if answer.kind == Kind::None204 { "204 No Content" } else { "200 OK" };
    let mut bytes = head(status, &lines).into_bytes();
    match answer.kind {
        _ if is_head => {}
        Kind::Chunked | Kind::Both => bytes.extend(answer.chunked(&content)),
        Kind::Chunks => {
            let length = IN_WRONG_CHUNK.len();
            let longer = format!("{length}\r\n{IN_WRONG_CHUNK}!\r\n");
            let bare = format!("{length}\n{IN_WRONG_CHUNK}\n");
            let wrong = *answer.chance.of(&["x\r\nno\r\n", &longer, &bare, "-5\r\n"]);
            let mut right = answer.chunked(&content);
            // Before the last chunk, which begins with this.
            let end = right.windows(3).rposition(|three| three == b"0\r\n").unwrap();
            right.truncate(end);
            bytes.extend(right);
            bytes.extend(wrong.bytes());
        }
        _ => bytes.extend(&content),
    }
    if answer.kind == Kind::More {
        bytes.extend(MORE.bytes());
    }
    for piece in bytes.chunks(answer.piece.min(bytes.len())) {
        exchange.send(piece)?;
        if answer.piece < 1_000 && answer.chance.below(100) == 0 {
            sleep(Duration::from_millis(1));
        }
    }
    Ok(match answer.kind {
        Kind::Sized | Kind::Chunked | Kind::None204 | Kind::More => Next::Keep,
        Kind::Reset => Next::Reset,
        _ => Next::Close,
    })
}
