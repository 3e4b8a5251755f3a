//! Clients that ask, read at their own pace, and check every byte.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::net::sockopt;
use sluicegate_testkit::corpus;

use crate::proxied::client::{Client, Expected, Reply};
use crate::proxied::incoming::{Broken, Pace};

const CLIENTS: usize = 12;

/// Every byte of a request's content is of this corpus.
const SEED: u64 = 5;

/// What they have seen.
#[derive(Debug, Default)]
pub(crate) struct Told {
    pub(crate) asked: u64,
    /// Answers that were whole, and right.
    pub(crate) whole: u64,
    /// Answers that ended early, and were seen to.
    pub(crate) cut: u64,
    /// Answers of the program itself: 502, 503, 504.
    pub(crate) refused: u64,
    /// Connections that ended before an answer.
    pub(crate) unanswered: u64,
    pub(crate) bytes: u64,
    /// Requests of which a head came.
    pub(crate) answered: Ids,
}

/// Too many to be shown.
#[derive(Default)]
pub(crate) struct Ids(Vec<String>);

impl std::fmt::Debug for Ids {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.0.len())
    }
}

impl Ids {
    pub(crate) fn extend(&mut self, more: Ids) {
        self.0.extend(more.0);
    }
}

impl<'a> IntoIterator for &'a Ids {
    type Item = &'a String;
    type IntoIter = std::slice::Iter<'a, String>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

pub(crate) struct Honest {
    stop: Arc<AtomicBool>,
    whole: Arc<AtomicU64>,
    clients: Vec<JoinHandle<Told>>,
}

impl Honest {
    /// To be called on the clients' host.
    ///
    /// The how many-th time it is makes their requests others.
    pub(crate) fn start(server: SocketAddr, round: u64) -> Self {
        let (stop, whole) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let clients = (0..CLIENTS)
            .map(|number| {
                let (stop, whole) = (Arc::clone(&stop), Arc::clone(&whole));
                thread::spawn(move || ask(server, (round, number), &stop, &whole))
            })
            .collect();
        Honest { stop, whole, clients }
    }

    pub(crate) fn whole(&self) -> u64 {
        self.whole.load(Ordering::SeqCst)
    }

    /// One of them has come to its end before its time.
    pub(crate) fn has_failed(&self) -> bool {
        self.clients.iter().any(JoinHandle::is_finished)
    }

    /// Ends them, and returns what they tell: none has seen what may not be.
    pub(crate) fn finish(mut self) -> Told {
        self.stop.store(true, Ordering::SeqCst);
        let mut all = Told::default();
        for client in std::mem::take(&mut self.clients) {
            let told = client.join().expect("no honest client is given what is wrong");
            all.asked += told.asked;
            all.whole += told.whole;
            all.cut += told.cut;
            all.refused += told.refused;
            all.unanswered += told.unanswered;
            all.bytes += told.bytes;
            all.answered.extend(told.answered);
        }
        all
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(
    server: SocketAddr,
    (round, number): (u64, usize),
    stop: &AtomicBool,
    whole: &AtomicU64,
) -> Told {
    let mut told = Told::default();
    let mut kept: Option<Client> = None;
    while !stop.load(Ordering::SeqCst) {
        let id = format!("{round}-{number}-{}", told.asked);
        // A seed of its own, so that nobody gets what is another's.
        let seed = 1_000_000 * (round * 100 + number as u64 + 1) + told.asked;
        let turn = told.asked % 16;
        told.asked += 1;
        let mut client = kept.take().unwrap_or_else(|| {
            let client =
                if number.is_multiple_of(4) { Client::narrow(server) } else { Client::new(server) };
            learn_of_resets(&client);
            let pace = if number.is_multiple_of(4) { Pace::slow(64 << 10) } else { Pace::FAST };
            client.paced(pace)
        });
        let version = if turn == 7 { "HTTP/1.0" } else { "HTTP/1.1" };
        let result = if turn % 4 == 3 {
            post(&mut client, &id, 1 + seed * 7_919 % 300_000)
        } else {
            let length =
                [1_000, 50_000, 300_000, 3_000_000][(turn % 5 % 4) as usize] + seed % 1_000;
            let kind = ["sized", "chunked"][(turn / 2 % 2) as usize];
            get(&mut client, &format!("/{kind}/{seed}/{length}?honest={id}"), version, seed, length)
        };
        match result {
            Ok(reply) => {
                told.bytes += reply.length;
                let is_silent = matches!(reply.broken, Some(Broken::Silent));
                assert!(!is_silent, "{id}: {}", reply.head.raw);
                told.answered.0.push(id);
                if reply.broken.is_some() {
                    told.cut += 1;
                } else if reply.status == 200 {
                    told.whole += 1;
                    whole.fetch_add(1, Ordering::SeqCst);
                    let closes = reply.field("Connection").is_some_and(|it| it.contains("close"));
                    kept = (version == "HTTP/1.1" && !closes && turn != 9).then_some(client);
                } else {
                    told.refused += 1;
                    assert!((502..=504).contains(&reply.status), "{}", reply.head.raw);
                }
            }
            Err(Broken::Truncated | Broken::Reset) => told.unanswered += 1,
            Err(broken) => panic!("{id}: {broken:?}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    told
}

/// A reset that the wire has lost is not sent again: only who asks hears of it. RFC 9293 section
/// 3.8.4.
fn learn_of_resets(client: &Client) {
    let (idle, stream) = (Duration::from_secs(2), client.stream());
    sockopt::set_socket_keepalive(stream, true).unwrap();
    sockopt::set_tcp_keepidle(stream, idle).unwrap();
    sockopt::set_tcp_keepintvl(stream, idle).unwrap();
    sockopt::set_tcp_keepcnt(stream, 60).unwrap();
}

fn get(
    client: &mut Client,
    target: &str,
    version: &str,
    seed: u64,
    length: u64,
) -> Result<Reply, Broken> {
    let request = format!("GET {target} {version}\r\nHost: site.test\r\n\r\n");
    client.incoming.stream.write_all(request.as_bytes())?;
    let reply = client.try_reply_of("GET", |status| match status {
        200 => Expected::Corpus(seed, 0),
        _ => Expected::Any,
    })?;
    if reply.broken.is_none() && reply.status == 200 {
        assert_eq!(reply.length, length, "{target}: {}", reply.head.raw);
    }
    Ok(reply)
}

fn post(client: &mut Client, id: &str, length: u64) -> Result<Reply, Broken> {
    let mut request = format!(
        "POST /?honest={id} HTTP/1.1\r\nHost: site.test\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    let start = request.len();
    request.resize(start + length as usize, 0);
    corpus::fill(SEED, 0, &mut request[start..]);
    // A server that fails may close before it has all of it.
    let sent = client.incoming.stream.write_all(&request);
    let reply = client.try_reply("POST", Expected::Any)?;
    if reply.broken.is_none() && reply.status == 200 {
        assert!(sent.is_ok(), "an answer to what was not sent");
        assert_eq!(reply.text(), format!("{id} {length} true"));
    }
    Ok(reply)
}
