//! h2o's reverse proxy with one thread that serves.

use std::fs;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::To;
use crate::harness::pinned::pinned;
use crate::peer::{COMBINED, START, Started, free_address};

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("h2o")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("h2o.conf");
    let own = directory.path().display();
    let user = if rustix::process::geteuid().is_root() { "user: root" } else { "" };
    let log = to.on.log.map_or_else(String::new, |path| {
        format!("access-log:\n  path: {}\n  format: '{COMBINED}'", path.display())
    });
    let (ip, port, upstream) = (address.ip(), address.port(), to.upstream);
    let text = format!(
        "{user}
num-threads: 1
max-connections: 20000
http1-request-timeout: 300
error-log: {own}/error.log
temp-buffer-path: {own}
{log}
listen:
  host: {ip}
  port: {port}
hosts:
  default:
    paths:
      /:
        proxy.reverse.url: \"http://{upstream}/\"
        proxy.preserve-host: ON
        proxy.timeout.keepalive: 300000
        proxy.timeout.io: 300000
"
    );
    fs::write(&path, text)?;

    let program = find_program("h2o").context("there is no h2o")?;
    let mut command = pinned(to.on.side, to.on.cpu, &program.to_string_lossy())?;
    command.args(["-m", "worker", "-c"]).arg(&path);
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}
