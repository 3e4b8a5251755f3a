//! A floor as a process: this program itself.

use std::path::Path;
use std::process::Command;

use anyhow::Result;
use clap::ValueEnum;
use sluicegate_testkit::process::Child;

use super::{Place, Started, await_address};
use crate::floor::Way;
use crate::harness::pinned::{own_path, pinned};

pub(super) fn start(on: &Place<'_>, way: Way, file: &Path) -> Result<Started> {
    let way = way.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
    let mut arguments = vec!["floor".to_owned(), way];
    if let Some(log) = on.log {
        arguments.extend(["--log".to_owned(), log.to_string_lossy().into_owned()]);
    }
    spawn(on, &arguments, file)
}

/// Starts this program with arguments that make it a floor that serves `file`.
pub(super) fn spawn(on: &Place<'_>, arguments: &[String], file: &Path) -> Result<Started> {
    start_with(on, |command| command.args(arguments).arg("--file").arg(file))
}

/// Starts this program with arguments that make it a floor that needs no file.
pub(super) fn launch(on: &Place<'_>, arguments: &[String]) -> Result<Started> {
    start_with(on, |command| command.args(arguments))
}

fn start_with(
    on: &Place<'_>,
    arguments: impl FnOnce(&mut Command) -> &mut Command,
) -> Result<Started> {
    let mut command = pinned(on.side, on.cpu, &own_path()?)?;
    arguments(&mut command).args(["--listen", &format!("{}:0", on.side.address())]);
    let mut child = Child::spawn(command)?;
    let address = await_address(&mut child)?;
    Ok((child, address, None))
}
