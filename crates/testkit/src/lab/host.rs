//! One of the two hosts of a lab.

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sluicegate_sys::tun::Tun;

use super::namespace::{self, Namespace};
use super::{LabError, link};
use crate::process::find_program;

/// One end of the wire: a network namespace of its own.
#[derive(Debug)]
pub struct Host {
    pub(super) namespace: Namespace,
    address: Ipv4Addr,
}

impl Host {
    pub(super) fn new(number: u32, role: &str, address: Ipv4Addr) -> Result<Self, LabError> {
        Ok(Self { namespace: Namespace::create(number, role)?, address })
    }

    /// Makes the device of a true wire. It is down.
    pub(super) fn make_tun(&self) -> Result<Tun, LabError> {
        let made = self.enter(|| Tun::create(link::DEVICE))?;
        made.map_err(|source| LabError::Tun { namespace: self.name().to_owned(), source })
    }

    /// The tap of a host by itself.
    pub(crate) const TAP: &str = link::DEVICE;

    /// A host by itself, with one end of a tap: the other is whoever's who opens the tap (`vm`).
    pub(crate) fn with_tap(address: Ipv4Addr) -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        namespace::sweep();
        let host = Self::new(COUNT.fetch_add(1, Ordering::Relaxed), "tap", address)?;
        host.namespace.ip(&["tuntap", "add", "mode", "tap", "name", Self::TAP])?;
        link::address(&host.namespace, address)?;
        Ok(host)
    }

    /// Its address on the wire.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// The name of its namespace, as `ip netns` knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        self.namespace.name()
    }

    /// The file that stands for its namespace.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.namespace.path()
    }

    /// A command that runs a program on this host: `ip netns exec NAME PROGRAM`. Arguments,
    /// environment and standard streams can be set as usual, and the id of the process that it
    /// starts is that of the program.
    ///
    /// The program is searched for as by [`find_program`]. What still runs in the namespace when
    /// the lab is dropped is killed.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find_program("ip").unwrap_or_else(|| "ip".into()));
        let program = find_program(program).unwrap_or_else(|| program.into());
        command.args(["netns", "exec", self.name()]).arg(program);
        command
    }

    /// Runs a closure on a thread of this host, and returns what it returns. The sockets that it
    /// makes are this host's, and stay so wherever they go afterwards. A panic goes on in the
    /// caller.
    ///
    /// Threads started by the closure are this host's too, and should end with it. `/sys` shows
    /// the devices of the test's own host.
    ///
    /// # Errors
    /// [`LabError::Enter`]; the closure did not run then.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        let failed = |source| LabError::Enter { namespace: self.name().to_owned(), source };
        // A namespace is a property of a thread. One that ends here cannot stay in the wrong one.
        let on_host = || -> io::Result<T> {
            let file = File::open(self.path())?;
            move_into_link_name_space(file.as_fd(), Some(LinkNameSpaceType::Network))?;
            Ok(work())
        };
        // The name makes `need::test_name!` work inside.
        let name = thread::current().name().unwrap_or("host").to_owned();
        thread::scope(|scope| {
            let thread = thread::Builder::new().name(name).spawn_scoped(scope, on_host);
            match thread.map_err(failed)?.join() {
                Ok(result) => result.map_err(failed),
                Err(panic) => resume_unwind(panic),
            }
        })
    }

    /// Limits what this host sends to so many bits per second.
    ///
    /// # Errors
    /// As [`Lab::throttle`].
    ///
    /// [`Lab::throttle`]: super::Lab::throttle
    pub fn throttle(&self, bits_per_second: u64) -> Result<(), LabError> {
        link::throttle(&self.namespace, bits_per_second)
    }

    /// Has one processor of the machine do the work of receiving on this host: its interrupts,
    /// its IP and its TCP, with all that the arrival of an acknowledgement sets off.
    ///
    /// Without it that work is done on the processor where the packet was put into the device:
    /// the sender's on a veth, the relay's on a true wire. So whoever accounts for the busy time of
    /// a processor asks for this (receive packet steering, the kernel's
    /// `Documentation/networking/scaling.rst`).
    ///
    /// # Errors
    /// [`LabError::Failed`] when there is no such processor, or the kernel has no steering.
    pub fn receive_on(&self, cpu: usize) -> Result<(), LabError> {
        link::receive_on(&self.namespace, cpu)
    }
}
