//! Pipes: how large, and how many.

use std::io;

use sluicegate::os::is_out_of_descriptors;
use sluicegate::os::probe::Pipe;

use super::super::check::{Check, Verdict};
use super::super::text;
use super::check;

/// What Sluicegate asks for: the kernel's default `fs.pipe-max-size`.
const SIZE: usize = 1024 * 1024;

/// With fewer, what waits between upstreams and clients has hardly any, since a
/// quarter is kept for what moves.
const WANTED: usize = 32;

/// Pipes that are tried, all at once and for a moment.
const TRIED: usize = 128;

/// Why no more were made.
#[derive(Debug)]
enum End {
    /// There were enough.
    Enough,
    /// The next one could not grow.
    Small(usize),
    Refused(io::Error),
}

pub(super) fn checks() -> [Check; 2] {
    let (made, end) = make();
    [size(made, &end), count(made, &end)]
}

/// Makes pipes of full size until one is refused, and closes them again.
fn make() -> (usize, End) {
    let mut pipes = Vec::new();
    let end = loop {
        if pipes.len() == TRIED {
            break End::Enough;
        }
        match Pipe::new(SIZE) {
            Ok(pipe) if pipe.capacity() >= SIZE => pipes.push(pipe),
            Ok(pipe) => break End::Small(pipe.capacity()),
            Err(error) => break End::Refused(error),
        }
    };
    (pipes.len(), end)
}

fn size(made: usize, end: &End) -> Check {
    let most = text::number("fs.pipe-max-size").ok();
    let check = check(
        "sending.pipe_size",
        "size of a pipe",
        "Through a pipe of 1 MiB splice moves 256 pages at a time; `sendfile` has 16 of its own. A \
         pipe of less than 128 KiB is not used at all.",
    )
    .figure("pipe_max_size", most);
    match end {
        _ if made > 0 => check.found(Verdict::Good, text::bytes(SIZE as u64)).figure("bytes", SIZE),
        End::Small(bytes) => {
            let check = check
                .found(Verdict::CouldBeBetter, text::bytes(*bytes as u64))
                .figure("bytes", *bytes);
            match most {
                Some(most) if most < SIZE as u64 => check
                    .change("Raise the largest size that a user may ask for:")
                    .command(format!("sysctl -w fs.pipe-max-size={SIZE}")),
                _ => check.change(
                    "Other programs of this user hold its share of pipes: see the number of pipes.",
                ),
            }
        }
        End::Refused(error) => check.refused(error, "pipe2", "2.6.27"),
        End::Enough => check,
    }
}

fn count(made: usize, end: &End) -> Check {
    let check = check(
        "sending.pipes",
        "number of pipes of 1 MiB",
        "Each large file that is being sent borrows a pipe, and what waits between an upstream and \
         its client lies in as many as it has MiB. What goes beyond this user's share goes by \
         `sendfile` and through memory of our own, which costs more CPU. The share is all programs' \
         of one user; root has no limit.",
    )
    .figure("made", made)
    .figure("tried", TRIED)
    .figure("soft_pages", text::number("fs.pipe-user-pages-soft").ok())
    .figure("hard_pages", text::number("fs.pipe-user-pages-hard").ok());
    let value = match end {
        End::Enough => format!("{TRIED} and more"),
        End::Small(bytes) => {
            format!("{made}; the next has {}", text::bytes(*bytes as u64))
        }
        End::Refused(error) => format!("{made}; the next is refused: {error}"),
    };
    if made >= WANTED {
        return check.found(Verdict::Good, value);
    }
    let verdict = if made == 0 { Verdict::Missing } else { Verdict::CouldBeBetter };
    let check = check.found(verdict, value);
    match end {
        End::Refused(error) if is_out_of_descriptors(error) => check
            .change("Allow more open descriptors: `LimitNOFILE=` of the unit, or in the shell:")
            .command("ulimit -n 65536"),
        _ => check
            .change(
                "Raise this user's share, in pages (0 is no limit), or run Sluicegate as a user of \
                 its own:",
            )
            .command("sysctl -w fs.pipe-user-pages-soft=65536"),
    }
}
