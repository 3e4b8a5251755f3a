//! What became of the streams, and what it says: the report, the targets, the plot.

use std::fmt::Write;

use anyhow::Result;

use super::backing::Backing;
use super::cell::Cell;
use super::ours::Account;
use super::tables;
use super::ways::Way;
use crate::harness::plot::{self, Bar};
use crate::harness::report::{Target, verdicts};
use crate::harness::run_dir::RunDir;
use crate::harness::statistics::Spread;

/// Partitions of a hundred that another proof than the expected one may have freed.
const OTHERWISE: f64 = 1.0;

/// All that a run found out.
#[derive(Debug)]
pub(super) struct Findings {
    pub(super) cells: Vec<Cell>,
    /// What was left out, and why.
    pub(super) skipped: Vec<String>,
}

/// Whether what was acknowledged may be overwritten: whether the bytes leave by copy.
fn copies(wire: &str) -> bool {
    ["wire", "wire50", "far50", "vm"].contains(&wire)
}

/// The proof that a ring is to free partitions by, and its count.
fn expected(cell: &Cell, of: &Account) -> (&'static str, u64) {
    match (copies(cell.wire), cell.plan.readers) {
        (true, _) => ("acked", of.acked),
        (false, 1) => ("copied", of.copied),
        (false, _) => ("replaced", of.replaced),
    }
}

impl Findings {
    fn wires(&self) -> Vec<&'static str> {
        let mut wires: Vec<_> = self.cells.iter().map(|cell| cell.wire).collect();
        wires.dedup();
        wires
    }

    fn of(&self, wire: &str, is_way: impl Fn(Way) -> bool) -> Vec<&Cell> {
        let cells = self.cells.iter();
        cells.filter(|cell| cell.wire == wire && is_way(cell.plan.way)).collect()
    }

    /// The hazard where it has to be, nothing where it must not, and rings by the expected proofs.
    pub(super) fn targets(&self) -> Vec<Target> {
        let target = |name: String, value: f64| Target { name, bound: 0.0, value: Some(value) };
        let clean = |cells: &[&Cell]| cells.iter().filter(|cell| cell.got.corrupted == 0).count();
        let corrupted = |cells: &[&Cell]| cells.iter().map(|cell| cell.got.corrupted).sum::<u64>();
        let mut targets = Vec::new();
        for wire in self.wires() {
            let at_once = self.of(wire, |way| way == Way::AtOnce);
            if !at_once.is_empty() {
                let name = format!("(a) over {wire}: cells that show nothing: A BROKEN CHECK");
                targets.push(target(name, clean(&at_once) as f64));
            }
            let acked = self.of(wire, |way| way == Way::Acked);
            if !acked.is_empty() {
                targets.push(if copies(wire) {
                    let name = format!("(b) over {wire}, which copies: corrupted bytes");
                    target(name, corrupted(&acked) as f64)
                } else {
                    let name = format!("(b) over {wire}, which shares: cells that show nothing");
                    target(name, clean(&acked) as f64)
                });
            }
        }
        let waited: Vec<&Cell> =
            self.cells.iter().filter(|cell| matches!(cell.plan.way, Way::Waiting(_))).collect();
        if !waited.is_empty() {
            let nowhere = clean(&waited) == waited.len();
            let name = "(a′): corrupts nowhere (1 if it is so)".to_owned();
            targets.push(target(name, f64::from(u8::from(nowhere))));
        }
        for cell in self.cells.iter().filter(|cell| cell.plan.way == Way::Ours) {
            targets.extend(ring_targets(cell));
        }
        let missing: u64 = self.cells.iter().map(|cell| cell.missing).sum();
        targets.push(target("all: bytes that did not arrive".to_owned(), missing as f64));
        targets
    }

    /// The whole report.
    pub(super) fn report(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(text, "{}", tables::corrupted(self));
        let _ = writeln!(text, "{}", tables::accounts(self));
        let _ = writeln!(text, "{}", tables::sent(self));
        let all: u64 = self.cells.iter().map(|cell| cell.got.corrupted).sum();
        let later: u64 = self.cells.iter().map(|cell| cell.got.later).sum();
        let _ = writeln!(
            text,
            "Of {all} corrupted bytes {later} begin with bytes of a later place of their stream: \
             what was written over them.\n"
        );
        for skipped in &self.skipped {
            let _ = writeln!(text, "SKIPPED: {skipped}");
        }
        let _ = writeln!(text, "{}", verdicts(&self.targets()));
        text.push_str(NOTES);
        text
    }

    /// Of a hundred bytes those that were corrupted, by wire and way, on a memfd.
    pub(super) fn plot(&self, run: &RunDir) -> Result<()> {
        let main = |cell: &&Cell| cell.plan.backing == Backing::Memfd && cell.plan.readers == 1;
        let bar = |cell: &Cell| {
            Some(Bar {
                group: cell.wire.to_owned(),
                name: cell.plan.way.to_string(),
                spread: Spread::of(&[cell.share()])?,
            })
        };
        let bars: Vec<Bar> = self.cells.iter().filter(main).filter_map(bar).collect();
        let path = run.path().join("corrupted.svg");
        plot::bars(&path, "Corrupted through a ring of 1 MiB on a memfd", "%", &bars)
    }
}

/// What a ring must have done.
fn ring_targets(cell: &Cell) -> Vec<Target> {
    let of = format!("(c) over {} on {}", cell.wire, cell.plan.backing);
    let of = if cell.plan.readers > 1 { format!("{of}, {}", cell.plan.readers) } else { of };
    let target = |what: &str, bound, value: Option<f64>| {
        let name = format!("{of}: {what}");
        Target { name, bound, value }
    };
    let mut targets = vec![target("corrupted bytes", 0.0, Some(cell.got.corrupted as f64))];
    if let Some(account) = &cell.account {
        let (proof, count) = expected(cell, account);
        // Memory that goes to a peer of whom nothing is known asks where it is with its first KiB:
        // one region is then released and not copied. Of 15 that would be many parts of a hundred.
        let asked = if proof == "copied" { account.released.min(1) } else { 0 };
        // A ring that reused nothing has shown nothing.
        let share = (count + asked) as f64 / account.reused().max(1) as f64;
        let what = format!("% of partitions not freed as {proof}");
        targets.push(target(&what, OTHERWISE, Some(100.0 * (1.0 - share))));
        if copies(cell.wire) {
            let bytes = account.bytes_copied + account.bytes_copied_out;
            targets.push(target("bytes copied out of it", 0.0, Some(bytes as f64)));
        }
    }
    targets
}

const NOTES: &str = "\
A stream goes through a ring of 1 MiB (16 partitions of 64 KiB; one of 1 MiB where it is written in 1 MiB pieces) to
a reader that reads in bursts of 4 MiB with 10 ms between them, and now and then nothing for 250 ms. (a), (a′) and (b)
are sendfile from memory that is overwritten in place: as soon as it is accepted, so many milliseconds later, when
SIOCOUTQ says that it is acknowledged. (c) is the library's ring. Each word of 8 bytes follows from its place in the
stream, so that wrong ones are counted, and tell which place they belong to. lo, veth and veth50 (50 MB/s)
share pages with the receiver; wire (two TUN devices and a thread that copies) and vm (the network card of a virtual
machine, which sends) do not. On wire the ring is told that its peer is remote, since a TUN device says *copied*; in
vm a probe of 1 KiB finds it out. readers: one region of the ring to so many sockets.
";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::race::cell::Plan;
    use crate::experiment::race::content::Got;

    const NOTHING: Account = Account {
        copied: 0,
        released: 0,
        acked: 0,
        replaced: 0,
        unsent: 16,
        quarantined: 0,
        bytes_copied: 0,
        bytes_sendfile: 0,
        bytes_zerocopy: 0,
        bytes_copied_out: 0,
    };

    fn cell(wire: &'static str, way: Way, corrupted: u64, account: Option<Account>) -> Cell {
        let plan = Plan { backing: Backing::Memfd, way, readers: 1, length: 16 << 20, pauses: 2 };
        let got = Got { bytes: plan.sent(), corrupted, later: corrupted };
        Cell { wire, plan, got, missing: 0, seconds: 1.0, account }
    }

    fn good() -> Vec<Cell> {
        let copied = Account { copied: 240, bytes_copied: 16 << 20, ..NOTHING };
        let acked = Account { acked: 239, released: 1, ..NOTHING };
        let replaced = Account { replaced: 240, ..NOTHING };
        let mut many = cell("lo", Way::Ours, 0, Some(replaced));
        many.plan.readers = 8;
        vec![
            cell("lo", Way::AtOnce, 800, None),
            cell("lo", Way::Waiting(1), 0, None),
            cell("lo", Way::Waiting(10), 8, None),
            cell("lo", Way::Acked, 80, None),
            cell("lo", Way::Ours, 0, Some(copied)),
            many,
            cell("wire", Way::AtOnce, 800, None),
            cell("wire", Way::Acked, 0, None),
            cell("wire", Way::Ours, 0, Some(acked)),
        ]
    }

    fn missed(cells: Vec<Cell>) -> Vec<String> {
        let findings = Findings { cells, skipped: Vec::new() };
        let targets = findings.targets();
        targets.into_iter().filter(Target::is_missed).map(|target| target.name).collect()
    }

    /// The names of the targets that such a change of a cell misses.
    fn after(index: usize, change: impl Fn(&mut Cell)) -> String {
        let mut cells = good();
        change(&mut cells[index]);
        missed(cells).join("; ")
    }

    #[test]
    fn a_hazard_that_is_not_seen_is_a_broken_check() {
        assert_eq!(missed(good()), [""; 0]);
        assert!(after(0, |cell| cell.got.corrupted = 0).contains("BROKEN"));
        assert!(after(2, |cell| cell.got.corrupted = 0).contains("(a′)"));
        assert!(after(3, |cell| cell.got.corrupted = 0).contains("(b) over lo"));
        assert!(after(7, |cell| cell.got.corrupted = 8).contains("(b) over wire"));
        assert!(after(1, |cell| cell.missing = 1).contains("did not arrive"));
    }

    #[test]
    fn a_ring_that_corrupts_or_proves_otherwise_has_missed() {
        let account = |index, change: fn(&mut Account)| {
            after(index, |cell| change(cell.account.as_mut().unwrap()))
        };
        assert!(after(4, |cell| cell.got.corrupted = 8).contains("corrupted"));
        assert!(account(4, |of| of.acked = 10).contains("not freed as copied"));
        assert_eq!(account(4, |of| (of.copied, of.released) = (14, 1)), "");
        assert!(account(4, |of| of.released = 20).contains("not freed as copied"));
        assert!(account(5, |of| of.copied = 10).contains("not freed as replaced"));
        assert!(account(8, |of| of.copied = 10).contains("not freed as acked"));
        assert!(account(8, |of| *of = NOTHING).contains("not freed as acked"));
        assert!(account(8, |of| of.bytes_copied = 1).contains("copied out of it"));
    }

    #[test]
    fn the_report_shows_cells_accounts_and_what_was_skipped() {
        let skipped = vec!["everything over vm: no qemu".to_owned()];
        let report = Findings { cells: good(), skipped }.report();
        for text in ["800 (0.00)", "(a′) 10 ms", "240", "16 MiB 1 s", "SKIPPED: every", "met"] {
            assert!(report.contains(text), "no {text:?} in\n{report}");
        }
    }
}
