//! A request as its handler sees it.

use crate::{RequestBody, RequestHead};

/// A request: its head, and its body to be read.
#[derive(Debug, Default)]
pub struct Request {
    /// The head.
    pub head: RequestHead,
    /// The body; reading it is what makes the client send it, where it asked
    /// to be told (`Expect: 100-continue`).
    pub body: RequestBody,
}
