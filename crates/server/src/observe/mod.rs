//! What operators see of the work: counts, the access log, pages.

mod access_log;
mod format;
mod observed;
mod relays;
mod stats;
mod writer;

pub(crate) use self::access_log::AccessLog;
pub(crate) use self::observed::Observed;
pub(crate) use self::relays::{HELD_BOUNDS, RelayStats, Relayed};
pub(crate) use self::stats::{Ended, Stats, WorkerStats};
