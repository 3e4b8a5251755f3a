//! What can go wrong with a lab.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// What went wrong with a lab. The commands are those that a person would type.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// A program that labs are built with is not there.
    #[error("there is no program `{program}`")]
    Missing {
        /// Its name.
        program: &'static str,
    },
    /// A command could not be started or awaited.
    #[error("cannot run `{command}`: {source}")]
    Run {
        /// The program and its arguments.
        command: String,
        /// Why.
        source: io::Error,
    },
    /// A command failed.
    #[error("`{command}`: {status}: {stderr}")]
    Failed {
        /// The program and its arguments.
        command: String,
        /// How it ended.
        status: ExitStatus,
        /// What it complained about.
        stderr: String,
    },
    /// A command did not end, and was killed.
    #[error("`{command}` did not end within {limit:?}")]
    TimedOut {
        /// The program and its arguments.
        command: String,
        /// How long it was given.
        limit: Duration,
    },
    /// A wire did not carry.
    #[error("{device} in {namespace} did not come up within {limit:?}")]
    Down {
        /// The namespace.
        namespace: String,
        /// The device.
        device: &'static str,
        /// How long it was given.
        limit: Duration,
    },
    /// A thread could not be moved into a namespace.
    #[error("cannot enter {namespace}: {source}")]
    Enter {
        /// The namespace.
        namespace: String,
        /// Why.
        source: io::Error,
    },
    /// A device could not be made for a true wire.
    #[error("cannot make a TUN device in {namespace}: {source}")]
    Tun {
        /// The namespace.
        namespace: String,
        /// Why.
        source: io::Error,
    },
    /// The thread of a true wire could not be started, or not on its processor.
    #[error("cannot start the relay of a wire: {source}")]
    Relay {
        /// Why.
        source: io::Error,
    },
}
