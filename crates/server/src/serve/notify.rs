//! What the service manager is told: `sd_notify(3)`.
//!
//! Datagrams of `NAME=value` lines to the socket that NOTIFY_SOCKET names.
//! Without one nobody is told anything.

use std::ffi::{OsStr, OsString};
use std::fmt::Arguments;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use sluicegate::os::monotonic_micros;

/// The variables by which a service manager asks to be told.
const SOCKET: &str = "NOTIFY_SOCKET";
const WATCHDOG: &str = "WATCHDOG_USEC";
const WATCHDOG_PID: &str = "WATCHDOG_PID";

/// Tells the service manager, if there is one.
#[derive(Debug)]
pub(super) struct Notify {
    to: Option<(UnixDatagram, SocketAddr)>,
    /// How often it wants to hear that the program lives.
    watchdog: Option<Duration>,
}

impl Notify {
    /// The service manager that the environment names.
    pub(super) fn from_environment() -> Self {
        Self::new(|name| std::env::var_os(name))
    }

    fn new(variable: impl Fn(&str) -> Option<OsString>) -> Self {
        // A socket that is not there is not ours to complain about: sd_notify
        // is the same to programs that are not supervised.
        let to = variable(SOCKET).and_then(|name| {
            let address = address(&name).ok()?;
            Some((UnixDatagram::unbound().ok()?, address))
        });
        let number = |name| variable(name)?.to_str()?.parse::<u64>().ok();
        let is_ours = variable(WATCHDOG_PID).is_none()
            || number(WATCHDOG_PID) == Some(u64::from(std::process::id()));
        let watchdog = number(WATCHDOG)
            .filter(|&micros| is_ours && micros > 0 && to.is_some())
            .map(Duration::from_micros);
        Notify { to, watchdog }
    }

    /// How often the service manager wants to hear that the program lives.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    fn send(&self, message: Arguments<'_>) {
        if let Some((socket, address)) = &self.to {
            // A manager that does not listen is no reason not to serve.
            let _ = socket.send_to_addr(message.to_string().as_bytes(), address);
        }
    }

    pub(super) fn ready(&self, status: &str) {
        self.send(format_args!("READY=1\nSTATUS={status}"));
    }

    pub(super) fn reloading(&self) {
        let now = monotonic_micros();
        self.send(format_args!(
            "RELOADING=1\nMONOTONIC_USEC={now}\nSTATUS=Reading the configuration"
        ));
    }

    pub(super) fn stopping(&self, status: &str) {
        self.send(format_args!("STOPPING=1\nSTATUS={status}"));
    }

    /// Another process goes on for this one.
    pub(super) fn successor(&self, pid: u32) {
        self.send(format_args!("MAINPID={pid}\nREADY=1\nSTATUS=Serving after an upgrade"));
    }

    pub(super) fn alive(&self) {
        self.send(format_args!("WATCHDOG=1"));
    }
}

/// A path, or a name in the abstract namespace after an `@`.
fn address(name: &OsStr) -> io::Result<SocketAddr> {
    match name.as_bytes().strip_prefix(b"@") {
        Some(abstract_name) => SocketAddr::from_abstract_name(abstract_name),
        None => SocketAddr::from_pathname(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(by: impl FnOnce(&Notify), variables: &[(&str, String)]) -> String {
        let name = format!("sluicegate-notify-test-{}", std::process::id());
        let here =
            UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        here.set_nonblocking(true).unwrap();
        let notify = Notify::new(|wanted| match wanted {
            SOCKET => Some(format!("@{name}").into()),
            _ => variables.iter().find(|(name, _)| *name == wanted).map(|(_, v)| v.into()),
        });
        by(&notify);
        let mut message = [0; 256];
        let length = here.recv(&mut message).unwrap_or(0);
        String::from_utf8_lossy(&message[..length]).into_owned()
    }

    #[test]
    fn the_manager_is_told_on_an_abstract_socket_and_watches_only_whom_it_named() {
        assert_eq!(told(|n| n.ready("fine"), &[]), "READY=1\nSTATUS=fine");
        assert!(told(Notify::reloading, &[]).starts_with("RELOADING=1\nMONOTONIC_USEC="));
        let period = (WATCHDOG, "2000000".to_owned());
        let second = Some(Duration::from_secs(2));
        told(|n| assert_eq!(n.watchdog(), second), std::slice::from_ref(&period));
        let own = (WATCHDOG_PID, std::process::id().to_string());
        told(|n| assert_eq!(n.watchdog(), second), &[period.clone(), own]);
        let others = (WATCHDOG_PID, "1".to_owned());
        told(|n| assert_eq!(n.watchdog(), None), &[period, others]);
        // Nobody there: nothing happens.
        Notify::new(|_| None).ready("fine");
        Notify::new(|_| Some("/no/such/socket".into())).ready("fine");
    }
}
