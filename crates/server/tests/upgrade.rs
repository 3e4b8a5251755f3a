//! One process goes on for another: upgrades, and service managers that open
//! the sockets.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use common::{PATIENCE, PROGRAM, Served};
use operated::{Load, Place, connect, eventually, get, page, reload};
use sluicegate::os::inherit;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Child, Signal, find_program};
use sluicegate_testkit::require;

/// Has the program start anew; returns the process that serves from now on.
fn upgrade(child: &mut Child) -> i32 {
    child.signal(Signal::USR2).unwrap();
    let told = |line: &str| line.contains("serves now") || line.contains("not upgraded");
    let line = child.wait_for_line(told, PATIENCE).unwrap();
    assert!(line.contains("serves now"), "{}", child.output());
    let pid = line.split("process ").nth(1).unwrap().split(' ').next().unwrap();
    pid.parse().unwrap()
}

/// Ends a process that is no child of ours, at the latest with this.
struct Ended(i32);

impl Ended {
    fn signal(&self, signal: Signal) {
        let pid = rustix::process::Pid::from_raw(self.0).unwrap();
        let _ = rustix::process::kill_process(pid, signal);
    }

    fn is_running(&self) -> bool {
        is_running(self.0)
    }

    fn end(self) {
        self.signal(Signal::TERM);
        eventually("the new process ends", || !self.is_running());
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        if self.is_running() {
            self.signal(Signal::KILL);
        }
    }
}

#[test]
fn upgrades_under_load_refuse_no_connection_and_fail_no_request() {
    let place = Place::new();
    let program = place.program();
    let log = place.path("access.log");
    // Two ports of one address, which are not to be mixed up.
    let more = format!("admin = \"127.0.0.1:0\"\naccess_log = {{ path = {log:?} }}");
    place.write(&place.config(&["127.0.0.1:0"], "one", &more));
    let mut served = Served::by(place.command_of(&program));
    let load = Load::on(served.address);
    let line = served.child.wait_for_line(|line| line.starts_with("Status on "), PATIENCE).unwrap();
    let status = line.split("http://").nth(1).unwrap().split('/').next().unwrap();
    let status: SocketAddr = status.parse().unwrap();
    // Another version, by the same name.
    std::fs::rename(&program, place.path("old")).unwrap();
    std::fs::copy(PROGRAM, &program).unwrap();
    place.write(&place.config(&["127.0.0.1:0"], "two", &more));
    let new = Ended(upgrade(&mut served.child));
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    assert_eq!(page(served.address), "two".repeat(200));
    assert!(healthy(status));
    load.go_on();
    let file = std::fs::read_link(format!("/proc/{}/exe", new.0)).unwrap();
    assert_eq!(file, program);
    // The new one can be followed as well; its parent is gone.
    new.signal(Signal::USR2);
    eventually("the second upgrade ends the first new process", || !new.is_running());
    load.go_on();
    let asked = Arc::clone(&load.asked);
    load.finish();
    let newest = processes_of(&program);
    assert_eq!(newest.len(), 1, "{newest:?}");
    Ended(newest[0]).end();
    assert!(TcpStream::connect(served.address).is_err());
    // Three processes have written it: no line is lost or broken.
    let log = std::fs::read_to_string(log).unwrap();
    assert_eq!(log.lines().count() as u64, asked.load(Ordering::Relaxed) + 1);
    assert!(log.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
}

/// Whether the admin server at `address` says so.
fn healthy(address: SocketAddr) -> bool {
    let mut stream = connect(address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    all.starts_with("HTTP/1.1 200 ")
}

/// Processes that run the program of this file.
fn processes_of(program: &Path) -> Vec<i32> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(|entry| {
        let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
        let file = std::fs::read_link(format!("/proc/{pid}/exe")).ok()?;
        (file == program && is_running(pid)).then_some(pid)
    });
    processes.collect()
}

/// Whether there is such a process, and it has not ended.
fn is_running(pid: i32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().unwrap().starts_with(" Z"))
}

#[test]
fn an_upgrade_that_fails_leaves_the_old_process_serving() {
    let place = Place::new();
    let program = place.program();
    let mut served = Served::by(place.command_of(&program));
    let mut kept = connect(served.address);
    let not_upgraded = |served: &mut Served| {
        served.child.signal(Signal::USR2).unwrap();
        let told = |line: &str| line.contains("not upgraded");
        served.child.wait_for_line(told, PATIENCE).unwrap()
    };
    // A configuration that is refused, tells why.
    place.write("workers = \"many\"\n");
    let told = not_upgraded(&mut served);
    assert!(told.contains("exit status: 1"), "{told}");
    assert!(served.child.output().contains("config.toml"), "{}", served.child.output());
    // A program that ends, is killed, or is not there.
    place.write(&place.config(&["127.0.0.1:0"], "one", ""));
    std::fs::remove_file(&program).unwrap();
    let told = not_upgraded(&mut served);
    assert!(told.contains("cannot start"), "{told}");
    std::fs::write(&program, "#!/bin/sh\nkill -SEGV $$\n").unwrap();
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let told = not_upgraded(&mut served);
    assert!(told.contains("the new process ended: signal: 11"), "{told}");
    assert_eq!(get(&mut kept, false).unwrap().0, "one".repeat(200));
    assert_eq!(page(served.address), "one".repeat(200));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    served.stop();
}

#[test]
fn what_waits_in_the_queue_of_a_process_that_is_followed_is_answered() {
    let place = Place::new();
    let mut served = place.start();
    for _ in 0..3 {
        // Nobody accepts these before the upgrade has begun.
        served.child.signal(Signal::STOP).unwrap();
        let mut waiting: Vec<TcpStream> = (0..50).map(|_| connect(served.address)).collect();
        served.child.signal(Signal::USR2).unwrap();
        served.child.signal(Signal::CONT).unwrap();
        for stream in &mut waiting {
            assert_eq!(get(stream, true).unwrap().0, "one".repeat(200));
        }
        let line = served.child.wait_for_line(|line| line.contains("serves now"), PATIENCE);
        let pid: i32 = line
            .unwrap()
            .split("process ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let new = Ended(pid);
        assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
        assert_eq!(page(served.address), "one".repeat(200));
        new.end();
        served = place.start();
    }
    served.stop();
}

/// Starts `command` as a service manager would that has opened these sockets.
fn activated(command: &Command, sockets: Vec<OwnedFd>) -> Command {
    let mut shell = Command::new(find_program("bash").unwrap());
    let sockets: Vec<_> = sockets.into_iter().map(Arc::new).collect();
    let moves: Vec<String> = sockets
        .iter()
        .enumerate()
        .map(|(at, socket)| format!("exec {}<&{}", at + 3, inherit::number(&**socket)))
        .collect();
    // Out of the way of the numbers that they are to have.
    assert!(sockets.iter().all(|socket| inherit::number(&**socket) >= 3 + 8));
    let script = format!(
        "{}; export LISTEN_PID=$$ LISTEN_FDS={}; exec \"$@\"",
        moves.join("; "),
        sockets.len()
    );
    shell.args(["-c", &script, "sh"]).arg(command.get_program()).args(command.get_args());
    for (name, value) in command.get_envs() {
        shell.env(name, value.unwrap());
    }
    inherit::pass(&mut shell, sockets);
    shell
}

/// A listener whose number is not among the first.
fn listener(address: &str) -> (OwnedFd, SocketAddr) {
    let _below: Vec<_> = (0..16).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    (listener.into(), address)
}

#[test]
fn sockets_of_a_service_manager_are_used_in_place_of_binding() {
    require!(Need::Program("bash"));
    let place = Place::new();
    let (named, named_at) = listener("127.0.0.3:0");
    let (other, other_at) = listener("127.0.0.4:0");
    place.write(&place.config(&[&named_at.to_string()], "one", ""));
    // It stays open here, so that nobody else could bind the address.
    let held = named.try_clone().unwrap();
    let mut served = Served::by(activated(&place.command(), vec![named, other]));
    for address in [named_at, other_at] {
        assert_eq!(page(address), "one".repeat(200), "{address}");
    }
    // A reload that names neither leaves both to be served: they stay open.
    place.write(&place.config(&["127.0.0.5:0"], "two", ""));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    for address in [named_at, other_at] {
        assert_eq!(page(address), "two".repeat(200), "{address}");
    }
    // So does an upgrade.
    let new = Ended(upgrade(&mut served.child));
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    for address in [named_at, other_at] {
        assert_eq!(page(address), "two".repeat(200), "{address}");
    }
    new.end();
    drop(held);
}

#[test]
fn serve_takes_the_sockets_of_a_service_manager_and_not_its_default_address() {
    require!(Need::Program("bash"));
    let place = Place::new();
    let (socket, address) = listener("127.0.0.1:0");
    let mut command = Command::new(PROGRAM);
    command.arg("serve").arg(place.path("one"));
    let served = Served::by(activated(&command, vec![socket]));
    assert_eq!(served.address, address);
    assert_eq!(page(address), "one".repeat(200));
    assert!(!served.child.output().contains(":8080"), "{}", served.child.output());
    served.stop();
}

#[test]
fn a_configuration_that_names_no_address_is_served_at_those_of_a_service_manager_alone() {
    require!(Need::Program("bash"));
    let place = Place::new();
    let program = place.program();
    let config = |version: &str| {
        let config = place.config(&[], version, "");
        config.replace("listen = []\n", "")
    };
    place.write(&config("one"));
    let (socket, address) = listener("127.0.0.1:0");
    let command = place.command_of(&program);
    let mut served = Served::by(activated(&command, vec![socket]));
    assert_eq!(served.address, address);
    assert_eq!(page(address), "one".repeat(200));
    place.write(&config("two"));
    assert!(reload(&mut served.child).contains("on 1 address"), "{}", served.child.output());
    assert_eq!(page(address), "two".repeat(200));
    let new = Ended(upgrade(&mut served.child));
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    assert_eq!(page(address), "two".repeat(200));
    new.end();
    assert!(!served.child.output().contains(":8080"), "{}", served.child.output());
}

#[test]
fn a_descriptor_that_is_no_listener_is_passed_over_and_told() {
    require!(Need::Program("bash"));
    let place = Place::new();
    let _below: Vec<_> = (0..16).map(|_| std::fs::File::open("/dev/null").unwrap()).collect();
    let datagrams = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let served = Served::by(activated(&place.command(), vec![datagrams.into()]));
    eventually("it is told", || served.child.output().contains("passed over"));
    assert_eq!(page(served.address), "one".repeat(200));
    served.stop();
}

/// The messages that a service manager gets.
struct Manager {
    socket: UnixDatagram,
}

impl Manager {
    fn new(path: &Path) -> Self {
        let socket = UnixDatagram::bind(path).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Manager { socket }
    }

    fn next(&self) -> String {
        let mut message = [0; 4096];
        let length = self.socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    }
}

#[test]
fn a_service_manager_is_told_of_every_change() {
    let place = Place::new();
    let manager = Manager::new(&place.path("notify"));
    let mut command = place.command();
    command.env("NOTIFY_SOCKET", place.path("notify"));
    let mut served = Served::by(command);
    let ready = manager.next();
    assert!(ready.starts_with("READY=1\nSTATUS=Serving "), "{ready}");
    reload(&mut served.child);
    let reloading = manager.next();
    assert!(reloading.starts_with("RELOADING=1\nMONOTONIC_USEC="), "{reloading}");
    assert!(manager.next().starts_with("READY=1\nSTATUS=Serving "));
    place.write("nonsense");
    reload(&mut served.child);
    assert!(manager.next().starts_with("RELOADING=1\n"));
    let refused = manager.next();
    assert!(refused.starts_with("READY=1\nSTATUS=Serving the old configuration"), "{refused}");
    assert_eq!(refused.lines().count(), 2, "{refused}");
    place.write(&place.config(&["127.0.0.1:0"], "one", ""));
    let new = Ended(upgrade(&mut served.child));
    let followed = manager.next();
    assert!(followed.starts_with(&format!("MAINPID={}\nREADY=1\n", new.0)), "{followed}");
    new.signal(Signal::TERM);
    assert!(manager.next().starts_with("STOPPING=1\n"));
    eventually("the new process ends", || !new.is_running());
}

#[test]
fn a_watchdog_hears_of_workers_that_do_something() {
    let place = Place::new();
    let manager = Manager::new(&place.path("notify"));
    let mut command = place.command();
    command.env("NOTIFY_SOCKET", place.path("notify")).env("WATCHDOG_USEC", "400000");
    let served = Served::by(command);
    assert!(manager.next().starts_with("READY=1\n"));
    for _ in 0..3 {
        assert_eq!(manager.next(), "WATCHDOG=1");
    }
    served.stop();
}
