//! A virtual machine as a peer: a stock kernel of Debian in qemu, joined to a host of the lab by a
//! tap.
//!
//! ```text
//!   namespace sg-…-tap              guest (Linux 6.1)
//!   ┌────────────────────┐          ┌────────────────────┐
//!   │ lo     10.99.1.1/24│   tap    │10.99.1.2/24     lo │
//!   │                eth0├──────────┤eth0 (virtio-net)   │
//!   └────────────────────┘          └────────────────────┘
//! ```
//!
//! It is what namespaces cannot be. Seen from the guest the host is *remote* in KERNEL.md's sense:
//! what the guest sends without a copy leaves through a network card, and the kernel says so. And
//! it is a second, older kernel. It runs in software (KVM is not asked for), so it is good for
//! behaviour and useless for figures.
//!
//! What runs there is the test binary itself, so that both halves of a test stand in one file:
//!
//! ```ignore
//! #[test]
//! fn the_guest_says_hello() {
//!     require!(Need::VirtualMachine);
//!     let vm = Vm::boot(&Options::new())?;
//!     let listener = vm.host().enter(|| TcpListener::bind((vm::HOST, 7)))??;
//!     vm.run_test("half_in_the_guest", &[]);
//!     // … what did the listener get?
//! }
//!
//! #[test]
//! fn half_in_the_guest() {
//!     if !vm::is_guest() {
//!         return;
//!     }
//!     TcpStream::connect((vm::HOST, 7))?.write_all(b"hello")?;
//! }
//! ```

mod control;
mod cpio;
mod error;
mod image;
mod modules;
mod options;
mod parts;
mod peer;
mod qemu;

use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use std::{env, io};

use crate::lab::Host;
use crate::need;
use crate::process::Child;
use control::{Control, Line};
pub use error::VmError;
use error::failure;
pub use options::Options;
use parts::Parts;
pub use peer::{connect, with_peer};

/// The address of the host at the other end of the guest's wire.
pub const HOST: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 1);

/// The address of the guest.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 99, 1, 2);

/// Set in the guest.
const VARIABLE: &str = "SLUICEGATE_GUEST";

/// What every guest needs: its network card, and the bus that the card is on.
const MODULES: [&str; 2] = ["virtio_pci", "virtio_net"];

/// The test binary, in the guest.
const TEST: &str = "/programs/test";

/// How long a guest may take until it can run something. It takes 2 s; a machine that runs many
/// tests at once is slower.
const BOOT_LIMIT: Duration = Duration::from_secs(60);

/// What begins the line with which the guest says that it is there, and then the kernel's release.
const READY: &str = "sluicegate-guest-ready";

/// What begins the line behind the output of a command, and then its status.
const STATUS: &str = "sluicegate-guest-status";

/// What a command in the guest came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finished {
    /// Its exit status; 128 and the signal's number, if a signal ended it.
    pub status: i32,
    /// Its standard output and its standard error, as they came.
    pub output: String,
}

/// A running virtual machine. It is killed when dropped.
#[derive(Debug)]
pub struct Vm {
    // In the order in which they go.
    machine: Mutex<Machine>,
    host: Host,
    release: String,
    boot_time: Duration,
    test_limit: Duration,
}

#[derive(Debug)]
struct Machine {
    qemu: Child,
    /// `None` after an error: what came then would belong to the command that failed.
    control: Option<Control>,
}

impl Vm {
    /// Boots one, and returns as soon as it can run something: after about 2 s.
    ///
    /// # Errors
    /// [`VmError`]; tests that need a virtual machine ask for [`Need::VirtualMachine`] first.
    ///
    /// [`Need::VirtualMachine`]: crate::need::Need::VirtualMachine
    pub fn boot(options: &Options) -> Result<Self, VmError> {
        let began = Instant::now();
        let parts = Parts::find().map_err(|lack| VmError::Missing { lack })?;
        let scratch = |source| VmError::Image { what: "a directory for it".to_owned(), source };
        let files = tempfile::Builder::new().prefix("sluicegate-vm-").tempdir().map_err(scratch)?;
        let archive = files.path().join("files.cpio");
        image::write(&archive, &parts, &options.modules, &options.all_programs()?)?;

        let host = Host::with_tap(HOST)?;
        let socket = files.path().join("line");
        let line = Line::listen(&socket).map_err(|source| VmError::Line { source })?;
        let mut qemu = Child::spawn(qemu::command(&host, &parts, options, &archive, &socket))?;

        let deadline = began + BOOT_LIMIT;
        let accepted = line.accept(deadline, || !matches!(qemu.try_wait(), Ok(None)));
        let mut control = match accepted {
            Ok(control) => control,
            Err(silence) => return Err(failure(silence, "start", BOOT_LIMIT, None, &mut qemu)),
        };
        let release = match control.read_to(READY, deadline) {
            Ok((_, release)) => release,
            Err(silence) => {
                return Err(failure(silence, "boot", BOOT_LIMIT, Some(&control), &mut qemu));
            }
        };
        // They were read when the machine started. What is gone already no killed test leaves
        // behind.
        drop(files);
        let machine = Mutex::new(Machine { qemu, control: Some(control) });
        let (boot_time, test_limit) = (began.elapsed(), options.test_limit);
        Ok(Self { machine, host, release, boot_time, test_limit })
    }

    /// The host at the other end of the wire, with the address [`HOST`]. What is to be the
    /// guest's peer runs there: [`Host::enter`], [`Host::command`].
    #[must_use]
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The release of the guest's kernel, such as `6.1.0-56-cloud-amd64`.
    #[must_use]
    pub fn kernel(&self) -> &str {
        &self.release
    }

    /// How long [`Vm::boot`] took.
    #[must_use]
    pub fn boot_time(&self) -> Duration {
        self.boot_time
    }

    /// What kernel and init wrote to the console: the newest.
    #[must_use]
    pub fn console(&self) -> String {
        self.lock().qemu.output()
    }

    /// Runs a command in the guest, and waits for its end. Its input is empty. Commands run one
    /// after another, also when several threads ask for them.
    ///
    /// After an error, [`VmError::Command`] excepted, the machine runs nothing more.
    ///
    /// # Errors
    /// [`VmError`]. A status that is not 0 is none.
    pub fn run(
        &self,
        command: &[&str],
        environment: &[(&str, &str)],
        limit: Duration,
    ) -> Result<Finished, VmError> {
        let line = shell_line(command, environment)?;
        let mut machine = self.lock();
        let Machine { qemu, control: line_to_it } = &mut *machine;
        let Some(control) = line_to_it else {
            return Err(VmError::Ended { output: String::new(), console: qemu.output() });
        };
        let deadline = Instant::now() + limit;
        let finished = control.send(&line).and_then(|()| control.read_to(STATUS, deadline));
        match finished {
            Ok((mut output, status)) => {
                // The guest begins a new line for the status.
                output.truncate(output.len().saturating_sub(1));
                let status = status.parse().map_err(|_| VmError::Line {
                    source: io::Error::other(format!("`{status}` is no status")),
                })?;
                Ok(Finished { status, output })
            }
            Err(silence) => {
                let error = failure(silence, "end", limit, Some(control), qemu);
                *line_to_it = None;
                Err(error)
            }
        }
    }

    /// Runs one test of this test binary in the guest, within
    /// [`Options::test_limit`], and returns what it
    /// wrote. There [`is_guest`] is true, the environment has these variables, and no test is
    /// skipped for what the guest lacks.
    ///
    /// # Panics
    /// If it fails, with its output and the guest's console; if there is no test of this name; if
    /// the machine fails.
    #[track_caller]
    pub fn run_test(&self, name: &str, environment: &[(&str, &str)]) -> String {
        let command = [TEST, "--exact", name, "--nocapture", "--include-ignored"];
        let fixed = [(VARIABLE, "1"), (need::VARIABLE, "required"), ("RUST_BACKTRACE", "1")];
        let Finished { status, output } =
            match self.run(&command, &[&fixed, environment].concat(), self.test_limit) {
                Ok(finished) => finished,
                Err(error) => panic!("the test {name} in the guest: {error}"),
            };
        // No test at all would end with 0 too.
        let passed = status == 0
            && output.lines().any(|line| line.starts_with("test result: ok. 1 passed;"));
        assert!(
            passed,
            "the test {name} failed in the guest (status {status}); its output:\n{output}\n\
             the guest's console:\n{}",
            self.console()
        );
        output
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether this process runs in a guest of [`Vm`]. The half of a test that belongs there returns
/// at once where it is not so.
#[must_use]
pub fn is_guest() -> bool {
    env::var_os(VARIABLE).is_some()
}

/// Why there is no virtual machine on this machine; `None` if there is.
pub(crate) fn lack() -> Option<String> {
    Parts::find().err().or_else(|| Host::with_tap(HOST).err().map(|error| error.to_string()))
}

/// What the shell of the guest is to read: one line. `env` takes the shell's place, and the
/// command that of `env`, so that nobody adds a word to what the command writes.
fn shell_line(command: &[&str], environment: &[(&str, &str)]) -> Result<String, VmError> {
    let mut line = String::from("exec env");
    for (name, value) in environment {
        line += &format!(" {}", quoted(&format!("{name}={value}")));
    }
    for word in command {
        line += &format!(" {}", quoted(word));
    }
    let is_name = |name: &str| !name.is_empty() && !name.contains('=');
    let names = environment.iter().map(|(name, _)| name).chain(command.first());
    if command.is_empty() || !names.copied().all(is_name) || line.contains(['\n', '\0']) {
        return Err(VmError::Command { command: line });
    }
    Ok(line)
}

/// A word that a shell takes as it is.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::{VmError, shell_line};

    #[test]
    fn a_command_is_one_line_that_a_shell_reads_back_word_by_word() {
        let line = shell_line(&["echo", "it's", "$HOME"], &[("A", "b c")]);
        assert_eq!(line.expect("a command"), r"exec env 'A=b c' 'echo' 'it'\''s' '$HOME'");
        for (command, environment) in [
            (&["a\nb"] as &[&str], ("A", "")),
            (&["a"], ("A=B", "")),
            (&["a=b"], ("A", "")),
            (&[], ("A", "")),
        ] {
            let error = shell_line(command, &[environment]).expect_err("not a command");
            assert!(matches!(error, VmError::Command { .. }));
        }
    }
}
