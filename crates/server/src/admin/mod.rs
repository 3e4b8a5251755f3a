//! What operators look at: metrics, status, health.
//!
//! On a thread of its own, which needs nothing of the workers: it answers when
//! they are stuck, while they drain, and when the process has run out of
//! descriptors.
//!
//! ```text
//! Sources ─ Figures ─┬─ metrics   /metrics      Prometheus
//!    │               └─ Status ─┬─ page         /status       people
//!    └─ Sample ─ History ───────┘─ JSON         /status.json  programs
//! ```

mod answer;
mod figures;
mod history;
mod metrics;
mod page;
mod process;
mod server;
mod sources;
mod spare;
#[cfg(test)]
mod tests;
mod upstreams;

pub(crate) use self::server::start;
pub(crate) use self::sources::{Configuration, Refused, Sources, Spools};
