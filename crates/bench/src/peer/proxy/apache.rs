//! Apache's mod_proxy with the event module: one process, whose threads share the core.

use std::fs;

use anyhow::Result;
use sluicegate_testkit::process::Child;

use super::To;
use crate::peer::apache::{MODULES, as_somebody};
use crate::peer::{COMBINED, START, Started, free_address};

const LOADED: [&str; 4] = ["mpm_event", "authz_core", "proxy", "proxy_http"];

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("apache")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("apache.conf");
    let (own, upstream) = (directory.path().display(), to.upstream);
    let modules: String = LOADED
        .iter()
        .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
        .collect();
    let log = to.on.log.map_or_else(String::new, |path| {
        format!("CustomLog {} \"{}\"", path.display(), COMBINED.replace('"', "\\\""))
    });
    // As where files are served: 128 threads, and limits that nothing reaches.
    let text = format!(
        "{modules}
ServerRoot {own}
ServerName {address}
DefaultRuntimeDir {own}
PidFile {own}/pid
ErrorLog {own}/error.log
Listen {address}
ListenBacklog 4096
StartServers 1
ServerLimit 1
ThreadLimit 128
ThreadsPerChild 128
MaxRequestWorkers 128
AsyncRequestWorkerFactor 150
MaxConnectionsPerChild 0
KeepAlive On
KeepAliveTimeout 300
MaxKeepAliveRequests 0
Timeout 300
{log}
ProxyPreserveHost On
ProxyPass / http://{upstream}/ keepalive=On ttl=300
"
    );
    fs::write(&path, text)?;

    let mut command = as_somebody(to.on)?;
    command.args(["-X", "-f"]).arg(&path);
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}
