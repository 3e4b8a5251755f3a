//! What an upstream answers with.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Instant;

use sluicegate_sys::{sendfile, socket};
use sluicegate_testkit::corpus;

use super::pace::Bursts;
use super::request::{endless_head, head};

/// Bodies up to this length are kept in memory and leave in one send with their head.
const SMALL: u64 = 16 << 10;

/// What one call sends at most, so that many connections advance together.
const SHARE: u64 = 1 << 20;

/// What precedes the name of a file that comes in bursts, and of a body that no file has:
/// `/made/SEED/LENGTH`.
const BURST: &str = "/burst/";
const MADE: &str = "/made/";

/// Bodies by path.
#[derive(Debug)]
pub(super) struct Contents {
    pub(super) root: PathBuf,
    /// Seed and length of what is answered by address.
    by_address: Option<(u64, u64)>,
    files: RefCell<HashMap<String, Rc<File>>>,
    small: RefCell<HashMap<String, Rc<Vec<u8>>>>,
}

/// Where the bytes come from.
#[derive(Debug)]
enum From {
    /// Head and body.
    Memory(Rc<Vec<u8>>),
    /// A file behind its head.
    File(Rc<File>),
    /// The corpus with this seed, made piece by piece: the part from this offset on.
    Made { seed: u64, offset: u64, piece: Vec<u8> },
}

/// An answer that is under way.
#[derive(Debug)]
pub(super) struct Answer {
    from: From,
    /// What is left of the head.
    head: Vec<u8>,
    headed: usize,
    pub(super) length: u64,
    /// Bytes of the body (of memory: of all) that were accepted.
    pub(super) sent: u64,
    bursts: Option<Bursts>,
}

/// How a turn of an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Done,
    /// The socket is full.
    Full,
    /// There is more to send at once.
    Again,
    /// Nothing is due yet.
    Early,
}

impl Contents {
    pub(super) fn new(root: PathBuf, by_address: Option<(u64, u64)>) -> Self {
        Self { root, by_address, files: RefCell::default(), small: RefCell::default() }
    }

    /// The answer to a request that came to this address; `None`: there is nothing of that name.
    pub(super) fn answer(
        &self,
        path: &str,
        address: Option<SocketAddr>,
        is_last: bool,
    ) -> io::Result<Option<Answer>> {
        if let Some((seed, length)) = self.by_address {
            let seed = seed + address.map_or(0, pair_of);
            let key = format!("{seed} {is_last}");
            let answer = self.kept(&key, || {
                let mut answer = head(length, is_last);
                let at = answer.len();
                answer.resize(at + length as usize, 0);
                corpus::fill(seed, 0, &mut answer[at..]);
                Ok(answer)
            })?;
            return Ok(Some(Answer::new(From::Memory(answer), Vec::new(), length)));
        }
        if let Some((seed, length)) = path.strip_prefix(MADE).and_then(made) {
            let from = From::Made { seed, offset: 0, piece: Vec::new() };
            return Ok(Some(Answer::new(from, head(length, is_last), length)));
        }
        let (name, is_burst) = match path.strip_prefix(BURST) {
            Some(name) => (name, true),
            None => (path.trim_start_matches('/'), false),
        };
        if name.split('/').any(|part| part == "..") {
            return Ok(None);
        }
        let Some((file, length)) = self.file(name)? else { return Ok(None) };
        if length <= SMALL && !is_burst {
            let answer = self.kept(&format!("{name} {is_last}"), || {
                let mut answer = head(length, is_last);
                let at = answer.len();
                answer.resize(at + length as usize, 0);
                std::os::unix::fs::FileExt::read_exact_at(&*file, &mut answer[at..], 0)?;
                Ok(answer)
            })?;
            return Ok(Some(Answer::new(From::Memory(answer), Vec::new(), length)));
        }
        if is_burst {
            let mut answer = Answer::new(From::File(file), endless_head(), length);
            answer.bursts = Some(Bursts::new(Instant::now()));
            return Ok(Some(answer));
        }
        Ok(Some(Answer::new(From::File(file), head(length, is_last), length)))
    }

    fn file(&self, name: &str) -> io::Result<Option<(Rc<File>, u64)>> {
        let mut files = self.files.borrow_mut();
        let file = match files.get(name) {
            Some(file) => Rc::clone(file),
            None => match File::open(self.root.join(name)) {
                Ok(file) => Rc::clone(files.entry(name.to_owned()).or_insert(Rc::new(file))),
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                Err(error) => return Err(error),
            },
        };
        let metadata = file.metadata()?;
        Ok(metadata.is_file().then_some((file, metadata.len())))
    }

    fn kept(
        &self,
        key: &str,
        make: impl FnOnce() -> io::Result<Vec<u8>>,
    ) -> io::Result<Rc<Vec<u8>>> {
        let mut small = self.small.borrow_mut();
        if let Some(answer) = small.get(key) {
            return Ok(Rc::clone(answer));
        }
        let answer = Rc::new(make()?);
        small.insert(key.to_owned(), Rc::clone(&answer));
        Ok(answer)
    }
}

/// `SEED/LENGTH`.
fn made(text: &str) -> Option<(u64, u64)> {
    let (seed, length) = text.split_once('/')?;
    Some((seed.parse().ok()?, length.parse().ok()?))
}

/// The number of the pair of addresses, of 127.128.0.0 and up, that this one belongs to.
fn pair_of(address: SocketAddr) -> u64 {
    match address.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits() & 0x7f_ffff) / 2,
        IpAddr::V6(_) => 0,
    }
}

impl Answer {
    fn new(from: From, head: Vec<u8>, length: u64) -> Self {
        Self { from, head, headed: 0, length, sent: 0, bursts: None }
    }

    /// Whether time alone has it go on.
    pub(super) fn is_paced(&self) -> bool {
        self.bursts.is_some()
    }

    /// Sends what the socket takes, a share at most.
    pub(super) fn drive(&mut self, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        match self.push(socket) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if let Some(bursts) = &mut self.bursts {
                    bursts.hold(Instant::now(), self.sent);
                }
                Ok(Turn::Full)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Turn::Again),
            turn => turn,
        }
    }

    fn push(&mut self, socket: BorrowedFd<'_>) -> io::Result<Turn> {
        while self.headed < self.head.len() {
            self.headed += socket::send(socket, &self.head[self.headed..], self.length > 0)?;
        }
        let mut share = (self.length - self.sent).min(SHARE);
        if let Some(bursts) = &self.bursts {
            share = share.min(bursts.due(Instant::now()).saturating_sub(self.sent));
            if share == 0 && self.sent < self.length {
                return Ok(Turn::Early);
            }
        }
        match &mut self.from {
            From::Memory(answer) => {
                // Counted with its head.
                while self.sent < answer.len() as u64 {
                    self.sent += socket::send(socket, &answer[self.sent as usize..], false)? as u64;
                }
                return Ok(Turn::Done);
            }
            From::File(file) if share > 0 => {
                let accepted = sendfile::sendfile(socket, file.as_fd(), self.sent, share as usize)?;
                if accepted == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                self.sent += accepted as u64;
            }
            From::Made { seed, offset, piece } if share > 0 => {
                if *offset + piece.len() as u64 <= self.sent {
                    piece.resize(share.min(256 << 10) as usize, 0);
                    corpus::fill(*seed, self.sent, piece);
                    *offset = self.sent;
                }
                let at = (self.sent - *offset) as usize;
                self.sent += socket::send(socket, &piece[at..], false)? as u64;
            }
            From::File(_) | From::Made { .. } => {}
        }
        Ok(if self.sent == self.length { Turn::Done } else { Turn::Again })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_of_addresses_have_numbers() {
        let pair = |text: &str| pair_of(format!("{text}:80").parse().unwrap());
        assert_eq!([pair("127.128.0.0"), pair("127.128.0.1"), pair("127.128.0.2")], [0, 0, 1]);
        assert_eq!(pair("127.128.1.1"), 128);
        assert_eq!(made("7/100"), Some((7, 100)));
        assert_eq!(made("x/100"), None);
    }
}
