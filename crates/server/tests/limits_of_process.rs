//! Who the process is, and what it does when it has no descriptor left.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use common::{PATIENCE, Served};
use operated::{Place, connect, eventually, get, page, reload};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Child, Signal};
use sluicegate_testkit::require;

/// `nobody`, by its number: every system has it.
const NOBODY: u32 = 65534;

fn status_of(pid: u32, name: &str) -> Vec<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.split_whitespace().map(|word| word.parse().unwrap()).collect()
}

#[test]
fn a_user_is_become_for_good_in_all_threads_and_reloads_and_upgrades_go_on() {
    require!(Need::Root);
    let place = Place::new();
    let program = place.program();
    let user = format!("user = \"{NOBODY}:{NOBODY}\"");
    place.write(&place.config(&["127.0.0.1:0"], "one", &user));
    let mut served = Served::by(place.command_of(&program));
    let pid = served.child.pid();
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap();
    for task in tasks {
        let task: u32 = task.unwrap().file_name().to_str().unwrap().parse().unwrap();
        for ids in ["Uid:", "Gid:"] {
            assert_eq!(status_of(task, ids), [NOBODY; 4], "{ids}");
        }
        assert!(!status_of(task, "Groups:").contains(&0));
        assert_eq!(status_of(task, "NoNewPrivs:"), [1]);
    }
    assert_eq!(page(served.address), "one".repeat(200));
    place.write(&place.config(&["127.0.0.1:0"], "two", &user));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    served.child.signal(Signal::USR2).unwrap();
    let told = |line: &str| line.contains("serves now") || line.contains("not upgraded");
    let line = served.child.wait_for_line(told, PATIENCE).unwrap();
    assert!(line.contains("serves now"), "{}", served.child.output());
    let new: u32 =
        line.split("process ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
    assert_eq!(status_of(new, "Uid:"), [NOBODY; 4]);
    assert_eq!(page(served.address), "two".repeat(200));
    let new = rustix::process::Pid::from_raw(new.cast_signed()).unwrap();
    rustix::process::kill_process(new, Signal::TERM).unwrap();
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    eventually("the new process ends", || TcpStream::connect(served.address).is_err());
}

#[test]
fn who_is_not_root_stays_itself_or_is_told_so() {
    require!(Need::Root);
    let place = Place::new();
    let program = place.program();
    let as_nobody = || {
        let mut command = place.command_of(&program);
        command.uid(NOBODY).gid(NOBODY);
        command
    };
    place.write(&place.config(&["127.0.0.1:0"], "one", &format!("user = \"{NOBODY}\"")));
    let served = Served::by(as_nobody());
    assert_eq!(page(served.address), "one".repeat(200));
    served.stop();
    // A group that nobody has named is the affair of who starts it.
    let mut grouped = as_nobody();
    let served = Served::by({
        grouped.gid(1);
        grouped
    });
    served.stop();
    let other_group = format!("user = \"{NOBODY}:1\"");
    for (more, listen, says) in [
        ("user = \"root\"", "127.0.0.1:0", "only root can"),
        (&*other_group, "127.0.0.1:0", "cannot take the group"),
        ("", "127.0.0.1:7", "ports below 1024"),
    ] {
        place.write(&place.config(&[listen], "one", more));
        let mut child = Child::spawn(as_nobody()).unwrap();
        let status = child.wait_timeout(PATIENCE).unwrap();
        if listen.ends_with(":7") && child.output().contains("Serving") {
            // Where the host lets everybody have those ports.
            continue;
        }
        assert_eq!(status.code(), Some(1), "{}", child.output());
        eventually(says, || child.output().contains(says));
    }
}

#[test]
fn an_address_that_needs_root_is_told_to_need_a_restart_once_root_is_given_up() {
    require!(Need::Root);
    let place = Place::new();
    let user = format!("user = \"{NOBODY}:{NOBODY}\"");
    place.write(&place.config(&["127.0.0.1:0"], "one", &user));
    let mut served = Served::by(place.command_of(&place.program()));
    place.write(&place.config(&["127.0.0.1:0", "127.0.0.66:7"], "two", &user));
    let told = reload(&mut served.child);
    // Some hosts let everybody have those ports.
    if told.contains("not reloaded") {
        assert!(told.contains("127.0.0.66:7") && told.contains("a restart"), "{told}");
        // An upgrade has no more rights.
        served.child.signal(Signal::USR2).unwrap();
        served.child.wait_for_line(|line| line.contains("not upgraded"), PATIENCE).unwrap();
        let output = served.child.output();
        assert_eq!(output.matches("has given up for `user`").count(), 2, "{output}");
    }
    served.stop();
}

/// Started with room for so many descriptors.
fn with_descriptors(count: u32, command: &Command) -> Command {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("ulimit -n {count}; exec \"$@\""), "sh"]);
    shell.arg(command.get_program()).args(command.get_args());
    shell
}

#[test]
fn without_descriptors_clients_are_turned_away_and_the_others_go_on() {
    let place = Place::new();
    let mut served = Served::by(with_descriptors(64, &place.command()));
    let mut honest: Vec<TcpStream> = (0..8).map(|_| connect(served.address)).collect();
    for stream in &mut honest {
        assert_eq!(get(stream, false).unwrap().0, "one".repeat(200));
    }
    for _ in 0..2 {
        let (mut answered, mut served_too) = (0, 0);
        let mut crowd: Vec<TcpStream> = (0..150).map(|_| connect(served.address)).collect();
        for stream in &mut crowd {
            // It may have been answered, and closed, before this is sent.
            let _ = stream.write_all(b"GET /page HTTP/1.1\r\nHost: h\r\n\r\n");
            let mut start = [0; 12];
            match stream.read_exact(&mut start) {
                Ok(()) if &start == b"HTTP/1.1 503" => answered += 1,
                Ok(()) => {
                    assert_eq!(&start, b"HTTP/1.1 200");
                    served_too += 1;
                }
                // Reset, since the request came after the answer.
                Err(error) => assert_eq!(error.kind(), ErrorKind::ConnectionReset),
            }
        }
        // Nobody waits for nothing, and nearly everybody is told why.
        let beyond = crowd.len() - served_too;
        assert!(beyond > 80 && answered * 10 >= beyond * 9, "{answered} of {beyond} are told");
        for stream in &mut honest {
            assert_eq!(get(stream, false).unwrap().0, "one".repeat(200));
        }
        drop(crowd);
        // It recovers by itself.
        eventually("a new client is served", || {
            let mut stream = connect(served.address);
            let request = b"GET /page HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            let mut start = [0; 12];
            stream.write_all(request).is_ok()
                && stream.read_exact(&mut start).is_ok()
                && &start == b"HTTP/1.1 200"
        });
    }
    let output = served.child.output();
    assert_eq!(output.matches("cannot serve a new connection").count(), 1, "{output}");
    served.child.terminate().unwrap();
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
}

/// Ticks of the clock (a hundredth of a second) for which the process has been
/// on a processor: proc_pid_stat(5).
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let field = |number: usize| fields[number - 3].parse::<u64>().unwrap();
    field(14) + field(15)
}

#[test]
fn without_descriptors_and_without_clients_it_sleeps_and_sees_its_end() {
    let place = Place::new();
    std::fs::write(place.path("one/large"), vec![7; 30_000_000]).unwrap();
    // A way that needs no descriptors of its own, and a long end.
    let more = "[send]\nstrategy = \"copy\"\n[timeouts]\nsend = \"10m\"\ndrain = \"10m\"";
    place.write(&place.config(&["127.0.0.1:0"], "one", more));
    let mut served = Served::by(with_descriptors(64, &place.command()));
    // Downloads that are under way hold every descriptor.
    let mut downloads = Vec::new();
    for _ in 0..200 {
        let mut stream = connect(served.address);
        let _ = stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n");
        let mut start = [0; 12];
        if stream.read_exact(&mut start).is_ok() && &start == b"HTTP/1.1 200" {
            downloads.push(stream);
        }
    }
    assert!((10..64).contains(&downloads.len()), "{}", downloads.len());
    let before = ticks(served.child.pid());
    std::thread::sleep(Duration::from_secs(1));
    let used = ticks(served.child.pid()) - before;
    assert!(used < 25, "{used} hundredths of a second");
    served.child.terminate().unwrap();
    // Its queue is empty, so there is nothing to keep the listener open for.
    eventually("new connections are refused", || TcpStream::connect(served.address).is_err());
    assert!(served.child.try_wait().unwrap().is_none(), "the downloads go on");
    drop(downloads);
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
}
