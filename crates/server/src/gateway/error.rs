//! Why a request got no connection to a server.

use std::io;
use std::io::ErrorKind::{AddrNotAvailable, OutOfMemory};

use sluicegate::os;
use thiserror::Error;

/// Why there is no connection. Nothing was sent: whatever the request, another
/// server may be tried, where that helps ([`ObtainError::may_retry`]).
#[derive(Debug, Error)]
pub(crate) enum ObtainError {
    #[error("no server of pool `{0}` can be asked now")]
    NoServer(String),
    #[error("all servers of pool `{0}` are at their limit")]
    Busy(String),
    /// None of the pool's names has ever been resolved.
    #[error("`{name}` cannot be resolved: {cause}")]
    Unresolved { name: String, cause: String },
    /// The server, or the network to it.
    #[error("{server}: {cause}")]
    Connect { server: String, cause: io::Error },
    /// This host has nothing left to connect with.
    #[error("cannot connect to {server}: {cause}")]
    Exhausted { server: String, cause: io::Error },
}

impl ObtainError {
    /// Of a connection that was not made.
    pub(super) fn of_connect(server: &str, cause: io::Error) -> Self {
        let server = server.to_owned();
        if is_ours(&cause) {
            ObtainError::Exhausted { server, cause }
        } else {
            ObtainError::Connect { server, cause }
        }
    }

    /// Whether it is this host that failed, and no server.
    pub(crate) fn is_ours(&self) -> bool {
        matches!(self, ObtainError::Exhausted { .. })
    }

    /// Whether another server may be asked: one has failed, and others may not.
    pub(crate) fn may_retry(&self) -> bool {
        match self {
            ObtainError::Connect { .. } => true,
            // Ports run out for each server by itself.
            ObtainError::Exhausted { cause, .. } => cause.kind() == AddrNotAvailable,
            _ => false,
        }
    }

    /// A stable snake_case name for logs and metrics.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            ObtainError::NoServer(_) => "no_server",
            ObtainError::Busy(_) => "busy",
            ObtainError::Unresolved { .. } => "unresolved",
            ObtainError::Connect { cause, .. } if cause.kind() == io::ErrorKind::TimedOut => {
                "connect_timeout"
            }
            ObtainError::Connect { .. } => "connect",
            ObtainError::Exhausted { .. } => "exhausted",
        }
    }

    /// What the client is told. RFC 9110 section 15.6.
    pub(crate) fn status(&self) -> u16 {
        match self {
            ObtainError::NoServer(_) | ObtainError::Busy(_) | ObtainError::Exhausted { .. } => 503,
            ObtainError::Connect { cause, .. } if cause.kind() == io::ErrorKind::TimedOut => 504,
            ObtainError::Connect { .. } | ObtainError::Unresolved { .. } => 502,
        }
    }
}

/// Whether this host has nothing left to connect with, which says nothing of any server.
pub(super) fn is_ours(error: &io::Error) -> bool {
    os::is_out_of_descriptors(error) || matches!(error.kind(), OutOfMemory | AddrNotAvailable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_no_port_left_for_one_server_may_have_one_for_another() {
        let of = |kind: io::ErrorKind| ObtainError::of_connect("app:1", kind.into());
        let no_port = of(AddrNotAvailable);
        assert!(no_port.is_ours() && no_port.may_retry());
        assert_eq!((no_port.name(), no_port.status()), ("exhausted", 503));
        let no_memory = of(OutOfMemory);
        assert!(no_memory.is_ours() && !no_memory.may_retry());
        let refused = of(io::ErrorKind::ConnectionRefused);
        assert!(!refused.is_ours() && refused.may_retry());
    }
}
