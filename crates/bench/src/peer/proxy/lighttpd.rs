//! lighttpd's mod_proxy. It keeps no connections to upstreams.

use std::fs;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::To;
use crate::harness::pinned::pinned;
use crate::peer::{COMBINED, START, Started, free_address};

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("lighttpd")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("lighttpd.conf");
    let own = directory.path().display();
    let log = to.on.log.map_or_else(String::new, |path| {
        format!(
            "server.modules += ( \"mod_accesslog\" )
accesslog.filename = \"{}\"
accesslog.format = \"{}\"
",
            path.display(),
            COMBINED.replace('"', "\\\"")
        )
    });
    let (ip, port) = (address.ip(), address.port());
    let (to_ip, to_port) = (to.upstream.ip(), to.upstream.port());
    let text = format!(
        "server.modules = ( \"mod_proxy\" )
server.document-root = \"{own}\"
{log}server.bind = \"{ip}\"
server.port = {port}
server.errorlog = \"{own}/error.log\"
server.upload-dirs = ( \"{own}\" )
server.max-worker = 0
server.max-fds = 24000
server.max-connections = 12000
server.listen-backlog = 4096
server.max-keep-alive-requests = 65535
server.max-keep-alive-idle = 300
server.max-read-idle = 300
server.max-write-idle = 360
proxy.server = ( \"\" => ( ( \"host\" => \"{to_ip}\", \"port\" => {to_port} ) ) )
"
    );
    fs::write(&path, text)?;

    let program = find_program("lighttpd").context("there is no lighttpd")?;
    let mut command = pinned(to.on.side, to.on.cpu, &program.to_string_lossy())?;
    command.arg("-D").arg("-f").arg(&path);
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}
