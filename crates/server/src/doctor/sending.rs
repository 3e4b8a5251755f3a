//! Ways for bytes into a socket without a copy, and memory that is used again.

use std::fs::File;
use std::io::{self, IoSlice};
use std::os::fd::{AsFd, BorrowedFd};

use sluicegate::file::read_at;
use sluicegate::os::probe::{
    Entry, MappedMemfd, Pipe, errqueue, locked_memory, sendfile, zerocopy,
};
use sluicegate::{Ring, RingError};

use super::check::{Check, Topic, Verdict};
use super::pair::{Pair, wait_for};
use super::text;

mod pipes;

/// Bytes that are sent to try a way: one page of the smallest size, so that they
/// fit into every pipe and every socket.
const CONTENT: usize = 4096;

/// The most that one call sends by reference: it is counted whole against
/// RLIMIT_MEMLOCK before anything is sent.
const CALL: usize = 1024 * 1024;

pub(super) fn checks() -> Vec<Check> {
    let mut checks = vec![by_sendfile(), by_splice()];
    checks.extend(pipes::checks());
    checks.extend([by_reference(), locked(), reports(), replacement(), huge_pages()]);
    checks
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Sending, name, title, why)
}

/// A file to send from: the program's own, which is in the page cache; memory
/// where `/proc` is not mounted.
enum Content {
    Program(File),
    Memory(MappedMemfd),
}

impl Content {
    fn new() -> io::Result<Self> {
        if let Ok(file) = File::open("/proc/self/exe") {
            return Ok(Content::Program(file));
        }
        Ok(Content::Memory(MappedMemfd::new(CONTENT)?))
    }

    /// Whether its bytes arrive.
    fn arrives(&self, pair: &Pair) -> io::Result<()> {
        let mut sent = Vec::new();
        read_at(self.as_fd(), 0, CONTENT, &mut sent)?;
        if pair.receive(CONTENT)? == sent {
            Ok(())
        } else {
            Err(io::Error::other("other bytes arrived than were sent"))
        }
    }
}

impl AsFd for Content {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Content::Program(file) => file.as_fd(),
            Content::Memory(memory) => memory.as_fd(),
        }
    }
}

fn by_sendfile() -> Check {
    let check = check(
        "sending.sendfile",
        "sendfile to a socket",
        "Files of more than a few pages go from the page cache to the socket by reference. Where \
         it does not work they are read into memory and copied.",
    );
    let (pair, content) = match Pair::new().and_then(|pair| Ok((pair, Content::new()?))) {
        Ok(made) => made,
        Err(error) => return check.not_tried(&error),
    };
    let sent = sendfile(pair.ours.as_fd(), content.as_fd(), 0, CONTENT);
    match sent.and_then(|_| content.arrives(&pair)) {
        Ok(()) => check.found(Verdict::Good, "works"),
        Err(error) => check.refused(&error, "sendfile", "2.6"),
    }
}

fn by_splice() -> Check {
    let check = check(
        "sending.splice",
        "splice through a pipe",
        "Large files go through a pipe, which takes more of them at a time than `sendfile` does: a \
         fifth less CPU over veth. Where it does not work they go by `sendfile`.",
    );
    let (pair, content) = match Pair::new().and_then(|pair| Ok((pair, Content::new()?))) {
        Ok(made) => made,
        Err(error) => return check.not_tried(&error),
    };
    let tried = || {
        let pipe = Pipe::new(CONTENT)?;
        pipe.fill_from_file(content.as_fd(), 0, CONTENT)?;
        pipe.drain_to_socket(pair.ours.as_fd(), CONTENT, false)?;
        content.arrives(&pair)
    };
    match tried() {
        Ok(()) => check.found(Verdict::Good, "file to pipe to socket works"),
        Err(error) => check.refused(&error, "splice", "2.6.17"),
    }
}

/// Whether the kernel had to copy a small send by reference.
pub(super) fn send_by_reference(socket: &impl AsFd, bytes: &[u8]) -> io::Result<bool> {
    let socket = socket.as_fd();
    zerocopy::allow(socket)?;
    zerocopy::send(socket, &[IoSlice::new(bytes)], false)?;
    wait_for(|| {
        Ok(match errqueue::next(socket)? {
            Some(Entry::Released { copied, .. }) => Some(copied),
            _ => None,
        })
    })
}

fn by_reference() -> Check {
    let check = check(
        "sending.zerocopy",
        "MSG_ZEROCOPY",
        "Large content of memory goes by reference to clients on other hosts. The same call tells \
         which clients are on other hosts: to those of this one the kernel copies, and says so.",
    );
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    match send_by_reference(&pair.ours, &[b'x'; CONTENT]) {
        Ok(true) => check
            .found(Verdict::Good, "works; copied on the loopback, as it has to be")
            .figure("copied", true),
        Ok(false) => check
            .found(Verdict::CouldBeBetter, "the loopback says that it did not copy")
            .figure("copied", false)
            .change(
                "This kernel does not tell clients of its own host from others. Tell Sluicegate \
                 that no client is remote: `[send] locality = \"local\"`.",
            ),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => check
            .found(Verdict::Missing, "no completion came")
            .change("Sluicegate copies where none comes. Run on Linux 4.14 or later."),
        Err(error) if zerocopy::is_exhausted(&error) => check
            .found(Verdict::Missing, format!("the kernel has no room for it: {error}"))
            .change("See the memory that may be pinned, and room for reports, below."),
        Err(error) => check.refused(&error, "setsockopt(SO_ZEROCOPY)", "4.14"),
    }
}

/// The largest call of these that the kernel lets this user make by reference.
fn largest_call() -> io::Result<usize> {
    for size in [CALL, CALL / 4, CALL / 16, 4096] {
        let pair = Pair::new()?;
        zerocopy::allow(pair.ours.as_fd())?;
        let bytes = vec![b'x'; size];
        match zerocopy::send(pair.ours.as_fd(), &[IoSlice::new(&bytes)], false) {
            Ok(_) => return Ok(size),
            Err(error) if zerocopy::is_exhausted(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(0)
}

/// Calls that may be under way at once before a larger limit is of use.
const CALLS: u64 = 8;

fn locked() -> Check {
    let check = check(
        "sending.memlock",
        "memory that may be pinned",
        "Every call with MSG_ZEROCOPY counts, with its whole length, against RLIMIT_MEMLOCK until \
         the client has the bytes; all connections of one user share it. Beyond it Sluicegate \
         copies.",
    );
    let limit = locked_memory();
    let soft = limit.soft.map_or_else(|| "no limit".to_owned(), text::bytes);
    let check = check.figure("soft", limit.soft).figure("hard", limit.hard);
    let largest = match largest_call() {
        Ok(largest) => largest,
        Err(error) => return check.not_tried(&error),
    };
    let check = check.figure("largest_call", largest);
    let enough = CALLS * CALL as u64;
    let is_exempt = limit.soft.is_some_and(|soft| soft < CALL as u64) && largest == CALL;
    let check = check.figure("exempt", is_exempt);
    let verdict = match largest {
        0 => Verdict::Missing,
        CALL if is_exempt || limit.soft.is_none_or(|soft| soft >= enough) => Verdict::Good,
        _ => Verdict::CouldBeBetter,
    };
    let calls = match largest {
        0 => "no call by reference is let through".to_owned(),
        largest if is_exempt => {
            format!("calls of {} work all the same (CAP_IPC_LOCK)", text::bytes(largest as u64))
        }
        largest => format!("calls of {} work", text::bytes(largest as u64)),
    };
    let check = check.found(verdict, format!("{soft}; {calls}"));
    if verdict == Verdict::Good {
        return check;
    }
    check
        .change(
            "Raise the limit to 8 MiB or more: in the systemd unit as below, or in \
             /etc/security/limits.conf as `memlock`.",
        )
        .command("LimitMEMLOCK=64M")
}

/// The kernel's default before Linux 6.10; 128 KiB since.
const OPTMEM: u64 = 20 * 1024;

fn reports() -> Check {
    let check = check(
        "sending.optmem",
        "room for reports",
        "Each call with MSG_ZEROCOPY takes room in its socket for the report that it is over \
         (net.core.optmem_max). Beyond it Sluicegate copies.",
    );
    match text::number("net.core.optmem_max") {
        Ok(most) => {
            let check = check.figure("bytes", most);
            let value = text::bytes(most);
            if most >= OPTMEM {
                check.found(Verdict::Good, value)
            } else {
                check
                    .found(Verdict::CouldBeBetter, value)
                    .change("Set it to what kernels have by themselves:")
                    .command("sysctl -w net.core.optmem_max=131072")
            }
        }
        Err(error) => check.found(
            Verdict::NotKnown,
            format!("the host's own setting, not shown in this network namespace ({error})"),
        ),
    }
}

const SHMEM: &str = "/sys/kernel/mm/transparent_hugepage/shmem_enabled";

fn replacement() -> Check {
    let check = check(
        "sending.replacement",
        "replacing pages under way",
        "A ring of memory that many clients read is written again before the slowest has read it: \
         its pages are taken out of the file and new ones put in. That is safe only if readers \
         keep the old ones, which each ring tests on its own memory. Where the test fails, \
         Sluicegate copies or waits.",
    );
    match Ring::builder().build() {
        Ok(ring) if ring.is_replaceable() => {
            check.found(Verdict::Good, "the ring's own test passes").figure("replaceable", true)
        }
        Ok(_) => {
            let check = check
                .found(Verdict::CouldBeBetter, "the ring's own test fails")
                .figure("replaceable", false);
            match setting_of_huge_pages() {
                Ok(found) if is_always(&found) => check
                    .change(format!(
                        "Large pages in memory files (`{found}`) are zeroed in place. Switch them \
                         off:"
                    ))
                    .command(format!("echo never > {SHMEM}")),
                _ => check.change(
                    "Look for large pages in memory files below \
                     /sys/kernel/mm/transparent_hugepage, and allow `fallocate` where a filter \
                     forbids it.",
                ),
            }
        }
        Err(RingError::Memory { cause, .. }) => check.refused(&cause, "memfd_create", "5.1"),
        Err(error) => check.found(Verdict::NotKnown, error.to_string()),
    }
}

fn setting_of_huge_pages() -> io::Result<String> {
    let text = text::read(SHMEM)?;
    Ok(text::chosen(&text).unwrap_or(&text).to_owned())
}

fn is_always(setting: &str) -> bool {
    matches!(setting, "always" | "within_size" | "force")
}

fn huge_pages() -> Check {
    let check = check(
        "sending.shmem_huge",
        "large pages in memory files",
        "A part of a large page cannot be taken out of a file while a socket holds it, so that \
         rings cannot replace theirs.",
    );
    match setting_of_huge_pages() {
        Ok(found) if is_always(&found) => check
            .found(Verdict::CouldBeBetter, format!("`{found}`"))
            .change("Give them only to programs that ask for them:")
            .command(format!("echo advise > {SHMEM}"))
            .figure("setting", found),
        Ok(found) => check.found(Verdict::Good, format!("`{found}`")).figure("setting", found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            check.found(Verdict::Good, "this kernel has none")
        }
        Err(error) => check.found(Verdict::NotKnown, format!("{SHMEM}: {error}")),
    }
}
