//! Another process of the program goes on for this one: a new version of it,
//! or one with other workers.
//!
//! It inherits the listening sockets, says on a pipe that it serves, and only
//! then does this one finish its connections and end. No listener closes in
//! between, so nobody is refused.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::bound::Bound;
use super::inherit;

/// How long the new process may take until it serves.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program as it was started.
#[derive(Debug)]
pub(super) struct Program {
    file: io::Result<PathBuf>,
    arguments: Vec<OsString>,
    directory: Option<PathBuf>,
}

impl Program {
    /// Call it at the start: the file may be another one later, and that one is
    /// then to be found by the same name.
    pub(super) fn at_start() -> Self {
        let mut arguments = std::env::args_os();
        let name = arguments.next().unwrap_or_default();
        let directory = std::env::current_dir().ok();
        Program { file: file(Path::new(&name)), arguments: arguments.collect(), directory }
    }
}

/// The file that the program was started by: the name that was called, as long
/// as it leads to the very program, so that a link which is moved to another
/// version is followed.
fn file(called: &Path) -> io::Result<PathBuf> {
    let itself = std::env::current_exe()?;
    let is_it = |path: &Path| match (fs::metadata(path), fs::metadata(&itself)) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    };
    let named = if called.as_os_str().as_bytes().contains(&b'/') {
        std::path::absolute(called).ok()
    } else {
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).map(|beneath| beneath.join(called)).find(|path| is_it(path))
    };
    Ok(named.filter(|path| is_it(path)).unwrap_or(itself))
}

/// A new process that does not serve yet.
#[derive(Debug)]
pub(super) struct Upgrade {
    child: Child,
    ready: UnixStream,
    until: Instant,
}

/// What became of it.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Nothing yet.
    Starting(Upgrade),
    /// It serves; its process id.
    Serving(u32),
    Failed(String),
}

impl Upgrade {
    /// Starts the program anew.
    pub(super) fn start(
        program: &Program,
        listeners: &[Arc<Bound>],
        admin: Option<&Arc<Bound>>,
    ) -> Result<Self> {
        let file = match &program.file {
            Ok(file) => file,
            Err(error) => bail!("cannot tell the program's own file: {error}"),
        };
        let (ready, theirs) = UnixStream::pair().context("cannot open a pair of sockets")?;
        ready.set_nonblocking(true).context("cannot set a socket up")?;
        let mut command = Command::new(file);
        command.args(&program.arguments);
        if let Some(directory) = &program.directory {
            command.current_dir(directory);
        }
        inherit::bequeath(&mut command, listeners, admin, OwnedFd::from(theirs));
        let child = command.spawn().with_context(|| format!("cannot start {}", file.display()))?;
        // With the command goes our copy of the other end.
        drop(command);
        Ok(Upgrade { child, ready, until: Instant::now() + PATIENCE })
    }

    /// Becomes readable when there is something to [`Upgrade::look`] at.
    pub(super) fn watched(&self) -> BorrowedFd<'_> {
        self.ready.as_fd()
    }

    /// How long it may still take.
    pub(super) fn left(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// What has become of it.
    pub(super) fn look(mut self) -> Outcome {
        let mut word = [0; 16];
        match self.ready.read(&mut word) {
            Ok(1..) => Outcome::Serving(self.child.id()),
            Ok(0) => match self.end() {
                Ok(status) => Outcome::Failed(format!("the new process ended: {status}")),
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if self.left().is_zero() {
                    let _ = self.end();
                    let patience = PATIENCE.as_secs();
                    return Outcome::Failed(format!(
                        "the new process did not serve within {patience} s"
                    ));
                }
                Outcome::Starting(self)
            }
            Err(error) => {
                let _ = self.end();
                Outcome::Failed(format!("cannot hear from the new process: {error}"))
            }
        }
    }

    /// Ends the new process, if it has not ended.
    pub(super) fn end(&mut self) -> io::Result<std::process::ExitStatus> {
        // Who has closed the pipe without a word is ending, or never will serve.
        let until = Instant::now() + Duration::from_secs(1);
        while self.child.try_wait()?.is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(5));
        }
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        self.child.kill()?;
        self.child.wait()
    }
}
