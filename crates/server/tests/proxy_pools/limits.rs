//! How many at a time, on how many connections, and for how long.

use std::thread::sleep;
use std::time::Duration;

use crate::proxied::answers::text;
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::gate::Gate;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

/// An upstream whose answers come when its gate is open.
fn gated() -> (Upstream, Gate) {
    let gate = Gate::default();
    let own = gate.clone();
    let upstream = Upstream::new(move |exchange| {
        own.pass();
        text(exchange, "done")
    });
    (upstream, gate)
}

fn limited(upstream: &Upstream, most: usize, queue: &str) -> Setup {
    let mut setup = Setup::to(&[]).pool(queue).workers(2);
    setup.servers = vec![format!("{{ address = {:?}, max_connections = {most} }}", upstream.name)];
    setup
}

/// So many clients at a time, which have asked.
fn asking(proxied: &Proxied, name: &str, clients: usize) -> Vec<Client> {
    (0..clients)
        .map(|number| {
            let mut client = proxied.client();
            client.ask(&format!("GET /{name}/{number} HTTP/1.1"), &[]);
            client
        })
        .collect()
}

/// The statuses of their answers.
fn statuses(clients: Vec<Client>) -> Vec<u16> {
    let status = |mut client: Client| {
        let reply = client.reply("GET", Expected::Any);
        assert!(reply.broken.is_none(), "{reply:?}");
        reply.status
    };
    clients.into_iter().map(status).collect()
}

/// Why requests whose targets begin so were refused, once all of them are in the log.
fn troubles(proxied: &Proxied, name: &str, clients: usize) -> Vec<String> {
    (0..clients)
        .map(|number| proxied.logged(&format!("/{name}/{number}")))
        .map(|line| line["trouble"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn all_workers_together_ask_no_more_at_a_time_than_they_may() {
    let (upstream, gate) = gated();
    let proxied = Proxied::start(&limited(&upstream, 3, "queue_timeout = \"60s\""));
    let clients = asking(&proxied, "many", 30);
    upstream.eventually("as many are asked as may be", || gate.waiting() == 3);
    // Long enough for one more.
    sleep(Duration::from_millis(100));
    gate.open();
    assert_eq!(statuses(clients), [200; 30]);
    assert_eq!(gate.most(), 3);
    let lines: Vec<_> = (0..30).map(|at| proxied.logged(&format!("/many/{at}"))).collect();
    let waited = lines.iter().filter_map(|line| line["upstream_queue_ms"].as_u64());
    let waited: Vec<u64> = waited.collect();
    assert!(waited.len() <= 27 && waited.iter().any(|millis| *millis >= 50), "{waited:?}");
    assert_eq!(upstream.asked().len(), 30);
    assert!(upstream.repeated().is_empty());
}

#[test]
fn who_finds_the_queue_full_is_told_so_at_once() {
    let (upstream, gate) = gated();
    let proxied = Proxied::start(&limited(&upstream, 2, "queue = 3\nqueue_timeout = \"60s\""));
    let held = asking(&proxied, "held", 2);
    upstream.eventually("both are asked", || gate.waiting() == 2);
    // Whoever of them comes last: three have a place, and nobody else has to wait for them.
    let more = asking(&proxied, "more", 18);
    let refused = || (proxied.log().iter().filter(|line| line["status"] == 503)).count();
    eventually("all but three are refused", || refused() == 15);
    gate.open();
    let more = statuses(more);
    let count = |status| more.iter().filter(|other| **other == status).count();
    assert_eq!((count(200), count(503)), (3, 15), "{more:?}");
    assert_eq!(statuses(held), [200; 2]);
    assert_eq!(gate.most(), 2);
    assert_eq!(upstream.asked().len(), 2 + 3);
    let full = |trouble: &&String| *trouble == "busy";
    assert_eq!(troubles(&proxied, "more", 18).iter().filter(full).count(), 15);
    let queue = |name: &str| proxied.metrics().sum(&format!("upstream_queue_{name}"));
    assert_eq!((queue("requests_total"), queue("refused_total"), queue("requests")), (3, 15, 0));
    // Those that waited are counted no more.
    assert_eq!(statuses(asking(&proxied, "after", 1)), [200]);
}

#[test]
fn who_waits_too_long_is_told_so() {
    let (upstream, gate) = gated();
    let proxied = Proxied::start(&limited(&upstream, 2, "queue_timeout = \"300ms\""));
    let held = asking(&proxied, "held", 2);
    upstream.eventually("both are asked", || gate.waiting() == 2);
    assert_eq!(statuses(asking(&proxied, "late", 6)), [503; 6]);
    assert_eq!(troubles(&proxied, "late", 6), ["busy"; 6]);
    assert_eq!(proxied.metrics().sum("upstream_queue_timeouts_total"), 6);
    gate.open();
    assert_eq!(statuses(held), [200; 2]);
    assert_eq!(statuses(asking(&proxied, "after", 3)), [200; 3]);
    assert_eq!(upstream.asked().len(), 2 + 3);
}

#[test]
fn who_goes_while_waiting_takes_nobodys_turn() {
    let (upstream, gate) = gated();
    let proxied = Proxied::start(&limited(&upstream, 1, "queue = 10\nqueue_timeout = \"60s\""));
    let first = asking(&proxied, "first", 1);
    upstream.eventually("it is asked", || gate.waiting() == 1);
    let waiting = asking(&proxied, "gone", 10);
    let waits = || proxied.metrics().sum("upstream_queue_requests");
    eventually("they wait", || waits() == 10);
    assert_eq!(statuses(asking(&proxied, "more", 1)), [503]);
    waiting.into_iter().for_each(Client::reset);
    let ended = || {
        let is_of_them = |target: &str| target.starts_with("/gone");
        proxied.log().iter().filter(|line| line["target"].as_str().is_some_and(is_of_them)).count()
    };
    eventually("the program knows that they are gone", || ended() == 10);
    gate.open();
    assert_eq!(statuses(asking(&proxied, "last", 1)), [200]);
    assert_eq!(statuses(first), [200]);
    assert_eq!(upstream.count(|asked| asked.target().starts_with("/gone")), 0);
}

#[test]
fn connections_are_used_again_so_often_and_kept_so_long() {
    let upstream = Upstream::new(|exchange| text(exchange, "fine"));
    let ask = |proxied: &Proxied, count: usize| {
        let mut client = proxied.client();
        (0..count).for_each(|number| drop(client.get(&format!("/{number}")).whole(200)));
    };
    let proxied = Proxied::start(&Setup::to(&[&upstream]).workers(1));
    ask(&proxied, 20);
    assert_eq!(upstream.connections(), 1);
    drop(proxied);
    upstream.wait_until_open(0);

    let setup = Setup::to(&[&upstream]).pool("requests_per_connection = 5").workers(1);
    let proxied = Proxied::start(&setup);
    ask(&proxied, 20);
    assert_eq!(upstream.connections(), 1 + 4);
    assert!(upstream.asked()[20..].iter().all(|asked| asked.number < 5));
    drop(proxied);

    let setup = Setup::to(&[&upstream]).pool("keep_alive = 0").workers(1);
    let proxied = Proxied::start(&setup);
    ask(&proxied, 3);
    assert_eq!(upstream.connections(), 5 + 3);
    upstream.wait_until_open(0);
    drop(proxied);

    let setup = Setup::to(&[&upstream]).pool("idle = \"200ms\"").workers(1);
    let proxied = Proxied::start(&setup);
    ask(&proxied, 1);
    // Looked at now and then.
    upstream.wait_until_open(0);
    drop(proxied);
}

#[test]
fn no_more_idle_connections_are_kept_than_may_be() {
    let (upstream, gate) = gated();
    let setup = Setup::to(&[&upstream]).pool("keep_alive = 2\nidle = \"60s\"").workers(1);
    let proxied = Proxied::start(&setup);
    let clients = asking(&proxied, "many", 10);
    upstream.eventually("all are under way", || gate.waiting() == 10);
    gate.open();
    assert_eq!(statuses(clients), [200; 10]);
    upstream.wait_until_open(2);
}

#[test]
fn a_reload_leaves_connections_and_requests_as_they_are() {
    let (upstream, gate) = gated();
    let setup = Setup::to(&[&upstream]).pool("idle = \"60s\"").workers(1);
    let mut proxied = Proxied::start(&setup);
    let mut client = proxied.client();
    client.ask("GET /across HTTP/1.1", &[]);
    upstream.wait_until_asked(1);
    proxied.child.signal(sluicegate_testkit::process::Signal::HUP).unwrap();
    let told = |line: &str| line.contains("reloaded");
    let line = proxied.child.wait_for_line(told, crate::proxied::PATIENCE).unwrap();
    assert!(!line.contains("not reloaded"), "{line}");
    gate.open();
    client.reply("GET", Expected::Any).whole(200);
    proxied.client().get("/after").whole(200);
    eventually("it is answered", || upstream.asked().len() == 2);
    proxied.stop();
}
