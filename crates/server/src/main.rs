//! Sluicegate, the web server: what operators run.
//!
//! The command line picks what to serve; `serve` runs workers around a handler;
//! `files` answers requests with files. Nothing here makes a system call.

#![forbid(unsafe_code)]
// It panics when standard error is gone: `log::tell` does not.
#![deny(clippy::print_stderr)]

mod admin;
mod cli;
mod config;
mod doctor;
mod files;
mod gateway;
mod log;
mod observe;
mod program;
mod proxy;
mod serve;
mod site;

use std::process::ExitCode;

use crate::log::tell;

fn main() -> ExitCode {
    if sluicegate::IS_LAWLESS {
        tell(format_args!("A TEST BUILD, WITHOUT THE LAW: it corrupts what it relays"));
    }
    match cli::run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tell(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}
