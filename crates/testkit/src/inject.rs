//! Faults in a running program, made at its system calls: `ptrace(2)` on all of its threads.
//!
//! The program under test is the one that ships, unchanged: what a scripted kernel does to the
//! send queue, this does to the whole server. A [`Plan`] says which calls fail or take less than
//! they were given, by a seed; [`Injection`] carries it out and counts, so that a test can tell
//! that what it survived did happen.
//!
//! Only what the kernel itself may do makes sense. An `EAGAIN` of a socket is a promise that an
//! edge will follow, and a short receive tells an edge-triggered program that nothing is left:
//! neither can be made from outside without lying, and no rule should try the first; the second
//! is refused. Real ones come by themselves, from small buffers and slow readers.
//!
//! x86-64 only, since registers are an architecture's own: elsewhere [`is_possible`] says no.

mod call;
mod chance;
#[cfg(target_arch = "x86_64")]
mod tracee;
#[cfg(target_arch = "x86_64")]
mod tracer;

use std::io;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread::{self, JoinHandle};

pub use call::Call;
pub use nix::errno::Errno;

use crate::process::Child;

/// What is done to a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It fails with this error, and nothing of it happens.
    Error(Errno),
    /// It is given less to do, at least one unit (byte, slice of memory, event) and at random
    /// less than it asked for. Calls without such an argument, and receives, are left alone.
    Short,
}

/// When a rule strikes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum When {
    /// One in so many of the calls, at random by the seed. 1 is every one.
    OneIn(u32),
    /// That call alone of those that the rule is about, of all threads together; 1 is the first
    /// since the injection began.
    Nth(u64),
}

/// One kind of fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rule {
    /// The calls that it is about.
    pub call: Call,
    /// What is done to them.
    pub fault: Fault,
    /// Which of them it strikes.
    pub when: When,
}

/// What happens to a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Each thread has a stream of chances of its own that follows from this. A program that
    /// makes the same calls meets the same faults; the timing of others may change its calls.
    pub seed: u64,
    /// Tried in this order; a call meets one fault at most.
    pub rules: Vec<Rule>,
}

impl Plan {
    /// No fault yet.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { seed, rules: Vec::new() }
    }

    /// Adds an error of a call.
    #[must_use]
    pub fn error(mut self, call: Call, errno: Errno, when: When) -> Self {
        self.rules.push(Rule { call, fault: Fault::Error(errno), when });
        self
    }

    /// Adds a shorter call.
    #[must_use]
    pub fn short(mut self, call: Call, when: When) -> Self {
        self.rules.push(Rule { call, fault: Fault::Short, when });
        self
    }
}

/// What went wrong with an injection.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum InjectError {
    /// `ptrace` or a wait for the program was refused: no permission, or it has ended.
    #[error("cannot trace process {pid}: {action}")]
    Trace {
        /// The process, or the thread.
        pid: i32,
        /// What was tried.
        action: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// This architecture's registers are not known here.
    #[error("faults can be injected on x86-64 only")]
    Unsupported,
    /// The tracing thread panicked.
    #[error("the tracer failed")]
    Tracer,
}

/// What the tracing thread and its owner share.
#[derive(Debug)]
struct Shared {
    plan: Plan,
    /// The owner wants the end.
    is_over: AtomicBool,
    /// By rule: calls that it was about, and those that it struck.
    seen: Vec<AtomicU64>,
    struck: Vec<AtomicU64>,
}

/// How often a rule could have struck, and did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// The rule.
    pub rule: Rule,
    /// Calls that it was about and that no earlier rule struck.
    pub seen: u64,
    /// Calls that it struck.
    pub struck: u64,
}

/// Faults that are being injected, until this is ended or dropped; the program then runs on
/// undisturbed.
///
/// It keeps the [`Child`] to itself: a wait for the process, by any thread of this one, would take
/// stops away that the tracing thread waits for.
#[derive(Debug)]
pub struct Injection<'a> {
    child: &'a mut Child,
    shared: Arc<Shared>,
    tracer: Option<JoinHandle<Result<(), InjectError>>>,
}

impl<'a> Injection<'a> {
    /// Begins with all threads of a process, and with those that they will start.
    ///
    /// # Errors
    /// [`InjectError`]; nothing is traced then.
    pub fn begin(child: &'a mut Child, plan: Plan) -> Result<Self, InjectError> {
        let counters = || plan.rules.iter().map(|_| AtomicU64::new(0)).collect();
        let (seen, struck) = (counters(), counters());
        let shared = Arc::new(Shared { plan, is_over: AtomicBool::new(false), seen, struck });
        let (begun, beginning) = mpsc::channel();
        let of_tracer = Arc::clone(&shared);
        let pid = child.pid();
        // All requests of ptrace must come from the thread that traces.
        let tracer = thread::spawn(move || trace(pid, &of_tracer, &begun));
        if beginning.recv().is_err() {
            // It ended before it had begun.
            return Err(match tracer.join() {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => InjectError::Tracer,
            });
        }
        Ok(Self { child, shared, tracer: Some(tracer) })
    }

    /// What has happened so far, by rule.
    #[must_use]
    pub fn counts(&self) -> Vec<Count> {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let Shared { plan, seen, struck, .. } = &*self.shared;
        let counters = seen.iter().zip(struck);
        let rules = plan.rules.iter().zip(counters);
        rules
            .map(|(&rule, (seen, struck))| Count { rule, seen: read(seen), struck: read(struck) })
            .collect()
    }

    /// Lets the program go on undisturbed, and tells what happened to it.
    ///
    /// # Errors
    /// [`InjectError`] when the tracer gave up before; the program may then have been frozen for
    /// some time.
    pub fn end(mut self) -> Result<Vec<Count>, InjectError> {
        self.finish()?;
        Ok(self.counts())
    }

    fn finish(&mut self) -> Result<(), InjectError> {
        let Some(tracer) = self.tracer.take() else { return Ok(()) };
        self.shared.is_over.store(true, Ordering::Release);
        // The tracer may be waiting for a stop: a signal that nobody minds makes one. It is ours
        // to take, and does not reach the program while it is traced.
        let pid = i32::try_from(self.child.pid()).ok();
        if let Some(pid) = pid.and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::WINCH);
        }
        tracer.join().map_err(|_| InjectError::Tracer)?
    }
}

impl Drop for Injection<'_> {
    fn drop(&mut self) {
        let _ = self.finish();
    }
}

#[cfg(target_arch = "x86_64")]
use tracer::trace;

#[cfg(not(target_arch = "x86_64"))]
fn trace(_pid: u32, _shared: &Shared, _begun: &mpsc::Sender<()>) -> Result<(), InjectError> {
    Err(InjectError::Unsupported)
}

/// Whether faults can be injected here, for a test to ask first. Tries it on a program that sleeps.
#[must_use]
pub fn is_possible() -> bool {
    let mut command = Command::new("sleep");
    command.arg("60");
    let Ok(mut sleeper) = Child::spawn(command) else { return false };
    Injection::begin(&mut sleeper, Plan::new(0)).and_then(Injection::end).is_ok()
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::need::Need;
    use crate::require;

    const PATIENCE: Duration = Duration::from_secs(20);

    fn need() -> Need {
        Need::Fact { what: "to trace a process (ptrace, x86-64)", holds: is_possible() }
    }

    fn shell(script: &str) -> Child {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        Child::spawn(command).unwrap()
    }

    #[test]
    fn a_program_meets_the_faults_of_the_plan_and_then_no_more() {
        require!(need());
        let mut shell = shell(
            "while true; do if true </dev/null; then echo yes; else echo no; fi; sleep 0.01; done",
        );
        shell.wait_for_line(|line| line == "yes", PATIENCE).unwrap();
        let plan = Plan::new(1)
            .error(Call::Open, Errno::ENFILE, When::Nth(3))
            .error(Call::Open, Errno::EIO, When::OneIn(2))
            .short(Call::Open, When::OneIn(1));
        let injection = Injection::begin(&mut shell, plan).unwrap();
        let deadline = Instant::now() + PATIENCE;
        while injection.counts()[1].struck < 5 && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(5));
        }
        let [once, often, never] = injection.end().unwrap()[..] else { panic!("three rules") };
        assert_eq!(once.struck, 1);
        assert!(often.struck > 0 && often.struck < often.seen, "{often:?}");
        assert_eq!(never.struck, 0, "what has no length is not shortened");
        for error in ["Too many open files", "Input/output error"] {
            shell.wait_for_line(|line| line.contains(error), PATIENCE).unwrap();
        }
        // One that it met may still be on its way to us.
        thread::sleep(Duration::from_millis(50));
        let after = shell.output().len();
        for _ in 0..20 {
            shell.wait_for_line(|line| line == "yes", PATIENCE).unwrap();
        }
        assert!(!shell.output()[after..].contains("no\n"), "{}", shell.output());
    }

    #[test]
    fn the_end_of_a_traced_program_is_its_parents_to_learn() {
        require!(need());
        let mut shell = shell("sleep 0.2; exit 7");
        let injection = Injection::begin(&mut shell, Plan::new(0)).unwrap();
        thread::sleep(Duration::from_millis(500));
        injection.end().unwrap();
        assert_eq!(shell.wait_timeout(PATIENCE).unwrap().code(), Some(7));
    }

    #[test]
    fn a_program_that_has_ended_cannot_be_traced() {
        require!(need());
        // What has ended is nobody's to trace.
        let mut shell = shell("exit 0");
        shell.wait_timeout(PATIENCE).unwrap();
        let error = Injection::begin(&mut shell, Plan::new(0)).unwrap_err();
        assert!(matches!(error, InjectError::Trace { .. }), "{error}");
    }
}
