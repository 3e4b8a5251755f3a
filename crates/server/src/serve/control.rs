//! The thread that no connection is served on: signals, and what they ask for.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use sluicegate::os::{Signal, Signals};

use super::bound::{Bound, Situation, contains, open_all};
use super::generation::Newest;
use super::inherit::Inherited;
use super::notify::Notify;
use super::upgrade::{Outcome, Program, Upgrade};
use super::worker::Common;
use super::{NAMED, Plan, Reload, State, Subject};
use crate::log::tell;

/// How long idle connections stay open after an upgrade: a request that is on
/// its way when its connection closes would be lost. Those that ask within
/// this are told to come back by another connection.
const GRACE: Duration = Duration::from_secs(2);

/// How often it is looked whether the workers are done.
const LOOK: Duration = Duration::from_millis(5);

/// How long a reload waits for addresses that are listened on no longer.
const CLOSING: Duration = Duration::from_secs(1);

/// How much longer than it may a worker may take to end, before the process
/// ends without it: it waits for a disk, say.
const LATE: Duration = Duration::from_secs(10);

/// Everything that signals have to do with.
pub(super) struct Control<S> {
    pub(super) plan: Plan,
    pub(super) signals: Signals,
    pub(super) notify: Notify,
    pub(super) program: Program,
    pub(super) newest: Arc<Newest<S>>,
    pub(super) common: Arc<Common>,
    pub(super) state: Arc<State>,
    pub(super) admin: Option<Arc<Bound>>,
    pub(super) reload: Option<Reload<S>>,
    pub(super) threads: Vec<JoinHandle<()>>,
    pub(super) upgrade: Option<Upgrade>,
}

/// Why this process is to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// Somebody wants it to.
    Asked,
    /// The process with this id goes on for it.
    Followed(u32),
}

impl<S: Subject> Control<S> {
    /// Does what signals ask for, until the end is to come.
    pub(super) fn obey(&mut self) -> Result<End> {
        // Half of what is allowed, as sd_watchdog_enabled(3) has it.
        let every = self.notify.watchdog().map(|period| period / 2);
        let mut alive = every.map(|every| (every, Instant::now() + every));
        let mut beats = Vec::new();
        loop {
            let upgrade = self.upgrade.as_ref();
            let watch = alive.map(|(_, at)| at.saturating_duration_since(Instant::now()));
            let timeout = watch.into_iter().chain(upgrade.map(Upgrade::left)).min();
            let also = upgrade.map(Upgrade::watched);
            self.signals.wait(also, timeout).context("cannot wait for signals")?;
            while let Some(signal) = self.signals.next().context("cannot read signals")? {
                match signal {
                    Signal::Terminate | Signal::Interrupt => return Ok(End::Asked),
                    Signal::Hangup => self.reload(),
                    Signal::User1 => self.reopen_logs(),
                    Signal::User2 => self.start_upgrade(),
                }
            }
            match self.upgrade.take().map(Upgrade::look) {
                None => {}
                Some(Outcome::Starting(upgrade)) => self.upgrade = Some(upgrade),
                Some(Outcome::Serving(pid)) => return Ok(End::Followed(pid)),
                Some(Outcome::Failed(reason)) => {
                    tell(format_args!("not upgraded, this process goes on: {reason}"));
                }
            }
            if let Some((every, at)) = &mut alive
                && Instant::now() >= *at
            {
                *at = Instant::now() + *every;
                self.show_life(&mut beats);
            }
        }
    }

    /// Tells the service manager that all workers do something.
    fn show_life(&self, before: &mut Vec<u64>) {
        let beats = self.common.beats.iter();
        let beats: Vec<u64> = beats.map(|beat| beat.load(Ordering::Relaxed)).collect();
        if before.is_empty() || before.iter().zip(&beats).all(|(before, now)| before != now) {
            self.notify.alive();
            *before = beats;
        }
    }

    fn reload(&mut self) {
        self.notify.reloading();
        let stats = Arc::clone(&self.common.stats);
        let status = match self.try_reload() {
            Ok(()) => {
                stats.reloads.fetch_add(1, Ordering::Relaxed);
                let newest = self.newest.get();
                let serving = status(&newest.subject.name(), newest.bound.len());
                tell(format_args!("reloaded: {serving}"));
                serving
            }
            Err(error) => {
                // Whoever reads the line, or the count, finds the reason.
                self.state.refused(format!("{error:#}"));
                stats.reloads_refused.fetch_add(1, Ordering::Relaxed);
                tell(format_args!("not reloaded, the old configuration goes on: {error:#}"));
                self.reopen_logs();
                format!("Serving the old configuration; the new one was refused: {error:#}")
            }
        };
        self.notify.ready(&status.replace('\n', "; "));
    }

    fn try_reload(&mut self) -> Result<()> {
        if self.upgrade.is_some() {
            bail!("an upgrade is under way");
        }
        let Some(reload) = &mut self.reload else {
            bail!("there is no configuration file to be read");
        };
        let before = self.newest.get();
        let (subject, mut plan) = reload(&before.subject)?;
        if plan.is_default_address && before.bound.iter().any(|bound| bound.is_activated) {
            plan.addresses.clear();
        }
        let mut none = Inherited::default();
        let has_become_user = self.plan.user.is_some();
        let situation = Situation { admin: self.admin.as_ref(), has_become_user };
        let bound = open_all(&plan.addresses, &before.bound, &mut none, situation)?;
        let gone = before.bound.iter().filter(|bound_before| !contains(&bound, bound_before));
        let gone: Vec<_> = gone.map(Arc::clone).collect();
        let new = bound.iter().filter(|bound| !contains(&before.bound, bound));
        for bound in new.take(NAMED) {
            tell(format_args!("listening on {}", bound.address));
        }
        for difference in self.plan.differences(&plan) {
            tell(format_args!("{difference} takes effect with an upgrade (SIGUSR2) or a restart"));
        }
        self.plan.take_over(plan);
        drop(before);
        self.state.reloaded(&bound);
        subject.begin();
        drop(self.newest.replace(subject, bound, self.plan.limits.clone()));
        for bound in &gone {
            bound.end.begin();
        }
        Self::see_closed(gone);
        // Its log may be the same file, which somebody has moved away.
        self.reopen_logs();
        Ok(())
    }

    /// Waits until the workers have left these listeners, so that what is
    /// said is so and the next reload can have the addresses back. A worker
    /// that is long about it is not waited for.
    fn see_closed(gone: Vec<Arc<Bound>>) {
        let until = Instant::now() + CLOSING;
        for (number, bound) in gone.into_iter().enumerate() {
            let (address, socket) = (bound.address, Arc::downgrade(&bound.socket));
            drop(bound);
            while socket.strong_count() > 0 && Instant::now() < until {
                std::thread::sleep(Duration::from_millis(1));
            }
            if number < NAMED {
                tell(format_args!("no longer listening on {address}"));
            }
        }
    }

    fn reopen_logs(&self) {
        reopen_logs(&self.newest.get().subject);
    }

    fn start_upgrade(&mut self) {
        if self.upgrade.is_some() {
            tell(format_args!("an upgrade is under way already"));
            return;
        }
        let newest = self.newest.get();
        match Upgrade::start(&self.program, &newest.bound, self.admin.as_ref()) {
            Ok(upgrade) => {
                tell(format_args!("starting the program anew"));
                self.upgrade = Some(upgrade);
            }
            Err(error) => tell(format_args!("not upgraded, this process goes on: {error:#}")),
        }
    }

    /// Lets open connections finish, and ends the workers.
    pub(super) fn finish(mut self, end: End) -> Result<()> {
        let mut grace = Duration::ZERO;
        self.state.drain();
        match end {
            End::Asked => {
                self.notify.stopping("Finishing open connections");
                tell(format_args!("finishing open connections (a second signal ends at once)"));
            }
            End::Followed(pid) => {
                self.notify.successor(pid);
                grace = GRACE;
                tell(format_args!("process {pid} serves now; finishing open connections"));
            }
        }
        if let Some(mut upgrade) = self.upgrade.take() {
            let _ = upgrade.end();
        }
        let drain = self.plan.drain;
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        self.common.drain.store(millis(drain), Ordering::Release);
        self.common.grace.store(millis(grace), Ordering::Release);
        // The sockets close when the last of the workers has emptied their queue.
        for bound in self.newest.take_listeners() {
            bound.end.begin();
        }
        self.common.shutdown.begin();
        let late = Instant::now() + drain + LATE;
        let Control { signals, threads, common, admin, newest, .. } = self;
        let subject = Arc::clone(&newest.get().subject);
        drop((admin, newest));
        while !threads.iter().all(JoinHandle::is_finished) {
            signals.wait(None, Some(LOOK)).context("cannot wait for signals")?;
            while let Some(signal) = signals.next().context("cannot read signals")? {
                match signal {
                    Signal::Terminate | Signal::Interrupt => leave(&signals, &subject),
                    // It still writes lines, until the last answer is out.
                    Signal::User1 => reopen_logs(&subject),
                    Signal::Hangup | Signal::User2 => {}
                }
            }
            if Instant::now() > late {
                bail!("a worker does not end");
            }
        }
        for thread in threads {
            if thread.join().is_err() {
                bail!("a worker panicked");
            }
        }
        match common.cut.load(Ordering::Relaxed) {
            0 => {}
            1 => tell(format_args!("1 connection was cut at the end")),
            cut => tell(format_args!("{cut} connections were cut at the end")),
        }
        Ok(())
    }
}

/// Opens logs anew beside what this thread does: their disk may be slow, and
/// signals and the service manager are not to wait for it.
fn reopen_logs<S: Subject>(subject: &Arc<S>) {
    beside(subject, |subject| {
        if let Err(error) = subject.reopen_logs() {
            tell(format_args!("{error:#}"));
        }
    });
}

/// Ends the process at once: only what was logged is still written, unless that
/// takes long, or another signal says that it need not be.
fn leave<S: Subject>(signals: &Signals, subject: &Arc<S>) -> ! {
    let flushing = beside(subject, Subject::flush);
    while flushing.as_ref().is_some_and(|flushing| !flushing.is_finished()) {
        let is_over = signals.wait(None, Some(LOOK)).is_err()
            || matches!(signals.next(), Ok(Some(Signal::Terminate | Signal::Interrupt)) | Err(_));
        if is_over {
            break;
        }
    }
    std::process::exit(130);
}

/// Does `work` on a thread of its own, or here if there can be none.
fn beside<S: Subject>(subject: &Arc<S>, work: fn(&S)) -> Option<JoinHandle<()>> {
    let theirs = Arc::clone(subject);
    let builder = std::thread::Builder::new().name("logs".into());
    let thread = builder.spawn(move || work(&theirs));
    if thread.is_err() {
        work(subject);
    }
    thread.ok()
}

/// What is told of the state, in a few words.
pub(super) fn status(name: &str, listeners: usize) -> String {
    let at = if listeners == 1 { "1 address" } else { &format!("{listeners} addresses") };
    format!("Serving {name} on {at}")
}
