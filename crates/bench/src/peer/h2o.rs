//! h2o with one thread that serves; another waits for signals.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::{COMBINED, Place, START, Started, free_address};
use crate::harness::pinned::pinned;

pub(super) fn start(on: &Place<'_>) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-h2o-").tempdir()?;
    let address = free_address(on)?;
    let path = directory.path().join("h2o.conf");
    let is_root = rustix::process::geteuid().is_root();
    fs::write(&path, configuration(directory.path(), on, address, is_root))?;

    let program = find_program("h2o").context("there is no h2o")?;
    let mut command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    command.args(["-m", "worker", "-c"]).arg(&path);
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// The defaults (files read into memory and written) with limits that no measurement reaches.
/// Started by root, h2o becomes `nobody` unless it is told otherwise, who may not look into the
/// directory of the files.
fn configuration(directory: &Path, on: &Place<'_>, address: SocketAddr, is_root: bool) -> String {
    let (directory, root) = (directory.display(), on.root.display());
    let log = on.log.map_or_else(String::new, |path| {
        format!("access-log:\n  path: {}\n  format: '{COMBINED}'", path.display())
    });
    let (ip, port) = (address.ip(), address.port());
    let user = if is_root { "user: root" } else { "" };
    format!(
        "{user}
num-threads: 1
max-connections: 20000
http1-request-timeout: 300
error-log: {directory}/error.log
{log}
file.send-compressed: OFF
file.mime.setdefaulttype: application/octet-stream
listen:
  host: {ip}
  port: {port}
hosts:
  default:
    paths:
      /:
        file.dir: {root}
"
    )
}
