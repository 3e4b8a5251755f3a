//! Caddy's reverse proxy.

use std::fs;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::To;
use crate::harness::pinned::pinned;
use crate::peer::{START, Started, free_address};

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("caddy")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("Caddyfile");
    let log = to.on.log.map_or_else(String::new, |path| {
        let rolls = "            roll_disabled";
        let path = path.display();
        format!("    log {{\n        output file {path} {{\n{rolls}\n        }}\n    }}\n")
    });
    let (ip, upstream) = (address.ip(), to.upstream);
    // It keeps 32 idle connections unless it is told otherwise.
    let text = format!(
        "{{
    admin off
    auto_https off
    log {{
        level ERROR
    }}
    servers {{
        protocols h1
        timeouts {{
            idle 5m
        }}
    }}
}}
http://:{port} {{
    bind {ip}
    reverse_proxy {upstream} {{
        transport http {{
            keepalive 5m
            keepalive_idle_conns 2048
            keepalive_idle_conns_per_host 2048
            compression off
        }}
    }}
{log}}}
",
        port = address.port(),
    );
    fs::write(&path, text)?;

    let program = find_program("caddy").context("there is no caddy")?;
    let mut command = pinned(to.on.side, to.on.cpu, &program.to_string_lossy())?;
    command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&path);
    for variable in ["HOME", "XDG_DATA_HOME", "XDG_CONFIG_HOME"] {
        command.env(variable, directory.path());
    }
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}
