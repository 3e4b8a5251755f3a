//! A request while its handler makes the answer.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::{Poll, ready};

use sluicegate::{Readiness, Segment};

use super::exchange::Exchange;
use super::inbound::Inbound;
use super::outbound::Outbound;
use super::upload::Upload;
use crate::handler::{Failure, Handler};
use crate::{Request, Response};

impl<R: Readiness, H: Handler> Exchange<'_, R, H> {
    /// Runs the handler, and receives the body as it asks for it. What was
    /// answered before is sent meanwhile.
    pub(super) async fn handle(
        &mut self,
        inbound: &mut Inbound,
        request: &mut Request,
        mut upload: Option<&mut Upload>,
    ) -> Result<Response, Failure> {
        let Exchange { socket, service, timer, account, interim, .. } = self;
        let mut handling = pin!(service.handler.handle(request));
        let mut outbound = Outbound { socket, timer, limits: &service.limits, account };
        let mut hung_up = false;
        poll_fn(|cx| {
            loop {
                let handled = handling.as_mut().poll(cx);
                if let Some(heads) = interim.take() {
                    // Nobody has to get one: where there is no room none is sent.
                    let _ = outbound.socket.queue(Segment::given(heads));
                }
                if let Poll::Ready(response) = handled {
                    return Poll::Ready(Ok(response));
                }
                outbound.account.waited = true;
                let served = match upload.as_mut() {
                    Some(upload) => upload.poll_serve(cx, inbound, &mut outbound, interim),
                    None => Poll::Ready(None),
                };
                if served == Poll::Ready(Some(())) || !interim.sleep(cx) {
                    continue;
                }
                ready!(served);
                return outbound.poll_meanwhile(cx, &mut hung_up).map(Err);
            }
        })
        .await
    }
}
