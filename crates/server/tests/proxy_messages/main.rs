//! Messages through the proxy: what of a head goes on, what never does, bodies of requests, ends
//! of all kinds, and what is tried again.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../proxied/mod.rs"]
mod proxied;

mod accel;
mod answers;
mod ends;
mod harness;
mod heads;
mod repeated;
mod requests;
mod retries;
mod smuggling;
mod troubles;
mod upgrade;
mod websocket;
