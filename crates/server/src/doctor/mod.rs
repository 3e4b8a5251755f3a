//! What this kernel, these limits and this network allow, and what to change.
//!
//! Whatever can be tried is tried, on sockets and memory of the doctor's own;
//! only what is a setting is read. No probe takes anything for granted that an
//! earlier one found: each opens what it needs, and tells what refused it.

mod acks;
mod check;
mod directory;
mod interfaces;
mod kernel;
mod limits;
mod network;
mod options;
mod pair;
mod peer;
mod process;
mod report;
mod sending;
mod text;

use std::io::{IsTerminal, Write};

use anyhow::{Context, Result, bail};

use self::check::Check;
pub(crate) use self::limits::memory_limit;
pub(crate) use self::options::Options;

/// Probes everything, and prints what was found.
///
/// # Errors
/// What is named on the command line and is not there; and, after the report,
/// that something is missing without which no server can run.
pub(crate) fn run(options: &Options) -> Result<()> {
    let mut checks = kernel::checks();
    checks.extend(sending::checks());
    checks.extend(acks::checks());
    checks.extend(network::checks());
    checks.extend(interfaces::checks(options.interface.as_deref())?);
    if let Some(peer) = options.peer {
        checks.extend(peer::checks(peer));
    }
    checks.extend(limits::checks());
    checks.extend(process::checks());
    if let Some(directory) = &options.directory {
        checks.extend(directory::checks(directory)?);
    }
    print(&checks, options)?;
    let needed: Vec<&str> =
        checks.iter().filter(|check| check.is_fatal()).map(|check| check.title.as_str()).collect();
    if !needed.is_empty() {
        bail!("Sluicegate cannot run here: {}", needed.join(", "));
    }
    Ok(())
}

fn print(checks: &[Check], options: &Options) -> Result<()> {
    let out = std::io::stdout();
    let text = if options.json {
        report::json(checks).context("cannot write the report as JSON")?
    } else {
        let colours = out.is_terminal() && report::wants_colours(|name| std::env::var_os(name));
        report::text(checks, options.explain, colours)
    };
    match out.lock().write_all(text.as_bytes()) {
        // Who reads it has seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(()),
        written => written.context("cannot write the report"),
    }
}
