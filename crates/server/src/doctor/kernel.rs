//! The kernel, and system calls that are not everywhere.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, TcpListener};
use std::os::fd::AsFd;
use std::path::Path;

use sluicegate::Reactor;
use sluicegate::file::{Links, Root};
use sluicegate::os::probe::{
    Epoll, Interest, MappedMemfd, Wake, add_tls, cachestat, io_uring, page_size,
};

use super::check::{Check, Topic, Verdict};
use super::pair::Pair;
use super::text;

pub(super) fn checks() -> Vec<Check> {
    vec![
        release(),
        event_loop(),
        shared_listener(),
        listening(),
        resolving(),
        residency(),
        ktls(),
        uring(),
        migration(),
    ]
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Kernel, name, title, why)
}

fn release() -> Check {
    let check = check(
        "kernel.release",
        "release",
        "What a kernel allows is tried and not taken from its number; this is for whoever reads \
         the report elsewhere.",
    );
    let machine = std::env::consts::ARCH;
    match text::setting("kernel.osrelease") {
        Ok(release) => check
            .found(Verdict::Information, format!("Linux {release} on {machine}"))
            .figure("release", release),
        Err(error) => check
            .found(Verdict::NotKnown, format!("`/proc` does not tell: {error}"))
            .change("Mount `/proc`; without it, links that leave a directory are refused."),
    }
    .figure("machine", machine)
}

fn event_loop() -> Check {
    let check = check(
        "kernel.event_loop",
        "event loop",
        "Every worker waits for its connections in an epoll set, and is woken by an event \
         descriptor.",
    )
    .required();
    match Reactor::new() {
        Ok(_) => check.found(Verdict::Good, "epoll and eventfd work"),
        Err(error) => check.refused(&error, "epoll_create1", "2.6.27"),
    }
}

fn shared_listener() -> Check {
    let check = check(
        "kernel.epoll_exclusive",
        "listeners of several workers",
        "All workers wait at the same listeners; EPOLLEXCLUSIVE lets a connection wake one of \
         them, and not all.",
    )
    .required();
    let tried = || {
        let (epoll, event) = (Epoll::new()?, Wake::new()?);
        epoll.add(event.as_fd(), 0, Interest::SharedListener)
    };
    match tried() {
        Ok(()) => check.found(Verdict::Good, "EPOLLEXCLUSIVE works"),
        Err(error) => check.refused(&error, "epoll_ctl", "4.5"),
    }
}

fn listening() -> Check {
    let check = check("kernel.listening", "TCP sockets", "Without them there is nobody to serve.")
        .required();
    let families = [
        ("IPv4", "ipv4", TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map(drop)),
        ("IPv6", "ipv6", TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).map(drop)),
    ];
    let mut works = Vec::new();
    let mut check = check;
    for (words, name, result) in &families {
        check = check.figure(name, result.is_ok());
        if result.is_ok() {
            works.push(*words);
        }
    }
    if !works.is_empty() {
        return match accepts() {
            Ok(()) => check.found(Verdict::Good, works.join(" and ")),
            Err(error) => check.refused(&error, "accept4", "2.6.28"),
        };
    }
    match &families[0].2 {
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => check.not_tried(error),
        Err(error) => check.refused(error, "socket", "2.6.27"),
        Ok(()) => check,
    }
}

/// Whether connections may be taken; none comes.
fn accepts() -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .or_else(|_| TcpListener::bind((Ipv6Addr::LOCALHOST, 0)))?;
    if listener.set_nonblocking(true).is_err() {
        // It would wait for somebody.
        return Ok(());
    }
    match listener.accept() {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error),
        _ => Ok(()),
    }
}

fn resolving() -> Check {
    let check = check(
        "kernel.openat2",
        "resolving beneath a directory",
        "openat2 with RESOLVE_BENEATH lets the kernel see to it that no name leads out of the \
         directory that is served. Without it Sluicegate opens names part by part, which costs a \
         call for each, and follows no symbolic link.",
    );
    let tried = Root::open(Path::new("/"), Links::Inside).and_then(|root| root.try_resolve());
    match tried {
        Ok(()) => check.found(Verdict::Good, "openat2 works"),
        Err(error) => check.refused(&error, "openat2", "5.6"),
    }
}

fn residency() -> Check {
    let check = check(
        "kernel.cachestat",
        "what is in the page cache",
        "cachestat tells whether a part of a file is in memory, so that a worker need not find \
         out by waiting for the disk in the middle of `sendfile`.",
    );
    let tried = || -> io::Result<u64> {
        let mut memory = MappedMemfd::new(page_size())?;
        memory.as_mut().fill(1);
        Ok(cachestat(memory.as_fd(), 0, 0)?.cached)
    };
    match tried() {
        Ok(0) => check.found(Verdict::NotKnown, "it counts no page of memory that was written"),
        Ok(_) => check.found(Verdict::Good, "cachestat works"),
        Err(error) => check.refused(&error, "cachestat", "6.5"),
    }
}

fn ktls() -> Check {
    let check = check(
        "kernel.ktls",
        "TLS in the kernel",
        "Files can be sent by `sendfile` over TLS only where the kernel does the encryption. Plain \
         HTTP does not need it.",
    );
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    match add_tls(pair.ours.as_fd()) {
        Ok(()) => check.found(Verdict::Good, "a connection takes TCP_ULP \"tls\""),
        Err(error) if error.kind() == ErrorKind::NotFound => check
            .found(Verdict::Missing, "the kernel knows no TCP_ULP \"tls\" (ENOENT)")
            .change(
                "Load the module, if this kernel was built with one (CONFIG_TLS=m); the second \
                 line does so at every boot:",
            )
            .command("modprobe tls\necho tls > /etc/modules-load.d/tls.conf"),
        Err(error) => check.refused(&error, "setsockopt", "4.13"),
    }
}

fn uring() -> Check {
    let check = check(
        "kernel.io_uring",
        "io_uring",
        "Sluicegate does not use it; other servers of this machine may.",
    );
    match io_uring::try_setup() {
        Ok(()) => check.found(Verdict::Information, "permitted").figure("permitted", true),
        Err(error) => check
            .found(Verdict::Information, format!("not permitted: {error}"))
            .figure("permitted", false),
    }
}

fn migration() -> Check {
    let check = check(
        "kernel.tcp_migrate_req",
        "moving waiting connections",
        "Where several sockets listen on one port (SO_REUSEPORT), closing one resets the \
         connections that wait at it, unless net.ipv4.tcp_migrate_req is 1. Sluicegate's workers \
         share one socket that is never closed on reload, so it needs this only beside another \
         program on the same port.",
    );
    match text::number("net.ipv4.tcp_migrate_req") {
        Ok(value) => check
            .found(Verdict::Information, if value == 0 { "off" } else { "on" })
            .figure("value", value)
            .change("Only for servers that use SO_REUSEPORT:")
            .command("sysctl -w net.ipv4.tcp_migrate_req=1"),
        Err(error) => {
            check.found(Verdict::Information, format!("this kernel has no such setting ({error})"))
        }
    }
}
