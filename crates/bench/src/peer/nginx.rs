//! nginx with one worker, which is its only process.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::{Place, START, Started};
use crate::harness::pinned::pinned;

pub(super) fn start(on: &Place<'_>, open_file_cache: bool) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-nginx-").tempdir()?;
    let address = free_address(on)?;
    let path = directory.path().join("nginx.conf");
    fs::write(&path, configuration(directory.path(), on.root, address, open_file_cache))?;

    let program = find_program("nginx").context("there is no nginx")?;
    let mut command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    command.arg("-p").arg(directory.path()).arg("-c").arg(&path);
    command.arg("-e").arg(directory.path().join("error.log"));
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// nginx cannot tell which port it got, so one is looked for.
fn free_address(on: &Place<'_>) -> Result<SocketAddr> {
    let free = || TcpListener::bind((on.side.address(), 0))?.local_addr();
    on.side.enter(free)?.context("no free port")
}

/// The settings that guides for static files agree on. `master_process off`: the process that
/// was started is the worker, pinned with it.
fn configuration(directory: &Path, root: &Path, address: SocketAddr, cached: bool) -> String {
    let (directory, root) = (directory.display(), root.display());
    let cache = if cached { "open_file_cache max=1000;" } else { "" };
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {directory}/pid;
events {{ worker_connections 20000; }}
http {{
    sendfile on;
    tcp_nopush on;
    tcp_nodelay on;
    access_log off;
    error_log {directory}/error.log;
    keepalive_timeout 300;
    keepalive_requests 1000000;
    {cache}
    default_type application/octet-stream;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    server {{
        listen {address} backlog=4096;
        root {root};
    }}
}}
"
    )
}
