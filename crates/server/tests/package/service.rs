//! What systemd makes of it: from the first request to the last file.

use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::installed::assert_nothing_is_left;
use crate::machine::{Machine, needs, systemd};
use crate::{BUILD, build};

const CONFIGURATION: &str = "/etc/sluicegate/sluicegate.toml";
const INSTALL: &str = "dpkg -i /tmp/sluicegate.deb";
const KILL: &str = "SystemCallErrorNumber=kill\\n";

/// What a client on the machine gets from port 80.
fn page(machine: &Machine) -> String {
    machine.run("curl --silent --show-error --fail --max-time 30 http://127.0.0.1/")
}

/// A property of the service, as systemd has it.
fn property(machine: &Machine, name: &str) -> String {
    machine.run(&format!("systemctl show --value -p {name} sluicegate.service")).trim().to_owned()
}

/// A machine with the package on it, and a service that runs and serves another
/// site. A system call that the unit forbids kills it, so that the tests see
/// what would otherwise be a silent detour.
fn served() -> (Machine, String) {
    let package = build();
    let machine = Machine::boot();
    machine.copy(&package.path, "/tmp/sluicegate.deb");
    machine.run(INSTALL);
    machine.run("mkdir /srv/site && echo 'the new site' >/srv/site/index.html");
    machine.run(&format!("sed -i 's|/usr/share/sluicegate/welcome|/srv/site|' {CONFIGURATION}"));
    let unit = "/etc/systemd/system/sluicegate.service.d";
    machine.run(&format!("mkdir {unit} && printf '[Service]\\n{KILL}' >{unit}/kill.conf"));
    machine.run("systemctl daemon-reload");
    assert_eq!(page(&machine), "the new site\n");
    let pid = property(&machine, "MainPID");
    // Every way by which files go.
    for size in ["20K", "200K", "20M"] {
        machine.run(&format!("head -c {size} /dev/urandom >/srv/site/{size}"));
        machine.run(&format!("curl -sS http://127.0.0.1/{size} | cmp - /srv/site/{size}"));
    }
    assert_eq!(property(&machine, "MainPID"), pid);
    (machine, pid)
}

#[test]
fn the_service_starts_with_the_first_connection_and_is_confined() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("curl"), Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f, systemd());
    let package = build();
    let machine = Machine::boot();
    machine.copy(&package.path, "/tmp/sluicegate.deb");
    machine.run(INSTALL);

    // The sockets are on, and stay on after a boot; nothing runs yet.
    machine.run("systemctl is-enabled sluicegate.socket && systemctl is-active sluicegate.socket");
    assert_eq!(property(&machine, "ActiveState"), "inactive");
    let verified = machine.try_run("systemd-analyze verify sluicegate.service sluicegate.socket");
    let said = String::from_utf8_lossy(&verified.stderr).into_owned();
    assert!(verified.status.success() && !said.contains("sluicegate"), "{said}");
    machine.run("systemd-analyze security --no-pager --threshold=15 sluicegate.service");

    assert!(page(&machine).contains("Sluicegate is running"));
    // It answers a moment before systemd has read that it is ready.
    machine
        .run("timeout 20 sh -c 'until systemctl is-active sluicegate.service; do sleep 0.1; done'");
    assert_eq!(property(&machine, "ActiveState"), "active");
    let pid = property(&machine, "MainPID");
    let status = machine.run(&format!("cat /proc/{pid}/status"));
    let uid = machine.run("id -u sluicegate");
    for (field, value) in [
        ("Uid", [uid.trim(); 4].join("\t")),
        ("CapBnd", "0".repeat(16)),
        ("CapEff", "0".repeat(16)),
        ("CapPrm", "0".repeat(16)),
        ("NoNewPrivs", "1".to_owned()),
        ("Seccomp", "2".to_owned()),
    ] {
        assert!(status.contains(&format!("{field}:\t{value}\n")), "{field} {value}: {status}");
    }
    // In its view of the file system there is one place to write.
    for (path, is_writable) in [
        ("/etc/sluicegate", false),
        ("/usr/share/sluicegate", false),
        ("/var", false),
        ("/var/lib/sluicegate", true),
        ("/var/log/sluicegate", true),
    ] {
        let touched = machine.try_run(&format!("nsenter -t {pid} -m touch {path}/x"));
        assert_eq!(touched.status.success(), is_writable, "{path}");
    }
    machine.run("rm /var/log/sluicegate/x");
    // By both kinds of addresses, where there are both.
    machine.run("test ! -e /proc/net/if_inet6 || curl -sS --fail --max-time 30 'http://[::1]/'");

    let log = machine.until("grep -c '\"' /var/log/sluicegate/access.log");
    assert!(!log.trim().is_empty());
    let mode = machine.run("stat -c '%U %a' /var/log/sluicegate /var/log/sluicegate/access.log");
    assert_eq!(mode, "sluicegate 750\nsluicegate 640\n");
}

#[test]
fn a_reload_keeps_the_process_and_a_mistake_keeps_the_configuration() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("curl"), Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f, systemd());
    let (machine, pid) = served();
    machine.run(&format!("cp {CONFIGURATION} /tmp/right"));
    machine.run(&format!("sed -i 's|/srv/site|/usr/share/sluicegate/welcome|' {CONFIGURATION}"));
    machine.run("systemctl reload sluicegate.service");
    machine.until("curl -sS http://127.0.0.1/ | grep 'Sluicegate is running'");

    // Who reloads is told what is wrong.
    machine.run(&format!("(echo 'lissten = 1'; cat /tmp/right) >{CONFIGURATION}"));
    assert!(!machine.try_run("systemctl reload sluicegate.service").status.success());
    assert!(machine.journal().contains("lissten"), "{}", machine.journal());
    assert!(page(&machine).contains("Sluicegate is running"));
    assert_eq!(property(&machine, "MainPID"), pid);
}

#[test]
fn logs_are_rotated_and_the_next_line_is_in_a_new_file() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("curl"), Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f, systemd(), Need::Program("logrotate"));
    let (machine, pid) = served();
    machine.until("test -s /var/log/sluicegate/access.log");
    machine.run("logrotate --force /etc/logrotate.d/sluicegate");
    machine.run("test -s /var/log/sluicegate/access.log.1");
    machine.until("curl -sS http://127.0.0.1/ && test -s /var/log/sluicegate/access.log");
    let owner = machine.run("stat -c '%U %G %a' /var/log/sluicegate/access.log");
    assert_eq!(owner, "sluicegate sluicegate 640\n");
    assert_eq!(property(&machine, "MainPID"), pid);
}

#[test]
fn systemd_follows_upgrades_and_falls() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("curl"), Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f, systemd());
    let (machine, pid) = served();
    let another = |pid: &str| {
        machine.until(&format!(
            "now=$(systemctl show --value -p MainPID sluicegate.service)
             test \"$now\" != {pid} && test \"$now\" != 0 && test ! -e /proc/{pid}"
        ));
        assert_eq!(page(&machine), "the new site\n");
        assert_eq!(property(&machine, "ActiveState"), "active");
        property(&machine, "MainPID")
    };
    // Two upgrades: the second process was not started by systemd.
    machine.run("systemctl kill --kill-whom=main --signal=USR2 sluicegate.service");
    let pid = another(&pid);
    machine.run("systemctl kill --kill-whom=main --signal=USR2 sluicegate.service");
    let pid = another(&pid);
    // The sockets wait for one that fell over to be there again.
    machine.run("systemctl kill --kill-whom=main --signal=KILL sluicegate.service");
    assert_eq!(page(&machine), "the new site\n");
    let pid = another(&pid);
    // A newer package: a new process, and the configuration as it was.
    machine.run(INSTALL);
    another(&pid);
}

#[test]
fn the_administrator_has_the_last_word_and_a_purge_leaves_nothing() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("curl"), Need::Program("adduser"));
    let [a, b, c, d, e, f] = needs();
    require!(a, b, c, d, e, f, systemd());
    let (machine, _) = served();
    // What is switched off stays off.
    machine.run("systemctl disable --now sluicegate.socket sluicegate.service");
    machine.run(INSTALL);
    machine.run("! systemctl is-enabled sluicegate.socket");
    machine.run("! systemctl is-active sluicegate.socket sluicegate.service");
    machine.run("systemctl enable --now sluicegate.socket");
    assert_eq!(page(&machine), "the new site\n");

    // Removed: nothing runs, and what is the administrator's is there.
    machine.run("dpkg --remove sluicegate");
    machine.run("! curl -sS http://127.0.0.1/");
    machine.run("! systemctl is-active sluicegate.socket sluicegate.service");
    machine.run(&format!("test -e {CONFIGURATION} && test -e /var/log/sluicegate/access.log"));
    machine.run("rm -r /etc/systemd/system/sluicegate.service.d");
    machine.run("dpkg --purge sluicegate");
    assert_nothing_is_left(&machine);

    // A policy that services are not started is heard.
    machine.run("printf '#!/bin/sh\\nexit 101\\n' >/usr/sbin/policy-rc.d");
    machine.run("chmod +x /usr/sbin/policy-rc.d");
    machine.run(INSTALL);
    machine.run("systemctl is-enabled sluicegate.socket");
    machine.run("! systemctl is-active sluicegate.socket");
}
