//! Bodies through the proxy: each framing, each client, each way of the spool, and every byte.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../proxied/mod.rs"]
mod proxied;

mod bounds;
mod bugs;
mod crossing;
mod disks;
mod framing;
mod large;
mod reset;
mod rounds;
