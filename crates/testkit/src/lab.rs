//! Two hosts joined by a wire, out of network namespaces.
//!
//! ```text
//!   namespace sg-…-server          namespace sg-…-client
//!   ┌───────────────────┐          ┌───────────────────┐
//!   │ lo    10.99.0.1/24│   veth   │10.99.0.2/24    lo │
//!   │               eth0├──────────┤eth0               │
//!   └───────────────────┘          └───────────────────┘
//! ```
//!
//! Nothing of it is visible in the namespace that the test runs in, so tests may run at the same
//! time and ports are free. A [`Lab`] goes with its guard, however the test ends; what a killed
//! test left behind is removed when the next lab is built.
//!
//! A veth is a *local* path in KERNEL.md's sense: pages that are sent without a copy are shared
//! with the receiver, which is what tests of the one law need. It cannot stand for a NIC.

mod namespace;
mod tool;
mod wire;

use std::fs::File;
use std::io;
use std::net::Ipv4Addr;
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use rustix::fd::AsFd;
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::process::find_program;
use namespace::Namespace;

/// What went wrong with a lab. The commands are those that a person would type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A program that labs are built with is not there.
    #[error("there is no program `{program}`")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A command could not be started or awaited.
    #[error("cannot run `{command}`: {source}")]
    Run {
        /// The program and its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command failed.
    #[error("`{command}`: {status}: {stderr}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it complained about.
        stderr: String,
    },
    /// A command did not end, and was killed.
    #[error("`{command}` did not end within {limit:?}")]
    TimedOut {
        /// The program and its arguments.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A wire did not carry.
    #[error("{device} in {namespace} did not come up within {limit:?}")]
    Down {
        /// The namespace.
        namespace: String,
        /// The device.
        device: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// A thread could not be moved into a namespace.
    #[error("cannot enter {namespace}: {source}")]
    Enter {
        /// The namespace.
        namespace: String,
        /// Why.
        source: io::Error,
    },
}

/// A server and a client, joined by a wire.
#[derive(Debug)]
pub struct Lab {
    server: Host,
    client: Host,
}

impl Lab {
    /// Two hosts joined by a veth pair, with its default MTU of 1500 bytes and no throttle.
    ///
    /// # Errors
    /// [`LabError`]; tests that need a lab ask for [`Need::NetworkNamespaces`] first.
    ///
    /// [`Need::NetworkNamespaces`]: crate::need::Need::NetworkNamespaces
    pub fn veth() -> Result<Self, LabError> {
        static COUNT: AtomicU32 = AtomicU32::new(0);

        namespace::sweep();
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let server = Host::new(number, "server", Ipv4Addr::new(10, 99, 0, 1))?;
        let client = Host::new(number, "client", Ipv4Addr::new(10, 99, 0, 2))?;
        wire::join(&server.namespace, &client.namespace)?;
        for host in [&server, &client] {
            wire::address(&host.namespace, host.address)?;
        }
        for host in [&server, &client] {
            wire::wait_until_up(&host.namespace)?;
        }
        Ok(Self { server, client })
    }

    /// The host that the server under test runs on.
    #[must_use]
    pub fn server(&self) -> &Host {
        &self.server
    }

    /// The host that its clients run on.
    #[must_use]
    pub fn client(&self) -> &Host {
        &self.client
    }

    /// Limits the wire to so many bits per second, in each direction. It may be called again, for
    /// another rate.
    ///
    /// # Errors
    /// [`LabError`]; tests that throttle ask for [`Need::Throttle`] first.
    ///
    /// [`Need::Throttle`]: crate::need::Need::Throttle
    pub fn throttle(&self, bits_per_second: u64) -> Result<(), LabError> {
        self.server.throttle(bits_per_second)?;
        self.client.throttle(bits_per_second)
    }

    /// Takes the limit of the wire away, in both directions. Without one nothing happens.
    ///
    /// # Errors
    /// [`LabError`].
    pub fn unthrottle(&self) -> Result<(), LabError> {
        wire::unthrottle(&self.server.namespace)?;
        wire::unthrottle(&self.client.namespace)
    }
}

/// One end of the wire: a network namespace of its own.
#[derive(Debug)]
pub struct Host {
    namespace: Namespace,
    address: Ipv4Addr,
}

impl Host {
    fn new(number: u32, role: &str, address: Ipv4Addr) -> Result<Self, LabError> {
        Ok(Self { namespace: Namespace::create(number, role)?, address })
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
    pub fn throttle(&self, bits_per_second: u64) -> Result<(), LabError> {
        wire::throttle(&self.namespace, bits_per_second)
    }
}
