//! A soak: the program with all that operators do to it, under as many
//! connections as its descriptors allow, most of them of clients that do it no
//! good, and a few honest ones that are to notice nothing.
//!
//! It takes `SLUICEGATE_SOAK_SECONDS` (40, unless it is said; 20 at least) and some more to
//! begin and to end.
#![allow(clippy::unwrap_used, unreachable_pub)] // A test ends at the first surprise.

mod crowd;
mod crowds;
mod honest;
mod result;
mod site;
mod watch;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crowds::{Crowds, Sizes};
use honest::Honest;
use site::{Metrics, Site, is_running};
use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Signal;
use sluicegate_testkit::require;
use watch::{Taken, Watch};

const PROGRAM: &str = env!("CARGO_BIN_EXE_sluicegate");

/// Longer than anything takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);
/// Files that changed longer ago are not taken for changing now.
const SETTLED: Duration = Duration::from_millis(120);

const SEED: u64 = 6;
const SMALL: usize = 1 << 10;
const MEDIUM: usize = 100 << 10;
const LARGE: usize = 16 << 20;

/// How long open connections may take to finish at the end.
const DRAIN: Duration = Duration::from_secs(8);
/// How much longer than that a process may take: for what it does after the
/// drain, on a machine with other things to do.
const LATE: Duration = Duration::from_secs(15);

/// Connections that are aimed at.
const AIM: u64 = 20_000;
/// Descriptors that are left to the server's files, pipes, and honest clients
/// while the crowd is not meant to exhaust them. Files: an eighth of the limit
/// at most, and here a dozen.
const LEFT: u64 = 600;

/// Descriptors that there may be more afterwards: pipes that are kept, honest
/// connections that were not open before.
const SLACK: u64 = 40;
/// The same for pages of the kernel's TCP memory: what the machine's other
/// sockets hold, and what each processor keeps in advance.
const PAGES_SLACK: u64 = 16 << 10;

/// What the program says, by the system's words, when it has none left.
const NO_DESCRIPTOR: &str = "Too many open files";

/// Does nothing but where the soak has started this program again for it.
#[test]
fn crowd() {
    crowds::run_where_it_is_asked_for();
}

#[test]
fn honest_clients_notice_nothing_of_a_crowd() {
    require!(Need::NetworkNamespaces, Need::Descriptors(4096));
    let seconds = std::env::var("SLUICEGATE_SOAK_SECONDS").ok().and_then(|it| it.parse().ok());
    // Less would not let those go who read nothing before the upgrade.
    let seconds: u64 = seconds.unwrap_or(40).max(20);
    let limit = sluicegate::os::raise_descriptors().unwrap();
    let lab = Lab::veth().unwrap();
    // Ports for 20,000 connections, and for those that have just closed.
    let ports = "/proc/sys/net/ipv4/ip_local_port_range";
    lab.client().enter(|| std::fs::write(ports, "1024 65535")).unwrap().unwrap();

    let mut soak = Soak::begin(&lab, limit);
    soak.gather();
    soak.hold(Duration::from_secs(seconds));
    soak.end();
}

struct Soak<'a> {
    // Dropped in this order: clients, then the server, then their network.
    honest: Option<Honest>,
    crowds: Crowds,
    watch: Watch,
    site: Site,
    lab: &'a Lab,
    sizes: Sizes,
    /// Descriptors of the server.
    limit: u64,
    before: Taken,
    /// The most connections that the server said it had.
    open: u64,
    /// Connections that ended early, and answers, of processes that are gone.
    ended: BTreeMap<&'static str, u64>,
    /// Honest requests that were answered before the process that serves now.
    earlier: u64,
    drains: Vec<Duration>,
}

const REASONS: [&str; 6] = ["offence", "unread", "gone", "network", "ours", "exhausted"];

impl<'a> Soak<'a> {
    fn begin(lab: &'a Lab, limit: u64) -> Self {
        let site = Site::start(lab);
        let honest = lab.client().enter(|| Honest::start(site.address)).unwrap();
        // Until all files are open, and everything that is made once is made.
        eventually("honest clients are answered", || {
            honest.answered() > 200 * Honest::CLIENTS as u64 || honest.has_failed()
        });
        let before = Taken::by(site.pid).unwrap();
        let sizes = Sizes::of(AIM.min(limit.saturating_sub(LEFT)));
        let watch = Watch::on(site.pid);
        let crowds = Crowds::start(lab, site.address);
        let (honest, ended) = (Some(honest), BTreeMap::new());
        let (open, earlier, drains) = (0, 0, Vec::new());
        Soak {
            honest,
            crowds,
            watch,
            site,
            lab,
            sizes,
            limit,
            before,
            open,
            ended,
            earlier,
            drains,
        }
    }

    fn honest(&self) -> &Honest {
        self.honest.as_ref().unwrap()
    }

    /// Looks whether all is well, and at the number of connections.
    fn look(&mut self) -> Metrics {
        assert!(!self.honest().has_failed(), "an honest client has failed: see below");
        let metrics = self.site.metrics(self.lab);
        assert_eq!(metrics.get("log_lines_lost_total"), 0);
        self.open = self.open.max(metrics.get("connections_open"));
        metrics
    }

    /// The crowd comes.
    fn gather(&mut self) {
        let begin = Instant::now();
        self.crowds.resize(self.sizes);
        let most = self.sizes.total();
        // All but those that are coming back at this moment.
        while self.look().get("connections_open") < most * 95 / 100 && begin.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(200));
        }
        println!("{} of {most} connections after {:.1?}", self.open, begin.elapsed());
        assert!(self.open >= most * 3 / 4, "{} of {most} connections", self.open);
    }

    /// What operators do, again and again.
    fn hold(&mut self, long: Duration) {
        let begin = Instant::now();
        let mut upgrades =
            if long > Duration::from_secs(100) { vec![0.75, 0.45] } else { vec![0.5] };
        let mut overflows = vec![0.2];
        for turn in 0.. {
            let part = begin.elapsed().as_secs_f64() / long.as_secs_f64();
            if part >= 1.0 {
                break;
            }
            self.look();
            match turn % 4 {
                0 => self.site.reload(false),
                1 | 3 => self.site.rotate(),
                _ => self.site.reload(true),
            }
            if overflows.last().is_some_and(|at| part >= *at) {
                overflows.pop();
                self.exhaust();
            }
            if upgrades.last().is_some_and(|at| part >= *at) {
                upgrades.pop();
                self.upgrade();
            }
            std::thread::sleep(Duration::from_millis(1500));
        }
    }

    /// More clients come than there are descriptors: some are told so.
    fn exhaust(&mut self) {
        let before = self.crowds.seen().turned_away;
        self.honest().pause();
        self.crowds.resize(Sizes { silent: self.sizes.silent + 2 * LEFT, ..self.sizes });
        let until = Instant::now() + PATIENCE;
        while self.crowds.seen().turned_away < before + 20 && Instant::now() < until {
            self.look();
            std::thread::sleep(Duration::from_millis(100));
        }
        self.look();
        assert!(self.crowds.seen().turned_away > before, "nobody was turned away");
        // A reload opens directories: it may find no descriptor for them, and then
        // nothing changes. Those with a connection are served either way.
        let line = self.site.try_reload(false);
        if line.contains(": not reloaded") && !line.contains(NO_DESCRIPTOR) {
            self.site.child.wait_for_line(|line| line.contains(NO_DESCRIPTOR), PATIENCE).unwrap();
        }
        let answered = self.honest().answered() + 100;
        eventually("those with connections are answered", || {
            self.honest().answered() >= answered || self.honest().has_failed()
        });
        self.crowds.resize(self.sizes);
        let pid = self.site.pid;
        let room = self.limit - LEFT / 2;
        eventually("there are descriptors again", || Taken::by(pid).unwrap().descriptors < room);
        self.honest().go_on();
    }

    fn upgrade(&mut self) {
        self.remember();
        let begin = Instant::now();
        let old = self.site.upgrade();
        self.watch.also(self.site.pid);
        // Both processes write a log now.
        self.site.rotate();
        self.ends(old, begin);
        self.earlier = self.honest().answered();
        self.look();
    }

    /// Counts of a process that ends. What it counts after this is not seen.
    fn remember(&mut self) {
        let answered = self.honest().answered();
        let metrics = self.look();
        let (all, since) = (metrics.answers(), answered - self.earlier);
        assert!(all >= since, "{all} answers, {since} of them to honest clients");
        for reason in REASONS {
            *self.ended.entry(reason).or_default() += metrics.ended(reason);
        }
    }

    /// Waits for the end of a process that was told at `begin` to finish.
    fn ends(&mut self, pid: i32, begin: Instant) {
        while is_running(pid) {
            let output = || self.site.child.output();
            assert!(begin.elapsed() < DRAIN + LATE, "the drain goes on and on: {}", output());
            std::thread::sleep(Duration::from_millis(20));
        }
        self.drains.push(begin.elapsed());
    }

    /// The crowd goes, and leaves nothing behind; then the server ends.
    fn end(&mut self) {
        let most = self.watch.most();
        self.remember();
        self.crowds.resize(Sizes::default());
        let (pid, before) = (self.site.pid, self.before);
        eventually("descriptors are back", || {
            Taken::by(pid).unwrap().descriptors <= before.descriptors + SLACK
        });
        eventually("the kernel's memory is back", || watch::pages() <= before.pages + PAGES_SLACK);
        let after = Taken::by(pid).unwrap();
        let metrics = self.look();
        let honest = self.honest.take().unwrap().finish();

        let seen = self.crowds.seen();
        assert_eq!(seen.refused, 0, "connections refused while a process served");

        // An end with clients that keep it from ending.
        self.crowds.resize(Sizes { never: 100, slow: 50, silent: 100, ..Sizes::default() });
        eventually("a last crowd is there", || self.crowds.seen().open >= 250);
        let begin = Instant::now();
        self.site.signal(Signal::TERM);
        self.ends(pid, begin);
        self.print(&honest, most, after, seen);
        self.check(&honest, most, after, &metrics);
        assert!(seen.whole > 0, "half-closers get their answers: {seen:?}");
        let output = self.site.child.output();
        for word in ["panicked", "failed", "does not end", "not upgraded", "lost"] {
            assert!(!output.contains(word), "`{word}` in {output}");
        }
        let told = |what: &str| output.lines().filter(|line| line.contains(what)).count();
        assert_eq!(told(": reloaded: "), self.site.reloads);
        assert_eq!(told(": not reloaded"), self.site.refused);
        self.logged(&honest);
    }
}

/// Waits until `holds`; panics with `what` when it takes too long.
fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
