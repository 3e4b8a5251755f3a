//! What goes wrong between us and an upstream, by name.

use std::io;

use sluicegate::SendError;
use sluicegate_http::Offence;
use sluicegate_http::client::ResponseOffence;
use sluicegate_http::client::forward::Refusal;
use thiserror::Error;

use crate::gateway::ObtainError;

/// Why a request has no whole answer of its upstream: who failed, and how.
#[derive(Debug, Error)]
pub(super) enum Trouble {
    /// There is no connection.
    #[error(transparent)]
    Obtain(#[from] ObtainError),
    /// The upstream took nothing of the request for too long.
    #[error("it took nothing of the request for too long")]
    WriteTimeout,
    /// Its answer did not begin in time.
    #[error("its answer did not begin in time")]
    HeadTimeout,
    /// It sent nothing of its answer's body for too long.
    #[error("it sent nothing more of its answer for too long")]
    ReadTimeout,
    /// It closed the connection before it answered.
    #[error("it closed the connection before it answered")]
    Closed,
    /// The connection broke before it answered.
    #[error("before it answered: {0}")]
    Broken(io::Error),
    /// What it said is no answer that can be passed on.
    #[error("{0}")]
    BadAnswer(#[from] ResponseOffence),
    /// Its answer's body ended early: a part would be taken for the whole.
    #[error("its answer ended early")]
    Truncated,
    /// The connection broke within the answer's body.
    #[error("within its answer: {0}")]
    BodyBroken(io::Error),
    /// The chunks of its answer cannot be read.
    #[error("in its answer: {0}")]
    BadChunks(Offence),
    /// `X-Accel-Redirect` leads nowhere.
    #[error("its X-Accel-Redirect leads to no file")]
    Accel,
    /// The request is not to be passed on.
    #[error("{0}")]
    Refused(Refusal),
    /// The request's body is longer than the route takes.
    #[error("the request body is longer than the route takes")]
    BodyTooLarge,
    /// The client did not send all of its request's body.
    #[error("the client did not send its request's body")]
    ClientBody,
    /// The client was gone before the answer was whole.
    #[error("the client was gone before its answer was whole")]
    ClientGone,
    /// We could not hold or move what was to be passed on.
    #[error("{0}")]
    Ours(io::Error),
}

impl Trouble {
    /// Why nothing more can be sent to the client: its connection, or what we cannot read any
    /// more of what waited for it on our disk.
    pub(super) fn of_sending(error: &SendError) -> Self {
        match error {
            SendError::File(file) => Trouble::Ours(io::Error::other(file.to_string())),
            _ => Trouble::ClientGone,
        }
    }

    /// A stable snake_case name for logs and metrics.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Trouble::Obtain(error) => error.name(),
            Trouble::WriteTimeout => "write_timeout",
            Trouble::HeadTimeout => "head_timeout",
            Trouble::ReadTimeout => "read_timeout",
            Trouble::Closed => "closed",
            Trouble::Broken(_) => "broken",
            Trouble::BadAnswer(_) => "bad_answer",
            Trouble::Truncated => "truncated",
            Trouble::BodyBroken(_) => "body_broken",
            Trouble::BadChunks(_) => "bad_chunks",
            Trouble::Accel => "accel",
            Trouble::Refused(_) => "refused",
            Trouble::BodyTooLarge => "body_too_large",
            Trouble::ClientBody => "client_body",
            Trouble::ClientGone => "client_gone",
            Trouble::Ours(_) => "ours",
        }
    }

    /// What the client is told.
    pub(super) fn status(&self) -> u16 {
        match self {
            Trouble::Obtain(error) => error.status(),
            Trouble::HeadTimeout | Trouble::WriteTimeout => 504,
            Trouble::Refused(refusal) => refusal.status(),
            Trouble::BodyTooLarge => 413,
            // The engine answers in our place, if there is anybody to answer.
            Trouble::ClientBody | Trouble::ClientGone => 400,
            Trouble::Ours(_) => 500,
            _ => 502,
        }
    }

    /// Whether it speaks against the server that was asked.
    pub(super) fn is_upstreams(&self) -> bool {
        !matches!(
            self,
            Trouble::Refused(_)
                | Trouble::BodyTooLarge
                | Trouble::ClientBody
                | Trouble::ClientGone
                | Trouble::Ours(_)
        )
    }
}
