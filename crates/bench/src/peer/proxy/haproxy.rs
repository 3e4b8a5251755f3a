//! HAProxy with one thread.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context, Result};
use sluicegate_testkit::process::{Child, find_program};

use super::{Splicing, To};
use crate::harness::pinned::pinned;
use crate::peer::{START, Started, free_address};

pub(super) fn start(to: &To<'_>, splicing: Splicing) -> Result<Started> {
    let directory = to.directory("haproxy")?;
    let address = free_address(to.on)?;
    let path = directory.path().join("haproxy.cfg");
    fs::write(&path, configuration(to, address, splicing))?;

    let program = find_program("haproxy").context("there is no haproxy")?;
    let program = program.to_string_lossy();
    let mut command = match to.on.log {
        None => pinned(to.on.side, to.on.cpu, &program)?,
        // It knows no files.
        Some(log) => {
            let mut command = pinned(to.on.side, to.on.cpu, "/bin/sh")?;
            let append = format!("exec \"$@\" >>{}", log.display());
            command.args(["-c", &append, "sh", &program]);
            command
        }
    };
    command.args(["-db", "-f"]).arg(&path);
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// The defaults, but for idle connections to the server, which any client may use again.
fn configuration(to: &To<'_>, address: SocketAddr, splicing: Splicing) -> String {
    let upstream = to.upstream;
    let splice = match splicing {
        Splicing::No => "",
        Splicing::Auto => "    option splice-auto\n",
        Splicing::Always => "    option splice-response\n",
    };
    let log = if to.on.log.is_some() {
        "    log stdout format raw daemon
    http-request capture req.hdr(User-Agent) len 128
    log-format \"%ci - - [%T] \\\"%[capture.req.method] %[capture.req.uri] %[capture.req.ver]\\\" \
         %ST %B \\\"-\\\" \\\"%[capture.req.hdr(0)]\\\"\"
"
    } else {
        ""
    };
    format!(
        "global
    maxconn 4000
    nbthread 1
defaults
    mode http
    timeout connect 10s
    timeout client 300s
    timeout server 300s
    timeout http-keep-alive 300s
    http-reuse always
    option forwardfor
    option dontlognull
{splice}frontend front
    bind {address} backlog 4096
{log}    http-request set-header X-Forwarded-Host %[req.hdr(Host)]
    http-request set-header X-Forwarded-Proto http
    default_backend back
backend back
    server up {upstream} pool-max-conn -1
"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::peer::tests::place;
    use std::path::Path;

    #[test]
    fn it_splices_and_logs_where_it_is_told_to() {
        let address = "127.0.0.1:80".parse().unwrap();
        let of = |log, splicing| {
            let place = place(log);
            let to = To { on: &place, upstream: address, spool: Path::new("/s") };
            configuration(&to, address, splicing)
        };
        assert!(of(None, Splicing::Auto).contains("option splice-auto"));
        assert!(of(None, Splicing::Always).contains("option splice-response"));
        let copies = of(None, Splicing::No);
        assert!(!copies.contains("splice") && !copies.contains("log stdout"));
        assert!(of(Some("/l"), Splicing::No).contains("log stdout format raw"));
    }
}
