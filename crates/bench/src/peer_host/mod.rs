//! The client's side of an experiment as a process of its own, also on another host:
//! `sluicegate-bench peer --listen ADDR` there, `figure2 --peer HOST` or `figure3 --peer HOST`
//! here.
//!
//! Servers are started here, as always on core 0. The peer connects to them, downloads, checks
//! every answer, and tells how long it took; so Figures 2 and 3 can be made over any network
//! whose hosts can reach each other (the peer's port from here, any port of here from there).
//! Over loopback, a veth and the other wires of the lab the harness starts a peer itself: there is
//! one way to measure.
//!
//! - [`protocol`]: what is said, and within which bounds.
//! - [`receiver`]: what a peer does.
//! - [`control`]: the harness's end.

mod control;
mod protocol;
mod receiver;

use std::fs;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use clap::Args;

use self::protocol::{GREETING, Lines, Order, Word, shortened};
use self::receiver::Receiver;
use crate::harness::interrupt;
use crate::harness::machine::Machine;

pub(crate) use self::control::Control;
pub(crate) use self::protocol::{Download, Downloaded, Hello};

/// How long somebody who connects may take to say who he is.
const INTRODUCTION: Duration = Duration::from_secs(5);

/// What a peer says first; its address follows.
const LISTENING: &str = "a peer listens on ";

/// The address in the line in which a peer tells where it listens.
pub(crate) fn announced(line: &str) -> Option<SocketAddr> {
    line.strip_prefix(LISTENING)?.split(',').next()?.parse().ok()
}

/// How long a harness may be busy with something else.
const PAUSE: Duration = Duration::from_secs(600);

/// Connections that have not said who they are.
const STRANGERS: usize = 8;

/// The client's side of figure2 and figure3, on another host.
///
/// Waits for a `sluicegate-bench figure2 --peer HOST[:PORT]` or `figure3 --peer …` on the host
/// with the servers, downloads from that host what it is told to, checks every answer, and reports
/// times. It serves one harness at a time, connects to nobody but the host that gives the order,
/// writes no file, and goes on until it is ended.
#[derive(Debug, Args)]
pub(crate) struct PeerHost {
    /// Where to wait for the harness, such as 192.0.2.7:7363. Whoever reaches it can have this
    /// host download from his own: choose an address of a trusted network.
    #[arg(long, value_name = "ADDR")]
    listen: SocketAddr,
    /// The core to receive on; without it the last one that this process may use.
    #[arg(long)]
    cpu: Option<usize>,
}

impl PeerHost {
    /// Serves until it is ended.
    pub(crate) fn run(&self) -> Result<()> {
        let allowed = sluicegate_sys::affinity::allowed()?;
        let cpu = self.cpu.or(allowed.last().copied()).context("no core to run on")?;
        let listener = TcpListener::bind(self.listen)
            .with_context(|| format!("cannot listen on {}", self.listen))?;
        listener.set_nonblocking(true)?;
        println!("{LISTENING}{}, core {cpu}", listener.local_addr()?);
        let (strangers, harnesses) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        loop {
            interrupt::check()?;
            let Ok((stream, from)) = listener.accept() else {
                thread::sleep(Duration::from_millis(20));
                continue;
            };
            let Some(stranger) = Place::take(&strangers, STRANGERS) else { continue };
            let harnesses = Arc::clone(&harnesses);
            thread::spawn(move || {
                let result = serve(stream, from, cpu, stranger, &harnesses);
                if let Err(error) = result {
                    eprintln!("{from}: {error:#}");
                }
            });
        }
    }
}

/// One of a number of places; it is free again when this is dropped.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(taken: &Arc<AtomicUsize>, limit: usize) -> Option<Self> {
        let place = Self(Arc::clone(taken));
        (taken.fetch_add(1, Ordering::Relaxed) < limit).then_some(place)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One conversation. What goes wrong is told to the other side, which may be gone.
fn serve(
    stream: TcpStream,
    from: SocketAddr,
    cpu: usize,
    stranger: Place,
    harnesses: &Arc<AtomicUsize>,
) -> Result<()> {
    stream.set_nonblocking(false)?;
    let mut lines = Lines::new(stream)?;
    let result = converse(&mut lines, from, cpu, stranger, harnesses);
    if let Err(error) = &result {
        let _ = lines.say(&Word::Failed(format!("{error:#}")));
    }
    result
}

fn converse(
    lines: &mut Lines,
    from: SocketAddr,
    cpu: usize,
    stranger: Place,
    harnesses: &Arc<AtomicUsize>,
) -> Result<()> {
    let Some(greeting) = lines.read(INTRODUCTION)? else { return Ok(()) };
    ensure!(
        greeting == GREETING,
        "this is a peer of sluicegate-bench, which is greeted with {GREETING:?} and not with {}",
        shortened(&greeting)
    );
    drop(stranger);
    let Some(_place) = Place::take(harnesses, 1) else {
        bail!("this peer is busy with another harness")
    };
    // Looked at before this thread has one core alone.
    let hello = hello(cpu);
    sluicegate_sys::affinity::pin_to(cpu).with_context(|| format!("cannot run on core {cpu}"))?;
    lines.say(&Word::Hello(hello))?;
    eprintln!("{from}: a harness");
    loop {
        match lines.hear(PAUSE)? {
            None => return Ok(()),
            Some(Order::Download(order)) => {
                ensure_same_host(order.address, from)?;
                let mut receiver = Receiver::prepare(&order)?;
                lines.say(&Word::Ready)?;
                match lines.hear(PAUSE)? {
                    None => return Ok(()),
                    Some(Order::Go) => {}
                    Some(other) => bail!("expected \"go\", heard {other:?}"),
                }
                let done = receiver.run(&order)?;
                lines.say(&Word::Done(done))?;
            }
            Some(Order::Stall(order)) => {
                ensure_same_host(order.address, from)?;
                receiver::stall(&order)?;
                lines.say(&Word::Stalled)?;
            }
            Some(Order::Go) => bail!("\"go\" without a download"),
        }
    }
}

/// A peer is nobody's tool against third hosts.
fn ensure_same_host(address: SocketAddr, from: SocketAddr) -> Result<()> {
    ensure!(
        address.ip().to_canonical() == from.ip().to_canonical(),
        "the server {address} is not on the host that gives the order, {}",
        from.ip()
    );
    Ok(())
}

fn hello(cpu: usize) -> Hello {
    let machine = Machine::look();
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    Hello {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        kernel: machine.kernel,
        processor: machine.processor,
        cores: machine.cores,
        boot: boot.trim().to_owned(),
        cpu,
    }
}
