//! What acknowledgements cost in system calls: nothing where nobody waits for
//! one, and no looking again and again where somebody does.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::process::Command;
use std::time::Duration;

use peers::{discard, file_of, narrow_pair, pair, pattern};
use sluicegate::{Segment, Socket, Worker};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

/// Names the case for the process under strace, and is not set elsewhere.
const CASE: &str = "SLUICEGATE_TRACED_CASE";

/// The lines of a trace of `case` with these words in them.
fn trace(case: &str) -> impl Fn(&[&str]) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("trace");
    let mut command = Command::new(find_program("strace").unwrap());
    command.args(["-f", "-qq", "-e", "trace=setsockopt,recvmsg,ioctl,sendfile,splice", "-o"]);
    command.arg(&path).arg(std::env::current_exe().unwrap());
    command.args(["--exact", "what_is_traced", "--test-threads=1"]);
    let output = command.env(CASE, case).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("ok. 1 passed"), "{text}");
    let trace = std::fs::read_to_string(&path).unwrap();
    move |words| trace.lines().filter(|line| words.iter().all(|word| line.contains(word))).count()
}

#[test]
fn what_is_traced() {
    let Ok(case) = std::env::var(CASE) else { return };
    let worker = Worker::new().unwrap();
    let (server, client) = if case == "paused" { narrow_pair() } else { pair() };
    let mut socket = Socket::new(server, worker.reactor()).unwrap();
    let len = if case == "acked" { 20_000 } else { 200_000 };
    let file = file_of(&pattern(3, len));
    // Far from the end of the test in time, so that its pause is in the wait.
    let pause = Duration::from_millis(if case == "paused" { 400 } else { 0 });
    let reader = std::thread::spawn(move || {
        std::thread::sleep(pause);
        discard(client).join().unwrap()
    });
    let sent = worker.run(async move {
        let mut end = socket.queued();
        for _ in 0..if case == "flush" { 20 } else { 1 } {
            socket.queue(Segment::memory("head")).unwrap();
            end = socket.queue(Segment::file(&file, 0..len as u64)).unwrap();
            if case == "flush" {
                socket.flush().await.unwrap();
            } else {
                socket.acked(end).await.unwrap();
            }
        }
        end.get()
    });
    assert_eq!(reader.join().unwrap(), sent.unwrap());
}

#[test]
fn sending_alone_asks_for_no_report_and_takes_none() {
    require!(Need::Program("strace"));
    let count = trace("flush");
    assert!(count(&["sendfile("]) >= 20, "the trace does not show what it should");
    assert_eq!(count(&["SO_TIMESTAMPING"]), 0);
    assert_eq!(count(&["MSG_ERRQUEUE"]), 0);
    assert_eq!(count(&["ioctl(", "OUTQ"]), 0);
}

#[test]
fn a_wait_for_one_acknowledgement_asks_for_one_report() {
    require!(Need::Program("strace"));
    let count = trace("acked");
    let options = count(&["setsockopt(", "SO_TIMESTAMPING"]);
    // Numbered; on and off, around a call that takes all of it, unless memory
    // for TCP is scarce just now.
    let calls = count(&["sendfile("]);
    assert!((3..=1 + 2 * calls).contains(&options), "{options}, {calls} calls");
    assert!(calls <= 3, "{calls}");
    // Those that an event has announced, each time until there is none.
    assert!(count(&["MSG_ERRQUEUE"]) <= 6);
    assert!((1..=6).contains(&count(&["ioctl(", "OUTQ"])));
}

#[test]
fn a_wait_for_a_peer_that_pauses_does_not_look_all_the_time() {
    require!(Need::Program("strace"));
    let count = trace("paused");
    let looks = count(&["ioctl(", "OUTQ"]);
    // At most once for each wakeup: an event of the socket, or the clock's,
    // which rings five times a second at last.
    assert!((1..=60).contains(&looks), "{looks}");
}
