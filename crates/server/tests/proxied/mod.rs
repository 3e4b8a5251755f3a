//! The program as a proxy: upstreams that are told what to do and write down what they are
//! asked, clients that read by the letter, and the program between them.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // A test ends at the first surprise; not every target uses all.

pub mod answers;
pub mod chance;
pub mod client;
pub mod gate;
pub mod incoming;
pub mod program;
pub mod upstream;

use std::time::{Duration, Instant};

/// Longer than anything takes on a loaded machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds`; panics with `what` when it takes too long.
#[track_caller]
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
