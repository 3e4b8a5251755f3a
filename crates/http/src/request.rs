//! A request as its handler sees it.

use std::any::Any;
use std::net::SocketAddr;
use std::sync::Arc;

use crate::interim::Interim;
use crate::{RequestBody, RequestHead};

/// A request: its head, and its body to be read.
#[derive(Debug, Default)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body; reading it is what makes the client send it, where it asked
    /// to be told (`Expect: 100-continue`). A handler that answers with a
    /// [`crate::Relay`] may move it into that (`std::mem::take`) and read it while
    /// the answer goes out.
    pub body: RequestBody,
    /// The connection that it came by.
    pub endpoints: Endpoints,
    /// What the handler wants whoever is told of the answer to know besides
    /// ([`crate::Answered::note`]). Empty with each request.
    pub note: Option<Arc<dyn Any + Send + Sync>>,
    /// Somebody will be told of the answer, and so of the note
    /// ([`crate::Handler::observes`]).
    pub is_observed: bool,
    /// For interim answers, while the handler has not answered.
    pub interim: Interim,
}

/// The two ends of a connection, as far as they have addresses: sockets of the
/// Unix domain have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The client's.
    pub peer: Option<SocketAddr>,
    /// Ours, as the client has addressed it.
    pub local: Option<SocketAddr>,
    /// Ours, as a load balancer has addressed it that told of the other two (the PROXY
    /// protocol).
    pub balanced: Option<SocketAddr>,
}

impl Endpoints {
    /// Our own address at which the connection has come in, whoever made it.
    #[must_use]
    pub fn came_in_at(&self) -> Option<SocketAddr> {
        self.balanced.or(self.local)
    }
}
