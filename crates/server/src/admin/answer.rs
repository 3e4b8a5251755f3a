//! Answers those who look.

use std::cell::RefCell;
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant, SystemTime};

use serde::Serialize;
use sluicegate::Segment;
use sluicegate_http::{Body, Handler, Method, Request, Response};

use super::figures::{Figures, unix};
use super::history::{History, Point, Rates, Sample};
use super::process::Process;
use super::sources::Sources;
use super::{metrics, page};

/// Methods that the pages have. RFC 9110 section 10.2.1.
const ALLOW: &str = "GET, HEAD";

const PAGES: &str = "404 Not Found\n\n\
    /status   for people; /status.json has the same for programs\n\
    /metrics  for Prometheus\n\
    /healthz  for load balancers\n";

/// Answers with the figures.
#[derive(Debug)]
pub(super) struct Admin {
    sources: Sources,
    process: Process,
    history: RefCell<History>,
}

/// The figures of this moment, and what became of them in the last minute.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Status {
    #[serde(flatten)]
    pub(super) figures: Figures,
    /// None before there are two samples.
    pub(super) rates: Windows,
    /// Oldest first.
    pub(super) history: Vec<Point>,
    /// When it was, in Unix time.
    #[serde(rename = "now_seconds")]
    pub(super) now: u64,
}

/// Rates over the last second, ten seconds, and minute.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Windows {
    #[serde(rename = "1s")]
    pub(super) second: Option<Rates>,
    #[serde(rename = "10s")]
    pub(super) ten: Option<Rates>,
    #[serde(rename = "60s")]
    pub(super) minute: Option<Rates>,
}

impl Admin {
    pub(super) fn new(sources: Sources) -> Self {
        Admin { sources, process: Process::open(), history: RefCell::default() }
    }

    /// Takes a sample, from which rates are made.
    pub(super) fn sample(&self, at: Instant) {
        let stats = &self.sources.stats;
        let requests = stats.workers().iter().map(crate::observe::WorkerStats::answers).sum();
        self.history.borrow_mut().push(Sample {
            at,
            requests,
            bytes: stats.context.counters.ways().total(),
            accepted: stats.accepted(),
            open: stats.open(),
            cpu: sluicegate::os::process_cpu(),
        });
    }

    fn figures(&self) -> Figures {
        Figures::read(&self.sources, &self.process)
    }

    fn status(&self) -> Status {
        let history = self.history.borrow();
        let over = |seconds| history.rates(Duration::from_secs(seconds));
        Status {
            figures: self.figures(),
            rates: Windows { second: over(1), ten: over(10), minute: over(60) },
            history: history.points(Instant::now()),
            now: unix(SystemTime::now()),
        }
    }

    fn answer(&self, method: Method, path: &str, query: Option<&str>) -> Response {
        if !matches!(path, "/" | "/status" | "/status.json" | "/metrics" | "/healthz") {
            return Response::text(404, PAGES);
        }
        if !matches!(method, Method::Get | Method::Head) {
            return with(Response::status_page(405), &[("Allow", ALLOW)]);
        }
        match path {
            "/metrics" => content(metrics::TYPE, metrics::render(&self.figures())),
            "/healthz" if (self.sources.draining)() => Response::text(503, "draining\n"),
            "/healthz" => Response::text(200, "ok\n"),
            "/status.json" => match serde_json::to_vec_pretty(&self.status()) {
                Ok(json) => content("application/json", json),
                Err(_) => Response::status_page(500),
            },
            "/status" if query == Some("part") => content(page::TYPE, page::part(&self.status())),
            "/status" => {
                let nonce = nonce();
                let page = content(page::TYPE, page::render(&self.status(), &nonce));
                with(page, &[("Content-Security-Policy", &policy(&nonce))])
            }
            // Relative: it leads right behind a proxy, too.
            _ => with(Response::status_page(302), &[("Location", "status")]),
        }
    }
}

fn content(kind: &str, text: impl Into<bytes::Bytes>) -> Response {
    let response = Response::new(200).with_body(Body::Segment(Segment::given(text)));
    with(response, &[("Content-Type", kind)])
}

fn with(mut response: Response, fields: &[(&str, &str)]) -> Response {
    for (name, value) in fields {
        // All of them are valid.
        let _ = response.add(name, value);
    }
    response
}

/// The page's own style and script, and what they fetch from here: nothing else
/// runs, is shown, or is sent anywhere.
fn policy(nonce: &str) -> String {
    format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; \
         connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'self'"
    )
}

/// Nobody can tell it beforehand: the keys of the standard library's hash come
/// from the kernel's random numbers.
fn nonce() -> String {
    let random = || RandomState::new().hash_one(0);
    format!("{:016x}{:016x}", random(), random())
}

impl Handler for Admin {
    async fn handle(&self, request: &mut Request) -> Response {
        let head = &request.head;
        let response = self.answer(head.method(), head.path(), head.query());
        with(
            response,
            &[
                ("Cache-Control", "no-store"),
                ("X-Content-Type-Options", "nosniff"),
                ("Cross-Origin-Resource-Policy", "same-origin"),
                ("Referrer-Policy", "no-referrer"),
            ],
        )
    }
}
