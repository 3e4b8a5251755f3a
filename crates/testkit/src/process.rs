//! Processes that a test starts: found wherever the system keeps them, watched line by line,
//! and gone when the test is, whichever way it ends.

mod output;
mod table;

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, kill_process, kill_process_group};

use output::{Next, Output};
pub use table::find_program;
pub(crate) use table::start_time;

pub use rustix::process::Signal;

/// How long a killed process may take to go. Only an uninterruptible one needs more than an
/// instant, and a test must not hang for it.
const KILL_LIMIT: Duration = Duration::from_secs(5);

/// How long an error waits for the last words of a process that has ended. A daemon that it left
/// behind may keep the streams open for ever.
const SETTLE_LIMIT: Duration = Duration::from_millis(200);

/// The pause between two looks at something that the kernel does not report by itself.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// What went wrong with a process of a test.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProcessError {
    /// It could not be started.
    #[error("cannot start `{command}`")]
    Start {
        /// The program and its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// It ended although more was expected of it.
    #[error("`{command}` ended with {status}; its output:\n{output}")]
    Exited {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// The newest of what it wrote.
        output: String,
    },
    /// What was waited for did not happen in time.
    #[error("`{command}`: no {awaited} within {limit:?}; its output:\n{output}")]
    TimedOut {
        /// The program and its arguments.
        command: String,
        /// What was waited for.
        awaited: String,
        /// How long.
        limit: Duration,
        /// The newest of what it wrote.
        output: String,
    },
    /// The kernel refused a signal or a wait.
    #[error("cannot signal or await `{command}`")]
    Control {
        /// The program and its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
}

/// A process that ends with its guard.
///
/// It leads a process group of its own. Dropping the guard kills the group, so that the workers
/// of a server go with their master, and waits for the process. Its input is empty; its standard
/// output and its standard error are read continuously, so it never blocks on a full pipe.
#[derive(Debug)]
pub struct Child {
    child: std::process::Child,
    command: String,
    output: Arc<Output>,
    /// Lines with a smaller number were passed over by an earlier [`Child::wait_for_line`].
    next_line: u64,
}

impl Child {
    /// Starts a command.
    ///
    /// # Errors
    /// [`ProcessError::Start`], for example because there is no such program.
    pub fn spawn(mut command: Command) -> Result<Self, ProcessError> {
        let line = command_line(&command);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command
            .process_group(0)
            .spawn()
            .map_err(|source| ProcessError::Start { command: line.clone(), source })?;

        let output = Arc::new(Output::default());
        // Detached on purpose: a daemon that the process leaves behind may hold its end of the
        // pipe open for ever, and a test must not wait for that.
        if let Some(stdout) = child.stdout.take() {
            Output::collect(&output, stdout);
        }
        if let Some(stderr) = child.stderr.take() {
            Output::collect(&output, stderr);
        }
        Ok(Self { child, command: line, output, next_line: 0 })
    }

    /// The process id, which stays this process's until the guard has seen its end.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The newest output, standard output and standard error as they came.
    #[must_use]
    pub fn output(&self) -> String {
        self.output.text()
    }

    /// Waits for a line, of either stream, that `wanted` accepts, and returns it.
    ///
    /// Each wait goes on behind the line that the last one returned, so waiting twice for
    /// `reloaded` waits for two of them. Lines that came before the call count too.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`], or [`ProcessError::Exited`] once both streams have ended
    /// without such a line; both show the output.
    pub fn wait_for_line(
        &mut self,
        mut wanted: impl FnMut(&str) -> bool,
        timeout: Duration,
    ) -> Result<String, ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            match self.output.next_from(self.next_line, deadline) {
                Next::Line(number, text) => {
                    self.next_line = number + 1;
                    if wanted(&text) {
                        return Ok(text);
                    }
                }
                Next::End => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    return Err(match self.wait_timeout(left) {
                        Ok(status) => self.exited(status),
                        Err(_) => self.timed_out("such line", timeout),
                    });
                }
                Next::Nothing => return Err(self.timed_out("such line", timeout)),
            }
        }
    }

    /// Waits until the address accepts TCP connections. The connection made for this is closed
    /// at once; the server sees it.
    ///
    /// For a process in a [`Host`](crate::lab::Host), call it inside `Host::enter`.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`], or [`ProcessError::Exited`] if the process ended first.
    pub fn wait_for_port(
        &mut self,
        address: SocketAddr,
        timeout: Duration,
    ) -> Result<(), ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            if accepts(address, deadline) {
                return Ok(());
            }
            if let Some(status) = self.try_wait()? {
                return Err(self.exited(status));
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out(&format!("connection to {address}"), timeout));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// Asks the process to end (`SIGTERM`). What follows is its own doing: see
    /// [`Child::wait_timeout`].
    ///
    /// # Errors
    /// As [`Child::signal`].
    pub fn terminate(&mut self) -> Result<(), ProcessError> {
        self.signal(Signal::TERM)
    }

    /// Sends a signal to the process, not to the rest of its group.
    ///
    /// # Errors
    /// [`ProcessError::Exited`] if it has ended (its id may be another process's by now), or
    /// [`ProcessError::Control`].
    pub fn signal(&mut self, signal: Signal) -> Result<(), ProcessError> {
        if let Some(status) = self.try_wait()? {
            return Err(self.exited(status));
        }
        kill_process(self.raw_pid(), signal).map_err(|error| self.control(error.into()))
    }

    /// Waits for the end of the process, and tells how it ended.
    ///
    /// # Errors
    /// [`ProcessError::TimedOut`]; the process then runs on.
    pub fn wait_timeout(&mut self, timeout: Duration) -> Result<ExitStatus, ProcessError> {
        let deadline = Instant::now() + timeout;
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            if Instant::now() >= deadline {
                return Err(self.timed_out("end", timeout));
            }
            thread::sleep(POLL_INTERVAL);
        }
    }

    /// How the process ended, or `None` while it runs.
    ///
    /// # Errors
    /// [`ProcessError::Control`].
    pub fn try_wait(&mut self) -> Result<Option<ExitStatus>, ProcessError> {
        self.child.try_wait().map_err(|source| self.control(source))
    }

    fn raw_pid(&self) -> Pid {
        Pid::from_child(&self.child)
    }

    fn exited(&self, status: ExitStatus) -> ProcessError {
        // Its last words, which tell why, may still be on their way through the reading threads.
        self.output.settle(Instant::now() + SETTLE_LIMIT);
        ProcessError::Exited { command: self.command.clone(), status, output: self.output() }
    }

    fn timed_out(&self, awaited: &str, limit: Duration) -> ProcessError {
        ProcessError::TimedOut {
            command: self.command.clone(),
            awaited: awaited.to_owned(),
            limit,
            output: self.output(),
        }
    }

    fn control(&self, source: io::Error) -> ProcessError {
        ProcessError::Control { command: self.command.clone(), source }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // The group is killed while its leader is not yet reaped: until then the number cannot
        // belong to anybody else. After that only the group's other members could be there, and
        // no way to tell them from a stranger's.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process_group(self.raw_pid(), Signal::KILL);
            let _ = self.wait_timeout(KILL_LIMIT);
        }
    }
}

/// A TCP port of 127.0.0.1 that was free a moment ago.
///
/// Somebody else may take it before its user does; where the program can tell its port, let it
/// listen on port 0 instead and read the line in which it says so.
///
/// # Errors
/// What binding a socket says.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn accepts(address: SocketAddr, deadline: Instant) -> bool {
    // At least a moment, since a timeout of zero is refused as an argument.
    let left = deadline.saturating_duration_since(Instant::now()).max(POLL_INTERVAL);
    TcpStream::connect_timeout(&address, left.min(Duration::from_millis(500))).is_ok()
}

/// The program and its arguments, for messages.
pub(crate) fn command_line(command: &Command) -> String {
    let mut line = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        line.push(' ');
        line.push_str(&argument.to_string_lossy());
    }
    line
}
