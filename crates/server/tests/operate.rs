//! Reloads, signals, and the end, as operators meet them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;

use common::{PATIENCE, PROGRAM, Served};
use operated::{Load, Place, connect, eventually, get, page, reload, settle};
use sluicegate_testkit::process::{Child, Signal};

fn port(address: &str) -> u16 {
    TcpListener::bind(address).unwrap().local_addr().unwrap().port()
}

#[test]
fn twenty_reloads_under_load_fail_no_request_and_close_no_connection() {
    let place = Place::new();
    let mut served = place.start();
    let load = Load::on(served.address);
    for round in 0..20 {
        let version = ["two", "one"][round % 2];
        place.write(&place.config(&["127.0.0.1:0"], version, ""));
        settle();
        assert!(reload(&mut served.child).contains(": reloaded: "));
        assert_eq!(page(served.address), version.repeat(200), "round {round}");
        load.go_on();
    }
    assert_eq!(load.finish(), 0, "connections that were opened again");
    served.stop();
}

#[test]
fn a_broken_configuration_is_refused_and_the_old_one_goes_on() {
    let place = Place::new();
    let mut served = place.start();
    let mut kept = connect(served.address);
    for (broken, says) in [
        ("listen = 7\n".to_owned(), "config.toml"),
        (place.config(&["127.0.0.1:0"], "missing", ""), "missing"),
        (place.config(&["127.0.0.1:0", "192.0.2.1:80"], "two", ""), "192.0.2.1:80"),
    ] {
        place.write(&broken);
        let told = reload(&mut served.child);
        assert!(told.contains("not reloaded"), "{told}");
        if !told.contains(says) {
            served.child.wait_for_line(|line| line.contains(says), PATIENCE).unwrap();
        }
        assert_eq!(get(&mut kept, false).unwrap().0, "one".repeat(200));
        assert_eq!(page(served.address), "one".repeat(200));
    }
    place.write(&place.config(&["127.0.0.1:0"], "two", ""));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    assert_eq!(get(&mut kept, false).unwrap().0, "two".repeat(200));
    served.stop();
}

#[test]
fn new_addresses_are_listened_on_and_old_ones_left_but_not_their_connections() {
    let place = Place::new();
    let second = format!("127.0.0.2:{}", port("127.0.0.2:0"));
    let second_address: SocketAddr = second.parse().unwrap();
    let mut served = place.start();
    let mut first = connect(served.address);
    get(&mut first, false).unwrap();
    place.write(&place.config(&["127.0.0.1:0", &second], "one", ""));
    reload(&mut served.child);
    assert_eq!(page(second_address), "one".repeat(200));
    assert_eq!(page(served.address), "one".repeat(200));
    place.write(&place.config(&[&second], "two", ""));
    reload(&mut served.child);
    assert_eq!(page(second_address), "two".repeat(200));
    assert_eq!(get(&mut first, false).unwrap().0, "two".repeat(200));
    eventually("the old address is refused", || TcpStream::connect(served.address).is_err());
    // Somebody else can have it.
    TcpListener::bind(served.address).unwrap();
    assert_eq!(get(&mut first, false).unwrap().0, "two".repeat(200));
    served.stop();
}

#[test]
fn an_address_that_this_process_is_in_the_way_of_is_told_as_such() {
    let place = Place::new();
    let program = place.program();
    // For all addresses, and for one of them; `port` is the kernel's choice.
    for (first, then) in [("0.0.0.0", "127.0.0.1"), ("127.0.0.1", "0.0.0.0"), ("[::]", "[::1]")] {
        let port = port("[::]:0");
        let [first, then] = [first, then].map(|address| format!("{address}:{port}"));
        place.write(&place.config(&[&first], "one", ""));
        let mut served = Served::by(place.command_of(&program));
        place.write(&place.config(&[&then], "two", ""));
        let says = format!("this process listens on {first}");
        let told = reload(&mut served.child);
        assert!(told.contains("not reloaded") && told.contains(&says), "{told}");
        served.child.signal(Signal::USR2).unwrap();
        served.child.wait_for_line(|line| line.contains("not upgraded"), PATIENCE).unwrap();
        let output = served.child.output();
        assert!(!output.contains("another program"), "{output}");
        assert!(output.matches(&says).count() >= 2, "{output}");
        served.stop();
    }
}

#[test]
fn what_a_reload_cannot_change_is_told_and_the_rest_is_changed() {
    let place = Place::new();
    let mut served = place.start();
    let config = place.config(&["127.0.0.1:0"], "two", "[send]\nstrategy = \"copy\"");
    place.write(&config.replace("workers = 2", "workers = 3"));
    served.child.signal(Signal::HUP).unwrap();
    for name in ["`workers`", "`send`"] {
        let told = |line: &str| line.contains(name) && line.contains("SIGUSR2");
        served.child.wait_for_line(told, PATIENCE).unwrap();
    }
    served.child.wait_for_line(|line| line.contains(": reloaded: "), PATIENCE).unwrap();
    assert_eq!(page(served.address), "two".repeat(200));
    served.stop();
}

#[test]
fn limits_of_a_reload_hold_for_new_connections() {
    let place = Place::new();
    let mut served = place.start();
    let once = "[limits]\nrequests_per_connection = 1";
    let mut before = connect(served.address);
    assert!(get(&mut before, false).unwrap().1);
    place.write(&place.config(&["127.0.0.1:0"], "one", once));
    reload(&mut served.child);
    eventually("a connection ends after one request", || {
        !get(&mut connect(served.address), false).unwrap().1
    });
    assert!(get(&mut before, false).unwrap().1, "an older connection goes on");
    served.stop();
}

#[test]
fn log_files_are_opened_anew_and_every_request_has_its_line() {
    let place = Place::new();
    let log = place.path("access.log");
    let more = format!("access_log = {{ path = {log:?}, format = \"combined\" }}");
    place.write(&place.config(&["127.0.0.1:0"], "one", &more));
    let mut served = place.start();
    let load = Load::on(served.address);
    let mut files = vec![log.clone()];
    for round in 0..4 {
        let moved = place.path(&format!("access.log.{round}"));
        std::fs::rename(&log, &moved).unwrap();
        // A reload opens it anew as well, also one that is refused.
        match round {
            0 => served.child.signal(Signal::USR1).unwrap(),
            1 => drop(reload(&mut served.child)),
            2 => {
                place.write("nonsense");
                reload(&mut served.child);
            }
            _ => {
                place.write(&place.config(&["127.0.0.1:0"], "one", &more));
                reload(&mut served.child);
            }
        }
        eventually("the log has its name again", || log.exists());
        load.go_on();
        files.push(moved);
    }
    let asked = std::sync::Arc::clone(&load.asked);
    load.finish();
    served.stop();
    let lines = files.iter().map(|file| std::fs::read_to_string(file).unwrap().lines().count());
    let lines: usize = lines.sum();
    assert_eq!(lines as u64, asked.load(std::sync::atomic::Ordering::Relaxed));
}

#[test]
fn a_log_that_cannot_be_opened_anew_is_told_with_the_reason() {
    let place = Place::new();
    std::fs::create_dir(place.path("logs")).unwrap();
    let log = place.path("logs/access.log");
    let more = format!("access_log = {{ path = {log:?} }}");
    place.write(&place.config(&["127.0.0.1:0"], "one", &more));
    let mut served = place.start();
    std::fs::rename(place.path("logs"), place.path("moved")).unwrap();
    served.child.signal(Signal::USR1).unwrap();
    let line = served.child.wait_for_line(|line| line.contains("anew"), PATIENCE).unwrap();
    let says = "sluicegate: cannot open the access log";
    let reason = "anew, the old file is written on: No such file or directory (os error 2)";
    assert_eq!(line, format!("{says} {} {reason}", log.display()));
    served.stop();
}

#[test]
fn operators_see_reloads_and_refusals() {
    let place = Place::new();
    let admin = "admin = \"127.0.0.1:0\"";
    place.write(&place.config(&["127.0.0.1:0"], "one", admin));
    let mut served = place.start();
    let line = served.child.wait_for_line(|line| line.starts_with("Status on "), PATIENCE).unwrap();
    let address = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let address: SocketAddr = address.parse().unwrap();
    let metrics = || {
        let mut stream = connect(address);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    };
    place.write(&place.config(&["127.0.0.1:0"], "two", admin));
    reload(&mut served.child);
    place.write("nonsense");
    reload(&mut served.child);
    let text = metrics();
    let value = |start: &str| {
        let line = text.lines().find(|line| line.starts_with(start));
        line.unwrap_or_else(|| panic!("{start} in {text}")).rsplit(' ').next().unwrap().to_owned()
    };
    assert_eq!(value("sluicegate_config_reloads_total{outcome=\"done\"}"), "1");
    assert_eq!(value("sluicegate_config_reloads_total{outcome=\"refused\"}"), "1");
    assert_eq!(value("sluicegate_config_last_reload_successful"), "0");
    assert_eq!(value("sluicegate_config_generation"), "2");
    served.stop();
    assert!(TcpStream::connect(address).is_err());
}

/// A download that does not end, since nobody reads on.
fn download(address: SocketAddr) -> TcpStream {
    let mut slow = connect(address);
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; 1000]).unwrap();
    slow
}

fn begin_drain(child: &mut Child) {
    child.terminate().unwrap();
    let told = |line: &str| line.contains("finishing open connections");
    child.wait_for_line(told, PATIENCE).unwrap();
}

#[test]
fn a_drain_that_takes_too_long_is_cut_and_told() {
    let place = Place::new();
    std::fs::write(place.path("one/large"), vec![7; 30_000_000]).unwrap();
    place.write(&place.config(&["127.0.0.1:0"], "one", "[timeouts]\ndrain = \"300ms\""));
    let mut served = place.start();
    let mut slow: Vec<TcpStream> = (0..3).map(|_| connect(served.address)).collect();
    for stream in &mut slow {
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
        stream.read_exact(&mut [0; 1000]).unwrap();
    }
    served.child.terminate().unwrap();
    served
        .child
        .wait_for_line(|line| line.contains("3 connections were cut at the end"), PATIENCE)
        .unwrap();
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
}

#[test]
fn a_second_signal_ends_at_once() {
    let place = Place::new();
    std::fs::write(place.path("one/large"), vec![7; 30_000_000]).unwrap();
    let mut served = place.start();
    let _slow = download(served.address);
    begin_drain(&mut served.child);
    served.child.terminate().unwrap();
    assert_eq!(served.child.wait_timeout(PATIENCE).unwrap().code(), Some(130));
}

#[test]
fn a_second_signal_leaves_no_line_of_the_log_behind() {
    let place = Place::new();
    std::fs::write(place.path("one/large"), vec![7; 30_000_000]).unwrap();
    let log = place.path("access.log");
    place.write(&place.config(&["127.0.0.1:0"], "one", &format!("access_log.path = {log:?}")));
    let mut served = place.start();
    let _slow = download(served.address);
    let mut kept = connect(served.address);
    for _ in 0..30 {
        get(&mut kept, false).unwrap();
    }
    begin_drain(&mut served.child);
    served.child.terminate().unwrap();
    assert_eq!(served.child.wait_timeout(PATIENCE).unwrap().code(), Some(130));
    // The line of the last answer may come after it.
    let lines = std::fs::read_to_string(log).unwrap().lines().count();
    assert!((29..=30).contains(&lines), "{lines}");
}

#[test]
fn log_files_are_opened_anew_during_the_drain_as_well() {
    let place = Place::new();
    std::fs::write(place.path("one/large"), vec![7; 30_000_000]).unwrap();
    let log = place.path("access.log");
    place.write(&place.config(&["127.0.0.1:0"], "one", &format!("access_log.path = {log:?}")));
    let mut served = place.start();
    let mut slow = download(served.address);
    begin_drain(&mut served.child);
    std::fs::rename(&log, place.path("access.log.1")).unwrap();
    served.child.signal(Signal::USR1).unwrap();
    eventually("the log has its name again", || log.exists());
    slow.read_to_end(&mut Vec::new()).unwrap();
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    assert!(std::fs::read_to_string(log).unwrap().contains("/large"));
}

/// A process that ends with this, whatever it waits for.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_that_takes_nothing_keeps_nobody_from_being_obeyed() {
    let place = Place::new();
    let address = format!("127.0.0.77:{}", port("127.0.0.77:0"));
    let config = |version: &str| place.config(&[&address], version, "access_log.path = \"-\"");
    place.write(&config("one"));
    // Nobody reads its standard output.
    let mut command = place.command();
    let told = place.path("told");
    command.stdout(std::process::Stdio::piped()).stderr(std::fs::File::create(&told).unwrap());
    let child = Killed(command.spawn().unwrap());
    let address: SocketAddr = address.parse().unwrap();
    eventually("it serves", || TcpStream::connect(address).is_ok());
    // More than a pipe takes.
    let mut kept = connect(address);
    for _ in 0..1000 {
        get(&mut kept, false).unwrap();
    }
    std::thread::sleep(std::time::Duration::from_millis(500));
    place.write(&config("two"));
    let pid = rustix::process::Pid::from_child(&child.0);
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    signal(Signal::USR1);
    // So that they are not taken together.
    std::thread::sleep(std::time::Duration::from_millis(300));
    signal(Signal::HUP);
    let told = || std::fs::read_to_string(&told).unwrap();
    eventually("it is told that the log waits", || told().contains("is not open anew"));
    let first = told();
    let at = |text: &str| first.find(text).unwrap_or(usize::MAX);
    assert!(at(": reloaded: ") < at("is not open anew"), "{first}");
}

#[test]
fn both_families_of_addresses_have_listeners_of_their_own() {
    let place = Place::new();
    let port = port("[::]:0");
    let listen = [&*format!("0.0.0.0:{port}"), &*format!("[::]:{port}")];
    place.write(&place.config(&listen, "one", ""));
    let served = place.start();
    for address in [format!("127.0.0.9:{port}"), format!("[::1]:{port}")] {
        assert_eq!(page(address.parse().unwrap()), "one".repeat(200), "{address}");
    }
    served.stop();
}

#[test]
fn a_thousand_addresses_are_listened_on() {
    let place = Place::new();
    let port = port("127.0.0.1:0");
    let listen: Vec<String> =
        (0..1000).map(|n| format!("127.9.{}.{}:{port}", n / 250, n % 250 + 1)).collect();
    let listen: Vec<&str> = listen.iter().map(String::as_str).collect();
    place.write(&place.config(&listen, "one", ""));
    let mut served = place.start();
    for address in listen.iter().step_by(97) {
        assert_eq!(page(address.parse().unwrap()), "one".repeat(200), "{address}");
    }
    // All but one are left, and then bound again.
    for round in [&listen[999..], &listen] {
        place.write(&place.config(round, "two", ""));
        assert!(reload(&mut served.child).contains(": reloaded: "));
        assert_eq!(page(listen[999].parse().unwrap()), "two".repeat(200));
    }
    assert_eq!(page(listen[3].parse().unwrap()), "two".repeat(200));
    served.stop();
}

#[test]
fn every_mistake_at_the_start_has_a_message_and_a_status() {
    let place = Place::new();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let at = ["127.0.0.1:0"];
    for (config, says) in [
        (place.config(&[&taken], "one", ""), "another program has it"),
        (place.config(&["192.0.2.1:80"], "one", ""), "no interface of this host has that address"),
        (place.config(&at, "missing", ""), "missing"),
        (place.config(&at, "one", "user = \"nobody-of-that-name\""), "nobody-of-that-name"),
        ("nonsense".to_owned(), "config.toml"),
    ] {
        place.write(&config);
        let mut child = Child::spawn(place.command()).unwrap();
        let status = child.wait_timeout(PATIENCE).unwrap();
        assert_eq!(status.code(), Some(1), "{says}");
        eventually(says, || child.output().contains(says));
    }
    let missing = Command::new(PROGRAM).args(["run", "/no/such/file"]).output().unwrap();
    assert_eq!(missing.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&missing.stderr).contains("/no/such/file"));
}
