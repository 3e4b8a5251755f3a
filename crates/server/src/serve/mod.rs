//! Workers around a handler, from the first connection to the last.

mod balance;
mod shutdown;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use sluicegate::os::{Signal, Signals, raise_descriptors};
use sluicegate::{SendContext, SocketLimits, Strategy, Unsent, WayBytes};
use sluicegate_http::Handler;

use self::balance::Balance;
use self::shutdown::Shutdown;
use crate::config::AccessLog;
use crate::log::tell;

/// Where to listen, and with how many threads.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Addresses to listen on.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Threads that serve connections.
    pub(crate) workers: usize,
    /// How ways to send are chosen.
    pub(crate) strategy: Strategy,
    /// Where a line for each request goes, if anywhere.
    #[allow(dead_code)] // Until the log is written.
    pub(crate) access_log: Option<AccessLog>,
}

/// Serves until SIGTERM or SIGINT, then lets the open connections finish. A
/// second signal ends at once. Returns the bytes that were sent.
///
/// `subject` is what is served, for people; `handler` makes each worker's own.
///
/// # Errors
/// What keeps it from starting: an address in use, a limit.
pub(crate) fn run<H, F>(plan: &Plan, subject: &str, handler: F) -> Result<WayBytes>
where
    H: Handler + 'static,
    F: Fn() -> io::Result<H> + Send + Clone + 'static,
{
    // Before any thread is started: all of them inherit the mask.
    let signals = Signals::listen(&[Signal::Terminate, Signal::Interrupt])
        .context("cannot listen for signals")?;
    // More connections than descriptors is a matter for the accept loop.
    let _ = raise_descriptors();
    let listeners =
        plan.addresses.iter().map(|&address| open(address)).collect::<Result<Vec<_>>>()?;
    let shutdown = Arc::new(Shutdown::default());
    let strategy = plan.strategy.clone();
    let context = Arc::new(SendContext { strategy, ..SendContext::default() });
    let balance = Balance::new(plan.workers);
    let mut threads = Vec::new();
    for number in 0..plan.workers {
        let worker = worker::Start {
            number,
            balance: Arc::clone(&balance),
            listeners: listeners.clone(),
            shutdown: Arc::clone(&shutdown),
            context: Arc::clone(&context),
            handler: handler.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("worker-{number}"))
            .spawn(move || {
                // Without its workers the program would only seem to serve.
                let ended = catch_unwind(AssertUnwindSafe(|| worker.run()));
                match ended {
                    Ok(Ok(())) => {}
                    Ok(Err(error)) => {
                        tell(format_args!("worker {number} failed: {error}"));
                        std::process::exit(1);
                    }
                    // The panic hook has told of it.
                    Err(_) => std::process::exit(1),
                }
            })
            .context("cannot start a worker")?;
        threads.push(thread);
    }
    announce(&listeners, subject, plan.workers)?;
    wait(&signals)?;
    tell(format_args!("finishing open connections (a second signal ends at once)"));
    shutdown.begin();
    // The workers hold views of their own; without this one the sockets close
    // when the last of them has emptied its queue.
    drop(listeners);
    let second = std::thread::Builder::new().name("signals".into()).spawn(move || {
        if wait(&signals).is_ok() {
            std::process::exit(130);
        }
    });
    drop(second);
    for thread in threads {
        if thread.join().is_err() {
            bail!("a worker panicked");
        }
    }
    Ok(context.counters.ways())
}

/// What a connection may hold of the kernel from the start.
///
/// Unsent bytes: as a slow client; a fast one gets more once it has shown that
/// it is (`SendContext::unsent`). Time: the send timeout (`Limits::send`) gives
/// a client up that acknowledges nothing while it is served; this is for what
/// is left behind when its connection was closed with bytes under way.
fn at_first() -> SocketLimits {
    SocketLimits {
        unsent: Some(Unsent::default().slow),
        send_buffer: None,
        unacknowledged: Some(Duration::from_secs(120)),
    }
}

fn open(address: SocketAddr) -> Result<Arc<OwnedFd>> {
    let listener = sluicegate::listen(address).and_then(|listener| {
        // Its connections inherit them.
        at_first().apply(listener.as_fd()).map(|()| listener)
    });
    listener.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => "; another program has it, --listen takes another",
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE or root"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this host has that address",
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}{hint}")
    })
}

fn announce(listeners: &[Arc<OwnedFd>], subject: &str, workers: usize) -> Result<()> {
    use std::io::Write;
    let mut out = io::stdout().lock();
    for listener in listeners {
        let address = sluicegate::os::local_address(listener)
            .ok()
            .flatten()
            .context("cannot tell the address listened on")?;
        let threads = if workers == 1 { "1 worker" } else { &format!("{workers} workers") };
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "Serving {subject} on http://{address} ({threads})");
    }
    let _ = out.flush();
    Ok(())
}

/// Waits for a signal on an otherwise idle thread.
fn wait(signals: &Signals) -> Result<Signal> {
    loop {
        signals.wait().context("cannot wait for signals")?;
        if let Some(signal) = signals.next().context("cannot read signals")? {
            return Ok(signal);
        }
    }
}
