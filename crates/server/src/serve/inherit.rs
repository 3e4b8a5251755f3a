//! Listeners that whoever started this process has left open: a service manager
//! (`sd_listen_fds(3)`), or the process that this one follows in an upgrade.

use std::ffi::OsString;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::sync::Arc;

use sluicegate::os;

use super::bound::{Bound, overlap};
use crate::log::tell;

/// The first descriptor that a service manager passes.
const FIRST: i32 = 3;

/// sd_listen_fds(3).
const LISTEN: [&str; 3] = ["LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"];

/// Ours, for an upgrade: numbers of descriptors, with spaces between them.
/// What the process before had bound by itself, for clients and for operators,
/// and what it had from a service manager.
const BOUND: &str = "SLUICEGATE_LISTENERS";
const ADMIN: &str = "SLUICEGATE_ADMIN";
const ACTIVATED: &str = "SLUICEGATE_ACTIVATED";
/// The socket on which the process before hears that this one serves.
const READY: &str = "SLUICEGATE_READY";

/// Listeners that were open before this process began.
#[derive(Debug, Default)]
pub(super) struct Inherited {
    listeners: Vec<Listener>,
    predecessor: Option<UnixStream>,
}

#[derive(Debug)]
struct Listener {
    socket: OwnedFd,
    address: SocketAddr,
    origin: Origin,
}

/// Who opened a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// The process before, for this.
    Before(For),
    /// A service manager, which keeps it open.
    Manager,
}

/// What a listener is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum For {
    Clients,
    Admin,
}

impl Inherited {
    /// What the environment names. Call it once, before anything else is opened.
    pub(super) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        let text = |name| variable(name).and_then(|value| value.into_string().ok());
        let number = |name| text(name)?.parse::<i32>().ok();
        let mut inherited = Inherited::default();
        if number(LISTEN[0]) == i32::try_from(std::process::id()).ok() {
            let count = number(LISTEN[1]).unwrap_or(0).max(0);
            let names = text(LISTEN[2]).unwrap_or_default();
            let mut names = names.split(':');
            for descriptor in FIRST..FIRST.saturating_add(count) {
                inherited.take(descriptor, names.next().unwrap_or_default(), Origin::Manager);
            }
        }
        for (name, origin) in [
            (BOUND, Origin::Before(For::Clients)),
            (ADMIN, Origin::Before(For::Admin)),
            (ACTIVATED, Origin::Manager),
        ] {
            for word in text(name).unwrap_or_default().split_whitespace() {
                if let Ok(descriptor) = word.parse() {
                    inherited.take(descriptor, name, origin);
                }
            }
        }
        let socket = number(READY).and_then(|socket| os::inherit::take(socket).ok());
        inherited.predecessor = socket.map(UnixStream::from);
        inherited
    }

    fn take(&mut self, descriptor: i32, name: &str, origin: Origin) {
        let taken = os::inherit::take(descriptor).and_then(|socket| {
            let address = os::local_address(&socket)?;
            let address = address.filter(|_| os::inherit::is_tcp_listener(socket.as_fd()));
            Ok((socket, address.ok_or_else(|| io::Error::other("it is no listening TCP socket"))?))
        });
        match taken {
            Ok((socket, address)) => {
                self.listeners.push(Listener { socket, address, origin });
            }
            Err(error) => {
                tell(format_args!("descriptor {descriptor} ({name}) is passed over: {error}"));
            }
        }
    }

    /// Whether a service manager has opened listeners for this process.
    pub(super) fn is_activated(&self) -> bool {
        self.listeners.iter().any(|listener| listener.origin == Origin::Manager)
    }

    /// The listener for `wanted`, if there is one.
    pub(super) fn claim(&mut self, wanted: SocketAddr, whom: For) -> io::Result<Option<Bound>> {
        let covers = |listener: &Listener| {
            let is_for_others = match listener.origin {
                // Any port of it may be wanted, by whom it was bound for alone.
                Origin::Before(other) => other != whom && wanted.port() == 0,
                Origin::Manager => false,
            };
            !is_for_others
                && covers(listener.address, wanted, || {
                    os::inherit::is_ipv6_only(listener.socket.as_fd()).unwrap_or(true)
                })
        };
        match self.listeners.iter().position(covers) {
            Some(at) => self.listeners.swap_remove(at).bound(wanted).map(Some),
            None => Ok(None),
        }
    }

    /// Where one that nobody has claimed is in the way of `wanted`.
    pub(super) fn overlapping(&self, wanted: SocketAddr) -> Option<SocketAddr> {
        let in_the_way = |it: &&Listener| overlap(it.address, wanted, &it.socket);
        self.listeners.iter().find(in_the_way).map(|listener| listener.address)
    }

    /// Whether this process follows another one in an upgrade.
    pub(super) fn is_successor(&self) -> bool {
        self.predecessor.is_some()
    }

    /// Those from a service manager that nobody has claimed. What the process
    /// before had bound and nobody wants any more is closed here.
    pub(super) fn others(&mut self) -> io::Result<Vec<Bound>> {
        let left = std::mem::take(&mut self.listeners).into_iter();
        left.filter(|listener| listener.origin == Origin::Manager)
            .map(|listener| {
                let address = listener.address;
                listener.bound(address)
            })
            .collect()
    }

    /// The way to the process that this one follows in an upgrade.
    pub(super) fn predecessor(&mut self) -> Option<Predecessor> {
        self.predecessor.take().map(Predecessor)
    }
}

/// The process that waits until this one serves.
#[derive(Debug)]
pub(super) struct Predecessor(UnixStream);

impl Predecessor {
    /// Tells it that it may finish.
    pub(super) fn relieve(mut self) {
        // If it is gone there is nobody to be told.
        let _ = self.0.write_all(b"ready\n");
    }
}

impl Listener {
    fn bound(self, wanted: SocketAddr) -> io::Result<Bound> {
        let is_activated = self.origin == Origin::Manager;
        Bound::new(sluicegate::listen_on(self.socket)?, wanted, is_activated)
    }
}

/// Whether a listener at `address` takes what comes to `wanted`: it is the
/// same, or any port will do, or it is all of IPv6 with IPv4 (which is how
/// systemd opens a port without an address).
pub(super) fn covers(
    address: SocketAddr,
    wanted: SocketAddr,
    is_ipv6_only: impl FnOnce() -> bool,
) -> bool {
    let is_same_port = address.port() == wanted.port();
    if address.ip() == wanted.ip() {
        return is_same_port || wanted.port() == 0;
    }
    is_same_port
        && address.is_ipv6()
        && address.ip().is_unspecified()
        && wanted.is_ipv4()
        && wanted.ip().is_unspecified()
        && !is_ipv6_only()
}

/// Has `command` start a process that inherits `listeners`, that of the
/// operators, and `ready`, on which it says that it serves.
pub(super) fn bequeath(
    command: &mut Command,
    listeners: &[Arc<Bound>],
    admin: Option<&Arc<Bound>>,
    ready: OwnedFd,
) {
    let all = || listeners.iter().map(|bound| (bound, BOUND)).chain(admin.map(|it| (it, ADMIN)));
    let named = |bound: &Bound, name| if bound.is_activated { ACTIVATED } else { name };
    for variable in [BOUND, ADMIN, ACTIVATED] {
        let chosen = all().filter(|(bound, name)| named(bound, *name) == variable);
        let numbers = chosen.map(|(bound, _)| os::inherit::number(&*bound.socket).to_string());
        command.env(variable, numbers.collect::<Vec<_>>().join(" "));
    }
    let ready = Arc::new(ready);
    command.env(READY, os::inherit::number(&*ready).to_string());
    // They name this process, or what it has taken already.
    for name in LISTEN.into_iter().chain(["WATCHDOG_PID"]) {
        command.env_remove(name);
    }
    let sockets = all().map(|(bound, _)| Arc::clone(&bound.socket));
    let sockets = sockets.chain([ready]).collect();
    os::inherit::pass(command, sockets);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(address: &str) -> SocketAddr {
        address.parse().unwrap()
    }

    #[test]
    fn a_listener_is_for_its_address_for_any_port_and_for_both_families_if_it_is() {
        let only = || true;
        let both = || false;
        assert!(covers(at("127.0.0.1:80"), at("127.0.0.1:80"), only));
        assert!(covers(at("127.0.0.1:80"), at("127.0.0.1:0"), only));
        assert!(!covers(at("127.0.0.1:80"), at("127.0.0.1:81"), both));
        assert!(!covers(at("127.0.0.1:80"), at("127.0.0.2:80"), both));
        assert!(covers(at("[::]:80"), at("0.0.0.0:80"), both));
        assert!(!covers(at("[::]:80"), at("0.0.0.0:80"), only));
        assert!(!covers(at("[::]:80"), at("127.0.0.1:80"), both));
        assert!(!covers(at("[::]:80"), at("0.0.0.0:0"), both));
    }

    #[test]
    fn variables_for_another_process_or_of_nonsense_are_passed_over() {
        for (pid, count) in [("1", "1"), ("x", "1"), ("", "")] {
            let inherited = Inherited::new(|name| match name {
                "LISTEN_PID" => Some(pid.into()),
                "LISTEN_FDS" => Some(count.into()),
                _ => None,
            });
            assert!(!inherited.is_activated() && inherited.listeners.is_empty());
        }
        let inherited = Inherited::new(|name| match name {
            BOUND => Some("99999 x -1".into()),
            READY => Some("99998".into()),
            _ => None,
        });
        assert!(inherited.listeners.is_empty() && inherited.predecessor.is_none());
    }
}
