//! Bodies that are made while they are sent.

use std::future::poll_fn;
use std::task::Poll;

use bytes::Bytes;
use sluicegate::{Readiness, Segment};

use super::outbound::Outbound;
use crate::chunked::{CRLF, LAST_CHUNK, chunk_head};
use crate::encode::Framing;
use crate::handler::Failure;
use crate::response::{BodySource, Fields, Frame};

/// The end of a chunked body. RFC 9112 section 7.1: last-chunk, trailer section, CRLF.
pub(super) fn last_chunk(trailers: Option<&Fields>) -> Segment {
    let Some(trailers) = trailers else { return Segment::given(LAST_CHUNK) };
    Segment::given([b"0\r\n", trailers.as_bytes(), CRLF].concat())
}

impl<R: Readiness> Outbound<'_, R> {
    /// Sends a body while it is made: one frame is queued at a time, and the
    /// next asked for when the kernel has accepted it.
    pub(super) async fn stream(
        &mut self,
        mut source: Box<dyn BodySource>,
        framing: Framing,
    ) -> Result<(), Failure> {
        let mut left = source.length();
        let mut trailers = None;
        loop {
            let mut hung_up = false;
            let frame = poll_fn(|cx| match source.poll_frame(cx) {
                Poll::Ready(frame) => Poll::Ready(Ok(frame)),
                // The head, and what the source has made so far, are not held
                // back until it makes more.
                Poll::Pending => self.poll_meanwhile(cx, &mut hung_up).map(Err),
            });
            let frame = match frame.await? {
                None => break,
                Some(frame) => frame.map_err(Failure::Body)?,
            };
            match frame {
                Frame::Data(segment) if segment.is_empty() => continue,
                Frame::Data(segment) => {
                    if let Some(left) = &mut left {
                        *left = left.checked_sub(segment.len()).ok_or_else(|| {
                            Failure::Body("it is longer than its source said".into())
                        })?;
                    }
                    self.queue_data(segment, framing).await?;
                }
                Frame::Trailers(fields) => {
                    trailers = Some(fields);
                    break;
                }
            }
            self.flush().await?;
        }
        if left.is_some_and(|left| left > 0) {
            return Err(Failure::Body("it is shorter than its source said".into()));
        }
        if framing == Framing::Chunked {
            self.queue(last_chunk(trailers.as_ref())).await?;
        }
        Ok(())
    }

    async fn queue_data(&mut self, segment: Segment, framing: Framing) -> Result<(), Failure> {
        if framing != Framing::Chunked {
            return self.queue(segment).await;
        }
        let head = Bytes::copy_from_slice(chunk_head(segment.len()).as_bytes());
        self.queue(Segment::Memory(head)).await?;
        self.queue(segment).await?;
        self.queue(Segment::given(CRLF)).await
    }
}
