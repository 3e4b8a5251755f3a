//! Network namespaces that go when their test does, or, when it was killed, before the next lab.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{process, thread};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::{LabError, link, tool};
use crate::process::start_time;

/// Where `ip netns` keeps the files that stand for namespaces.
const DIRECTORY: &str = "/var/run/netns";

/// Names are `sg-<pid>-<start time>-<number>-<role>`, so that anybody can tell whether the
/// process that owns a namespace still lives, even when its id is another's by now.
const PREFIX: &str = "sg-";

/// How long killed processes may take to leave a namespace.
const KILL_LIMIT: Duration = Duration::from_secs(3);

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A namespace with its loopback up. Dropping it kills what runs in it and removes it.
#[derive(Debug)]
pub(super) struct Namespace {
    name: String,
}

impl Namespace {
    pub(super) fn create(number: u32, role: &str) -> Result<Self, LabError> {
        let pid = process::id();
        let started = start_time(pid).unwrap_or(0);
        let name = format!("{PREFIX}{pid}-{started}-{number}-{role}");
        tool::run("ip", &["netns", "add", &name])?;
        // From here on the guard removes it.
        let namespace = Self { name };
        namespace.ip(&["link", "set", "dev", "lo", "up"])?;
        Ok(namespace)
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn path(&self) -> PathBuf {
        Path::new(DIRECTORY).join(&self.name)
    }

    /// Runs `ip` for this namespace.
    pub(super) fn ip(&self, arguments: &[&str]) -> Result<String, LabError> {
        tool::run("ip", &[&["-n", self.name()], arguments].concat())
    }

    /// Runs `tc` for this namespace.
    pub(super) fn tc(&self, arguments: &[&str]) -> Result<String, LabError> {
        tool::run("tc", &[&["-n", self.name()], arguments].concat())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.name) {
            eprintln!("cannot remove the namespace {}: {error}", self.name);
        }
    }
}

/// Removes the namespaces whose owner is dead. What cannot be removed is left to the next sweep:
/// a new lab does not depend on it.
pub(super) fn sweep() {
    let Ok(entries) = fs::read_dir(DIRECTORY) else {
        return;
    };
    for entry in entries.flatten() {
        if let Some(name) = entry.file_name().to_str()
            && is_abandoned(name)
        {
            let _ = remove(name);
        }
    }
}

/// Whether it is a lab's namespace whose owner is dead.
fn is_abandoned(name: &str) -> bool {
    owner(name).is_some_and(|(pid, started)| start_time(pid) != Some(started))
}

/// The id and the start time of the process that owns a namespace; `None` if it is no lab's.
fn owner(name: &str) -> Option<(u32, u64)> {
    let parts: Vec<&str> = name.strip_prefix(PREFIX)?.split('-').collect();
    let [pid, started, _number, _role] = parts[..] else {
        return None;
    };
    Some((pid.parse().ok()?, started.parse().ok()?))
}

fn remove(name: &str) -> Result<(), LabError> {
    kill_processes(name);
    // The veth would go with the namespace; but the kernel does that later, and not at all while
    // a socket of the namespace is open somewhere. The other end may have taken it away already.
    let _ = tool::run("ip", &["-n", name, "link", "delete", "dev", link::DEVICE]);
    match tool::run("ip", &["netns", "delete", name]) {
        // Another process swept at the same time.
        Err(_) if !Path::new(DIRECTORY).join(name).exists() => Ok(()),
        result => result.map(drop),
    }
}

/// Kills every process in the namespace. Only a lab's commands start processes there: the name is
/// known to nobody else. (A shell that somebody opened in it to look around goes too.)
fn kill_processes(name: &str) {
    let Ok(namespace) = identity(&Path::new(DIRECTORY).join(name)) else {
        return;
    };
    let deadline = Instant::now() + KILL_LIMIT;
    loop {
        let mut any = false;
        for pid in processes() {
            any |= kill_if_in(namespace, pid);
        }
        // Killed ones have left once their sockets are closed. New ones may have been forked.
        if !any || Instant::now() >= deadline {
            return;
        }
        thread::sleep(POLL_INTERVAL);
    }
}

/// Kills the process if it is in the namespace; tells whether it was.
fn kill_if_in(namespace: (u64, u64), pid: Pid) -> bool {
    let path = PathBuf::from(format!("/proc/{}/ns/net", pid.as_raw_nonzero()));
    let is_in = || identity(&path).is_ok_and(|identity| identity == namespace);
    if pid.as_raw_nonzero().get().unsigned_abs() == process::id() || !is_in() {
        return false;
    }
    // The id may pass to another process at any time. A pidfd is held to one: if that is in the
    // namespace after the pidfd was opened, it is the one that is killed.
    if let Ok(pidfd) = pidfd_open(pid, PidfdFlags::empty())
        && is_in()
    {
        let _ = pidfd_send_signal(&pidfd, Signal::KILL);
    }
    true
}

/// All processes, as far as this user sees them.
fn processes() -> impl Iterator<Item = Pid> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| Pid::from_raw(entry.file_name().to_str()?.parse().ok()?))
}

/// What tells two namespaces apart: device and inode of the files that stand for them.
fn identity(file: &Path) -> Result<(u64, u64), ErrorKind> {
    let metadata = fs::metadata(file).map_err(|error| error.kind())?;
    Ok((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::{is_abandoned, start_time};

    #[test]
    fn a_namespace_is_abandoned_when_its_very_owner_is_dead() {
        let pid = std::process::id();
        let started = start_time(pid).expect("this process lives");
        assert!(!is_abandoned(&format!("sg-{pid}-{started}-0-server")));
        // The id has passed to another process, and no process has this one.
        assert!(is_abandoned(&format!("sg-{pid}-{}-0-server", started + 1)));
        assert!(is_abandoned(&format!("sg-{}-{started}-0-server", u32::MAX)));
        // Not a lab's.
        assert!(!is_abandoned("sg-1-1"));
        assert!(!is_abandoned(&format!("my-sg-{pid}-1-0-server")));
    }
}
