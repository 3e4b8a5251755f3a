//! Starting programs on one core: `sluicegate-bench pinned CPU -- PROGRAM ARGUMENTS`.

use std::env;
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::de::DeserializeOwned;
use sluicegate_testkit::process::{Child, ProcessError};

use super::interrupt;
use super::network::Side;

/// How often a wait looks whether the user interrupted it.
const INTERRUPT_INTERVAL: Duration = Duration::from_millis(100);

#[derive(Debug, Args)]
pub(crate) struct Pinned {
    /// The processor.
    cpu: usize,
    /// The program and its arguments.
    #[arg(last = true, required = true)]
    command: Vec<OsString>,
}

impl Pinned {
    /// Becomes the program: the process id stays, so does everything that is set here.
    pub(crate) fn exec(&self) -> Result<()> {
        sluicegate_sys::affinity::pin_to(self.cpu)
            .with_context(|| format!("cannot run on processor {}", self.cpu))?;
        sluicegate_sys::limits::raise_descriptors().context("cannot raise the descriptor limit")?;
        // However the harness ends, nothing of it goes on running.
        set_parent_process_death_signal(Some(Signal::KILL))?;
        let (program, arguments) = self.command.split_first().context("no program")?;
        let error = Command::new(program).args(arguments).exec();
        Err(anyhow!(error).context(format!("cannot run {}", program.display())))
    }
}

/// A command that runs `program` at one side of a network, on `cpu` alone. Start it from the
/// main thread: the program goes when the thread that started it does.
pub(crate) fn pinned(side: Side<'_>, cpu: usize, program: &str) -> Result<Command> {
    let mut command = side.command(&own_path()?);
    command.args(["pinned", &cpu.to_string(), "--", program]);
    Ok(command)
}

/// The path of this program.
pub(crate) fn own_path() -> Result<String> {
    let path = env::current_exe().context("cannot tell the path of this program")?;
    path.into_os_string().into_string().map_err(|path| anyhow!("{} is not UTF-8", path.display()))
}

/// Waits for a line that `wanted` accepts; a Ctrl-C ends the wait.
pub(crate) fn await_line(
    child: &mut Child,
    limit: Duration,
    wanted: impl Fn(&str) -> bool,
) -> Result<String> {
    let mut left = limit;
    loop {
        interrupt::check()?;
        let patience = left.min(INTERRUPT_INTERVAL);
        match child.wait_for_line(&wanted, patience) {
            Ok(line) => return Ok(line),
            Err(ProcessError::TimedOut { .. }) if left > patience => left -= patience,
            Err(error) => return Err(error.into()),
        }
    }
}

/// Runs a program that prints one line of JSON, and returns what it says. If it complains
/// instead, that is the error.
pub(crate) fn answer_of<T: DeserializeOwned>(command: Command, limit: Duration) -> Result<T> {
    answer(Child::spawn(command)?, limit)
}

/// The same of one that was started earlier.
pub(crate) fn answer<T: DeserializeOwned>(mut child: Child, limit: Duration) -> Result<T> {
    let line = await_line(&mut child, limit, |line| line.starts_with('{'));
    let line = match line.map_err(anyhow::Error::downcast::<ProcessError>) {
        Ok(line) => line,
        Err(Ok(ProcessError::Exited { output, .. })) => bail!("{}", output.trim()),
        Err(Ok(error)) => return Err(error.into()),
        Err(Err(error)) => return Err(error),
    };
    let status = child.wait_timeout(Duration::from_secs(10))?;
    if !status.success() {
        bail!("a client ended with {status}:\n{}", child.output());
    }
    serde_json::from_str(&line).with_context(|| format!("cannot understand {line}"))
}
