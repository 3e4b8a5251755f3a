use std::path::Path;
use std::time::Instant;

use allocation_counter::measure;
use sluicegate_http::{Limits, RequestHead};

use super::*;
use crate::observe::format::tests::answered;
use crate::observe::writer::PIECE;

/// Longer than any honest write takes on a loaded machine.
const LONG: Duration = Duration::from_secs(20);

fn config(path: &Path) -> config::AccessLog {
    config::AccessLog {
        to: LogTo::File(path.to_owned()),
        format: LogFormat::Combined,
        acked: false,
    }
}

fn open(path: &Path) -> Arc<AccessLog> {
    AccessLog::open(&config(path)).unwrap()
}

fn head(number: usize) -> RequestHead {
    let mut head = RequestHead::new();
    let text = format!("GET /{number} HTTP/1.1\r\nHost: h\r\n\r\n");
    head.parse(text.as_bytes(), &Limits::default()).unwrap();
    head
}

fn log(writer: &Writer, number: usize) {
    writer.log(&answered(Some(&head(number))));
}

/// The numbers in the lines of a file, each of which must be whole.
fn numbers(path: &Path) -> Vec<usize> {
    let text = std::fs::read_to_string(path).unwrap();
    assert!(text.is_empty() || text.ends_with('\n'), "torn: {:?}", text.lines().last());
    let number = |line: &str| {
        let start = "192.0.2.7 - - [22/Nov/2026:09:35:11 +0000] \"GET /";
        let rest = line.strip_prefix(start).unwrap_or_else(|| panic!("torn: {line}"));
        let (number, rest) = rest.split_once(' ').unwrap();
        assert_eq!(rest, "HTTP/1.1\" 200 1024 \"-\" \"-\"");
        number.parse().unwrap()
    };
    text.lines().map(number).collect()
}

fn wait(what: &str, mut is: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is() {
        assert!(start.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_lone_line_is_written_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let access = open(&path);
    let writer = access.writer();
    for number in 0..3 {
        log(&writer, number);
        wait("the line", || numbers(&path).len() == number + 1);
    }
}

#[test]
fn each_line_of_several_writers_is_there_once_and_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let access = open(&path);
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let writer = access.writer();
            scope.spawn(move || (0..20_000).for_each(|line| log(&writer, worker * 20_000 + line)));
        }
    });
    assert!(access.finish());
    let numbers = numbers(&path);
    for worker in 0..4 {
        let own: Vec<_> = numbers.iter().filter(|&&number| number / 20_000 == worker).collect();
        assert_eq!(own.len(), 20_000);
        assert!(own.is_sorted(), "worker {worker}");
    }
    assert_eq!(access.lost(), 0);
}

#[test]
fn a_rotation_under_load_tears_loses_and_doubles_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let rotated = |number: usize| directory.path().join(format!("log.{number}"));
    let access = open(&path);
    const ROTATIONS: usize = 20;
    const LINES: usize = 60_000;
    std::thread::scope(|scope| {
        for worker in 0..2 {
            let writer = access.writer();
            scope.spawn(move || (0..LINES).for_each(|line| log(&writer, worker * LINES + line)));
        }
        for number in 0..ROTATIONS {
            std::thread::sleep(Duration::from_millis(5));
            std::fs::rename(&path, rotated(number)).unwrap();
            access.reopen().unwrap();
        }
    });
    assert!(access.finish());
    let mut all: Vec<usize> = Vec::new();
    for number in 0..ROTATIONS {
        all.extend(numbers(&rotated(number)));
    }
    all.extend(numbers(&path));
    all.sort_unstable();
    assert!(all.iter().copied().eq(0..2 * LINES), "{} lines", all.len());
}

#[test]
fn what_was_logged_before_a_rotation_is_in_the_old_file() {
    let directory = tempfile::tempdir().unwrap();
    let (path, old) = (directory.path().join("log"), directory.path().join("old"));
    let access = open(&path);
    let writer = access.writer();
    log(&writer, 1);
    std::fs::rename(&path, &old).unwrap();
    access.reopen().unwrap();
    log(&writer, 2);
    assert!(access.flush());
    assert_eq!((numbers(&old), numbers(&path)), (vec![1], vec![2]));
}

#[test]
fn a_path_that_cannot_be_opened_anew_leaves_the_old_file_in_use() {
    let directory = tempfile::tempdir().unwrap();
    let inner = directory.path().join("inner");
    std::fs::create_dir(&inner).unwrap();
    let access = open(&inner.join("log"));
    let writer = access.writer();
    log(&writer, 1);
    let moved = directory.path().join("moved");
    std::fs::rename(&inner, &moved).unwrap();
    let error = format!("{:#}", access.reopen().unwrap_err());
    assert!(error.contains("inner/log anew, the old file is written on: No such file"), "{error}");
    log(&writer, 2);
    assert!(access.finish());
    assert_eq!(numbers(&moved.join("log")), [1, 2]);
}

#[test]
fn a_log_that_cannot_be_opened_is_said_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let missing = directory.path().join("missing/log");
    let error = AccessLog::open(&config(&missing)).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot open the access log {}: ", missing.display())));
    assert!(error.ends_with("; its directory must exist"), "{error}");
    assert!(AccessLog::open(&config(directory.path())).is_err(), "a directory");
}

#[test]
fn a_log_that_nobody_keeps_is_written_to_its_end() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    let access = open(&path);
    let writer = access.writer();
    let shared = Arc::downgrade(&access.shared);
    drop(access);
    log(&writer, 1);
    drop(writer);
    wait("the thread ends", || shared.strong_count() == 0);
    assert_eq!(numbers(&path), [1]);
}

#[test]
fn what_is_logged_after_the_end_is_counted_as_lost() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(&directory.path().join("log"));
    let stats = Stats::new(1, Arc::default());
    access.count_lost_in(&stats);
    let writer = access.writer();
    assert!(access.finish());
    log(&writer, 1);
    log(&access.writer(), 2);
    assert_eq!((access.lost(), stats.log_lost.load(Ordering::Relaxed)), (2, 2));
    assert!(!access.finish(), "nobody is there to do it");
}

#[test]
fn a_disk_that_is_full_keeps_lines_waiting_and_whole() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    // Whatever is written to it fails with ENOSPC.
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let access = open(&path);
    let writer = access.writer();
    (0..2_000).for_each(|number| log(&writer, number));
    assert!(!access.flush(), "nothing can be written");
    // Somebody makes room.
    std::fs::remove_file(&path).unwrap();
    access.reopen().unwrap();
    (2_000..2_100).for_each(|number| log(&writer, number));
    assert!(access.finish());
    assert!(numbers(&path).into_iter().eq(0..2_100));
    assert_eq!(access.lost(), 0);
}

#[test]
fn what_does_not_fit_into_the_backlog_is_lost_and_counted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("log");
    std::os::unix::fs::symlink("/dev/full", &path).unwrap();
    let access = open(&path);
    let writer = access.writer();
    log(&writer, 0);
    assert!(!access.flush());
    let one = size_of_val("192.0.2.7 - - [22/Nov/2026:09:35:11 +0000]");
    let many = 2 * BACKLOG / one;
    (1..many).for_each(|number| log(&writer, number));
    let lost = access.lost() as usize;
    assert!(lost > 0 && lost < many, "{lost} of {many}");
    let waiting = access.shared.waiting.load(Ordering::Acquire);
    assert!((BACKLOG..BACKLOG + 2 * PIECE).contains(&waiting), "{waiting}");
    std::fs::remove_file(&path).unwrap();
    access.reopen().unwrap();
    assert!(access.finish());
    let kept = numbers(&path);
    assert_eq!(kept.len() + lost, many);
    assert!(kept.is_sorted());
    assert_eq!(access.lost() as usize, lost);
}

fn fifo(path: &Path) {
    let (kind, mode) = (rustix::fs::FileType::Fifo, rustix::fs::Mode::RWXU);
    rustix::fs::mknodat(rustix::fs::CWD, path, kind, mode, 0).unwrap();
}

#[test]
fn a_pipe_that_nobody_reads_is_said_and_not_waited_for() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    fifo(&path);
    let (sender, opened) = mpsc::channel();
    let of_thread = config(&path);
    std::thread::spawn(move || sender.send(AccessLog::open(&of_thread).map(drop)));
    let error = opened.recv_timeout(LONG).expect("it waits").unwrap_err().to_string();
    assert!(error.ends_with("pipe: it is a pipe that nobody reads"), "{error}");
}

#[test]
fn a_pipe_that_is_full_is_opened_anew_and_its_reader_has_whole_lines() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("pipe");
    fifo(&path);
    // Both ends at once, which does not wait for the other.
    let mut reader = std::fs::File::options().read(true).write(true).open(&path).unwrap();
    let access = open(&path);
    let writer = access.writer();
    const LINES: usize = 2_000;
    (0..LINES).for_each(|number| log(&writer, number));
    assert!(!access.flush(), "more than a pipe has room for");
    access.reopen().unwrap();
    let end = std::thread::spawn(move || {
        let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
        while text.iter().filter(|&&byte| byte == b'\n').count() < LINES {
            let count = std::io::Read::read(&mut reader, &mut buffer).unwrap();
            text.extend_from_slice(&buffer[..count]);
        }
        text
    });
    wait("all lines are read", || end.is_finished());
    assert!(access.finish());
    let copy = directory.path().join("copy");
    std::fs::write(&copy, end.join().unwrap()).unwrap();
    assert!(numbers(&copy).into_iter().eq(0..LINES));
    assert_eq!(access.lost(), 0);
}

#[test]
fn nothing_is_allocated_for_a_line() {
    let directory = tempfile::tempdir().unwrap();
    let access = open(&directory.path().join("log"));
    let writer = access.writer();
    let head = head(1);
    let answered = answered(Some(&head));
    // A piece has at most so many; half of the spare ones are filled first, and
    // are empty again then.
    let lines = PIECE / 80;
    (0..SPARE * lines / 2).for_each(|_| writer.log(&answered));
    assert!(access.flush());
    let counted = measure(|| (0..SPARE * lines / 4).for_each(|_| writer.log(&answered)));
    assert_eq!(counted.count_total, 0, "{counted:?}");
    assert!(access.finish());
}
