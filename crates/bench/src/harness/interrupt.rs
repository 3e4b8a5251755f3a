//! Ctrl-C ends a run in order: guards kill what was started and remove what was made.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use anyhow::{Context, Result, bail};
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::signal::{Signal, Signals};

static INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// Exit status of a program that SIGINT ended, by the shells' convention.
const STATUS: i32 = 130;

/// From now on SIGINT and SIGTERM make [`check`] fail. A second one ends the process at once;
/// its children then go by their death signal, and namespaces with the next lab.
///
/// Call it before any thread is started. Children inherit the blocked signals, so they are ended
/// by SIGKILL alone.
pub(crate) fn listen() -> Result<()> {
    let signals = Signals::listen(&[Signal::Interrupt, Signal::Terminate])
        .context("cannot listen for signals")?;
    let epoll = Epoll::new()?;
    epoll.add(std::os::fd::AsFd::as_fd(&signals), 0, Interest::Read)?;
    thread::spawn(move || {
        let mut events = Events::with_capacity(1);
        loop {
            let _ = epoll.wait(&mut events, None);
            while let Ok(Some(_)) = signals.next() {
                if INTERRUPTED.swap(true, Ordering::Relaxed) {
                    std::process::exit(STATUS);
                }
            }
        }
    });
    Ok(())
}

/// # Errors
/// Once a signal has come.
pub(crate) fn check() -> Result<()> {
    if INTERRUPTED.load(Ordering::Relaxed) {
        bail!("interrupted");
    }
    Ok(())
}
