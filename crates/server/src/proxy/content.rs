//! What a request has for a body, as far as it is known before a server is asked.

use bytes::Bytes;
use sluicegate_http::client::forward::Nominated;
use sluicegate_http::{Known, RequestBody, RequestFraming, RequestHead};

use super::trouble::Trouble;
use crate::config::{Proxy, RequestBodyRule};

/// A request's body: what was received of it, and whether more is to come. None by default.
#[derive(Debug)]
pub(super) struct Content {
    /// How it is sent on.
    pub(super) framing: RequestFraming,
    /// What was received before a server was asked.
    pub(super) held: Vec<Bytes>,
    /// The rest is sent on as it comes.
    pub(super) streams: bool,
    /// Bytes that may still come.
    pub(super) left: u64,
    /// Some of what came is here no more.
    pub(super) is_consumed: bool,
    /// What of its trailers does not go on.
    pub(super) nominated: Nominated,
}

impl Default for Content {
    fn default() -> Self {
        Content {
            framing: RequestFraming::None,
            held: Vec::new(),
            streams: false,
            left: 0,
            is_consumed: false,
            nominated: Nominated::default(),
        }
    }
}

impl Content {
    /// Of a request without a body.
    pub(super) fn none(head: &RequestHead, body: &RequestBody) -> Option<Self> {
        if body.framing().has_body() {
            return None;
        }
        // An announced length of zero is said again: some servers ask for it.
        let is_announced = head.count(Known::ContentLength) > 0;
        let framing = if is_announced { RequestFraming::Sized(0) } else { RequestFraming::None };
        Some(Content { framing, ..Content::default() })
    }

    /// Receives as much of the body as `rule` wants before a server is asked.
    pub(super) async fn gather(
        head: &RequestHead,
        body: &mut RequestBody,
        rule: &Proxy,
    ) -> Result<Self, Trouble> {
        if let Some(content) = Content::none(head, body) {
            return Ok(content);
        }
        let content = Content {
            framing: body.framing(),
            streams: true,
            left: rule.body_limit,
            nominated: Nominated::by_request(head),
            ..Content::default()
        };
        if let RequestFraming::Sized(length) = content.framing
            && length > rule.body_limit
        {
            return Err(Trouble::BodyTooLarge);
        }
        let RequestBodyRule::Buffered(limit) = rule.request_body else { return Ok(content) };
        match content.framing {
            RequestFraming::Sized(length) if length > limit => Ok(content),
            // What a future of its own costs is small beside a body.
            _ => Box::pin(content.receive(body, limit)).await,
        }
    }

    /// Receives until the end, or until more than `limit` bytes are here.
    async fn receive(mut self, body: &mut RequestBody, limit: u64) -> Result<Self, Trouble> {
        let mut length = 0;
        while length <= limit {
            let Some(bytes) = body.chunk().await.map_err(|_| Trouble::ClientBody)? else {
                self.streams = false;
                // Of what is here the length is known, which all servers understand.
                // Trailers need chunks.
                if body.trailers().is_empty() {
                    self.framing = RequestFraming::Sized(length);
                }
                return Ok(self);
            };
            self.take(bytes.len() as u64)?;
            length += bytes.len() as u64;
            self.held.push(bytes);
        }
        Ok(self)
    }

    /// So many bytes more have come.
    pub(super) fn take(&mut self, bytes: u64) -> Result<(), Trouble> {
        self.left = self.left.checked_sub(bytes).ok_or(Trouble::BodyTooLarge)?;
        Ok(())
    }

    /// All of it, where it is here, has a known length and is short; also where there is none.
    pub(super) fn is_short(&self, limit: usize) -> bool {
        match self.framing {
            RequestFraming::None => true,
            RequestFraming::Sized(length) => !self.streams && length <= limit as u64,
            RequestFraming::Chunked => false,
        }
    }
}
