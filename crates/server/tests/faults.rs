//! Faults that the kernel is allowed, made at the system calls of the program itself: an answer
//! is right to the last byte, or visibly cut, and the next one is right again.
//!
//! `SLUICEGATE_PROGRAM` names another program to be tested than the one that was built for these
//! tests, such as the release build.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use common::{PATIENCE, PROGRAM, Sent, Served};
use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::inject::{Call, Count, Errno, Injection, Plan, When, is_possible};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

/// Path, seed and length of what is served: one for each way by which files go.
const SMALL: (&str, u64, u64) = ("/small", 11, 3_000);
const MIDDLE: (&str, u64, u64) = ("/middle", 12, 100 << 10);
const LARGE: (&str, u64, u64) = ("/large", 13, 3 << 20);

/// What is asked for in turn.
const TASKS: [Task; 7] = [
    Task { file: SMALL, ranges: &[] },
    // Read and copied.
    Task { file: LARGE, ranges: &[(1_000_001, 1_003_000)] },
    // By sendfile.
    Task { file: MIDDLE, ranges: &[] },
    // Through a pipe.
    Task { file: LARGE, ranges: &[] },
    Task { file: LARGE, ranges: &[(77_777, 2_999_999)] },
    // Several parts: copied, by sendfile and through a pipe, with heads between.
    Task { file: LARGE, ranges: &[(0, 99), (4_097, 300_000), (1_000_000, 2_500_000)] },
    Task { file: MIDDLE, ranges: &[(5, 5), (1_000, 50_000), (99_999, 100_100)] },
];

/// One thing to ask for.
struct Task {
    file: (&'static str, u64, u64),
    /// First and last byte of each.
    ranges: &'static [(u64, u64)],
}

impl Task {
    fn request(&self) -> String {
        let mut request = format!("GET {} HTTP/1.1\r\nHost: h\r\n", self.file.0);
        if !self.ranges.is_empty() {
            let ranges: Vec<String> =
                self.ranges.iter().map(|(first, last)| format!("{first}-{last}")).collect();
            request += &format!("Range: bytes={}\r\n", ranges.join(", "));
        }
        request + "\r\n"
    }

    fn of_corpus(&self, first: u64, last: u64) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(last - first + 1).unwrap()];
        corpus::fill(self.file.1, first, &mut bytes);
        bytes
    }

    /// All that must follow this head.
    fn content(&self, head: &str) -> Vec<u8> {
        match self.ranges {
            [] => self.of_corpus(0, self.file.2 - 1),
            &[(first, last)] => self.of_corpus(first, last),
            ranges => {
                let boundary = head.split("boundary=").nth(1).unwrap();
                let boundary = boundary.lines().next().unwrap();
                let mut content = Vec::new();
                for &(first, last) in ranges {
                    let line = if content.is_empty() { "" } else { "\r\n" };
                    let total = self.file.2;
                    content.extend_from_slice(
                        format!(
                            "{line}--{boundary}\r\n\
                             Content-Range: bytes {first}-{last}/{total}\r\n\r\n"
                        )
                        .as_bytes(),
                    );
                    content.extend_from_slice(&self.of_corpus(first, last));
                }
                content.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
                content
            }
        }
    }
}

/// How an answer came.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Whole,
    /// The connection ended within it.
    Cut,
    /// With another status, whole.
    Refused(u16),
    /// Nobody listens any more.
    Dead,
}

/// Asks, and compares whatever comes: it is a prefix of what should, or the test fails.
fn ask(stream: &mut TcpStream, task: &Task) -> Came {
    let about = task.request();
    let mut got = Vec::new();
    let mut buffer = vec![0; 256 << 10];
    let mut head_end = None;
    if stream.write_all(about.as_bytes()).is_err() {
        return Came::Cut;
    }
    loop {
        let end = match stream.read(&mut buffer) {
            Ok(0) => true,
            Ok(count) => {
                got.extend_from_slice(&buffer[..count]);
                false
            }
            Err(error) => {
                let kind = error.kind();
                assert!(kind == ErrorKind::ConnectionReset, "{about}: {kind:?}, {} B", got.len());
                true
            }
        };
        head_end = head_end.or_else(|| {
            let four = got.windows(4).position(|four| four == b"\r\n\r\n")?;
            Some(four + 4)
        });
        let Some(head_end) = head_end else {
            if end {
                return Came::Cut;
            }
            continue;
        };
        let head = String::from_utf8(got[..head_end].to_vec()).unwrap();
        let status: u16 = head[9..12].parse().unwrap();
        let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: "));
        let length: usize = length.unwrap().parse().unwrap();
        let body = &got[head_end..];
        assert!(body.len() <= length, "{about}: more than was announced");
        if status < 400 && (end || body.len() == length) {
            assert_eq!(status, if task.ranges.is_empty() { 200 } else { 206 }, "{about}");
            let expected = task.content(&head);
            assert_eq!(length, expected.len(), "{about}");
            let wrong = body.iter().zip(&expected).position(|(got, wanted)| got != wanted);
            assert_eq!(wrong, None, "{about}: byte {wrong:?} of the content is wrong: {head}");
        }
        if body.len() == length {
            return if status < 400 { Came::Whole } else { Came::Refused(status) };
        }
        if end {
            return Came::Cut;
        }
    }
}

fn served(flags: &[&str]) -> (Tree, Served) {
    let mut tree = Tree::new().unwrap();
    for (path, seed, length) in [SMALL, MIDDLE, LARGE] {
        tree = tree.file(&path[1..], seed, length).unwrap();
    }
    let program = std::env::var("SLUICEGATE_PROGRAM").unwrap_or_else(|_| PROGRAM.to_owned());
    let mut command = Command::new(program);
    command.arg("serve").arg(tree.path()).args(["--listen", "127.0.0.1:0"]).args(flags);
    let served = Served::by(command);
    (tree, served)
}

/// As [`Served::connect`], while an injection has the child.
fn connect(address: SocketAddr) -> Option<TcpStream> {
    let stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    Some(stream)
}

/// Whether processes can be traced here, found out once.
fn tracing() -> Need {
    static IS_POSSIBLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    let holds = *IS_POSSIBLE.get_or_init(is_possible);
    Need::Fact { what: "to trace a process (ptrace, x86-64)", holds }
}

/// Every task on `clients` connections at a time, `times` over; each connection begins elsewhere.
/// Returns how often each came otherwise than whole.
fn load(address: SocketAddr, clients: usize, times: usize) -> Vec<Came> {
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..clients)
            .map(|client| {
                scope.spawn(move || {
                    let mut failed = Vec::new();
                    let mut stream = None;
                    for turn in 0..times * TASKS.len() {
                        // Now and then a new one, so that connections are accepted too.
                        if turn % 10 == 0 {
                            stream = None;
                        }
                        let Some(mut open) = stream.take().or_else(|| connect(address)) else {
                            failed.push(Came::Dead);
                            break;
                        };
                        let came = ask(&mut open, &TASKS[(turn + client) % TASKS.len()]);
                        if came != Came::Cut {
                            stream = Some(open);
                        }
                        if came != Came::Whole {
                            failed.push(came);
                        }
                    }
                    failed
                })
            })
            .collect();
        clients.into_iter().flat_map(|client| client.join().unwrap()).collect()
    })
}

/// How many calls were struck, by the rules about these.
fn struck(counts: &[Count], calls: &[Call]) -> u64 {
    let about = counts.iter().filter(|count| calls.contains(&count.rule.call));
    about.map(|count| count.struck).sum()
}

fn assert_all_ways(sent: &Sent) {
    assert!(sent.copied > 0 && sent.sendfile > 0 && sent.spliced > 0, "{sent:?}");
}

/// Every call that a signal can interrupt, and every length that the kernel may cut short.
const INTERRUPTED: [(Call, u32); 10] = [
    (Call::Receive, 3),
    (Call::Send, 3),
    (Call::SendMessage, 2),
    (Call::Sendfile, 3),
    (Call::Fill, 3),
    (Call::Drain, 3),
    (Call::Read, 3),
    (Call::Wait, 4),
    (Call::Accept, 3),
    (Call::Open, 5),
];
const SHORT: [Call; 7] = [
    Call::Send,
    Call::SendMessage,
    Call::Sendfile,
    Call::Fill,
    Call::Drain,
    Call::Read,
    Call::Wait,
];

#[test]
fn interrupted_and_short_calls_change_no_byte_of_any_answer() {
    require!(tracing());
    let mut all = Vec::new();
    for seed in 1..=6 {
        let mut plan = Plan::new(seed);
        for (call, many) in INTERRUPTED {
            plan = plan.error(call, Errno::EINTR, When::OneIn(many));
        }
        for call in SHORT {
            plan = plan.short(call, When::OneIn(2));
        }
        let (_tree, mut served) = served(&["--workers", "2"]);
        let injection = Injection::begin(&mut served.child, plan).unwrap();
        let failed = load(served.address, 4, 6);
        let counts = injection.end().unwrap();
        assert_eq!(failed, [], "seed {seed}: {counts:#?}");
        assert_eq!(load(served.address, 1, 1), [], "undisturbed, seed {seed}");
        assert_all_ways(&served.stop());
        all.push(counts);
    }
    // None of this is believed unless every fault did happen.
    for rule in 0..INTERRUPTED.len() + SHORT.len() {
        let struck: u64 = all.iter().map(|counts| counts[rule].struck).sum();
        assert!(struck > 0, "it never happened: {:?}", all[0][rule].rule);
    }
    let struck: u64 = all.iter().flatten().map(|count| count.struck).sum();
    println!("{struck} faults");
    assert!(struck > 3_000, "{all:#?}");
}

#[test]
fn a_disk_error_cuts_its_answer_and_no_other() {
    require!(tracing());
    // What needs the call, and which of its calls fails.
    let ways = [(Call::Read, 1), (Call::Sendfile, 2), (Call::Fill, 3), (Call::Fill, 5)];
    for (call, task) in ways {
        for nth in 1..=2 {
            let (_tree, mut served) = served(&["--workers", "1"]);
            let mut stream = served.connect();
            let mut plan = Plan::new(nth).error(call, Errno::EIO, When::Nth(nth));
            // So that there is a second one in every answer.
            plan = plan.short(call, When::OneIn(1));
            let injection = Injection::begin(&mut served.child, plan).unwrap();
            let came = ask(&mut stream, &TASKS[task]);
            let about = format!("{call:?}, task {task}, call {nth}");
            // The server may know before it has sent anything.
            assert!(matches!(came, Came::Cut | Came::Refused(500)), "{about}: {came:?}");
            assert_eq!(load(served.address, 1, 1), [], "the next ones, {about}");
            let counts = injection.end().unwrap();
            let line = served.child.wait_for_line(|line| line.contains("cannot be read"), PATIENCE);
            assert!(line.unwrap().contains(TASKS[task].file.0), "{about}");
            assert_eq!(counts[0].struck, 1, "{about}: {counts:?}");
            served.stop();
        }
    }
}

#[test]
fn a_failing_disk_brings_cut_answers_but_no_wrong_byte() {
    require!(tracing());
    const READS: [Call; 3] = [Call::Read, Call::Sendfile, Call::Fill];
    for seed in 1..=4 {
        let mut plan = Plan::new(seed);
        for call in READS {
            plan = plan.error(call, Errno::EIO, When::OneIn(6)).short(call, When::OneIn(2));
        }
        let (_tree, mut served) = served(&["--workers", "2"]);
        let injection = Injection::begin(&mut served.child, plan).unwrap();
        let failed = load(served.address, 4, 4);
        let counts = injection.end().unwrap();
        let errors = counts.iter().step_by(2).map(|count| count.struck).sum::<u64>();
        assert!(failed.len() > 10, "seed {seed}: {failed:?}, {counts:#?}");
        // An error is one answer's, never two's.
        assert!(failed.len() as u64 <= errors, "seed {seed}: {failed:?}, {counts:#?}");
        let is_honest = |came: &Came| matches!(came, Came::Cut | Came::Refused(500));
        assert!(
            failed.iter().all(is_honest),
            "seed {seed}: {failed:?}, {counts:#?}\n{}",
            served.child.output()
        );
        served.child.wait_for_line(|line| line.contains("was cut"), PATIENCE).unwrap();
        assert_eq!(load(served.address, 2, 1), [], "when the disk has recovered, seed {seed}");
        served.stop();
    }
}

#[test]
fn a_kernel_short_of_memory_is_survived() {
    require!(tracing());
    for seed in 1..=3 {
        let some = When::OneIn(20);
        let plan = Plan::new(seed)
            .error(Call::Accept, Errno::ENOBUFS, When::OneIn(4))
            .error(Call::Accept, Errno::ENFILE, When::OneIn(4))
            .error(Call::Accept, Errno::ECONNABORTED, When::OneIn(4))
            .error(Call::Open, Errno::ENOMEM, some)
            .error(Call::Stat, Errno::ENOMEM, some)
            .error(Call::Watch, Errno::ENOMEM, some)
            .error(Call::Receive, Errno::ENOMEM, some)
            .error(Call::Send, Errno::ENOBUFS, some)
            .error(Call::SendMessage, Errno::ENOMEM, some)
            .error(Call::Sendfile, Errno::ENOMEM, some)
            .error(Call::Fill, Errno::ENOMEM, some)
            .error(Call::Drain, Errno::ENOMEM, some);
        let (_tree, mut served) = served(&["--workers", "2"]);
        // A worker that cannot even start ends the program, and says why: they all run by then.
        assert_eq!(load(served.address, 4, 1), [], "seed {seed}");
        let injection = Injection::begin(&mut served.child, plan).unwrap();
        let failed = load(served.address, 6, 2);
        let counts = injection.end().unwrap();
        assert!(struck(&counts, &[Call::Accept]) > 0, "seed {seed}: {counts:#?}");
        assert!(!failed.is_empty(), "seed {seed}: {counts:#?}");
        let is_honest = |came: &Came| matches!(came, Came::Cut | Came::Refused(500 | 503));
        assert!(
            failed.iter().all(is_honest),
            "seed {seed}: {failed:?}, {counts:#?}\n{}",
            served.child.output()
        );
        assert_eq!(load(served.address, 2, 1), [], "when there is memory again, seed {seed}");
        served.stop();
    }
}
