//! The head of an answer while it arrives.

use std::task::{Context, Poll};

use sluicegate::{Registration, Socket};
use sluicegate_http::client::forward::response_fields;
use sluicegate_http::client::{INTERIM, ResponseHead, ResponseOffence};
use sluicegate_http::{Interim, Limits};

use super::scratch::INPUT;
use super::trouble::Trouble;

/// Receives the head of an answer, and passes on what comes before it.
#[derive(Debug, Default)]
pub(super) struct Arriving {
    /// Bytes that were looked at.
    scanned: usize,
    pub(super) interims: u32,
    /// The upstream was told at once that we have a part of its head.
    is_told: bool,
}

impl Arriving {
    /// Ready when the head is complete, at the beginning of `input`: how long it is.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Socket<Registration>,
        input: &mut Vec<u8>,
        head: &mut ResponseHead,
        limits: &Limits,
        interim: &Interim,
    ) -> Poll<Result<usize, Trouble>> {
        loop {
            if input.len() == input.capacity() {
                input.reserve(INPUT);
            }
            match from.poll_receive(cx, input) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(Trouble::Closed)),
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(Trouble::Broken(error))),
            }
            while let Some(length) = head.parse(input, &mut self.scanned, limits)? {
                if !head.is_interim() {
                    return Poll::Ready(Ok(length));
                }
                self.interims += 1;
                if self.interims > INTERIM {
                    return Poll::Ready(Err(ResponseOffence::TooManyInterim.into()));
                }
                // RFC 9110 section 15.2: a proxy MUST forward them, but for a 100 that the client has
                // not asked for, which the engine knows.
                interim.send(head.status(), &response_fields(head).fields);
                input.drain(..length);
                self.scanned = 0;
                if input.is_empty() {
                    break;
                }
            }
            // The rest may wait for this, where the head is written in pieces.
            if !std::mem::replace(&mut self.is_told, true) {
                from.acknowledge_now();
            }
        }
    }
}
