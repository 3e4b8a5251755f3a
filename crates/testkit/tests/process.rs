//! Processes of tests: found, watched, and gone with their guard.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use sluicegate_testkit::process::{Child, ProcessError, find_program, free_port};

const SOON: Duration = Duration::from_secs(10);

fn shell(script: &str) -> Child {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Child::spawn(command).expect("every machine has a shell")
}

fn exists(pid: &str) -> bool {
    // A zombie that nobody has reaped yet is gone for our purposes.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.starts_with(" Z")))
}

#[test]
fn lines_of_both_streams_are_found_in_turn() {
    let mut child = shell("echo ready; echo loaded >&2; sleep 0.05; echo ready again; sleep 60");
    child.wait_for_line(|line| line == "ready", SOON).expect("the first line");
    let line = child.wait_for_line(|line| line.starts_with("ready"), SOON).expect("the third");
    assert_eq!(line, "ready again");
    assert!(child.output().contains("loaded\n"));
}

#[test]
fn waiting_for_a_line_ends_with_the_process_and_shows_its_last_words() {
    let mut child = shell("echo no such file >&2; exit 3");
    let error = child.wait_for_line(|line| line == "ready", SOON).expect_err("there is no line");
    assert!(matches!(error, ProcessError::Exited { .. }), "{error}");
    assert!(error.to_string().contains("exit status: 3"), "{error}");
    assert!(error.to_string().contains("no such file"), "{error}");
}

#[test]
fn waiting_for_a_line_ends_in_time() {
    let mut child = shell("sleep 60");
    let began = Instant::now();
    let error = child.wait_for_line(|_| true, Duration::from_millis(50)).expect_err("no line");
    assert!(matches!(error, ProcessError::TimedOut { .. }), "{error}");
    assert!(began.elapsed() < SOON);
}

#[test]
fn output_is_kept_within_bounds() {
    let mut child = shell("head -c 8000000 /dev/zero | tr '\\0' x; echo; echo the end");
    child.wait_for_line(|line| line == "the end", SOON).expect("the last line");
    assert!(child.output().len() <= (1 << 20) + (1 << 10), "{}", child.output().len());
}

#[test]
fn terminate_lets_the_process_end_in_its_own_way() {
    let mut child = shell("trap 'exit 7' TERM; echo ready; while :; do sleep 0.01; done");
    child.wait_for_line(|line| line == "ready", SOON).expect("a line");
    child.terminate().expect("it runs");
    assert_eq!(child.wait_timeout(SOON).expect("it ends").code(), Some(7));
    assert!(matches!(child.terminate(), Err(ProcessError::Exited { .. })));
}

#[test]
fn dropping_the_guard_ends_the_process_and_its_workers() {
    let mut child = shell("sleep 60 & echo $!; wait");
    let worker = child.wait_for_line(|_| true, SOON).expect("the worker's id");
    let leader = child.pid().to_string();
    assert!(exists(&leader) && exists(&worker));
    drop(child);
    assert!(!exists(&leader));
    let deadline = Instant::now() + SOON;
    while exists(&worker) {
        assert!(Instant::now() < deadline, "the worker runs on");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn a_port_is_awaited_until_it_accepts_or_the_process_ends() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let open = listener.local_addr().expect("it is bound");
    shell("sleep 60").wait_for_port(open, SOON).expect("it accepts");

    let closed = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port().expect("a free port")));
    let error = shell("exit 1").wait_for_port(closed, SOON).expect_err("nobody listens");
    assert!(matches!(error, ProcessError::Exited { .. }), "{error}");
}

#[test]
fn programs_are_found_by_name_and_by_path() {
    let sh = find_program("sh").expect("every machine has a shell");
    assert!(sh.is_absolute());
    assert_eq!(find_program(sh.to_str().expect("an ordinary path")).as_deref(), Some(sh.as_path()));
    assert_eq!(find_program("sg-absent-program"), None);
    assert_eq!(find_program("/etc/passwd").as_deref(), None::<&Path>);
}
