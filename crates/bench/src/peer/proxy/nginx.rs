//! nginx as a reverse proxy, with one worker, which is its only process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};
use tempfile::TempDir;

use super::{Buffering, To};
use crate::harness::pinned::pinned;
use crate::peer::{Place, START, Started, free_address};

/// What the small partition holds.
const SMALL_PARTITION: &str = "64m";

pub(super) fn start(to: &To<'_>, buffering: Buffering) -> Result<Started> {
    let directory = to.directory("nginx")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("nginx.conf");
    fs::write(&path, configuration(directory.path(), to, address, buffering))?;

    let program = find_program("nginx").context("there is no nginx")?;
    let program = program.to_string_lossy();
    let command = if buffering == Buffering::SmallPartition {
        // In a mount namespace of its own, so that nothing is left of it whatever happens.
        let temp = directory.path().join("proxy");
        fs::create_dir(&temp)?;
        let unshare = find_program("unshare").context("there is no unshare")?;
        let mut command = pinned(to.on.side, to.on.cpu, &unshare.to_string_lossy())?;
        let mount = format!(
            "mount -t tmpfs -o size={SMALL_PARTITION} bench {} && exec \"$@\"",
            temp.display()
        );
        command.args(["--mount", "--", "sh", "-c", &mount, "sh", &program]);
        command
    } else {
        pinned(to.on.side, to.on.cpu, &program)?
    };
    launch(to.on, command, &path, address, directory)
}

/// Buffers are left as they are, eight of 4 KiB, but where large units are asked for.
fn configuration(
    directory: &Path,
    to: &To<'_>,
    address: SocketAddr,
    buffering: Buffering,
) -> String {
    let log = to.on.log.map_or_else(
        || "off".to_owned(),
        |path| format!("{} combined buffer=64k flush=1s", path.display()),
    );
    let held = match buffering {
        Buffering::Default | Buffering::SmallPartition => "",
        Buffering::Off => "proxy_buffering off;",
        Buffering::NoTempFile => "proxy_max_temp_file_size 0;",
        Buffering::LargeUnits => "proxy_buffer_size 100k; proxy_buffers 8 100k;",
    };
    let sites = pool("up", &[to.upstream]) + &site(&listen(address), "", "up", held);
    document(directory, &log, &sites)
}

/// So many pools of two servers, each with a host of its own.
pub(super) fn start_pools(
    on: &Place<'_>,
    pools: &[[SocketAddr; 2]],
    host: impl Fn(u32) -> String,
) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("bench-nginx-pools-").tempdir()?;
    let address = free_address(on)?;
    // Names go into a table that is made for fewer, unless it is told.
    let mut sites = "    server_names_hash_max_size 8192;\n".to_owned();
    for (number, servers) in (0..).zip(pools) {
        let name = format!("p{number}");
        sites += &pool(&name, servers);
        // An address's options are said once.
        let at = if number == 0 { listen(address) } else { address.to_string() };
        sites += &site(&at, &format!("server_name {};", host(number)), &name, "");
    }
    let path = directory.path().join("nginx.conf");
    fs::write(&path, document(directory.path(), "off", &sites))?;
    let program = find_program("nginx").context("there is no nginx")?;
    let command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    launch(on, command, &path, address, directory)
}

fn launch(
    on: &Place<'_>,
    mut command: Command,
    path: &Path,
    address: SocketAddr,
    directory: TempDir,
) -> Result<Started> {
    command.arg("-p").arg(directory.path()).arg("-c").arg(path);
    command.arg("-e").arg(directory.path().join("error.log"));
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// `master_process off`: the process that was started is the worker, pinned with it.
fn document(directory: &Path, log: &str, sites: &str) -> String {
    let directory = directory.display();
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
    access_log {log};
    error_log {directory}/error.log;
    keepalive_timeout 300;
    keepalive_requests 100000000;
    send_timeout 300;
    client_body_temp_path {directory}/body;
    proxy_temp_path {directory}/proxy;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
{sites}}}
"
    )
}

fn pool(name: &str, servers: &[SocketAddr]) -> String {
    let servers: String =
        servers.iter().map(|server| format!("        server {server} max_fails=0;\n")).collect();
    format!(
        "    upstream {name} {{
{servers}        keepalive 1024;
        keepalive_requests 100000000;
        keepalive_timeout 300;
    }}
"
    )
}

fn listen(address: SocketAddr) -> String {
    format!("{address} backlog=4096")
}

/// `more` and `held`: whole directives.
fn site(listen: &str, more: &str, pool: &str, held: &str) -> String {
    format!(
        "    server {{
        listen {listen};
        {more}
        location / {{
            proxy_pass http://{pool};
            proxy_http_version 1.1;
            proxy_set_header Connection \"\";
            proxy_set_header Host $http_host;
            proxy_set_header X-Forwarded-For $remote_addr;
            proxy_set_header X-Forwarded-Host $http_host;
            proxy_set_header X-Forwarded-Proto $scheme;
            proxy_read_timeout 300;
            {held}
        }}
    }}
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;

    #[test]
    fn each_form_says_how_it_buffers_and_all_keep_connections() {
        let address = "127.0.0.1:80".parse().unwrap();
        let place = place(None);
        let to = To { on: &place, upstream: address, spool: Path::new("/s") };
        let of = |buffering| configuration(Path::new("/d"), &to, address, buffering);
        assert!(!of(Buffering::Default).contains("max_temp_file_size"));
        assert!(of(Buffering::Off).contains("proxy_buffering off;"));
        assert!(of(Buffering::NoTempFile).contains("proxy_max_temp_file_size 0;"));
        for buffering in [Buffering::Default, Buffering::Off, Buffering::NoTempFile] {
            assert!(of(buffering).contains("keepalive 1024;"));
        }
    }
}
