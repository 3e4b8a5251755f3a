//! A handler that is watched.

use std::sync::Arc;

use sluicegate::SendError;
use sluicegate_http::{Answered, Failure, Handler, Observe, Request, Response};

use super::access_log::{AccessLog, Writer};
use super::stats::{Ended, Stats, WorkerStats};

/// Counts what a worker's handler answers, and writes the access log.
pub(crate) struct Observed<H> {
    handler: H,
    stats: Arc<Stats>,
    worker: usize,
    log: Option<(Writer, Observe)>,
}

impl<H> Observed<H> {
    /// Watches `handler`, which is that of the worker with this number.
    pub(crate) fn new(
        handler: H,
        stats: Arc<Stats>,
        worker: usize,
        log: Option<&Arc<AccessLog>>,
    ) -> Self {
        let log = log.map(|log| {
            log.count_lost_in(&stats);
            (log.writer(), log.observes())
        });
        Observed { handler, stats, worker, log }
    }

    /// What it watches.
    pub(crate) fn inner(&self) -> &H {
        &self.handler
    }

    fn counts(&self) -> &WorkerStats {
        self.stats.worker(self.worker)
    }
}

impl<H: Handler> Handler for Observed<H> {
    fn handle(&self, request: &mut Request) -> impl Future<Output = Response> {
        self.handler.handle(request)
    }

    fn refuse(&self, status: u16) -> Response {
        self.handler.refuse(status)
    }

    fn tend(&self) {
        if let Some((writer, _)) = &self.log {
            writer.flush();
        }
        self.handler.tend();
    }

    fn failed(&self, failure: &Failure) {
        if let Some(how) = ended(failure) {
            self.counts().ended(how);
        }
        self.handler.failed(failure);
    }

    fn answering(&self, status: u16) {
        self.counts().answered(status);
        self.handler.answering(status);
    }

    fn observes(&self) -> Observe {
        let ours = self.log.as_ref().map_or(Observe::Nothing, |(_, observe)| *observe);
        ours.max(self.handler.observes())
    }

    fn answered(&self, answered: &Answered<'_>) {
        if let Some((writer, _)) = &self.log {
            writer.log(answered);
        }
        self.handler.answered(answered);
    }
}

/// How a failure is counted.
fn ended(failure: &Failure) -> Option<Ended> {
    Some(match failure {
        Failure::Offence(_) | Failure::Upload(_) => Ended::Offence,
        // Taken from a reader that was too slow for the others.
        Failure::Unread | Failure::Send(SendError::CutLoose) => Ended::Unread,
        Failure::Gone => Ended::Gone,
        Failure::Receive(_) | Failure::Send(SendError::Connection(_)) => Ended::Network,
        Failure::Relay(_) => Ended::Upstream,
        Failure::Send(SendError::File(_)) | Failure::Body(_) => Ended::Ours,
        _ => return None,
    })
}
