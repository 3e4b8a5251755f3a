//! What Sluicegate's tests stand on: requirements that are listed when a machine lacks them, a
//! network of two hosts, processes that end with their test, file contents that verify themselves.
//!
//! Nothing here knows HTTP or the server, and nothing here goes into a release.
#![forbid(unsafe_code)]

pub mod browser;
pub mod corpus;
pub mod inject;
pub mod lab;
pub mod need;
pub mod process;
pub mod scripted;
pub mod vm;
