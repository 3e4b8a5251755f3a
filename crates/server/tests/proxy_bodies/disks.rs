//! Disks that fail while answers wait on them: the answers go on, whole.

use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::sleep;
use std::time::Duration;

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use sluicegate_testkit::inject::{Call, Errno, Injection, Plan, When, is_possible};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::proxied::answers::Body;
use crate::proxied::client::{Client, Expected};
use crate::proxied::eventually;
use crate::proxied::incoming::Framing;
use crate::proxied::program::{PROGRAM, Proxied, Setup};
use crate::proxied::upstream::Upstream;

const SEED: u64 = 84;

/// More than the memory of a spool here and what sockets take, less than its disk.
const LENGTH: u64 = 12_000_000;

const FRAMINGS: [Framing; 3] = [Framing::Sized(LENGTH), Framing::Chunked, Framing::Close];

/// Ways to the disk: behind pipes, behind copies, and as the path itself.
const WAYS: [&str; 3] = [
    "memory = \"256KiB\"",
    "memory = \"256KiB\", pipes = false",
    "memory = \"0\", pipes = false, unit = \"64KiB\"",
];

/// An upstream whose every answer is in this framing, and how much of them it has sent.
fn sending(framing: Framing) -> (Upstream, Arc<AtomicU64>) {
    let sent = Arc::new(AtomicU64::new(0));
    let counted = Arc::clone(&sent);
    let upstream = Upstream::new(move |exchange| {
        let body = Body { chunk: 60_000, ..Body::new(framing, SEED, LENGTH) };
        let next = body.send(exchange);
        counted.fetch_add(1, Ordering::SeqCst);
        next
    });
    (upstream, sent)
}

fn setup(upstream: &Upstream, way: &str, directory: &std::path::Path) -> Setup {
    let spool = format!("spool = {{ {way}, disk = \"32MiB\", directory = {directory:?} }}");
    Setup::to(&[upstream]).workers(1).proxy(&spool)
}

fn complaints(proxied: &Proxied) -> usize {
    proxied.child.output().matches("spools have no disk in").count()
}

fn traced() -> Need {
    Need::Fact { what: "to trace a process (ptrace, x86-64)", holds: is_possible() }
}

fn read_whole(client: &mut Client, case: &str) {
    let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
    assert_eq!(reply.length, LENGTH, "{case}");
}

#[test]
fn a_disk_that_fails_in_the_middle_costs_no_byte() {
    require!(traced());
    let directory = tempfile::tempdir().unwrap();
    for (turn, way) in WAYS.into_iter().enumerate() {
        for (at, framing) in FRAMINGS.into_iter().enumerate() {
            let (upstream, _) = sending(framing);
            let mut proxied = Proxied::start(&setup(&upstream, way, directory.path()));
            let errno = if (turn + at) % 2 == 0 { Errno::ENOSPC } else { Errno::EIO };
            let case = format!("{way}, {framing:?}, {errno}");
            // Some writes take a part before one fails in the middle of a partition.
            let plan = Plan::new(7)
                .error(Call::Write, errno, When::Nth(9 + 2 * at as u64))
                .short(Call::Write, When::OneIn(3));
            let address = proxied.address;
            let injection = Injection::begin(&mut proxied.child, plan).unwrap();
            let mut client = Client::narrow(address);
            client.ask("GET /failing HTTP/1.1", &[]);
            eventually(&format!("a write fails: {case}"), || injection.counts()[0].struck == 1);
            // What was on the disk by then waits there while the rest comes.
            sleep(Duration::from_millis(100));
            injection.end().unwrap();
            read_whole(&mut client, &case);
            let line = proxied.logged("/failing");
            assert!(line["spool_disk"].as_u64().unwrap() > 0, "{case}: {line}");
            assert!(line["trouble"].is_null(), "{case}: {line}");
            assert_eq!(complaints(&proxied), 1, "{case}");
            // The next one has a disk again.
            let mut client = Client::narrow(address);
            client.ask("GET /next HTTP/1.1", &[]);
            eventually("it is used", || proxied.metrics().sum("spool_disk_bytes") > 0);
            read_whole(&mut client, &case);
            assert!(proxied.logged("/next")["spool_disk"].as_u64().unwrap() > 0, "{case}");
            let metrics = proxied.metrics();
            assert_eq!(metrics.sum("spool_disk_failures_total"), 1, "{case}");
            assert_eq!(metrics.sum("spool_held_bytes"), 0, "{case}");
            proxied.stop();
        }
    }
}

/// `RLIMIT_FSIZE`, as a service manager sets it: the kernel would end the process by
/// SIGXFSZ.
#[test]
fn a_limit_of_file_sizes_is_a_full_disk() {
    let directory = tempfile::tempdir().unwrap();
    for way in WAYS {
        let (upstream, sent) = sending(Framing::Close);
        let proxied = Proxied::start(&setup(&upstream, way, directory.path()));
        let mut client = Client::narrow(proxied.address);
        client.ask("GET /limited HTTP/1.1", &[]);
        eventually("something is on disk", || proxied.metrics().sum("spool_disk_bytes") > 0);
        // The ring is there, and what is written behind its first 2 MiB fails from now on.
        let pid = Pid::from_raw(i32::try_from(proxied.child.pid()).unwrap());
        let limit = Rlimit { current: Some(2 << 20), maximum: None };
        prlimit(pid, Resource::Fsize, limit).unwrap();
        // Unless all had been written by then.
        let is_late = sent.load(Ordering::SeqCst) > 0;
        read_whole(&mut client, way);
        // And no ring can be made.
        proxied.client().get("/warm").whole(200);
        let mut client = Client::narrow(proxied.address);
        client.ask("GET /none HTTP/1.1", &[]);
        read_whole(&mut client, way);
        assert_eq!(proxied.logged("/none")["spool_disk"].as_u64().unwrap_or(0), 0, "{way}");
        let failures = proxied.metrics().sum("spool_disk_failures_total");
        assert!(failures >= if is_late { 1 } else { 2 }, "{way}: {failures}");
        assert_eq!(complaints(&proxied), 1, "{way}");
        proxied.stop();
    }
}

#[test]
fn a_directory_that_is_gone_costs_no_byte() {
    let (upstream, _) = sending(Framing::Close);
    let mount = tempfile::tempdir().unwrap();
    let directory = mount.path().join("spool");
    std::fs::create_dir(&directory).unwrap();
    let proxied = Proxied::start_by(
        &setup(&upstream, WAYS[0], &directory),
        "127.0.0.1:0".parse().unwrap(),
        |_| Command::new(PROGRAM),
    );
    let mut before = Client::narrow(proxied.address);
    before.ask("GET /before HTTP/1.1", &[]);
    eventually("something is on disk", || proxied.metrics().sum("spool_disk_bytes") > 0);
    std::fs::remove_dir_all(&directory).unwrap();
    let mut after = Client::narrow(proxied.address);
    after.ask("GET /after HTTP/1.1", &[]);
    read_whole(&mut after, "after");
    read_whole(&mut before, "before");
    assert!(proxied.logged("/before")["spool_disk"].as_u64().unwrap() > 0);
    assert_eq!(proxied.logged("/after")["spool_disk"].as_u64().unwrap_or(0), 0);
    assert_eq!(proxied.metrics().sum("spool_disk_failures_total"), 1);
    assert_eq!(complaints(&proxied), 1);
    proxied.stop();
}

/// What waits on the disk is copied to a client of this machine until all of it is here, and goes
/// by reference to one that is remote: the kernel says it in two ways that it cannot be read.
#[test]
fn a_disk_that_cannot_be_read_cuts_the_answer_and_is_told() {
    require!(traced());
    let directory = tempfile::tempdir().unwrap();
    let copied = Plan::new(9).error(Call::Send, Errno::EFAULT, When::OneIn(1));
    let copied = copied.error(Call::SendMessage, Errno::EFAULT, When::OneIn(1));
    // Once all of it is here it goes by reference to anybody.
    let copied = copied.error(Call::Sendfile, Errno::EIO, When::OneIn(1));
    let referred = Plan::new(9).error(Call::Sendfile, Errno::EIO, When::OneIn(1));
    // Between chunks there are bytes that no disk has anything to do with: they are copied, too.
    let copied = ("local", &FRAMINGS[..1], copied);
    for (locality, framings, plan) in [copied, ("remote", &FRAMINGS[..], referred)] {
        for &framing in framings {
            let case = format!("{locality}, {framing:?}");
            let (upstream, sent) = sending(framing);
            let setup = setup(&upstream, WAYS[2], directory.path());
            let locality = format!("send = {{ locality = {locality:?} }}");
            let mut proxied = Proxied::start(&setup.top(&locality));
            let address = proxied.address;
            let mut client = Client::narrow(address);
            client.ask("GET /unread HTTP/1.1", &[]);
            eventually("all of it is here", || sent.load(Ordering::SeqCst) == 1);
            let injection = Injection::begin(&mut proxied.child, plan.clone()).unwrap();
            let reply = client.reply("GET", Expected::Corpus(SEED, 0));
            let counts = injection.end().unwrap();
            assert!(counts.iter().any(|count| count.struck > 0), "{case}: {counts:?}");
            reply.cut();
            let line = proxied.logged("/unread");
            let told = (line["trouble"].as_str(), line["failure"].as_str());
            assert_eq!(told, (Some("ours"), Some("file")), "{case}: {line}");
            let output = proxied.child.output();
            assert!(output.contains("a response was cut: a ring's file"), "{case}: {output}");
            let metrics = proxied.metrics();
            let ended = metrics.labelled("connections_ended_early_total", "reason", "ours");
            let troubles = metrics.labelled("relay_troubles_total", "trouble", "ours");
            assert_eq!((ended, troubles), (1, 1), "{case}");
            assert_eq!(metrics.sum("upstream_failures_total"), 0, "{case}");
            eventually("nothing is held", || proxied.metrics().sum("spool_disk_bytes") == 0);
            // And it serves on.
            let mut client = Client::narrow(address);
            client.ask("GET /next HTTP/1.1", &[]);
            read_whole(&mut client, &case);
            proxied.stop();
        }
    }
}
