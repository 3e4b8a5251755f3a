//! The paper's own partition protocol (seed 000, section II-C), played by loom
//! in every order of its actors: what it lets happen, and that a third state
//! closes it.
//!
//! Nothing here runs the crate's ring: this is its protocol alone, a lock and
//! a few bytes for each partition. That the ring keeps to it is other tests'
//! to show. Each exploration prints how many executions it had, and in how
//! many of them it found what: `-- --nocapture`.
//!
//! Two laps of one partition under our protocol are explored completely. With
//! more partitions or actors the executions go into the millions, so they are
//! bounded to those with two or three preemptions. With one preemption more,
//! what is clean stays clean, and one finding is added (named at its test).

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "paper_protocol/actors.rs"]
mod actors;
#[path = "paper_protocol/model.rs"]
mod model;
#[path = "paper_protocol/play.rs"]
mod play;
#[path = "paper_protocol/protocols.rs"]
mod protocols;
#[path = "paper_protocol/refuted.rs"]
mod refuted;
#[path = "paper_protocol/repaired.rs"]
mod repaired;
