//! A thousand sites beside one, told apart by name and by address: what looking one up costs, and
//! how long their configuration takes to read.

use std::fmt::Write;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::client::{Load, Resource, Sites};
use crate::experiment::contents::{self, KIB};
use crate::experiment::record::Record;
use crate::experiment::session::{CLIENT_LIMIT, Effort, SERVER_CPU, Session, asking, void};
use crate::experiment::workload::Unit;
use crate::harness::interrupt;
use crate::harness::interval::Interval;
use crate::harness::network::Network;
use crate::harness::pinned::answer_of;
use crate::harness::report::{Table, Target};
use crate::harness::round::{Fault, Rounds, fault, order};
use crate::harness::statistics::{Spread, ratios};
use crate::peer::{self, Running, free_address, preamble, sluicegate_path};

const SITES: u32 = 1000;

/// Pairs that must count, of a full run.
pub(super) const PAIRS: Rounds = Rounds { wanted: 15, at_most: 20 };

/// No window is shorter.
const SHORTEST: Duration = Duration::from_millis(500);

/// What a thousand sites may cost: requests per second of one by those of a thousand.
const BOUND: f64 = 1.0 / 0.97;

/// Milliseconds that a configuration may take.
const LOADED: f64 = 50.0;

/// One way to tell sites apart.
#[derive(Debug)]
pub(super) struct SitesCell {
    by: &'static str,
    /// One site and a thousand in each.
    rounds: Vec<[Load; 2]>,
    faults: Vec<Option<Fault>>,
    /// Seconds of `sluicegate check` from its start to its end, of the thousand.
    check: Vec<f64>,
    /// What it said last.
    said: String,
}

/// Measures both ways.
pub(super) fn measure(session: &mut Session, effort: Effort) -> Result<Vec<SitesCell>> {
    if !peer::runs_configurations() {
        session.skip("1,000 sites: this sluicegate answers no `run`".to_owned());
        return Ok(Vec::new());
    }
    session.run.progress("preparing the files of 1,000 sites");
    let above = contents::prepare_sites(KIB, SITES)?;
    let mut cells = Vec::new();
    // A thousand connections take their turns in any window.
    let effort = Effort { window: effort.window.max(SHORTEST), ..effort };
    // Every site has its address for itself only while each has a connection.
    for (by, sites, connections) in
        [("name", Sites::Names, 64), ("address", Sites::Addresses, SITES as usize)]
    {
        cells.push(pairs(session, effort, &above, (by, sites, connections))?);
    }
    Ok(cells)
}

/// Two servers that stay up, and a window of each in turn.
fn pairs(
    session: &mut Session,
    effort: Effort,
    above: &Path,
    (by, sites, connections): (&'static str, Sites, usize),
) -> Result<SitesCell> {
    let directory = tempfile::Builder::new().prefix("sluicegate-sites-").tempdir()?;
    let config = |name: &str| directory.path().join(name);
    let place = session.place(Network::Loopback.server(), None);
    let one = free_address(&place)?;
    fs::write(config("one.toml"), one_site(above, one))?;
    let one = Running::configured(&place, one, &config("one.toml"))?;
    let mut many = free_address(&place)?;
    let text = match sites {
        Sites::Addresses => {
            many = Sites::address(0, many.port());
            by_address(above, many.port())
        }
        Sites::Names | Sites::Directories => by_name(above, many),
    };
    fs::write(config("many.toml"), text)?;
    let many = Running::configured(&place, many, &config("many.toml"))?;
    let (check, said) = check(&config("many.toml"), effort.rounds.wanted)?;
    session.run.record(&Record::Check {
        by: by.to_owned(),
        sites: SITES,
        seconds: check.clone(),
    })?;

    let servers = [(one, Sites::Directories), (many, sites)];
    let mut cell = SitesCell { by, rounds: Vec::new(), faults: Vec::new(), check, said };
    let mut good = 0;
    while effort.rounds.want_more(cell.rounds.len(), good) {
        let round = cell.rounds.len();
        let mut loads = [None, None];
        for index in order(round, servers.len()) {
            interrupt::check()?;
            let (server, sites) = &servers[index];
            loads[index] = Some(window(effort, server, *sites, connections)?);
        }
        if let [Some(one), Some(many)] = loads {
            let fault = cell.take(session, [one, many])?;
            good += usize::from(fault.is_none());
        }
    }
    Ok(cell)
}

/// What so many connections get in a window.
fn window(effort: Effort, server: &Running, sites: Sites, connections: usize) -> Result<Load> {
    let resource = Resource {
        address: server.address,
        path: format!("/{}", KIB.name),
        length: KIB.length,
        seed: KIB.seed,
        files: Some(SITES),
        sites: Some(sites),
    };
    let mut client = asking(&Network::Loopback, &resource, "load", &["--check", "whole"])?;
    for (option, value) in [
        ("--connections", connections.to_string()),
        ("--warm-up", effort.warm_up.as_millis().to_string()),
        ("--window", effort.window.as_millis().to_string()),
        ("--server-cpu", SERVER_CPU.to_string()),
        ("--server-pid", server.child.pid().to_string()),
    ] {
        client.args([option, &value]);
    }
    answer_of(client, CLIENT_LIMIT).with_context(|| void(server))
}

/// Seconds of `sluicegate check`, from the start of the process to its end, and its last words.
fn check(config: &Path, times: usize) -> Result<(Vec<f64>, String)> {
    let (mut seconds, mut said) = (Vec::with_capacity(times), String::new());
    for _ in 0..times {
        let start = Instant::now();
        let output = Command::new(sluicegate_path()?).arg("check").arg(config).output()?;
        seconds.push(start.elapsed().as_secs_f64());
        let text = [output.stdout, output.stderr].concat();
        let text = String::from_utf8_lossy(&text);
        ensure!(output.status.success(), "sluicegate check: {text}");
        said = text.lines().last().unwrap_or_default().to_owned();
    }
    Ok((seconds, said))
}

/// One site, the files of all beneath it.
fn one_site(above: &Path, address: SocketAddr) -> String {
    let name = Sites::name(0);
    format!("{}{}", preamble(&[address], None), peer::site(&[&name], above))
}

fn by_name(above: &Path, address: SocketAddr) -> String {
    let mut text = preamble(&[address], None);
    for index in 0..SITES {
        let name = Sites::name(index);
        text += &peer::site(&[&name], &above.join(index.to_string()));
    }
    text
}

fn by_address(above: &Path, port: u16) -> String {
    let mut text = preamble(&[Sites::address(0, port)], None);
    for index in 0..SITES {
        let site = peer::site(&[], &above.join(index.to_string()));
        let address = Sites::address(index, port);
        text += &site.replacen("[[site]]\n", &format!("[[site]]\nlisten = [\"{address}\"]\n"), 1);
    }
    text
}

impl SitesCell {
    /// Keeps a pair, and tells what is wrong with it.
    fn take(&mut self, session: &mut Session, pair: [Load; 2]) -> Result<Option<Fault>> {
        let (round, by) = (self.rounds.len(), self.by);
        let fault = fault(&pair);
        let [one, many] = pair.each_ref().map(|load| Unit::Request.rate(load));
        let note = fault.map_or_else(String::new, |fault| format!("  ({fault})"));
        session.run.progress(&format!(
            "lo sites by {by} round {}:  one {one:.0}  {SITES} {many:.0} requests/s{note}",
            round + 1
        ));
        for (server, load) in ["one site", "1000 sites"].into_iter().zip(&pair) {
            session.run.record(&Record::Load {
                network: "lo".to_owned(),
                workload: format!("sites by {by}"),
                server: server.to_owned(),
                round,
                fault: fault.map(|fault| fault.to_string()),
                unit: Unit::Request,
                cost: Unit::Request.core_cost(load),
                load: Box::new(load.clone()),
            })?;
        }
        self.rounds.push(pair);
        self.faults.push(fault);
        Ok(fault)
    }

    /// The pairs that count: all of them where most do not.
    fn counted(&self) -> Vec<&[Load; 2]> {
        let good = self.faults.iter().filter(|fault| fault.is_none()).count();
        let all = good * 2 < self.rounds.len();
        let pairs = self.rounds.iter().zip(&self.faults);
        pairs.filter(|(_, fault)| all || fault.is_none()).map(|(pair, _)| pair).collect()
    }

    /// Requests per second of one site by those of a thousand, in each pair that counts.
    fn ratios(&self) -> Vec<f64> {
        let pairs = self.counted();
        let rates = |index: usize| -> Vec<f64> {
            pairs.iter().map(|pair| Unit::Request.rate(&pair[index])).collect()
        };
        ratios(&rates(0), &rates(1))
    }

    fn check_ms(&self) -> Option<f64> {
        Some(Spread::of(&self.check)?.median * 1e3)
    }

    pub(super) fn targets(&self) -> [Target; 2] {
        let by = self.by;
        [
            Target {
                name: format!(
                    "{SITES} sites by {by}: requests/s of one site / of {SITES} (1 / 0.97)"
                ),
                bound: BOUND,
                value: Spread::of(&self.ratios()).map(|of| of.median),
            },
            Target {
                name: format!("{SITES} sites by {by}: ms of `sluicegate check`, start to end"),
                bound: LOADED,
                value: self.check_ms(),
            },
        ]
    }
}

/// What both ways gave.
pub(super) fn report(cells: &[SitesCell]) -> String {
    let mut table = Table::new(
        format!("{SITES} sites beside one, 1 KiB of {SITES} different files, over lo"),
        &["by", "pairs", "one: requests/s", "1000: requests/s", "1000 / one", "check ms"],
    );
    let mut text = String::new();
    for cell in cells {
        let pairs = cell.counted();
        let rate = |index: usize| {
            let rates: Vec<f64> =
                pairs.iter().map(|pair| Unit::Request.rate(&pair[index])).collect();
            Spread::of(&rates).map_or_else(String::new, |of| format!("{:.0}", of.median))
        };
        let inverse: Vec<f64> = cell.ratios().iter().map(|ratio| 1.0 / ratio).collect();
        table.row(vec![
            cell.by.to_owned(),
            format!("{} of {}", pairs.len(), cell.rounds.len()),
            rate(0),
            rate(1),
            Interval::of(&inverse).map_or_else(String::new, Interval::show),
            cell.check_ms().map_or_else(String::new, |ms| format!("{ms:.1}")),
        ]);
        let _ = writeln!(text, "  check, by {}, says: {}", cell.by, cell.said);
    }
    format!("{table}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::experiment::cell::tests::load;

    fn cell() -> SitesCell {
        let rounds = vec![[load(100), load(98)], [load(100), load(100)], [load(100), load(50)]];
        let faults = vec![None, None, Some(Fault::Moved)];
        SitesCell { by: "name", rounds, faults, check: vec![0.02, 0.04, 0.03], said: "ok".into() }
    }

    #[test]
    fn pairs_are_compared_and_those_with_a_fault_left_out() {
        let [rate, loaded] = cell().targets();
        assert!((rate.value.unwrap() - (100.0 / 98.0 + 1.0) / 2.0).abs() < 1e-9);
        assert!(!rate.is_missed() && !loaded.is_missed());
        assert!((loaded.value.unwrap() - 30.0).abs() < 1e-9);
        assert!(report(&[cell()]).contains("2 of 3"));
    }

    #[test]
    fn each_site_has_its_name_or_its_address_and_its_root() {
        let named = by_name(Path::new("/s"), "127.0.0.1:80".parse().unwrap());
        assert_eq!(named.matches("[[site]]").count(), 1000);
        assert!(named.contains("hosts = [\"site-999.example.test\"]"), "{named}");
        assert!(named.contains("root = \"/s/999\""), "{named}");
        let addressed = by_address(Path::new("/s"), 80);
        assert!(addressed.contains("[[site]]\nlisten = [\"127.1.3.250:80\"]\n"), "{addressed}");
        assert_eq!(addressed.matches("listen = [").count(), 1001);
    }
}
