//! lighttpd's mod_proxy. It keeps no connections to upstreams.

use std::fs;

use anyhow::Result;

use super::To;
use crate::peer::lighttpd::{common, started};
use crate::peer::{Started, free_address};

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("lighttpd")?;
    let address = free_address(to.on)?;
    let (own, upstream) = (directory.path().display(), to.upstream);
    let (ip, port) = (upstream.ip(), upstream.port());
    let text = format!(
        "server.modules = ( \"mod_proxy\" )
server.document-root = \"{own}\"
{}proxy.server = ( \"\" => ( ( \"host\" => \"{ip}\", \"port\" => {port} ) ) )
",
        common(directory.path(), address, to.on.log)
    );
    fs::write(directory.path().join("lighttpd.conf"), text)?;
    started(to.on, directory, address)
}
