//! A request as its handler sees it.

use std::net::SocketAddr;

use crate::{RequestBody, RequestHead};

/// A request: its head, and its body to be read.
#[derive(Debug, Default)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body; reading it is what makes the client send it, where it asked
    /// to be told (`Expect: 100-continue`).
    pub body: RequestBody,
    /// The connection that it came by.
    pub endpoints: Endpoints,
}

/// The two ends of a connection, as far as they have addresses: sockets of the
/// Unix domain have none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    /// The client's.
    pub peer: Option<SocketAddr>,
    /// Ours, as the client has addressed it.
    pub local: Option<SocketAddr>,
}
