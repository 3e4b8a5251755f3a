//! Apache's mod_proxy with the event module: one process, whose threads share the core.

use std::fs;

use anyhow::Result;

use super::To;
use crate::peer::apache::{common, started};
use crate::peer::{Started, free_address};

const LOADED: [&str; 4] = ["mpm_event", "authz_core", "proxy", "proxy_http"];

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("apache")?;
    let address = free_address(to.on)?;
    let (common, upstream) = (common(directory.path(), &LOADED, address, to.on.log), to.upstream);
    let text = format!(
        "{common}
ProxyPreserveHost On
ProxyPass / http://{upstream}/ keepalive=On ttl=300
"
    );
    fs::write(directory.path().join("apache.conf"), text)?;
    started(to.on, directory, address)
}
