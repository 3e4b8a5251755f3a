//! Answers from upstreams by HTTP/1.1.
//!
//! ```text
//! request ─ content ─ obtain ─ exchange: head, content ──► upstream
//!              ▲         ▲         │
//!              │         └─ retry ─┤ trouble
//!            upload                ▼ head
//!                       response: from memory, a `Fetch`, a `Tunnel`, or a file of ours
//! ```
//! What has no body and finds an idle connection takes no other step than `quick`. Else
//! `answer` asks one server after another as far as `retry` allows, `exchange` is one
//! request on one connection, `content` what the request has for a body and `upload`
//! its way to the upstream; `fetch` relays an answer's body, which `incoming` reads,
//! and `tunnel` whatever two parties say after an upgrade: `relay` has what both decide,
//! without a socket or a clock. `note` is what log and
//! metrics are told, `trouble` what can go wrong.

mod accel;
mod answer;
mod arriving;
mod content;
mod disk;
mod exchange;
mod fetch;
mod held;
mod incoming;
mod local;
mod note;
mod quick;
mod relay;
mod respond;
mod retry;
mod rules;
mod scratch;
mod trouble;
mod tunnel;
mod upload;

use std::sync::Arc;

use sluicegate::{SendContext, SpoolBudget, SpoolOptions};
use sluicegate_http::client::forward::{Onward, RequestRules};
use sluicegate_http::{
    Endpoints, Fields, Interim, Limits, Normal, RequestBody, RequestFraming, RequestHead, Response,
    client,
};

use self::rules::request_rules;
use self::scratch::Scratches;
use crate::config;
use crate::gateway::{Pool, Upstreams};
use crate::observe::RelayStats;

pub(crate) use self::note::{Note, PROOFS, Place, Told};

/// What all proxies of a worker share.
#[derive(Clone, Debug)]
pub(crate) struct Shared {
    pub(crate) upstreams: Upstreams,
    budget: Arc<SpoolBudget>,
    counts: Arc<RelayStats>,
    scratches: Scratches,
}

/// A route whose answers come from a pool.
#[derive(Debug)]
pub(crate) struct Proxy {
    rule: Arc<config::Proxy>,
    pool: Arc<Pool>,
    /// What is changed of requests.
    rules: RequestRules,
    /// For what is not spooled: no more is held than what is moving. So are requests' bodies,
    /// since it is the client that would be freed.
    moving: Arc<SpoolOptions>,
    /// Bounds of an answer's head and chunks; of its body there is none.
    limits: Limits,
}

/// A request for a proxy.
#[derive(Debug)]
pub(crate) struct Asked<'a> {
    pub(crate) head: &'a RequestHead,
    pub(crate) path: Normal<'a>,
    pub(crate) endpoints: &'a Endpoints,
    pub(crate) body: &'a mut RequestBody,
    pub(crate) interim: &'a Interim,
}

impl Asked<'_> {
    /// What goes before it to the upstream `authority`, on a connection that is kept.
    fn onward<'a>(&'a self, authority: &'a str, framing: RequestFraming) -> Onward<'a> {
        let Asked { endpoints, path, .. } = self;
        Onward { endpoints, path, authority, framing, closes: false }
    }
}

/// What a proxy answers.
#[derive(Debug)]
pub(crate) enum Outcome {
    Response(Response),
    /// The upstream asks us to send a file of ours (`X-Accel-Redirect`).
    File(Elsewhere),
}

/// A place of the same site, with the header fields that the upstream wants on what is there.
#[derive(Debug)]
pub(crate) struct Elsewhere {
    /// A request target in origin form.
    target: String,
    fields: Fields,
    note: Arc<Note>,
}

impl Shared {
    pub(crate) fn new(
        upstreams: Upstreams,
        budget: Arc<SpoolBudget>,
        counts: Arc<RelayStats>,
    ) -> Self {
        Shared { upstreams, budget, counts, scratches: Scratches::default() }
    }

    fn spool(&self, options: &Arc<SpoolOptions>, context: &Arc<SendContext>) -> sluicegate::Spool {
        sluicegate::Spool::new(options, &self.budget, context)
    }
}

impl Proxy {
    pub(crate) fn new(rule: Arc<config::Proxy>, pool: Arc<Pool>) -> Self {
        let moving = Arc::new(SpoolOptions { memory: 0, disk: 0, ..(*rule.spool).clone() });
        let rules = request_rules(&rule);
        Proxy { rule, pool, rules, moving, limits: client::limits() }
    }
}
