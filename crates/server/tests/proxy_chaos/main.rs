//! The proxy between upstreams that are killed, stopped, reset, stall, dribble and end where they
//! should not, and clients over a wire that loses packets, two hundred of whom read nothing. Honest
//! clients verify every byte: what is whole is right, what is not whole is never taken for whole.
//! When it is quiet again, the program has what it had before, and nothing more.
//!
//! An hour's worth of what goes wrong, in less than a minute: `SLUICEGATE_CHAOS_SECONDS` (40, unless
//! it is said, in two rounds that are alike), and some more to begin and to come to rest. What
//! chance does follows from a number that is printed, and taken from `SLUICEGATE_CHAOS_SEED`; when
//! it does it is the machine's.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

#[path = "../proxied/mod.rs"]
mod proxied;

mod honest;
mod left;
mod servers;
mod stalled;

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use honest::{Honest, Told};
use left::Left;
use proxied::chance::{Chance, seed};
use proxied::eventually;
use proxied::program::{Metrics, PROGRAM, Proxied, Setup};
use servers::Servers;
use sluicegate_testkit::lab::{Conditions, Direction, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use stalled::Stalled;

/// Kibibytes of its own memory that the program may have more than before, at most: what it has for
/// 250 connections, and what bodies have for which there is no pipe. (Pipes are the kernel's.)
const RESIDENT: u64 = 64 << 10;

/// Kibibytes that a second round may leave more than the first: the allocator keeps what was freed,
/// and another order of the same leaves other holes.
const MORE: u64 = 6 << 10;

/// Does nothing but where the chaos has started this program again for it.
#[test]
fn upstream() {
    servers::run_where_it_is_asked_for();
}

/// One packet in so many is lost on the way in either direction.
fn lose(lab: &Lab, drop_one_in: u32) {
    for direction in Direction::ALL {
        let conditions = Conditions { drop_one_in, ..Conditions::default() };
        lab.wire_control().unwrap().set(direction, conditions);
    }
}

/// Two hosts, the program on one of them, and all that is against it.
struct Chaos<'a> {
    lab: &'a Lab,
    servers: Servers<'a>,
    proxied: Proxied,
    listen: SocketAddr,
    chance: Chance,
    /// The most memory that it was seen to have.
    most: u64,
}

impl Chaos<'_> {
    /// A round of so many seconds; returns what honest clients tell of it.
    fn round(&mut self, number: u64, long: Duration) -> Told {
        let (lab, listen) = (self.lab, self.listen);
        let honest = lab.client().enter(|| Honest::start(listen, number)).unwrap();
        let stalled = Stalled::start(lab, listen, &mut self.chance);
        lose(lab, 100);
        let begin = Instant::now();
        while begin.elapsed() < long {
            sleep(self.chance.millis(20, 150));
            match self.chance.below(10) {
                0..=4 => self.servers.kill_one(&mut self.chance),
                5 => self.servers.pause_one(&mut self.chance),
                6 => {
                    lose(lab, 10);
                    sleep(self.chance.millis(50, 300));
                    lose(lab, 100);
                }
                _ => self.servers.mend(),
            }
            assert!(!honest.has_failed(), "an honest client has failed: see below");
            assert!(!stalled.has_failed(), "a client that reads nothing has failed");
            self.most = self.most.max(self.proxied.resident());
            let admin = self.proxied.admin;
            let metrics = lab.client().enter(|| Metrics::of(admin)).unwrap();
            let held = metrics.sum("spool_held_bytes");
            // Beside the budget each body may have as much as keeps it moving; of those that are
            // gone some may not be known to be.
            let moving = (2 * stalled::CLIENTS + 40) as u64 * (128 << 10);
            assert!(held <= (64 << 20) + moving, "{held} bytes held");
        }
        // What is lost on the way is not sent again for long, and only delays the end.
        lose(lab, 0);
        let count = stalled.finish();
        self.servers.mend();
        let told = honest.finish();
        let Servers { kills, pauses, .. } = self.servers;
        println!(
            "{told:#?}\n{kills} kills and {pauses} pauses so far, {count} clients that read nothing"
        );
        told
    }
}

#[test]
fn nothing_is_corrupted_repeated_or_left_behind_in_chaos() {
    require!(Need::TrueWire, Need::Descriptors(4096));
    let seconds = std::env::var("SLUICEGATE_CHAOS_SECONDS").ok().and_then(|it| it.parse().ok());
    let seconds: u64 = seconds.unwrap_or(40).max(10);
    let seed = seed("SLUICEGATE_CHAOS_SEED");
    let lab = Lab::wire(Wire { seed, ..Wire::default() }).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let servers = Servers::start(&lab, directory.path(), seed);
    let listen = SocketAddr::from((lab.server().address(), 8080));
    let proxied = start(&lab, &servers, listen, directory.path());
    let chance = Chance::new(seed);
    let mut chaos = Chaos { lab: &lab, servers, proxied, listen, chance, most: 0 };

    // What is made when it is first needed is there before.
    let honest = lab.client().enter(|| Honest::start(listen, 0)).unwrap();
    eventually("honest clients are answered", || honest.whole() > 100);
    let mut answered = honest.finish().answered;
    let (before, resident) = (Left::at_first(&lab, &chaos.proxied), chaos.proxied.resident());
    let mut residents = vec![resident];
    for round in [1, 2] {
        let told = chaos.round(round, Duration::from_secs(seconds / 2));
        assert!(told.whole > told.asked / 4, "{told:?}");
        assert!(told.cut > 0 && told.refused > 0, "nothing went wrong: {told:?}");
        answered.extend(told.answered);
        // Neither descriptors nor pipes, partitions or memory.
        before.is_again(&lab, &chaos.proxied);
        residents.push(chaos.proxied.resident());
    }
    println!("KiB of its own: {residents:?}, {} at most", chaos.most);
    assert!(chaos.most <= resident + RESIDENT, "{} KiB resident, {resident} before", chaos.most);
    assert!(residents[2] <= residents[1] + MORE, "each round leaves something: {residents:?}");

    let Chaos { servers, proxied, .. } = chaos;
    let ticks = proxied.ticks();
    sleep(Duration::from_secs(2));
    let ticks = proxied.ticks() - ticks;
    assert!(ticks < 20, "{ticks} hundredths of a second of the processor, idle");
    assert!(servers.kills as u64 > seconds / 4, "{} kills", servers.kills);
    // A POST reaches a server once, or not at all.
    for (id, count) in servers.posts() {
        assert_eq!(count, 1, "POST {id}");
    }
    let mut lines: HashMap<String, u32> = HashMap::new();
    for line in proxied.log() {
        let target = line["target"].as_str().unwrap_or_default();
        if let Some((_, id)) = target.split_once("?honest=") {
            *lines.entry(id.to_owned()).or_default() += 1;
        }
    }
    for id in &answered {
        assert_eq!(lines.get(id).copied(), Some(1), "lines of request {id}");
    }
    assert!(lines.values().all(|count| *count == 1), "a request is logged once");
    proxied.stop();
}

fn start(lab: &Lab, servers: &Servers, listen: SocketAddr, directory: &Path) -> Proxied {
    let mut setup = Setup::to(&[])
        // Who has gone, and the word of it was lost, has nothing under way.
        .top("timeouts = { head = \"5s\", idle = \"3s\" }")
        .top("spool = { memory_budget = \"64MiB\" }")
        .pool("idle = \"1s\"")
        .pool("health = { path = \"/health\", interval = \"300ms\", fails = 2, passes = 1 }")
        .pool("ejection = { failures = 5, pause = \"500ms\", slow_start = \"1s\" }")
        .proxy(&format!(
            "head_timeout = \"10s\", read_timeout = \"10s\", \
             spool = {{ memory = \"2MiB\", disk = \"4MiB\", directory = {directory:?} }}"
        ));
    setup.servers = servers.addresses().map(|address| format!("\"{address}\"")).to_vec();
    Proxied::start_by(&setup, listen, |_| lab.server().command(PROGRAM))
}
