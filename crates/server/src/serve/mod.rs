//! Workers around a subject, from the first connection to the last.
//!
//! `run` binds, drops privileges, starts the workers and becomes the thread
//! that signals are obeyed on (`control`): a reload makes a new `generation`,
//! an `upgrade` another process, and both leave every open listener open.

mod balance;
mod bound;
mod control;
mod generation;
mod inherit;
mod introduced;
mod notify;
mod privileges;
mod reserve;
mod shutdown;
mod state;
mod upgrade;
mod worker;

use std::any::Any;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use sluicegate::os::{Signal, Signals, ignore_file_size, raise_descriptors};
use sluicegate::{LocalityRule, Reactor, SendContext, Strategy};
use sluicegate_http::{Handler, Limits};

use self::balance::Balance;
use self::bound::{Bound, Situation, open, open_all};
use self::control::{Control, End, status};
use self::generation::Newest;
use self::inherit::{For, Inherited};
use self::notify::Notify;
use self::reserve::Reserve;
pub(crate) use self::shutdown::Shutdown;
use self::upgrade::Program;
use self::worker::Common;
use crate::config::{AccessLog, LogTo};
use crate::log::tell;
use crate::observe::Stats;

pub(crate) use self::privileges::owner;
pub(crate) use self::state::State;

/// How long open connections may take to finish after SIGTERM, unless a
/// configuration says otherwise. Shorter than the 90 s after which systemd kills.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

/// So many addresses are named at the start, and at a reload.
const NAMED: usize = 16;

/// Where to listen, with how many threads, and within which bounds.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Addresses to listen on.
    pub(crate) addresses: Vec<SocketAddr>,
    /// Nobody has named them: where a service manager has opened others, those
    /// are served in their place.
    pub(crate) is_default_address: bool,
    /// Threads that serve connections.
    pub(crate) workers: usize,
    /// How ways to send are chosen.
    pub(crate) strategy: Strategy,
    /// What is known of peers beforehand.
    pub(crate) locality: LocalityRule,
    /// What a connection may cost.
    pub(crate) limits: Limits,
    /// How long open connections may take to finish at the end.
    pub(crate) drain: Duration,
    /// Who the process is after it has bound its addresses.
    pub(crate) user: Option<String>,
    /// Where operators look.
    pub(crate) admin: Option<SocketAddr>,
    /// Where a line for each request goes, if anywhere.
    pub(crate) access_log: Option<AccessLog>,
    /// Bytes that all spools together may hold in memory.
    pub(crate) spool_budget: u64,
}

impl Plan {
    /// Counts of workers and sockets as this plan wants them.
    pub(crate) fn stats(&self) -> Arc<Stats> {
        let (strategy, locality) = (self.strategy.clone(), self.locality.clone());
        let context = SendContext { strategy, locality, ..SendContext::default() };
        Stats::new(self.workers, Arc::new(context))
    }

    /// What `new` wants otherwise, and this process cannot change any more.
    fn differences(&self, new: &Plan) -> Vec<&'static str> {
        let all = [
            ("`workers`", self.workers != new.workers),
            ("`user`", self.user != new.user),
            ("`admin`", self.admin != new.admin),
            ("`memory_budget` of `[spool]`", self.spool_budget != new.spool_budget),
            ("`send`", self.strategy != new.strategy || self.locality != new.locality),
        ];
        all.into_iter().filter_map(|(name, differs)| differs.then_some(name)).collect()
    }

    /// Takes from `new` what this process can change.
    fn take_over(&mut self, new: Plan) {
        self.addresses = new.addresses;
        self.limits = new.limits;
        self.drain = new.drain;
    }
}

/// Something that is served.
pub(crate) trait Subject: Send + Sync + 'static {
    /// What one worker answers with.
    type Handler: Handler + 'static;

    /// What it is, for people.
    fn name(&self) -> String;

    /// The handler of a worker, in place of the one that it had before a
    /// reload; called on its thread.
    ///
    /// # Errors
    /// What the host is short of. At the start it ends the program; on a
    /// reload the worker's old handler goes on, and it is tried again.
    fn worker(
        &self,
        number: usize,
        stats: &Arc<Stats>,
        reactor: &Reactor,
        before: Option<&Self::Handler>,
    ) -> io::Result<Self::Handler>;

    /// Whether handlers are to know at which of a wildcard listener's
    /// addresses a client has come in: one more system call for a connection.
    fn needs_local(&self) -> bool {
        false
    }

    /// Networks whose connections begin by telling whose they are (the PROXY
    /// protocol).
    fn introducers(&self) -> &[IpNet] {
        &[]
    }

    /// It is what is served from now on: the plan that came with it has been
    /// carried out.
    fn begin(&self) {}

    /// Opens log files by their names again, since somebody has moved them.
    ///
    /// # Errors
    /// What keeps one from being opened; it goes on being written then.
    fn reopen_logs(&self) -> Result<()> {
        Ok(())
    }

    /// Another process is about to go on: what it is to find in files is
    /// written before.
    fn flush(&self) {}

    /// The last answer is out. Returns what is told of the work.
    fn finish(&self) -> Option<String> {
        None
    }
}

/// Reads everything anew: what is to be served from now on in place of what
/// was before, and how.
pub(crate) type Reload<S> = Box<dyn FnMut(&Arc<S>) -> Result<(Arc<S>, Plan)>>;

/// Opens what is served. Called once the process is who it is to be, so that
/// what a reload could not open is told at the start.
pub(crate) type Open<S> = Box<dyn FnOnce() -> Result<Arc<S>>>;

/// Starts what operators look at, on its own listener and thread; it ends when
/// the result is dropped.
pub(crate) type Admin<S> =
    Box<dyn FnOnce(Arc<OwnedFd>, &Arc<S>, &Arc<State>) -> Result<Box<dyn Any>>>;

/// What is made before any thread.
#[derive(Debug)]
pub(crate) struct Prepared {
    program: Program,
    signals: Signals,
}

/// Call it first: every thread is to inherit the mask of signals, and the
/// program's own file may be another one later. With `reloads`, SIGHUP has the
/// configuration read again; without, it ends the program, as closing a
/// terminal should.
///
/// # Errors
/// What keeps signals from being listened for.
pub(crate) fn prepare(reloads: bool) -> Result<Prepared> {
    let mut signals = vec![Signal::Terminate, Signal::Interrupt, Signal::User1, Signal::User2];
    signals.extend(reloads.then_some(Signal::Hangup));
    let signals = Signals::listen(&signals).context("cannot listen for signals")?;
    // What a limit keeps from being written is handled as what a full disk does.
    ignore_file_size().context("cannot ignore a signal")?;
    Ok(Prepared { program: Program::at_start(), signals })
}

/// What is run.
pub(crate) struct Start<S> {
    pub(crate) prepared: Prepared,
    pub(crate) plan: Plan,
    pub(crate) open: Open<S>,
    pub(crate) stats: Arc<Stats>,
    /// Called on SIGHUP.
    pub(crate) reload: Option<Reload<S>>,
    /// Called if the plan has an address for it.
    pub(crate) admin: Option<Admin<S>>,
}

/// Serves until SIGTERM or SIGINT, or until another process goes on after an
/// upgrade (SIGUSR2); then lets the open connections finish. A second signal
/// ends at once.
///
/// # Errors
/// What keeps it from starting: an address in use, a limit, an unknown user, or
/// what that user cannot open.
pub(crate) fn run<S: Subject>(start: Start<S>) -> Result<()> {
    let Start { prepared, mut plan, open: open_subject, stats, reload, admin } = start;
    let Prepared { program, signals } = prepared;
    // More connections than descriptors is a matter for the accept loop.
    let _ = raise_descriptors();
    let notify = Notify::from_environment();
    let mut inherited = Inherited::from_environment();
    let has_become_user = plan.user.is_some() && inherited.is_successor();
    let mut situation = Situation { admin: None, has_become_user };
    let admin_bound = match plan.admin {
        Some(address) => Some(Arc::new(open(address, For::Admin, &[], &mut inherited, situation)?)),
        None => None,
    };
    // What operators look at may have taken the only one.
    if plan.is_default_address && inherited.is_activated() {
        plan.addresses.clear();
    }
    situation.admin = admin_bound.as_ref();
    let bound = open_all(&plan.addresses, &[], &mut inherited, situation)?;
    if bound.is_empty() {
        bail!("there is no address to listen on");
    }
    if let Some(user) = &plan.user {
        privileges::become_user(user)?;
    }
    let subject = open_subject()?;
    let state = State::new(&bound);
    let admin = match (admin, &admin_bound) {
        (Some(start), Some(bound)) => Some(start(Arc::clone(&bound.socket), &subject, &state)?),
        _ => None,
    };
    let newest = Newest::new(subject, bound, plan.limits.clone());
    let common = Arc::new(Common {
        balance: Balance::new(plan.workers, Arc::clone(&stats)),
        stats: Arc::clone(&stats),
        shutdown: Shutdown::default(),
        reserve: Reserve::new(),
        drain: AtomicU64::default(),
        grace: AtomicU64::default(),
        cut: AtomicUsize::default(),
        beats: (0..plan.workers).map(|_| AtomicU64::default()).collect(),
        beat: notify.watchdog().map(|period| period / 8),
    });
    let threads = start_workers(&newest, &common)?;
    let first = newest.get();
    announce(&first.bound, &first.subject.name(), &plan, admin_bound.as_deref());
    let status = status(&first.subject.name(), first.bound.len());
    match inherited.predecessor() {
        // It tells the service manager, which listens to it alone.
        Some(predecessor) => predecessor.relieve(),
        None => notify.ready(&status),
    }
    drop(first);
    let mut control = Control {
        plan,
        signals,
        notify,
        program,
        newest: Arc::clone(&newest),
        common,
        state,
        admin: admin_bound,
        reload,
        threads,
        upgrade: None,
    };
    let end = control.obey();
    let subject = Arc::clone(&newest.get().subject);
    drop(newest);
    if !matches!(end, Ok(End::Asked)) {
        // The one of the new process is asked from now on.
        drop(admin);
        subject.flush();
    }
    // Also if that fails: what was logged is to be written.
    let finished = end.and_then(|end| control.finish(end));
    let sent = stats.context.counters.ways();
    tell(format_args!("sent {} bytes: {sent}", sent.total()));
    if let Some(summary) = subject.finish() {
        tell(format_args!("{summary}"));
    }
    finished
}

/// Starts the workers, and waits until all of them watch their listeners.
fn start_workers<S: Subject>(
    newest: &Arc<Newest<S>>,
    common: &Arc<Common>,
) -> Result<Vec<JoinHandle<()>>> {
    let (ready, are_ready) = mpsc::channel();
    let mut threads = Vec::new();
    for number in 0..common.beats.len() {
        let worker = worker::Start {
            number,
            common: Arc::clone(common),
            newest: Arc::clone(newest),
            ready: ready.clone(),
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
    drop(ready);
    for _ in 0..threads.len() {
        // A worker that fails ends the process.
        are_ready.recv().context("a worker did not start")?;
    }
    Ok(threads)
}

fn announce(listeners: &[Arc<Bound>], subject: &str, plan: &Plan, admin: Option<&Bound>) {
    use std::io::Write;
    let log = plan.access_log.as_ref().map(|log| &log.to);
    let mut out: Box<dyn Write> = match log {
        // Who reads the log there reads nothing else.
        Some(LogTo::Stdout) => Box::new(io::stderr().lock()),
        _ => Box::new(io::stdout().lock()),
    };
    let workers = plan.workers;
    let threads = if workers == 1 { "1 worker" } else { &format!("{workers} workers") };
    for bound in listeners.iter().take(NAMED) {
        // A closed standard output is no reason not to serve.
        let _ = writeln!(out, "Serving {subject} on http://{} ({threads})", bound.address);
    }
    if let Some(more) = listeners.len().checked_sub(NAMED).filter(|&more| more > 0) {
        let _ = writeln!(out, "Serving {subject} on {more} more addresses");
    }
    if let Some(admin) = admin {
        let _ = writeln!(out, "Status on http://{}/status", admin.address);
    }
    let _ = out.flush();
}

/// An IPv4 address as such, also where an IPv6 socket has it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
