//! The floor of pools.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};

use crate::floor::relay::Relay;
use crate::peer::{Place, Started, floor};

/// So many pools of two servers, which it tells apart by the number in Host.
pub(super) fn start_pools(on: &Place<'_>, pools: &[[SocketAddr; 2]]) -> Result<Started> {
    let first = pools.first().context("no pool")?[0];
    let directory = tempfile::Builder::new().prefix("bench-pools-").tempdir()?;
    let servers = directory.path().join("servers");
    let lines: String = pools.iter().flatten().map(|server| format!("{server}\n")).collect();
    fs::write(&servers, lines)?;
    let mut arguments = Relay::Messages.arguments(first, directory.path());
    arguments.extend(["--servers".to_owned(), servers.to_string_lossy().into_owned()]);
    let (child, address, _) = floor::launch(on, &arguments)?;
    Ok((child, address, Some(directory)))
}
