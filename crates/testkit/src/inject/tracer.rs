//! The thread that traces: stops, and what follows each.

use std::collections::HashMap;
use std::fs;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::mpsc;

use nix::errno::Errno;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid};
use nix::unistd::Pid;

use super::chance::Chance;
use super::tracee::Tracee;
use super::{Fault, InjectError, Shared, When};

/// `op` of `ptrace_syscall_info` (`ptrace(2)`, `PTRACE_GET_SYSCALL_INFO`).
const SYSCALL_INFO_ENTRY: u8 = 1;
const SYSCALL_INFO_EXIT: u8 = 2;

/// Traces `pid` until its end or the owner's wish; tells `begun` once all threads are traced.
pub(super) fn trace(
    pid: u32,
    shared: &Shared,
    begun: &mpsc::Sender<()>,
) -> Result<(), InjectError> {
    let leader = Pid::from_raw(i32::try_from(pid).unwrap_or_default());
    let mut tracer = Tracer { leader, shared, tracees: HashMap::new(), traced: 0, is_over: false };
    tracer.seize_all()?;
    // Nobody listens any more: then nobody will end this either.
    if begun.send(()).is_err() {
        return Ok(());
    }
    tracer.run()
}

struct Tracer<'a> {
    leader: Pid,
    shared: &'a Shared,
    tracees: HashMap<Pid, Tracee>,
    /// Threads that were ever traced.
    traced: u64,
    /// All threads are being let go.
    is_over: bool,
}

impl Tracer<'_> {
    /// Takes hold of every thread. One that is born meanwhile is traced from its start if its
    /// parent was, and found by the next look if not.
    fn seize_all(&mut self) -> Result<(), InjectError> {
        loop {
            let mut has_new = false;
            for thread in self.threads()? {
                if self.tracees.contains_key(&thread) {
                    continue;
                }
                let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE;
                match ptrace::seize(thread, options) {
                    Ok(()) => {}
                    // Traced since its birth; or gone.
                    Err(Errno::EPERM | Errno::ESRCH) if thread != self.leader => {}
                    Err(error) => return Err(failed(thread, "seize it", error)),
                }
                // It may have ended by now, which the wait will tell.
                let _ = ptrace::interrupt(thread);
                self.adopt(thread);
                has_new = true;
            }
            if !has_new {
                return Ok(());
            }
        }
    }

    fn threads(&self) -> Result<Vec<Pid>, InjectError> {
        let tasks = format!("/proc/{}/task", self.leader);
        let names = fs::read_dir(tasks).map_err(|source| InjectError::Trace {
            pid: self.leader.as_raw(),
            action: "list its threads",
            source,
        })?;
        let numbers = names.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        Ok(numbers.map(Pid::from_raw).collect())
    }

    fn adopt(&mut self, thread: Pid) -> &mut Tracee {
        let (seed, traced) = (self.shared.plan.seed, &mut self.traced);
        self.tracees.entry(thread).or_insert_with(|| {
            *traced += 1;
            Tracee::new(thread, Chance::new(seed, *traced))
        })
    }

    fn run(&mut self) -> Result<(), InjectError> {
        while !self.tracees.is_empty() {
            // A first look leaves the state to be waited for: the end of the process itself is
            // its parent's to learn. The other threads of the test have children of their own.
            let look = WaitPidFlag::WEXITED
                | WaitPidFlag::WSTOPPED
                | WaitPidFlag::WNOWAIT
                | WaitPidFlag::__WALL
                | WaitPidFlag::__WNOTHREAD;
            let thread = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(thread, _) | WaitStatus::Signaled(thread, ..))
                    if thread == self.leader =>
                {
                    return Ok(());
                }
                Ok(status) => status.pid(),
                Err(Errno::EINTR) => continue,
                Err(Errno::ECHILD) => return Ok(()),
                Err(error) => return Err(failed(self.leader, "wait for it", error)),
            };
            let Some(thread) = thread else { continue };
            let status = waitpid(thread, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))
                .map_err(|error| failed(thread, "wait for it", error))?;
            match self.handle(thread, status) {
                // It was killed while it stood still; the wait will tell.
                Ok(()) | Err(Errno::ESRCH) => {}
                Err(error) => return Err(failed(thread, "meddle with it", error)),
            }
        }
        Ok(())
    }

    fn handle(&mut self, thread: Pid, status: WaitStatus) -> nix::Result<()> {
        let (signal, is_call) = match status {
            WaitStatus::Exited(..) | WaitStatus::Signaled(..) => {
                self.tracees.remove(&thread);
                return Ok(());
            }
            WaitStatus::PtraceSyscall(_) => (None, true),
            WaitStatus::PtraceEvent(_, _, _) => (None, false),
            // Signals are passed on, but for the one that wakes us.
            WaitStatus::Stopped(_, signal) => (Some(signal), false),
            _ => (None, false),
        };
        if !self.is_over && self.shared.is_over.load(Ordering::Acquire) {
            self.is_over = true;
            for &other in self.tracees.keys().filter(|&&other| other != thread) {
                // One that has ended needs no interruption.
                let _ = ptrace::interrupt(other);
            }
        }
        let signal = signal.filter(|&signal| !self.is_over || signal != Signal::SIGWINCH);
        // The stop of an entry says so itself: a thread is seized wherever it is.
        let operation = if is_call { ptrace::syscall_info(thread)?.op } else { 0 };
        if operation == SYSCALL_INFO_EXIT {
            self.adopt(thread).settle()?;
        }
        if self.is_over {
            return self.let_go(thread, signal, operation);
        }
        if operation == SYSCALL_INFO_ENTRY {
            self.enter(thread)?;
        } else if !is_call {
            // A thread's first stop, if it was born traced.
            self.adopt(thread);
        }
        ptrace::syscall(thread, signal)
    }

    /// A call begins: the first rule that strikes has it.
    fn enter(&mut self, thread: Pid) -> nix::Result<()> {
        let shared = self.shared;
        let tracee = self.adopt(thread);
        let Some(entry) = tracee.entry()? else { return Ok(()) };
        for (index, rule) in shared.plan.rules.iter().enumerate() {
            if rule.call != entry.call {
                continue;
            }
            let number = shared.seen[index].fetch_add(1, Ordering::Relaxed) + 1;
            let strikes = match rule.when {
                When::OneIn(many) => tracee.chance.one_in(many),
                When::Nth(nth) => number == nth,
            };
            let has_struck = strikes
                && match rule.fault {
                    Fault::Error(errno) => tracee.fail(errno).map(|()| true)?,
                    Fault::Short => tracee.shorten(&entry)?,
                };
            if has_struck {
                shared.struck[index].fetch_add(1, Ordering::Relaxed);
                return Ok(());
            }
        }
        Ok(())
    }

    /// Ends the tracing of a thread as soon as nothing of ours is in its way.
    fn let_go(&mut self, thread: Pid, signal: Option<Signal>, operation: u8) -> nix::Result<()> {
        let is_open = self.tracees.get(&thread).is_some_and(Tracee::is_open);
        if is_open && operation != SYSCALL_INFO_EXIT {
            // The interruption ends the call, if it waits at all.
            return ptrace::syscall(thread, signal);
        }
        self.tracees.remove(&thread);
        ptrace::detach(thread, signal)
    }
}

fn failed(pid: Pid, action: &'static str, error: Errno) -> InjectError {
    InjectError::Trace { pid: pid.as_raw(), action, source: io::Error::from(error) }
}
