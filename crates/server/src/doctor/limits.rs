//! What this user and this process may have.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use sluicegate::os::probe::{descriptors, try_bind};

use super::check::{Check, Topic, Verdict};
use super::text;
use crate::config::spool;

/// A connection takes one, its file another.
const ENOUGH: u64 = 65_536;

/// The number of `CAP_NET_BIND_SERVICE` (`<linux/capability.h>`).
const BIND_SERVICE: u32 = 10;

const MIB: u64 = 1024 * 1024;

pub(super) fn checks() -> Vec<Check> {
    vec![open_descriptors(), open_files(), low_ports(), commitment(), control_group(), spools()]
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Limits, name, title, why)
}

fn open_descriptors() -> Check {
    let check = check(
        "limits.descriptors",
        "open descriptors",
        "Each connection takes a descriptor, each file that is being sent another, each pipe two. \
         Sluicegate raises its soft limit to the hard one when it starts; when none is left, \
         clients wait.",
    );
    let limit = descriptors();
    let told = |limit: Option<u64>| limit.map_or_else(|| "no limit".to_owned(), |n| n.to_string());
    let raised = if limit.soft == limit.hard {
        String::new()
    } else {
        format!(" (raised from {})", told(limit.soft))
    };
    let value = told(limit.hard) + &raised;
    let check = check.figure("soft", limit.soft).figure("hard", limit.hard);
    let hard = limit.hard.unwrap_or(u64::MAX);
    if hard >= ENOUGH {
        return check.found(Verdict::Good, value);
    }
    check
        .found(Verdict::CouldBeBetter, value)
        .change(
            "Raise the hard limit: in the systemd unit as below, or in /etc/security/limits.conf \
             as `nofile`.",
        )
        .command("LimitNOFILE=65536")
}

fn open_files() -> Check {
    let check = check(
        "limits.file_max",
        "open files of the host",
        "Beyond fs.file-max nobody but root can open anything: accept fails with ENFILE.",
    );
    let used = text::numbers::<3>("fs.file-nr");
    match used {
        Ok([open, free, most]) => {
            let used = open.saturating_sub(free);
            let check = check.figure("used", used).figure("most", most);
            let value = format!("{used} of {most}");
            // A tenth to spare, at least.
            if used < most / 10 * 9 && most >= ENOUGH {
                check.found(Verdict::Good, value)
            } else {
                check
                    .found(Verdict::CouldBeBetter, value)
                    .change("Raise it, or find out who holds them (`lsof`):")
                    .command(format!(
                        "sysctl -w fs.file-max={}",
                        most.saturating_mul(2).max(1 << 20)
                    ))
            }
        }
        Err(error) => check.found(Verdict::NotKnown, format!("fs.file-nr: {error}")),
    }
}

/// What everybody wants to listen on.
const HTTP: u16 = 80;

fn low_ports() -> Check {
    let check = check(
        "limits.low_ports",
        "ports 80 and 443",
        "Ports below net.ipv4.ip_unprivileged_port_start are for root, and for who has the \
         capability CAP_NET_BIND_SERVICE. The default of `--listen`, 8080, is for everybody.",
    );
    let start = text::number("net.ipv4.ip_unprivileged_port_start").ok();
    let status = text::read("/proc/self/status").unwrap_or_default();
    let check = check
        .figure("unprivileged_from", start)
        .figure("cap_net_bind_service", text::has_capability(&status, BIND_SERVICE));
    match try_bind(SocketAddr::from((Ipv4Addr::LOCALHOST, HTTP))) {
        Ok(()) => check.found(Verdict::Good, "this user may listen on them"),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            check.found(Verdict::Good, "this user may listen on them; port 80 is taken now")
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => {
            let from = start.map_or_else(String::new, |start| format!("; from {start} on it may"));
            check
                .found(Verdict::CouldBeBetter, format!("this user may not{from}"))
                .change(
                    "If Sluicegate is to listen there: let systemd open the ports (a .socket \
                     unit), or give the capability in the unit as below, or to the program file \
                     with `setcap cap_net_bind_service=+ep`, or lower \
                     net.ipv4.ip_unprivileged_port_start.",
                )
                .command("AmbientCapabilities=CAP_NET_BIND_SERVICE")
        }
        Err(error) => check.not_tried(&error),
    }
}

fn commitment() -> Check {
    let check = check(
        "limits.overcommit",
        "overcommitting memory",
        "With vm.overcommit_memory = 2 the kernel refuses what might not fit, although most of \
         it is never touched: rings and the stacks of workers count whole.",
    );
    match text::number("vm.overcommit_memory") {
        Ok(2) => check
            .found(Verdict::CouldBeBetter, "strict (2)")
            .figure("mode", 2)
            .change(
                "Keep it if you want it so, and see to it that CommitLimit in /proc/meminfo has \
                 room. Otherwise:",
            )
            .command("sysctl -w vm.overcommit_memory=0"),
        Ok(mode) => {
            let words = if mode == 1 { "always (1)" } else { "by estimate (0)" };
            check.found(Verdict::Good, words).figure("mode", mode)
        }
        Err(error) => check.found(Verdict::NotKnown, format!("vm.overcommit_memory: {error}")),
    }
}

fn control_group() -> Check {
    let check = check(
        "limits.cgroup_memory",
        "memory of the control group",
        "The page cache of files that are served and what waits in sockets count against it. \
         Where it is short, files are read from the disk again and again, and connections slow \
         down.",
    );
    let (limit, place) = match memory_limit() {
        Ok(Some(found)) => found,
        Ok(None) => return check.found(Verdict::Good, "no limit").figure("bytes", None::<u64>),
        Err(error) => return check.found(Verdict::NotKnown, format!("/proc/self/cgroup: {error}")),
    };
    let check = check.figure("bytes", limit);
    if limit >= 256 * MIB {
        return check.found(Verdict::Good, text::bytes(limit));
    }
    check
        .found(Verdict::CouldBeBetter, format!("{} (in {})", text::bytes(limit), place.display()))
        .change("Give it more: `MemoryMax=` of the systemd unit, or `--memory` of the container.")
}

/// The smallest limit of memory that a control group of this process has, and the
/// file that says it.
///
/// # Errors
/// `/proc` is not there.
pub(crate) fn memory_limit() -> io::Result<Option<(u64, PathBuf)>> {
    let groups = text::read("/proc/self/cgroup")?;
    Ok(smallest_limit(&groups, Path::new("/sys/fs/cgroup")))
}

fn spools() -> Check {
    let check = check(
        "limits.spool_budget",
        "memory of spools",
        "What clients have not taken yet of answers from upstreams waits in so much memory at \
         most, a quarter of what there is: up to 64 MiB of each answer, so that its upstream is \
         free. Beyond that upstreams wait. `memory_budget` of `[spool]` says it otherwise.",
    );
    let budget = spool::default_budget();
    let value = format!("{}, for {} answers of 64 MiB", text::bytes(budget), budget / (64 * MIB));
    check.found(Verdict::Information, value).figure("bytes", budget)
}

/// Control groups that are nested deeper are not looked at.
const DEPTH: usize = 32;

/// The smallest limit of this process' groups, from its own to the root, and
/// the file that has it.
fn smallest_limit(groups: &str, mounted: &Path) -> Option<(u64, PathBuf)> {
    let (unified, memory) = text::cgroups(groups);
    let trees = [
        (unified, mounted.to_path_buf(), "memory.max"),
        (unified, mounted.join("unified"), "memory.max"),
        (memory, mounted.join("memory"), "memory.limit_in_bytes"),
    ];
    let mut limits = Vec::new();
    for (path, tree, file) in trees {
        let Some(path) = path else { continue };
        // Inside a container its own group is mounted as the root.
        let beneath = Path::new(path.trim_start_matches('/'));
        for group in beneath.ancestors().take(DEPTH) {
            let file = tree.join(group).join(file);
            // `max`, and what version 1 has for it: all of 64 bits, in pages.
            let limit = text::read(&file).ok().and_then(|text| text.parse::<u64>().ok());
            limits.extend(limit.filter(|limit| *limit < u64::MAX / 4).map(|limit| (limit, file)));
        }
    }
    limits.into_iter().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_on_the_way_to_the_root_holds() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("a/b");
        std::fs::create_dir_all(&inner).unwrap();
        std::fs::write(root.path().join("memory.max"), "900\n").unwrap();
        std::fs::write(root.path().join("a/memory.max"), "100\n").unwrap();
        std::fs::write(inner.join("memory.max"), "max\n").unwrap();
        let (limit, place) = smallest_limit("0::/a/b\n", root.path()).unwrap();
        assert_eq!((limit, place), (100, root.path().join("a/memory.max")));
        std::fs::create_dir_all(root.path().join("memory/x")).unwrap();
        std::fs::write(root.path().join("memory/x/memory.limit_in_bytes"), "50").unwrap();
        let groups = "4:memory:/x\n0::/a/b\n";
        assert_eq!(smallest_limit(groups, root.path()).unwrap().0, 50);
    }

    #[test]
    fn no_limit_and_garbage_are_none() {
        let root = tempfile::tempdir().unwrap();
        std::fs::write(root.path().join("memory.max"), "9223372036854771712").unwrap();
        assert_eq!(smallest_limit("0::/\n", root.path()), None);
        for text in ["", "max", "x", "-1", "1 2"] {
            std::fs::write(root.path().join("memory.max"), text).unwrap();
            assert_eq!(smallest_limit("0::/../..\n", root.path()), None, "{text}");
        }
    }
}
