//! What operators see of the work: counts, the access log, pages.
#![allow(dead_code, unused_imports)] // Until the program uses all of it.

mod stats;

pub(crate) use self::stats::{Ended, Stats, WorkerStats};
