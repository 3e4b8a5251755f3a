//! Caddy's reverse proxy.

use anyhow::Result;

use super::To;
use crate::peer::caddy::{GLOBAL, log, started};
use crate::peer::{Started, free_address};

pub(super) fn start(to: &To<'_>) -> Result<Started> {
    let directory = to.directory("caddy")?;
    let address = free_address(to.on)?;
    let (ip, upstream) = (address.ip(), to.upstream);
    // It keeps 32 idle connections unless it is told otherwise.
    let text = format!(
        "{GLOBAL}http://:{port} {{
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
        log = log(to.on),
    );
    started(to.on, directory, address, &text)
}
