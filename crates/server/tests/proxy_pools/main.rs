//! Pools of upstreams: who is asked, who is left alone, and how many at a time.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../proxied/mod.rs"]
mod proxied;

mod addresses;
mod balance;
mod health;
mod limits;
mod protocol;
mod reload;
