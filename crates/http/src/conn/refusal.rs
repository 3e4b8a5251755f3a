//! Requests that are refused, since nobody can read them or they are beyond a limit.

use sluicegate::Readiness;

use super::Ending;
use super::exchange::Exchange;
use super::inbound::Inbound;
use super::outbound::Asked;
use crate::Offence;
use crate::handler::{Failure, Handler};

impl<R: Readiness, H: Handler> Exchange<'_, R, H> {
    /// Answers an offence, after which nobody can say where the next message
    /// begins: the connection ends.
    pub(super) async fn refuse(
        &mut self,
        inbound: &mut Inbound,
        offence: Offence,
        head_only: bool,
    ) -> Result<Ending, Failure> {
        let asked = Asked { head_only, chunked: true, last: true };
        let page = self.service.handler.refuse(offence.status());
        self.service.handler.answering(page.status());
        self.outbound().respond(asked, page).await?;
        if let Some(acks) = self.flush().await? {
            // Whatever ends the wait, the request was refused.
            let _ = self.await_acks(inbound, acks, true).await;
        }
        Err(offence.into())
    }

    /// As [`Exchange::refuse`], where not even the head can be read.
    pub(super) async fn refuse_head(
        &mut self,
        inbound: &mut Inbound,
        offence: Offence,
    ) -> Result<Ending, Failure> {
        let requests = self.served.saturating_add(1);
        let observe = self.service.handler.observes();
        self.account.begin(observe, false, false, self.socket.now(), requests);
        self.refuse(inbound, offence, false).await
    }
}
