//! A disk that spools cannot be on.

use std::io;
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::log::tell;

/// Between two lines about it: every body finds it anew.
const AGAIN: Duration = Duration::from_secs(60);

static TOLD: Mutex<Option<Instant>> = Mutex::new(None);

/// Says now and then why bodies have no disk. They go on through memory, and their
/// upstreams wait.
pub(super) fn tell_of_disk(directory: &Path, error: &io::Error) {
    let mut told = TOLD.lock().unwrap_or_else(PoisonError::into_inner);
    if told.is_none_or(|told| told.elapsed() >= AGAIN) {
        *told = Some(Instant::now());
        drop(told);
        let directory = directory.display();
        tell(format_args!("spools have no disk in {directory}, upstreams wait instead: {error}"));
    }
}
