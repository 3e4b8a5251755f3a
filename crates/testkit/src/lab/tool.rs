//! Running `ip` and `tc`, in bounded time.

use std::io::Read;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::LabError;
use crate::process::{command_line, find_program};

/// These commands take a few milliseconds; seconds only when the kernel's lock of all network
/// devices is contended, by many namespaces going at once.
const LIMIT: Duration = Duration::from_secs(20);

const POLL_INTERVAL: Duration = Duration::from_millis(1);

/// Runs a program and returns its standard output.
pub(super) fn run(program: &'static str, arguments: &[&str]) -> Result<String, LabError> {
    let path = find_program(program).ok_or(LabError::Missing { program })?;
    let mut command = Command::new(path);
    // The messages that errors show are the same everywhere.
    command.args(arguments).env("LC_ALL", "C");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());

    let command_line = command_line(&command);
    let failed = |source| LabError::Run { command: command_line.clone(), source };
    let mut child = command.spawn().map_err(failed)?;
    let deadline = Instant::now() + LIMIT;
    // The output is read afterwards: a few lines, which fit into the pipes.
    let status = loop {
        if let Some(status) = child.try_wait().map_err(failed)? {
            break status;
        }
        if Instant::now() >= deadline {
            let _ = child.kill();
            return Err(LabError::TimedOut { command: command_line, limit: LIMIT });
        }
        thread::sleep(POLL_INTERVAL);
    };
    if !status.success() {
        let mut stderr = String::new();
        if let Some(mut stream) = child.stderr.take() {
            stream.read_to_string(&mut stderr).map_err(failed)?;
        }
        let stderr = stderr.trim().to_owned();
        return Err(LabError::Failed { command: command_line, status, stderr });
    }
    let mut stdout = String::new();
    if let Some(mut stream) = child.stdout.take() {
        stream.read_to_string(&mut stdout).map_err(failed)?;
    }
    Ok(stdout)
}
