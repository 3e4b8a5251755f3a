//! Sluicegate, the web server: what operators run.
//!
//! The command line picks what to serve; `serve` runs workers around a handler;
//! `files` answers requests with files. Nothing here makes a system call.

#![forbid(unsafe_code)]

mod cli;
mod files;
mod serve;

use std::process::ExitCode;

fn main() -> ExitCode {
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sluicegate: {error:#}");
            ExitCode::FAILURE
        }
    }
}
