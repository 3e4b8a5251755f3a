//! What can go wrong with a virtual machine.

use std::io;
use std::time::Duration;

use super::control::{Control, Silence};
use crate::lab::LabError;
use crate::process::{Child, ProcessError};

/// What went wrong with a virtual machine.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VmError {
    /// Something that it is made of is not there.
    #[error("a virtual machine lacks {lack}")]
    Missing {
        /// What.
        lack: String,
    },
    /// Its host could not be built.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// Its process could not be started or asked.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// The archive of its files could not be made.
    #[error("cannot make the guest's files of {what}: {source}")]
    Image {
        /// The file that was read or written.
        what: String,
        /// Why.
        source: io::Error,
    },
    /// A command that is more than a line, or a name with `=` in it.
    #[error("not a command for a guest: {command:?}")]
    Command {
        /// The command.
        command: String,
    },
    /// The line to it fails.
    #[error("the line to the guest failed: {source}")]
    Line {
        /// Why.
        source: io::Error,
    },
    /// It ended, for example because its kernel panicked; or a command before this one failed.
    #[error("the virtual machine ended; its output:\n{output}its console:\n{console}")]
    Ended {
        /// What the command wrote.
        output: String,
        /// What kernel and init wrote.
        console: String,
    },
    /// What was waited for did not happen in time.
    #[error(
        "the guest: no {awaited} within {limit:?}; its output:\n{output}its console:\n{console}"
    )]
    TimedOut {
        /// What was waited for.
        awaited: &'static str,
        /// How long.
        limit: Duration,
        /// What the command wrote.
        output: String,
        /// What kernel and init wrote.
        console: String,
    },
}

/// What a silence on the line means, with all that the machine has said. `awaited` is what did not
/// come.
pub(super) fn failure(
    silence: Silence,
    awaited: &'static str,
    limit: Duration,
    control: Option<&Control>,
    qemu: &mut Child,
) -> VmError {
    /// How long the last words on the console may take.
    const LAST_WORDS: Duration = Duration::from_secs(1);

    if matches!(silence, Silence::End) {
        let _ = qemu.wait_for_line(|_| false, LAST_WORDS);
    }
    let mut output = control.map(Control::unread).unwrap_or_default();
    if !output.is_empty() && !output.ends_with('\n') {
        output.push('\n');
    }
    let console = qemu.output();
    match silence {
        Silence::Deadline => VmError::TimedOut { awaited, limit, output, console },
        Silence::End => VmError::Ended { output, console },
        Silence::Failed(source) => VmError::Line { source },
    }
}
