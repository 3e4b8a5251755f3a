//! Pairs of messages by chance, through the program, to an upstream that writes down what it is
//! asked: what `fuzz/` does with the rules alone, with connections, pools and tries again in
//! between.
//!
//! It takes `SLUICEGATE_PAIRS_SECONDS` (10, unless it is said); what chance does follows from a
//! number that is printed, and taken from `SLUICEGATE_PAIRS_SEED`.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../proxied/mod.rs"]
mod proxied;

mod answers;
mod requests;

use std::collections::HashMap;
use std::io::Write;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

use answers::Answer;
use proxied::chance::{Chance, seed};
use proxied::client::{Client, Expected, Reply};
use proxied::incoming::Broken;
use proxied::program::{Proxied, Setup};
use proxied::upstream::Upstream;
use requests::Sent;

const THREADS: u64 = 4;

/// What became of requests.
#[derive(Debug, Default)]
struct Told {
    whole: AtomicU64,
    cut: AtomicU64,
    refused: AtomicU64,
    unanswered: AtomicU64,
}

#[test]
fn each_is_asked_and_answered_as_itself_or_not_at_all() {
    let seconds = std::env::var("SLUICEGATE_PAIRS_SECONDS").ok().and_then(|it| it.parse().ok());
    let long = Duration::from_secs(seconds.unwrap_or(10));
    let seed = seed("SLUICEGATE_PAIRS_SEED");
    let upstreams =
        [(); 2].map(|()| Upstream::new(move |exchange| answers::answer(exchange, seed)));
    let (first, second) = (&upstreams[0], &upstreams[1]);
    let setup = Setup::to(&[first, second])
        .pool("ejection = false")
        .top("timeouts = { head = \"5s\", body = \"5s\", send = \"10s\" }")
        .proxy("head_timeout = \"10s\", read_timeout = \"10s\"");
    let routes = "[[site.route]]\npath = \"/buffered/\"\n\
                  proxy = { pool = \"app\", request_body = \"buffered\" }\n";
    let proxied = Proxied::start(&setup.routes(routes));
    let (sent, told) = (Mutex::new(HashMap::new()), Told::default());
    let begin = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (proxied, sent, told) = (&proxied, &sent, &told);
            scope.spawn(move || {
                let mut chance = Chance::new(seed ^ (thread << 32));
                for number in 0.. {
                    if begin.elapsed() >= long {
                        return;
                    }
                    let name = format!("{thread}-{number}");
                    converse(&mut chance, proxied.client(), (seed, &name), sent, told);
                }
            });
        }
    });
    println!("{told:?}");
    let sent = sent.into_inner().unwrap();
    let mut posts: HashMap<String, u32> = HashMap::new();
    for asked in upstreams.iter().flat_map(Upstream::asked) {
        let id = asked.head.field("X-Id").unwrap_or_else(|| panic!("nobody's: {asked:#?}"));
        let sent: &Sent = sent.get(id).unwrap_or_else(|| panic!("nobody's: {asked:#?}"));
        sent.assert_is(&asked);
        if !matches!(sent.method, "GET" | "HEAD" | "PUT") {
            let count = posts.entry(id.to_owned()).or_default();
            *count += 1;
            assert_eq!(*count, 1, "twice: {asked:#?}");
        }
    }
    // It has been a test of something.
    for (what, count) in [("whole", &told.whole), ("cut", &told.cut), ("refused", &told.refused)] {
        assert!(count.load(Ordering::SeqCst) >= 20, "{what}: {told:?}");
    }
    proxied.client().get("/alive").whole(200);
    proxied.stop();
}

/// One connection of a client's, with some requests that are bundled.
fn converse(
    chance: &mut Chance,
    mut client: Client,
    (seed, name): (u64, &str),
    all: &Mutex<HashMap<String, Sent>>,
    told: &Told,
) {
    let count = 1 + chance.below(3);
    let mut bytes = Vec::new();
    let mut requests = Vec::new();
    for number in 0..count {
        let is_last = number + 1 == count;
        let (sent, message) = Sent::new(chance, format!("{name}-{number}"), is_last);
        bytes.extend(message);
        all.lock().unwrap().insert(sent.id.clone(), sent.clone());
        requests.push(sent);
    }
    send(chance, &mut client, &bytes);
    let is_right = requests.iter().all(|sent| sent.is_right);
    match chance.below(20) {
        // Who is through, and who is in a hurry.
        0 => client.finish(),
        1 => return client.reset(),
        _ if !is_right => client.finish(),
        _ => {}
    }
    for sent in &requests {
        let reply = match client.try_reply(sent.method, Expected::Any) {
            Ok(reply) => reply,
            Err(Broken::Truncated | Broken::Reset) => {
                told.unanswered.fetch_add(1, Ordering::SeqCst);
                return;
            }
            Err(broken) => panic!("{broken:?} for {sent:?}"),
        };
        if !is_consistent(&reply, sent, seed, told) {
            return;
        }
        if reply.field("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
            // The others have no answer. What comes is an end.
            client.finish();
            let mut rest = Vec::new();
            let _ = std::io::Read::read_to_end(&mut client.incoming.stream, &mut rest);
            assert!(
                rest.is_empty(),
                "behind the last answer: {:?}",
                rest.escape_ascii().to_string()
            );
            return;
        }
    }
    assert_eq!(client.incoming.buffered(), b"", "behind the last answer, to {requests:?}");
}

/// Whether another may follow. The answer is its own, and whole, or nobody takes it for whole.
fn is_consistent(reply: &Reply, sent: &Sent, seed: u64, told: &Told) -> bool {
    let count = |which: &AtomicU64| which.fetch_add(1, Ordering::SeqCst);
    let Some(id) = reply.field("X-Answer") else {
        // One of the program's own.
        assert!((400..600).contains(&reply.status), "{} for {sent:?}", reply.head.raw);
        assert!(reply.broken.is_none(), "{reply:?}");
        let theirs = reply.content.windows(7).any(|part| part == b"answer-");
        assert!(!theirs, "{reply:?}");
        count(&told.refused);
        return true;
    };
    assert_eq!(id, sent.id, "another's: {}", reply.head.raw);
    let expected = Answer::new(seed, &sent.id);
    let content = expected.content(&sent.id);
    let most = expected.most(&sent.id);
    let right = most.iter().zip(&reply.content).take_while(|(is, got)| is == got).count();
    let wrong = reply.content[right..].escape_ascii().to_string();
    assert!(wrong.is_empty(), "another's content for {sent:?}: from byte {right} on {wrong}");
    if reply.broken.is_some() {
        assert!(!matches!(reply.broken, Some(Broken::Silent | Broken::Malformed(_))), "{reply:?}");
        count(&told.cut);
        return false;
    }
    assert_eq!(reply.status, expected.status(), "{}", reply.head.raw);
    let whole = sent.method == "HEAD" || reply.content == content;
    assert!(whole, "{} of {} bytes for whole: {expected:?}", reply.content.len(), content.len());
    assert!(expected.is_right() || sent.method == "HEAD", "what is wrong is whole: {expected:?}");
    count(&told.whole);
    true
}

/// In one piece, in some, or byte by byte where that is what two messages meet at.
fn send(chance: &mut Chance, client: &mut Client, bytes: &[u8]) {
    let size = *chance.of(&[usize::MAX, usize::MAX, 7_000, 200, 1]);
    let size = if size == 1 && bytes.len() > 600 { 97 } else { size };
    for piece in bytes.chunks(size.min(bytes.len().max(1))) {
        // Who is refused may find the connection closed.
        if client.incoming.stream.write_all(piece).is_err() {
            return;
        }
        if size < 300 && chance.below(20) == 0 {
            sleep(Duration::from_millis(1));
        }
    }
}
