//! Installed where no systemd runs, as in a container.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixDatagram;

use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::common::PATIENCE;
use crate::machine::{Machine, needs};
use crate::{BUILD, build};

/// That a purged package has left nothing but its user.
pub(crate) fn assert_nothing_is_left(machine: &Machine) {
    // What man(1) has rendered for whoever read a page is its own.
    let found = machine.run(
        "find /etc /usr /var /run -xdev -path /var/cache/man -prune -o -iname '*sluicegate*' -print",
    );
    assert_eq!(found, "");
    let named = machine.run("grep -rlI sluicegate /etc /var/lib/systemd || true");
    for file in named.lines() {
        let accounts = ["passwd", "group", "shadow", "gshadow", "subuid", "subgid"];
        let name = file.trim_start_matches("/etc/").trim_end_matches('-');
        assert!(accounts.contains(&name) || file == "/etc/hostname", "{file}");
    }
    machine.run("getent passwd sluicegate | grep -E ':/nonexistent:/usr/sbin/nologin$'");
}

/// All that comes for a GET of `/`.
fn fetch(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn without_systemd_it_is_installed_run_and_purged() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f);
    let package = build();
    let machine = Machine::idle();
    machine.copy(&package.path, "/tmp/sluicegate.deb");
    machine.run("dpkg -i /tmp/sluicegate.deb");
    // Twice is as good as once.
    machine.run("dpkg -i /tmp/sluicegate.deb");
    machine.run("/var/lib/dpkg/info/sluicegate.postinst configure 0");
    assert_eq!(machine.run("dpkg --verify sluicegate"), "");
    assert_eq!(
        machine.run("stat -c '%U %G %a' /var/log/sluicegate"),
        "sluicegate sluicegate 750\n"
    );
    // As the user of the service, by the configuration that came with it.
    let as_user = "setpriv --reuid=sluicegate --regid=sluicegate --clear-groups";
    machine.run(&format!("{as_user} sluicegate check /etc/sluicegate/sluicegate.toml"));

    // As systemd starts it: a listening socket is descriptor 3.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    machine.run(&format!("sed -i 's|0.0.0.0:80|{address}|' /etc/sluicegate/sluicegate.toml"));
    let manager = UnixDatagram::bind(machine.path("/run/manager")).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    machine.run("chmod 666 /run/manager");
    let run = format!(
        "exec 3<&0 </dev/null; export LISTEN_FDS=1 NOTIFY_SOCKET=/run/manager LISTEN_PID=$$
         exec {as_user} --inh-caps=-all --bounding-set=-all --no-new-privs \
             sluicegate run /etc/sluicegate/sluicegate.toml"
    );
    // It goes with the machine.
    let mut server = machine.shell(&run).stdin(OwnedFd::from(listener)).spawn().unwrap();
    let mut told = [0; 512];
    let length = manager.recv(&mut told).unwrap();
    let told = String::from_utf8_lossy(&told[..length]);
    assert!(told.lines().any(|line| line == "READY=1"), "{told}");
    let answer = fetch(address);
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.contains("Sluicegate is running"), "{answer}");
    machine.run("pkill -TERM -x sluicegate");
    assert!(server.wait().unwrap().success());
    machine.run("test -s /var/log/sluicegate/access.log");

    machine.run("dpkg --remove sluicegate && test -s /etc/sluicegate/sluicegate.toml");
    machine.run("dpkg --purge sluicegate");
    assert_nothing_is_left(&machine);
}
