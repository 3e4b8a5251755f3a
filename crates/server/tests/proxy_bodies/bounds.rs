//! What a spool may hold, whom that frees, and that nothing of it stays.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::{Conditions, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::proxied::answers::{Body, catalogue, head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::incoming::{Framing, Pace};
use crate::proxied::program::{PROGRAM, Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

const SEED: u64 = 80;

/// What sockets take beside a spool, of one exchange: the upstream's and the program's buffers for
/// what they send, and the program's for what it receives.
fn sockets() -> u64 {
    let most = |name: &str| -> u64 {
        let text = std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).unwrap();
        text.split_whitespace().last().unwrap().parse().unwrap()
    };
    most("tcp_rmem") + 2 * most("tcp_wmem")
}

/// An upstream that sends `length` bytes, sized or until it closes, and counts what was taken.
fn counting(framing: Framing, length: u64) -> (Upstream, Arc<AtomicU64>) {
    counting_with(framing, length, "X-Nothing: else")
}

/// As [`counting`], with a field more.
fn counting_with(framing: Framing, length: u64, field: &'static str) -> (Upstream, Arc<AtomicU64>) {
    let taken = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&taken);
    let upstream = Upstream::new(move |exchange| {
        let announced = format!("Content-Length: {length}");
        let (line, next) = match framing {
            Framing::Sized(_) => (&*announced, Next::Keep),
            _ => ("Connection: close", Next::Close),
        };
        exchange.send(head("200 OK", &[line, field]))?;
        let (mut at, mut block) = (0, vec![0; 64 << 10]);
        while at < length {
            let count = (length - at).min(block.len() as u64);
            corpus::fill(SEED, at, &mut block[..count as usize]);
            exchange.send(&block[..count as usize])?;
            at += count;
            counted.fetch_add(count, Ordering::SeqCst);
        }
        Ok(next)
    });
    (upstream, taken)
}

/// Waits until nothing more is taken, and returns how much was. A machine that is busy may only
/// seem to have come to its end: what must have been taken is waited for before, and what must not
/// be exceeded is exceeded by no look too early.
fn settled(taken: &AtomicU64) -> u64 {
    let mut last = u64::MAX;
    eventually("it is full", || {
        sleep(Duration::from_millis(400));
        let now = taken.load(Ordering::SeqCst);
        now > 0 && std::mem::replace(&mut last, now) == now
    });
    last
}

/// What moves through a spool that nothing waits in, and counts as held meanwhile: a pipe's
/// worth.
const MOVING: u64 = 1 << 20;

#[test]
fn an_upstream_waits_at_the_last_bound_and_no_byte_is_lost() {
    const LENGTH: u64 = 150_000_000;
    let directory = tempfile::tempdir().unwrap();
    for (spool, memory, disk) in [
        ("memory = \"0\"", 0, 0),
        ("memory = \"8MiB\"", 8 << 20, 0),
        ("memory = \"4MiB\", pipes = false", 4 << 20, 0),
        ("memory = \"2MiB\", disk = \"16MiB\", directory = DIRECTORY", 2 << 20, 16 << 20),
        (
            "memory = \"2MiB\", disk = \"6MiB\", directory = DIRECTORY, pipes = false",
            2 << 20,
            6 << 20,
        ),
    ] {
        let bound = memory + disk;
        let spool = spool.replace("DIRECTORY", &format!("{:?}", directory.path()));
        for framing in [Framing::Sized(LENGTH), Framing::Close] {
            let (upstream, taken) = counting(framing, LENGTH);
            let setup = Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}"));
            let proxied = Proxied::start(&setup);
            let mut client = Client::narrow(proxied.address);
            client.ask("GET /stalled HTTP/1.1", &[]);
            if framing == Framing::Close {
                // Its length is not known, so what there is room for is taken.
                upstream.eventually("as much is taken as may be", || {
                    taken.load(Ordering::SeqCst) >= bound
                });
            }
            let full = settled(&taken);
            let metrics = proxied.metrics();
            let told = ["spool_held_bytes", "spool_disk_bytes"].map(|name| metrics.sum(name));
            println!("{spool} {framing:?}: {full} bytes taken, {told:?} held");
            assert!(told[0] <= memory.max(MOVING), "{told:?} held, {memory} and {disk}: {spool}");
            assert!(told[1] <= disk, "{told:?} held, {memory} and {disk}: {spool}");
            assert!(
                full <= bound + sockets(),
                "{full} bytes taken, of {bound}: {spool} {framing:?}"
            );
            let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
            assert_eq!(reply.length, LENGTH, "{spool} {framing:?}");
            let line = proxied.logged("/stalled");
            // The upstream was held for as long as it waited here, at least.
            assert!(line["upstream_held_ms"].as_u64().unwrap() >= 400, "{line}");
        }
    }
}

#[test]
fn an_upstream_is_let_go_when_all_fits() {
    const LENGTH: u64 = 40_000_000;
    let directory = tempfile::tempdir().unwrap();
    for spool in [
        "memory = \"64MiB\"",
        "memory = \"64MiB\", pipes = false",
        "memory = \"1MiB\", disk = \"64MiB\", directory = DIRECTORY",
    ] {
        let spool = spool.replace("DIRECTORY", &format!("{:?}", directory.path()));
        for framing in [Framing::Sized(LENGTH), Framing::Close] {
            let (upstream, taken) = counting(framing, LENGTH);
            let setup =
                Setup::to(&[&upstream]).workers(1).top("spool = { memory_budget = \"256MiB\" }");
            let proxied = Proxied::start(&setup.proxy(&format!("spool = {{ {spool} }}")));
            let mut client = Client::narrow(proxied.address);
            client.ask("GET /early HTTP/1.1", &[]);
            eventually("all of it is taken", || taken.load(Ordering::SeqCst) == LENGTH);
            if framing == Framing::Close {
                upstream.wait_until_open(0);
            } else {
                // Another request has its connection, while nothing was read of the first answer.
                eventually("it is let go", || {
                    proxied.metrics().sum("upstream_active_requests") == 0
                });
                let mut other = proxied.client();
                other.ask("GET /other HTTP/1.1", &[]);
                let reply = other.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
                assert_eq!((reply.length, upstream.connections()), (LENGTH, 1), "{spool}");
            }
            sleep(Duration::from_millis(500));
            let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
            assert_eq!(reply.length, LENGTH, "{spool} {framing:?}");
            let line = proxied.logged("/early");
            let held = line["upstream_held_ms"].as_u64().unwrap();
            assert!(held * 1_000 < line["duration_us"].as_u64().unwrap(), "{line}");
        }
    }
}

#[test]
fn an_upstream_that_wants_no_buffering_has_one_pipe() {
    const LENGTH: u64 = 50_000_000;
    for framing in [Framing::Sized(LENGTH), Framing::Close] {
        for (field, is_spooled) in [
            ("X-Accel-Buffering: no", false),
            ("x-accel-buffering: NO", false),
            ("X-Accel-Buffering: yes", true),
            ("X-Accel-Buffering: never heard of", true),
        ] {
            let (upstream, taken) = counting_with(framing, LENGTH, field);
            let spool = "spool = { memory = \"64MiB\" }";
            let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(spool));
            let mut client = Client::narrow(proxied.address);
            client.ask("GET /asked HTTP/1.1", &[]);
            if is_spooled {
                eventually("all is taken", || taken.load(Ordering::SeqCst) == LENGTH);
            } else {
                let full = settled(&taken);
                assert!(full <= (1 << 20) + sockets(), "{full} bytes taken: {field} {framing:?}");
            }
            let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
            assert_eq!(reply.length, LENGTH, "{field} {framing:?}");
            assert_eq!(reply.field("X-Accel-Buffering"), None);
        }
    }
}

#[test]
fn all_spools_together_hold_no_more_than_the_budget() {
    const BUDGET: u64 = 8 << 20;
    let (upstream, taken) = counting(Framing::Close, 60_000_000);
    let proxied =
        Proxied::start(&Setup::to(&[&upstream]).top("spool = { memory_budget = \"8MiB\" }"));
    let clients: Vec<Client> = (0..8)
        .map(|_| {
            let mut client = Client::narrow(proxied.address);
            client.ask("GET / HTTP/1.1", &[]);
            client
        })
        .collect();
    upstream.wait_until_asked(8);
    let full = settled(&taken);
    // One pipe each is the path itself.
    let most = BUDGET + 8 * (sockets() + (1 << 20));
    assert!(full <= most, "{full} bytes taken, of {most}");
    let held = proxied.metrics().sum("spool_held_bytes");
    assert!(held <= BUDGET + 8 * (1 << 20), "{held} bytes held, of {BUDGET}");
    std::thread::scope(|scope| {
        for mut client in clients {
            scope.spawn(move || {
                let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
                assert_eq!(reply.length, 60_000_000);
            });
        }
    });
    eventually("nothing is held", || proxied.metrics().sum("spool_held_bytes") == 0);
    proxied.stop();
}

#[test]
fn nothing_is_held_for_clients_that_are_gone() {
    let directory = tempfile::tempdir().unwrap();
    let upstream = Upstream::new(catalogue);
    let spool = format!(
        "spool = {{ memory = \"4MiB\", disk = \"8MiB\", directory = {:?} }}",
        directory.path()
    );
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(&spool));
    proxied.client().get("/warm").whole(200);
    let open = || {
        let kinds = |name: &&String| {
            name.starts_with("/memfd:")
                || name.ends_with(" (deleted)")
                || name.starts_with("socket:")
        };
        proxied.descriptors().iter().filter(kinds).count()
    };
    let before = open();
    for kind in ["sized", "chunked", "close"] {
        let clients: Vec<Client> = (0..10)
            .map(|number| {
                let mut client = Client::narrow(proxied.address);
                client.ask(&format!("GET /{kind}/5/50000000?{number} HTTP/1.1"), &[]);
                client
            })
            .collect();
        upstream.wait_until_open(10);
        if kind != "sized" {
            // What is left of the others may fit for all that is known.
            eventually("they hold something", || proxied.metrics().sum("spool_disk_bytes") > 0);
        }
        clients.into_iter().for_each(Client::reset);
        eventually("nothing is held", || {
            let metrics = proxied.metrics();
            metrics.sum("spool_held_bytes") == 0 && metrics.sum("spool_disk_bytes") == 0
        });
    }
    // Idle connections to the upstream may be kept.
    eventually("descriptors are closed", || open() <= before + 16);
    // For how long it was held is told of those too whose client went first.
    let line = proxied.logged("/chunked/5/50000000?0");
    assert_eq!(line["trouble"], "client_gone", "{line}");
    assert!(line["upstream_held_ms"].is_u64(), "{line}");
    proxied.stop();
}

#[test]
fn a_body_is_whole_where_the_disk_is_full() {
    require!(Need::Root, Need::Program("unshare"), Need::Program("mount"));
    const LENGTH: u64 = 30_000_000;
    let (upstream, taken) = counting(Framing::Close, LENGTH);
    let mount = tempfile::tempdir().unwrap();
    let spool = format!(
        "spool = {{ memory = \"64KiB\", disk = \"16MiB\", directory = {:?} }}",
        mount.path()
    );
    // A disk of 2 MiB that only the program sees.
    let script =
        format!("mount -t tmpfs -o size=2m none {} && exec \"$0\" \"$@\"", mount.path().display());
    let command = |_: &str| {
        let mut command = Command::new("unshare");
        command.args(["--mount", "--propagation", "private", "sh", "-c", &script, PROGRAM]);
        command
    };
    let listen = "127.0.0.1:0".parse().unwrap();
    let proxied = Proxied::start_by(&Setup::to(&[&upstream]).proxy(&spool), listen, command);
    let mut client = Client::narrow(proxied.address);
    client.ask("GET /full HTTP/1.1", &[]);
    settled(&taken);
    let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
    assert_eq!(reply.length, LENGTH);
    // An operator learns of it.
    assert!(
        proxied.child.output().contains("spools have no disk in"),
        "{}",
        proxied.child.output()
    );
    proxied.stop();
}

/// Over a wire whose client is remote, so that memory of rings is written again when it was
/// acknowledged, and with losses, so that it is sent again before.
#[test]
fn tiers_keep_their_order_over_a_wire_that_loses_packets() {
    require!(Need::TrueWire);
    let lossy = Conditions { rate: 12_000_000, drop_one_in: 100, ..Conditions::default() };
    let lab = Lab::wire(Wire { seed: 7, ..Wire::with(lossy) }).unwrap();
    let listen = (lab.server().address(), 8080).into();
    let upstream = lab.server().enter(|| {
        Upstream::new(|exchange| match exchange.asked.target() {
            "/alive" => text(exchange, "alive"),
            target => {
                // It comes in bursts, so that tiers fill and empty.
                let framing = if target.contains("sized") {
                    Framing::Sized(6_000_000)
                } else {
                    Framing::Chunked
                };
                let body = Body::new(framing, SEED, 6_000_000);
                Body { every: 1_000_000, pause: Duration::from_millis(60), ..body }.send(exchange)
            }
        })
    });
    let upstream = upstream.unwrap();
    let directory = tempfile::tempdir().unwrap();
    for spool in [
        "memory = \"256KiB\", disk = \"1MiB\", directory = DIRECTORY",
        "memory = \"256KiB\", disk = \"512KiB\", directory = DIRECTORY, pipes = false, memory_ring = true, unit = \"64KiB\"",
        "memory = \"0\", disk = \"256KiB\", directory = DIRECTORY, pipes = false, unit = \"16KiB\"",
    ] {
        let spool = spool.replace("DIRECTORY", &format!("{:?}", directory.path()));
        let setup = Setup::to(&[&upstream])
            .top("send = { locality = \"remote\" }")
            .proxy(&format!("spool = {{ {spool} }}"));
        let server = lab.server();
        let start = || Proxied::start_by(&setup, listen, |_| server.command(PROGRAM));
        let proxied = start();
        lab.client()
            .enter(|| {
                std::thread::scope(|scope| {
                    for (number, kind) in ["sized", "chunked"].into_iter().enumerate() {
                        scope.spawn(move || {
                            let mut client = Client::new(listen);
                            if number == 1 {
                                client = client.paced(Pace::slow(32 << 10));
                            }
                            client.ask(&format!("GET /{kind} HTTP/1.1"), &[]);
                            let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
                            assert_eq!(reply.length, 6_000_000);
                        });
                    }
                });
            })
            .unwrap();
        proxied.stop();
    }
}
