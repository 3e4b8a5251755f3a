//! lighttpd, whose only process serves.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};
use tempfile::TempDir;

use super::{COMBINED, Place, START, Started, free_address};
use crate::harness::pinned::pinned;

pub(super) fn start(on: &Place<'_>) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-lighttpd-").tempdir()?;
    let address = free_address(on)?;
    let text = configuration(directory.path(), on, address);
    fs::write(directory.path().join("lighttpd.conf"), text)?;
    started(on, directory, address)
}

/// Starts it with the `lighttpd.conf` of a directory of its own.
pub(super) fn started(on: &Place<'_>, directory: TempDir, address: SocketAddr) -> Result<Started> {
    let program = find_program("lighttpd").context("there is no lighttpd")?;
    let mut command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    command.arg("-D").arg("-f").arg(directory.path().join("lighttpd.conf"));
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// What it has whatever it serves: limits that no measurement reaches, but for the requests of a
/// connection, which lighttpd counts in 16 bits.
pub(super) fn common(directory: &Path, address: SocketAddr, log: Option<&Path>) -> String {
    let directory = directory.display();
    let (ip, port) = (address.ip(), address.port());
    let log = log.map_or_else(String::new, |path| {
        format!(
            "server.modules += ( \"mod_accesslog\" )
accesslog.filename = \"{}\"
accesslog.format = \"{}\"
",
            path.display(),
            COMBINED.replace('"', "\\\"")
        )
    });
    format!(
        "{log}server.bind = \"{ip}\"
server.port = {port}
server.errorlog = \"{directory}/error.log\"
server.upload-dirs = ( \"{directory}\" )
server.max-worker = 0
server.max-fds = 24000
server.max-connections = 12000
server.listen-backlog = 4096
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 300
server.max-read-idle = 300
server.max-write-idle = 360
"
    )
}

/// The defaults: `sendfile`, a stat cache, files up to 32 KiB read into memory.
fn configuration(directory: &Path, on: &Place<'_>, address: SocketAddr) -> String {
    let (common, root) = (common(directory, address, on.log), on.root.display());
    format!(
        "server.modules = ()
server.document-root = \"{root}\"
{common}mimetype.assign = ( \"\" => \"application/octet-stream\" )
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;

    #[test]
    fn a_log_needs_its_module() {
        let address = "127.0.0.1:80".parse().unwrap();
        let of = |log| configuration(Path::new("/d"), &place(log), address);
        assert!(!of(None).contains("accesslog"));
        assert!(of(Some("/l")).contains("accesslog.filename = \"/l\""));
        assert!(of(Some("/l")).contains(r#"\"%{Referer}i\""#));
    }
}
