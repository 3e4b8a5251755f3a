//! Caddy, a program of one process that has as many processors as it is pinned to.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};
use tempfile::TempDir;

use super::{Place, START, Started, free_address};
use crate::harness::pinned::pinned;

pub(super) fn start(on: &Place<'_>) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-caddy-").tempdir()?;
    let address = free_address(on)?;
    started(on, directory, address, &configuration(on, address))
}

/// With its configuration, `text`, and all that it keeps in `directory`.
pub(super) fn started(
    on: &Place<'_>,
    directory: TempDir,
    address: SocketAddr,
    text: &str,
) -> Result<Started> {
    let path = directory.path().join("Caddyfile");
    fs::write(&path, text)?;
    let program = find_program("caddy").context("there is no caddy")?;
    let mut command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
    // What it keeps between runs is kept here.
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, directory.path());
    }
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// What a configuration begins with: the defaults, without the administration port, certificates
/// and messages.
pub(super) const GLOBAL: &str = "{
    admin off
    auto_https off
    log {
        level ERROR
    }
    servers {
        protocols h1
        timeouts {
            idle 5m
        }
    }
}
";

/// What keeps a log in one file.
const ROLLS: &str = "            roll_disabled";

/// The site's log, which is JSON: the combined format needs a plugin.
pub(super) fn log(on: &Place<'_>) -> String {
    let Some(path) = on.log else { return String::new() };
    let path = path.display();
    format!("    log {{\n        output file {path} {{\n{ROLLS}\n        }}\n    }}\n")
}

fn configuration(on: &Place<'_>, address: SocketAddr) -> String {
    format!(
        "{GLOBAL}http://{address} {{
    bind {}
    root * {}
    file_server
{}}}
",
        address.ip(),
        on.root.display(),
        log(on),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;

    #[test]
    fn the_log_is_a_file_that_is_never_rolled() {
        let address = "127.0.0.1:80".parse().unwrap();
        assert!(!configuration(&place(None), address).contains("output file"));
        let logged = configuration(&place(Some("/l")), address);
        assert!(logged.contains("output file /l {") && logged.contains("roll_disabled"));
    }
}
