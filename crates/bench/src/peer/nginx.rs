//! nginx with one worker, which is its only process.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::{Place, START, Started, free_address};
use crate::harness::pinned::pinned;

/// How nginx serves files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Opened for each request, and sent by `sendfile`.
    Sendfile,
    /// Kept open, and sent by `sendfile`.
    Cached,
    /// Opened for each request, read and sent by `writev`: nginx's own default.
    Copy,
    /// Kept open, read and sent by `writev`.
    CopyCached,
    /// As `Sendfile`, and each line of the log is written by itself.
    Line,
}

pub(super) fn start(on: &Place<'_>, form: Form) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-nginx-").tempdir()?;
    let address = free_address(on)?;
    let path = directory.path().join("nginx.conf");
    fs::write(&path, configuration(directory.path(), on, address, form))?;

    let program = find_program("nginx").context("there is no nginx")?;
    let mut command = pinned(on.side, on.cpu, &program.to_string_lossy())?;
    command.arg("-p").arg(directory.path()).arg("-c").arg(&path);
    command.arg("-e").arg(directory.path().join("error.log"));
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// The settings that guides for static files agree on. `master_process off`: the process that
/// was started is the worker, pinned with it. `output_buffers` are left as they are: two of
/// 32 KiB.
fn configuration(directory: &Path, on: &Place<'_>, address: SocketAddr, form: Form) -> String {
    let (directory, root) = (directory.display(), on.root.display());
    // As the documentation of `access_log` has it for busy sites: a buffer, and a bound in time.
    let buffer = if form == Form::Line { "" } else { "buffer=64k flush=1s" };
    let log = on
        .log
        .map_or_else(|| "off".to_owned(), |path| format!("{} combined {buffer}", path.display()));
    let is_copied = matches!(form, Form::Copy | Form::CopyCached);
    let sendfile = if is_copied { "off" } else { "on" };
    let is_kept = matches!(form, Form::Cached | Form::CopyCached);
    let cache = if is_kept { "open_file_cache max=1000;" } else { "" };
    format!(
        "daemon off;
master_process off;
worker_processes 1;
pid {directory}/pid;
events {{ worker_connections 20000; }}
http {{
    sendfile {sendfile};
    tcp_nopush on;
    tcp_nodelay on;
    access_log {log};
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;

    #[test]
    fn each_form_has_its_settings() {
        let of = |form| {
            let address = "127.0.0.1:80".parse().unwrap();
            configuration(Path::new("/d"), &place(None), address, form)
        };
        assert!(of(Form::Line).contains("access_log off;"));
        let address = "127.0.0.1:80".parse().unwrap();
        let logged = |form| configuration(Path::new("/d"), &place(Some("/l")), address, form);
        assert!(logged(Form::Line).contains("access_log /l combined ;"));
        assert!(logged(Form::Copy).contains("access_log /l combined buffer=64k flush=1s;"));
        assert!(of(Form::Copy).contains("sendfile off;"));
        assert!(of(Form::Sendfile).contains("sendfile on;"));
        assert!(!of(Form::Sendfile).contains("open_file_cache"));
        assert!(of(Form::Cached).contains("open_file_cache"));
        assert!(of(Form::CopyCached).contains("open_file_cache"));
        assert!(of(Form::CopyCached).contains("sendfile off;"));
    }
}
