//! The gotchas of files that are mapped and sent (seeds/002): what a change of the file does to
//! what was sent of it, and what it does not.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod sending;

use std::env;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use rustix::process::{Resource, Rlimit, Signal, setrlimit};
use sending::{POISON, contents, context, pair, read_all, run, send_some, socket};
use sluicegate::file::stamp;
use sluicegate::{FileFault, FileRange, Segment, SendContext, SendError, Way, Worker};
use sluicegate_sys::mapping::Mapping;
use sluicegate_sys::sendfile::sendfile;

/// As much as a peer's TCP takes, and acknowledges, though nobody reads.
const LEN: usize = 48 * 1024;

/// A file that has just the bytes of `content`, open for reading and writing.
fn file_of(content: &[u8]) -> Arc<File> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(content).unwrap();
    Arc::new(file)
}

fn whole(file: &Arc<File>) -> FileRange {
    FileRange::new(Arc::clone(file), 0..file.metadata().unwrap().len())
}

/// Sends a segment until the peer's TCP has acknowledged all of it, then has `change` change what
/// it was sent from, and then lets the peer read. Returns what it reads.
fn read_after_a_change(context: SendContext, segment: Segment, change: impl FnOnce()) -> Vec<u8> {
    let worker = Worker::new().unwrap();
    let (server, mut client) = pair();
    let mut socket = socket(server, &worker, context);
    let len = usize::try_from(segment.len()).unwrap();
    let mut socket = run(&worker, async move {
        let end = socket.queue(segment).unwrap();
        socket.acked(end).await.unwrap();
        socket
    });
    change();
    let mut got = vec![0; len];
    client.read_exact(&mut got).unwrap();
    socket.cancel();
    got
}

fn poisoned(got: &[u8]) -> usize {
    let expected = contents(got.len());
    for (byte, was) in got.iter().zip(&expected) {
        assert!(byte == was || *byte == POISON, "neither the old content nor the new");
    }
    got.iter().zip(&expected).filter(|(byte, was)| byte != was).count()
}

/// The hazard: what was accepted by reference is the file's pages.
#[test]
fn a_page_that_is_overwritten_after_sendfile_arrives_changed() {
    for way in [Way::Sendfile, Way::Splice] {
        let file = file_of(&contents(LEN));
        let mapping = Mapping::shared(file.as_fd(), LEN).unwrap();
        let segment = Segment::File(whole(&file));
        let got = read_after_a_change(context(Some(way)), segment, || {
            mapping.write_at(0, &vec![POISON; LEN]);
        });
        assert!(poisoned(&got) > 0, "{way:?}: nothing is shared here: what is left to prove?");
    }
}

#[test]
fn a_copied_file_arrives_as_it_was_when_it_was_accepted() {
    for way in [Way::Sendfile, Way::Splice, Way::Copy] {
        let file = file_of(&contents(LEN));
        let mapping = Mapping::shared(file.as_fd(), LEN).unwrap();
        let segment = Segment::File(whole(&file).copied());
        let got = read_after_a_change(context(Some(way)), segment, || {
            mapping.write_at(0, &vec![POISON; LEN]);
        });
        assert_eq!(poisoned(&got), 0, "{way:?}");
    }
}

#[test]
fn memory_that_came_back_can_be_overwritten() {
    for forced in [None, Some(Way::Copy), Some(Way::Zerocopy)] {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context(forced));
        let reader = read_all(client);
        run(&worker, async move {
            let end = socket.queue(Segment::memory(contents(LEN))).unwrap();
            let mut buffer = Vec::from(socket.released(end).await.unwrap());
            buffer.fill(POISON);
        });
        assert!(reader.join().unwrap() == contents(LEN), "{forced:?}");
    }
}

#[test]
fn of_a_file_that_is_truncated_its_own_bytes_or_zeroes_arrive() {
    // In the middle of a page, and of a piece that may be one folio.
    const CUT: usize = 21_000;
    for way in [Way::Sendfile, Way::Splice] {
        let file = file_of(&contents(LEN));
        let segment = Segment::File(whole(&file));
        let got = read_after_a_change(context(Some(way)), segment, || {
            file.set_len(CUT as u64).unwrap();
            // Somebody else's data, in the memory that was freed, if any was.
            drop((0..16).map(|_| file_of(&vec![POISON; LEN])).collect::<Vec<_>>());
        });
        let expected = contents(LEN);
        assert!(got[..CUT] == expected[..CUT]);
        for (byte, was) in got[CUT..].iter().zip(&expected[CUT..]) {
            assert!(byte == was || *byte == 0, "{way:?}: {byte:#x} is nobody's");
        }
        let page_end = CUT.next_multiple_of(4096);
        assert!(got[CUT..page_end].iter().all(|byte| *byte == 0), "{way:?}: zeroed in place");
    }
}

#[test]
fn a_file_that_is_truncated_while_it_is_sent_is_an_error_that_tells_where() {
    const LONG: usize = 32 << 20;
    const SHORT: usize = (20 << 20) + 123;
    for way in Way::OF_FILES {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context(Some(way)));
        let content = contents(LONG);
        let file = file_of(&content);
        socket.queue(Segment::File(whole(&file))).unwrap();
        assert!(!send_some(&mut socket), "nobody reads");
        assert!(socket.accepted_position().get() < SHORT as u64 - (1 << 20));
        file.set_len(SHORT as u64).unwrap();
        let reader = read_all(client);
        let error = run(&worker, async move { socket.flush().await.unwrap_err() });
        let SendError::File(error) = error else { panic!("{way:?}: {error}") };
        assert!(matches!(error.cause, FileFault::Truncated), "{way:?}: {error}");
        assert_eq!(error.offset, SHORT as u64, "{way:?}");
        let got = reader.join().unwrap();
        assert!(got == content[..got.len()], "{way:?}");
        // Of what is read into memory to be copied, the last piece stays there.
        let staged = if way == Way::Copy { 128 * 1024 } else { 0 };
        assert!((SHORT - staged..=SHORT).contains(&got.len()), "{way:?}: {}", got.len());
    }
}

#[test]
fn sendfile_behind_the_end_sends_nothing() {
    let (server, _client) = pair();
    let file = file_of(&contents(10_000));
    file.set_len(5_000).unwrap();
    assert_eq!(sendfile(server.as_fd(), file.as_fd(), 5_000, 5_000).unwrap(), 0);
    assert_eq!(sendfile(server.as_fd(), file.as_fd(), 9_000, 1_000).unwrap(), 0);
    assert_eq!(sendfile(server.as_fd(), file.as_fd(), 4_000, 6_000).unwrap(), 1_000);
}

#[test]
fn a_file_that_is_replaced_by_renaming_is_sent_as_it_was() {
    const LONG: usize = 16 << 20;
    let replace = |path: &Path| {
        let new = path.with_extension("new");
        fs::write(&new, vec![POISON; LONG]).unwrap();
        fs::rename(&new, path).unwrap();
    };
    for way in Way::OF_FILES {
        let worker = Worker::new().unwrap();
        let (server, client) = pair();
        let mut socket = socket(server, &worker, context(Some(way)));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, contents(LONG)).unwrap();
        let file = Arc::new(OpenOptions::new().read(true).open(&path).unwrap());
        let version = Arc::new(stamp(file.as_fd()).unwrap());
        socket.queue(Segment::File(whole(&file).in_version(version))).unwrap();
        assert!(!send_some(&mut socket), "nobody reads");
        replace(&path);
        drop(file);
        let reader = read_all(client);
        run(&worker, async move { socket.flush().await.unwrap() });
        assert!(reader.join().unwrap() == contents(LONG), "{way:?}");
    }
}

/// Tells a half that it is one.
const HALF: &str = "SLUICEGATE_SIGBUS";

/// A mapping of a file that has lost all its pages.
fn mapping_of_nothing() -> (Arc<File>, Mapping) {
    let file = file_of(&contents(LEN));
    let mapping = Mapping::shared(file.as_fd(), LEN).unwrap();
    file.set_len(0).unwrap();
    (file, mapping)
}

#[test]
fn to_read_a_mapping_behind_the_end_of_its_file_is_deadly() {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", "half_that_reads_behind_the_end", "--nocapture"]).env(HALF, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.signal(), Some(Signal::BUS.as_raw()), "{}\n{text}", output.status);
    assert!(text.contains("about to read"), "{text}");
}

#[test]
fn half_that_reads_behind_the_end() {
    if env::var_os(HALF).is_none() {
        return;
    }
    // No core: this one ends as it shall.
    setrlimit(Resource::Core, Rlimit { current: Some(0), maximum: Some(0) }).unwrap();
    let (_file, mapping) = mapping_of_nothing();
    println!("about to read");
    mapping.read_at(0, &mut [0]);
}

#[test]
fn to_send_from_a_mapping_behind_the_end_of_its_file_is_an_error() {
    const EFAULT: i32 = 14;
    let (server, mut client) = pair();
    let (file, mapping) = mapping_of_nothing();
    let error = mapping.send(server.as_fd(), 0..LEN).unwrap_err();
    assert_eq!(error.raw_os_error(), Some(EFAULT));
    // The socket has taken nothing, and goes on when the file is there again.
    file.set_len(LEN as u64).unwrap();
    mapping.write_at(0, b"again");
    assert_eq!(mapping.send(server.as_fd(), 0..5).unwrap(), 5);
    let mut got = [0; 5];
    client.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"again");
}

#[test]
fn what_was_sent_from_a_mapping_is_a_copy() {
    let (server, mut client) = pair();
    let file = file_of(&contents(LEN));
    let mapping = Mapping::shared(file.as_fd(), LEN).unwrap();
    let sent = mapping.send(server.as_fd(), 0..LEN).unwrap();
    mapping.write_at(0, &vec![POISON; LEN]);
    let mut got = vec![0; sent];
    client.read_exact(&mut got).unwrap();
    assert!(got == contents(LEN)[..sent]);
}
