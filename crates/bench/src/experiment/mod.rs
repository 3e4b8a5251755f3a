//! What is measured, and what must come out.

pub(crate) mod ack_blocking;
pub(crate) mod ack_delay;
mod cell;
mod contents;
pub(crate) mod crossover;
pub(crate) mod demo;
mod downloads;
pub(crate) mod fan_out;
pub(crate) mod figure2;
pub(crate) mod figure3;
pub(crate) mod figure7;
mod logs;
mod options;
pub(crate) mod proxy;
pub(crate) mod race;
mod record;
pub(crate) mod reuse;
pub(crate) mod ring_cost;
mod session;
pub(crate) mod slow;
pub(crate) mod static_files;
pub(crate) mod tracking;
mod workload;
