//! What every experiment needs: an order of measurements, an account of CPU and memory,
//! statistics, and a place for the raw data. It does not know what is measured.

pub(crate) mod calls;
pub(crate) mod clock;
pub(crate) mod cpu;
pub(crate) mod cycles;
pub(crate) mod distance;
pub(crate) mod interrupt;
pub(crate) mod interval;
pub(crate) mod log_lines;
pub(crate) mod machine;
pub(crate) mod memory;
pub(crate) mod network;
pub(crate) mod pinned;
pub(crate) mod plot;
pub(crate) mod report;
pub(crate) mod round;
pub(crate) mod run_dir;
pub(crate) mod statistics;
