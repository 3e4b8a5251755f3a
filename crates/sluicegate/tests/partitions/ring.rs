//! What `src/ring` is to the files of it that are played here.

#![allow(dead_code)] // They do more than is played.

#[path = "../../src/ring/slot.rs"]
pub(crate) mod slot;
#[path = "../../src/ring/table.rs"]
pub(crate) mod table;
#[path = "../../src/ring/wait.rs"]
pub(crate) mod wait;

pub(crate) use crate::actors::{Lease, Ring};

/// Loom's own, but for the poison, which it has from the standard library.
pub(crate) mod sync {
    pub(crate) use std::sync::PoisonError;

    pub(crate) use loom::sync::{Arc, Mutex, MutexGuard};
}

/// Nobody is rung here: who is cut loose is told by the caller.
pub(crate) mod alarm {
    #[derive(Debug)]
    pub(crate) struct Alarm;
}

/// What is done about stragglers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stragglers {
    Wait,
    Abort,
}

#[derive(Debug)]
pub(crate) enum RingError {
    Exhausted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Connection(pub(crate) u8);
