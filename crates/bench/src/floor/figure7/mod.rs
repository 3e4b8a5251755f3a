//! Ways to join the head, the file and the tail of an answer: those that Figure 7 of the case study
//! on `sendfile` compares (docs/paper.md, R12–R20), as far as Linux has them, and ours.
//!
//! All of them send the same bytes of the same file, on sockets without Nagle's algorithm.

mod at_once;
mod in_pieces;
mod ours;

use std::fmt::{self, Display};
use std::fs::File;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use sluicegate::{JOIN_UP_TO, MEMORY_UP_TO};

use self::at_once::AtOnce;
use self::in_pieces::InPieces;
pub(crate) use self::ours::{WAYS, Ways};
use super::serve;

/// Bytes of the tail, where there is one.
pub(crate) const TAIL: usize = 64;

/// How the pieces of an answer are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Join {
    /// Not at all: `send` of the head, `sendfile`, `send` of the tail.
    Separate,
    /// The same with `TCP_CORK` on around it.
    Cork,
    /// One `writev` (by `sendmsg`) of pieces that are in memory; the file was read at start.
    Writev,
    /// The head with `MSG_MORE`, then as separate.
    More,
    /// This project's library as its server uses it: content that is worth keeping is in memory
    /// with its head, other content is a segment of the file.
    Ours,
    /// The same, with content of any size as a segment of the file.
    OursFile,
}

impl Join {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 6] =
        [Self::Separate, Self::Cork, Self::Writev, Self::More, Self::Ours, Self::OursFile];

    /// Whether it is the library's.
    pub(crate) fn is_ours(self) -> bool {
        matches!(self, Self::Ours | Self::OursFile)
    }
}

impl Display for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Separate => "separate",
            Self::Cork => "cork",
            Self::Writev => "writev",
            Self::More => "more",
            Self::Ours => "ours",
            Self::OursFile => "ours-file",
        })
    }
}

/// A server that answers in one way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Answerer {
    /// How the pieces are joined.
    pub(crate) join: Join,
    /// Whether the last [`TAIL`] bytes of the content are a piece of their own, in memory.
    pub(crate) tail: bool,
}

impl Display for Answerer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { join, tail } = self;
        f.pad(&if *tail { format!("{join}+tail") } else { join.to_string() })
    }
}

impl Answerer {
    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        let mut arguments = vec!["figure7-floor".to_owned(), self.join.to_string()];
        arguments.extend(self.tail.then(|| "--tail".to_owned()));
        arguments
    }
}

/// The command line of an [`Answerer`].
#[derive(Debug, Args)]
pub(crate) struct Figure7Floor {
    #[arg(value_enum)]
    join: Join,
    /// The last bytes of the file are sent from memory, as a tail.
    #[arg(long)]
    tail: bool,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    file: PathBuf,
}

impl Figure7Floor {
    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let file = File::open(&self.file);
        let file = file.with_context(|| format!("cannot open {}", self.file.display()))?;
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener.as_fd())?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        if self.tail {
            serve_joined::<TAIL>(self.join, listener, file)
        } else {
            serve_joined::<0>(self.join, listener, file)
        }
        .context("cannot serve")
    }
}

fn serve_joined<const TAIL: usize>(
    join: Join,
    listener: Arc<OwnedFd>,
    file: File,
) -> io::Result<()> {
    let length = file.metadata()?.len();
    // Where a tail follows, memory saves a packet besides.
    let kept = if TAIL == 0 { MEMORY_UP_TO } else { JOIN_UP_TO };
    match join {
        Join::Separate => serve::<InPieces<false, false, TAIL>>(&listener, file, length),
        Join::Cork => serve::<InPieces<true, false, TAIL>>(&listener, file, length),
        Join::More => serve::<InPieces<false, true, TAIL>>(&listener, file, length),
        Join::Writev => serve::<AtOnce<TAIL>>(&listener, file, length),
        Join::Ours => ours::serve(listener, file, length, TAIL, kept),
        Join::OursFile => ours::serve(listener, file, length, TAIL, 0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, Check};
    use std::io::Write;
    use std::net::TcpStream;
    use std::thread;

    fn answers<const TAIL: usize>(join: Join, length: u64) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("body.bin");
        sluicegate_testkit::corpus::write_file(&path, 5, length).unwrap();
        let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
        // The thread ends with the process of the tests.
        thread::spawn(move || serve_joined::<TAIL>(join, listener, File::open(path).unwrap()));
        let mut first = TcpStream::connect(address).unwrap();
        let mut second = TcpStream::connect(address).unwrap();
        for _ in 0..3 {
            for stream in [&mut first, &mut second] {
                stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
            }
            for stream in [&first, &second] {
                let answer = Answer::new(length, 5, Check::Whole);
                answer.receive(stream, &mut [0; 64 << 10]).unwrap();
            }
        }
    }

    #[test]
    fn every_way_answers_small_and_large_with_and_without_a_tail() {
        for join in Join::ALL {
            for length in [256 + TAIL as u64, 100_000, 6 << 20] {
                answers::<0>(join, length);
                answers::<TAIL>(join, length);
            }
        }
    }

    #[test]
    fn a_name_on_the_command_line_is_the_name_in_the_report() {
        for join in Join::ALL {
            assert_eq!(Join::from_str(&join.to_string(), false), Ok(join));
        }
        assert_eq!(Answerer { join: Join::More, tail: true }.to_string(), "more+tail");
    }
}
