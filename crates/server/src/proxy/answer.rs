//! One server after another, until one has answered.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::Instant;

use super::content::Content;
use super::exchange::{Begun, Exchange};
use super::note::{Note, Place, Tale, millis};
use super::quick::{Quick, Start};
use super::trouble::Trouble;
use super::{Asked, Outcome, Proxy, Shared};
use crate::gateway::{Asker, Chosen, ObtainError, Tried, Upstream};

impl Proxy {
    /// Answers a request from the pool.
    pub(crate) async fn answer(
        &self,
        shared: &Shared,
        asked: &mut Asked<'_>,
        place: Place<'_>,
    ) -> Outcome {
        let mut tale = Tale::new(shared, place);
        // At most one turn of the reactor old.
        let since = shared.upstreams.now();
        // Kept in one place while it is waited for: this is part of what every connection that
        // is active has memory for.
        let mut quick = Quick::begin(self, shared, asked, &mut tale, since);
        let came = match &mut quick {
            Ok(quick) => Some(poll_fn(|cx| quick.poll(cx, self, shared, asked.interim)).await),
            Err(_) => None,
        };
        let later = match self.settle(shared, asked, &mut tale, quick, came) {
            Ok(outcome) => return outcome,
            // Boxed, so that others have no room for it.
            Err(start) => Box::pin(self.answer_later(shared, asked, tale, since, start)),
        };
        later.await
    }

    /// Answers a request that has taken the quick way, if that was to its end.
    fn settle(
        &self,
        shared: &Shared,
        asked: &mut Asked<'_>,
        tale: &mut Tale<'_>,
        quick: Result<Quick, Start>,
        came: Option<Result<usize, Trouble>>,
    ) -> Result<Outcome, Start> {
        match (quick?, came) {
            (quick, Some(Ok(length))) => {
                let begun = quick.begun(shared, length);
                let result = self.respond(shared, asked, begun, tale);
                Ok(tale.close(result))
            }
            (quick, Some(Err(trouble))) => Err(Start::Failed(quick.failed(trouble, tale))),
            // Nobody has waited for it.
            (quick, None) => Err(Start::Failed(quick.failed(Trouble::Closed, tale))),
        }
    }

    /// Answers a request that takes longer.
    async fn answer_later(
        &self,
        shared: &Shared,
        asked: &mut Asked<'_>,
        mut tale: Tale<'_>,
        since: Instant,
        start: Start,
    ) -> Outcome {
        let result = match self.ask(shared, asked, tale.note(), since, start).await {
            Ok(begun) => self.respond(shared, asked, begun, &mut tale),
            Err(trouble) => Err(trouble),
        };
        tale.close(result)
    }

    /// Sends the request to a server, and to others where that is safe and one fails.
    async fn ask(
        &self,
        shared: &Shared,
        asked: &mut Asked<'_>,
        note: &Arc<Note>,
        since: Instant,
        start: Start,
    ) -> Result<Begun, Trouble> {
        let (mut chosen, mut first) = match start {
            Start::Anew => (None, None),
            Start::Chosen(chosen) => (Some(chosen), None),
            Start::Failed(failed) => (None, Some(failed)),
        };
        let mut content = Content::gather(asked.head, asked.body, &self.rule).await?;
        let (mut tried, mut left, mut fresh) = (Tried::default(), self.rule.retries, false);
        let mut before: Option<Trouble> = None;
        loop {
            let failed = if let Some(failed) = first.take() {
                failed
            } else {
                let chosen = chosen.take();
                let upstream = match self
                    .obtain(shared, asked, chosen, &mut tried, fresh, note)
                    .await
                {
                    Ok(upstream) => upstream,
                    Err(error) if error.may_retry() && left > 0 => {
                        left -= 1;
                        before = Some(error.into());
                        continue;
                    }
                    // That there is no other server is not what the request failed for.
                    Err(ObtainError::NoServer(_) | ObtainError::Busy(_)) if before.is_some() => {
                        return Err(before.unwrap_or(Trouble::Closed));
                    }
                    Err(error) => return Err(error.into()),
                };
                let content = &mut content;
                let mut exchange = Exchange { proxy: self, shared, note, asked, content };
                match exchange.run(upstream, since).await {
                    Ok(begun) => return Ok(begun),
                    Err(failed) => failed,
                }
            };
            if !failed.may_be_repeated(asked.head.method(), !content.is_consumed) {
                return Err(failed.trouble);
            }
            // A connection that was idle for too long costs no server its turn, once.
            if failed.is_stale() && !fresh {
                fresh = true;
            } else if left > 0 {
                left -= 1;
            } else {
                return Err(failed.trouble);
            }
            before = Some(failed.trouble);
        }
    }

    async fn obtain(
        &self,
        shared: &Shared,
        asked: &Asked<'_>,
        chosen: Option<Chosen>,
        tried: &mut Tried,
        fresh: bool,
        note: &Note,
    ) -> Result<Upstream, ObtainError> {
        let asker = Asker { endpoints: asked.endpoints, path: asked.path.as_bytes() };
        let begun = shared.upstreams.now();
        let before = tried.waited.unwrap_or_default();
        let (upstreams, pool) = (&shared.upstreams, &self.pool);
        let obtained = match chosen {
            Some(chosen) => upstreams.obtain_chosen(pool, asker, chosen, tried, fresh).await,
            None => upstreams.obtain(pool, asker, tried, fresh).await,
        };
        note.change(|told| {
            told.queue_ms =
                tried.waited.map(|waited| u64::try_from(waited.as_millis()).unwrap_or(u64::MAX));
            match &obtained {
                Ok(upstream) => {
                    told.tries += 1;
                    told.upstream = Some(upstream.name());
                    if !upstream.reused {
                        let connected =
                            begun + tried.waited.unwrap_or_default().saturating_sub(before);
                        told.connect_ms = Some(millis(connected, Instant::now()));
                    }
                }
                Err(
                    ObtainError::Connect { server, .. } | ObtainError::Exhausted { server, .. },
                ) => {
                    told.tries += 1;
                    told.upstream = Some(server.as_str().into());
                }
                Err(_) => {}
            }
        });
        obtained
    }
}
