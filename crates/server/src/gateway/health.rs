//! Requests of our own that tell whether a server lives.

use std::fmt;
use std::io;
use std::sync::{Arc, Weak};
use std::time::Duration;

use sluicegate::{Reactor, Registration, SendContext, Socket, Target};
use sluicegate_http::{RequestFraming, client};

use super::connect::{connect, within};
use super::pool::Pool;
use super::server::{Server, millis};
use super::{error, hash, proxy_protocol};
use crate::config::{self, ProxyProtocol};
use crate::log::tell;

/// How long a server that has answered may take to end the connection.
const GRACE: Duration = Duration::from_millis(100);

/// Asks `server` again and again, for as long as its pool is what is served.
pub(super) async fn check(
    reactor: Reactor,
    pool: Weak<Pool>,
    server: Arc<Server>,
    health: config::Health,
) {
    let Some((name, request)) = pool.upgrade().map(|pool| {
        let request = request(&health, &server, pool.rule.proxy_protocol);
        (pool.rule.name.clone(), request)
    }) else {
        return;
    };
    let context = Arc::new(SendContext::default());
    let (mut fails, mut passes) = (0_u32, 0_u32);
    // The first comes soon, but not that of all servers at once.
    let mut pause = spread(health.interval.min(Duration::from_secs(1)), 0, 100);
    loop {
        reactor.sleep(pause).await;
        pause = spread(health.interval, 90, 110);
        let asked = ask(&reactor, &context, &server.target, &request, &health);
        let outcome = match within(&reactor, health.timeout, asked).await {
            Some(Ok((status, mut socket))) => {
                within(&reactor, GRACE, end(&mut socket)).await;
                let is_well = (health.status.0..=health.status.1).contains(&status);
                if is_well { Ok(()) } else { Err(Why::Status(status)) }
            }
            Some(Err(why)) => Err(why),
            None => Err(Why::Timeout(health.timeout)),
        };
        let Some(pool) = pool.upgrade().filter(|pool| !pool.has_ended()) else { return };
        let now = millis(reactor.now());
        match outcome {
            // This host has nothing left to ask with: that says nothing of the server.
            Err(Why::Network(error)) if error::is_ours(&error) => {}
            Ok(()) => {
                (fails, passes) = (0, passes.saturating_add(1));
                if passes >= health.passes && !server.is_up() {
                    pool.found(&server, true, now);
                    tell(format_args!("pool `{name}`: {} is up again", server.name));
                    // Somebody may wait for it.
                    pool.queue.room();
                }
            }
            Err(why) => {
                (fails, passes) = (fails.saturating_add(1), 0);
                if fails >= health.fails && server.is_up() {
                    pool.found(&server, false, now);
                    tell(format_args!("pool `{name}`: {} is down: {why}", server.name));
                }
            }
        }
    }
}

/// Between `from` and `to` hundredths of `duration`, another one each time.
fn spread(duration: Duration, from: u32, to: u32) -> Duration {
    let random = hash::random() % 1000;
    let thousandths = u64::from(from) * 10 + u64::from(to - from) * random / 100;
    let nanos = duration.as_nanos() * u128::from(thousandths) / 1000;
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

/// Why a server is thought to be down.
#[derive(Debug)]
enum Why {
    Network(io::Error),
    Timeout(Duration),
    Status(u16),
    Answer(client::ResponseOffence),
    /// It ended the connection before it had answered.
    Silent,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Network(error) => error.fmt(f),
            Why::Timeout(timeout) => write!(f, "no answer within {timeout:?}"),
            Why::Status(status) => write!(f, "it answers with status {status}"),
            Why::Answer(offence) => write!(f, "its answer is no HTTP: {offence}"),
            Why::Silent => write!(f, "it closes the connection without an answer"),
        }
    }
}

impl From<io::Error> for Why {
    fn from(error: io::Error) -> Self {
        Why::Network(error)
    }
}

fn request(health: &config::Health, server: &Server, version: Option<ProxyProtocol>) -> Vec<u8> {
    let mut request = Vec::new();
    if let Some(version) = version {
        proxy_protocol::write_local(&mut request, version);
    }
    let host = health.host.as_deref().unwrap_or(&server.authority);
    let fields =
        format!("Host: {host}\r\nUser-Agent: Sluicegate health check\r\nConnection: close\r\n");
    let target = health.path.as_bytes();
    client::request_head(&mut request, b"GET", target, fields.as_bytes(), RequestFraming::None);
    request
}

/// The status that the server answers with.
async fn ask(
    reactor: &Reactor,
    context: &Arc<SendContext>,
    target: &Target,
    request: &[u8],
    health: &config::Health,
) -> Result<(u16, Socket<Registration>), Why> {
    let mut socket = connect(reactor, context, target, health.timeout).await?;
    let sent = socket.queue(request.to_vec());
    let sent = match sent {
        Ok(_) => socket.flush().await.map_err(io::Error::other),
        Err(error) => Err(io::Error::other(error)),
    };
    let head = answer(&mut socket).await;
    // It may answer without having read all of it.
    let head = match (head, sent) {
        (Err(_), Err(error)) => return Err(Why::Network(error)),
        (head, _) => head?,
    };
    Ok((head.status(), socket))
}

async fn answer(socket: &mut Socket<Registration>) -> Result<client::ResponseHead, Why> {
    let limits = client::limits();
    let (mut head, mut scanned) = (client::ResponseHead::new(), 0);
    let mut received = Vec::with_capacity(4 * 1024);
    loop {
        if received.len() == received.capacity() {
            received.reserve(received.len());
        }
        if socket.receive(&mut received).await? == 0 {
            return Err(Why::Silent);
        }
        while let Some(end) = head.parse(&received, &mut scanned, &limits).map_err(Why::Answer)? {
            // Interim responses may come before it.
            if head.status() >= 200 {
                return Ok(head);
            }
            received.drain(..end);
            head.clear();
            scanned = 0;
        }
    }
}

/// Lets the server end the connection, as it was asked to: one that is closed with
/// something unread is reset, which some servers log. Many keep it open all the same.
async fn end(socket: &mut Socket<Registration>) {
    let mut rest = Vec::with_capacity(16 * 1024);
    while socket.receive(&mut rest).await.is_ok_and(|count| count > 0) {
        rest.clear();
    }
}
