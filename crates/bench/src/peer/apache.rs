//! Apache with the event module: one process, whose threads share the core.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};
use tempfile::TempDir;

use super::{COMBINED, Place, START, Started, free_address};
use crate::harness::pinned::pinned;

/// Where Debian keeps modules.
const MODULES: &str = "/usr/lib/apache2/modules";

/// The modules that the configuration needs, apart from those compiled in.
const LOADED: [&str; 3] = ["mpm_event", "authz_core", "mime"];

pub(super) fn start(on: &Place<'_>) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-apache-").tempdir()?;
    let address = free_address(on)?;
    let text = configuration(directory.path(), on, address);
    fs::write(directory.path().join("apache.conf"), text)?;
    fs::write(directory.path().join("mime.types"), "")?;

    started(on, directory, address)
}

/// Starts it with the `apache.conf` of a directory of its own.
pub(super) fn started(on: &Place<'_>, directory: TempDir, address: SocketAddr) -> Result<Started> {
    // `-X`: the process that was started is the worker, pinned with it.
    let mut command = as_somebody(on)?;
    command.args(["-X", "-f"]).arg(directory.path().join("apache.conf"));
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// Apache serves nothing as root, and the directory of the files may be root's alone. So it is
/// somebody else who may read (and write its log) everywhere.
fn as_somebody(on: &Place<'_>) -> Result<Command> {
    let program = find_program("apache2").context("there is no apache2")?;
    let program = program.to_string_lossy();
    if !rustix::process::geteuid().is_root() {
        return pinned(on.side, on.cpu, &program);
    }
    let setpriv = find_program("setpriv").context("there is no setpriv")?;
    let mut command = pinned(on.side, on.cpu, &setpriv.to_string_lossy())?;
    // A change of the user takes the death signal away, so it is set again behind it.
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups"]);
    command.args(["--inh-caps", "+dac_override", "--ambient-caps", "+dac_override"]);
    command.args(["--pdeathsig", "KILL", "--", &program]);
    Ok(command)
}

/// What it has whatever it serves: these modules, and the event module with 128 threads instead of
/// 25, since when none is idle it closes connections that are kept alive, and 64 of them ask at
/// once. Other limits are such that no measurement reaches them.
pub(super) fn common(
    directory: &Path,
    modules: &[&str],
    address: SocketAddr,
    log: Option<&Path>,
) -> String {
    let directory = directory.display();
    let modules: String = modules
        .iter()
        .map(|name| format!("LoadModule {name}_module {MODULES}/mod_{name}.so\n"))
        .collect();
    let log = log.map_or_else(String::new, |path| {
        let format = COMBINED.replace('"', "\\\"");
        format!("CustomLog {} \"{format}\"", path.display())
    });
    format!(
        "{modules}
ServerRoot {directory}
ServerName {address}
DefaultRuntimeDir {directory}
PidFile {directory}/pid
ErrorLog {directory}/error.log
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
"
    )
}

/// `EnableSendfile` is off by default, and on wherever it is measured: on a local disk it works.
fn configuration(directory: &Path, on: &Place<'_>, address: SocketAddr) -> String {
    let common = common(directory, &LOADED, address, on.log);
    let (directory, root) = (directory.display(), on.root.display());
    format!(
        "{common}
EnableSendfile On
TypesConfig {directory}/mime.types
DocumentRoot {root}
<Directory {root}>
    AllowOverride None
    Require all granted
    ForceType application/octet-stream
</Directory>
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;

    #[test]
    fn the_log_has_the_combined_format() {
        let address = "127.0.0.1:80".parse().unwrap();
        let of = |log| configuration(Path::new("/d"), &place(log), address);
        assert!(!of(None).contains("CustomLog"));
        assert!(of(Some("/l")).contains("CustomLog /l \"%h %l %u %t \\\"%r\\\""));
    }
}
