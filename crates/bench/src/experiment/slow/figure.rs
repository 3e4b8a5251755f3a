//! The figures of one crowd of downloads.

use crate::client::{SlowLoad, Work};

pub(super) const MIB: f64 = 1_048_576.0;
pub(super) const GIB: f64 = 1024.0 * MIB;

/// A figure of a server in one round.
pub(super) type Figure = fn(&SlowLoad) -> f64;

/// Busy time of the server's core, in seconds for each GiB that was handed over.
pub(super) fn core_cost(load: &SlowLoad) -> f64 {
    core_cost_of(&load.work)
}

pub(super) fn core_cost_of(work: &Work) -> f64 {
    work.core.busy() * GIB / work.accepted() as f64
}

pub(super) fn threads_cost(load: &SlowLoad) -> f64 {
    load.work.threads_s * GIB / load.work.accepted() as f64
}

pub(super) fn queued(load: &SlowLoad) -> f64 {
    load.work.queued as f64
}

/// In bytes, above what it had before: of the process; of TCP's account; of the kernel in all.
pub(super) fn resident(load: &SlowLoad) -> f64 {
    (load.server[1] - load.server[0]).resident as f64
}

pub(super) fn tcp(load: &SlowLoad) -> f64 {
    (load.kernel[1].tcp - load.kernel[0].tcp) as f64
}

pub(super) fn slab(load: &SlowLoad) -> f64 {
    (load.kernel[1].slab - load.kernel[0].slab) as f64
}

pub(super) fn kernel(load: &SlowLoad) -> f64 {
    (load.kernel[1].all - load.kernel[0].all) as f64
}

pub(super) fn memory(load: &SlowLoad) -> f64 {
    resident(load) + kernel(load)
}
