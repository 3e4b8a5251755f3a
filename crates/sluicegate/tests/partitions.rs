//! The ring's own partitions, played by loom in every order of their writers,
//! senders and waiters: `src/ring/slot.rs`, `table.rs` and `wait.rs` themselves,
//! compiled against loom's locks and counts. (The protocol alone, beside the
//! paper's, is played in `paper_protocol`.)
//!
//! What stands around them is written anew and small (`partitions/actors.rs`):
//! memory whose pages a kernel refers to beyond all counts, a lease, a region,
//! its use by a socket, and one who waits. Three things are looked for. Memory
//! changes that somebody still reads. One waits whom nobody is going to wake:
//! loom ends that as a deadlock. A partition is lost, or kept by somebody.
//!
//! The smallest models are explored completely. The others are bounded to three
//! or four preemptions (switches away from a thread that could have gone on),
//! since each one more is ten times as many executions: what holds was played
//! with one more too. `partitions/broken.rs` has actors that do one thing wrong,
//! so that what finds nothing is known to look.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "partitions/actors.rs"]
mod actors;
#[path = "partitions/broken.rs"]
mod broken;
#[path = "partitions/memory.rs"]
mod memory;
#[path = "partitions/play.rs"]
mod play;
#[path = "partitions/proofs.rs"]
mod proofs;
#[path = "partitions/ring.rs"]
mod ring;
#[path = "partitions/stragglers.rs"]
mod stragglers;
#[path = "partitions/waiting.rs"]
mod waiting;
