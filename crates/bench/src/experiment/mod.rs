//! What is measured, and what must come out.

mod cell;
mod contents;
pub(crate) mod crossover;
pub(crate) mod figure7;
mod record;
mod session;
pub(crate) mod static_files;
mod workload;
