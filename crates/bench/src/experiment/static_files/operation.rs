//! Reloads and a binary upgrade of our server while clients ask: what the clients notice.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use sluicegate_testkit::process::Child;

use crate::client::{Churned, Resource};
use crate::experiment::contents::KIB;
use crate::experiment::record::Record;
use crate::experiment::session::{CLIENT_LIMIT, Session, asking};
use crate::harness::interrupt;
use crate::harness::network::Network;
use crate::harness::pinned::answer;
use crate::harness::report::{Target, spread};
use crate::harness::statistics::Spread;
use crate::peer::{self, Running, free_address, preamble, site};

const RELOADS: u32 = 20;

/// Between two reloads.
const PAUSE: Duration = Duration::from_millis(100);

/// How long a new configuration may take until it answers.
const IN_FORCE: Duration = Duration::from_secs(5);

/// How long the old process may take to let go of its connections, and to end.
const DRAINED: Duration = Duration::from_secs(15);

/// Clients that keep their connection, and clients that open one for each request.
const KEEPING: usize = 8;
const OPENING: usize = 4;

/// The clients ask for so long: longer than all that is done to the server meanwhile.
const WINDOW: Duration = Duration::from_secs(10);

/// What was done, and what the clients saw.
#[derive(Debug)]
pub(super) struct Operation {
    /// Milliseconds from the signal to the first answer of the new configuration.
    reload_ms: Vec<f64>,
    /// The same of the new process; `None` when there was none.
    upgrade_ms: Option<f64>,
    /// What went wrong with the server itself.
    fault: Option<String>,
    saw: Churned,
}

/// Twenty reloads and an upgrade.
pub(super) fn measure(session: &mut Session) -> Result<Option<Operation>> {
    if !peer::runs_configurations() {
        session.skip("reloads and an upgrade: this sluicegate answers no `run`".to_owned());
        return Ok(None);
    }
    session.run.progress(&format!("{RELOADS} reloads and an upgrade under load"));
    let directory = tempfile::Builder::new().prefix("sluicegate-operation-").tempdir()?;
    let network = Network::Loopback;
    let place = session.place(network.server(), None);
    let address = free_address(&place)?;
    let config = directory.path().join("sluicegate.toml");
    let mut under = Operated { address, config, root: place.root.to_owned(), generation: 0 };
    under.write()?;
    let mut server = Running::configured(&place, address, &under.config)?;
    // Dropped before the server is: whoever took its place goes first.
    let successors = Successors { of: server.child.pid(), config: under.config.clone() };

    let resource = Resource {
        address,
        path: format!("/{}", KIB.name),
        length: KIB.length,
        seed: KIB.seed,
        files: None,
        sites: None,
    };
    let [keeping, opening] = [KEEPING, OPENING].map(|count| count.to_string());
    let window = WINDOW.as_millis().to_string();
    let plan = ["--keeping", &keeping, "--opening", &opening, "--window", &window];
    let mut clients = Child::spawn(asking(&network, &resource, "churn", &plan)?)?;

    let mut reload_ms = Vec::new();
    let mut upgrade_ms = None;
    let fault = under.operate(&mut server.child, &successors, &mut reload_ms, &mut upgrade_ms);
    interrupt::check()?;
    let mut fault = fault.err().map(|error| format!("{error:#}"));
    if fault.is_none() && clients.try_wait()?.is_some() {
        fault = Some("the clients were done before the upgrade was".to_owned());
    }
    let saw: Churned = answer(clients, CLIENT_LIMIT)?;
    let operation = Operation { reload_ms, upgrade_ms, fault, saw };
    session.run.record(&Record::Operation {
        reloads: u32::try_from(operation.reload_ms.len()).unwrap_or(u32::MAX),
        reload_ms: operation.reload_ms.clone(),
        upgraded: operation.upgrade_ms.is_some(),
        saw: operation.saw.clone(),
    })?;
    Ok(Some(operation))
}

/// A server whose configuration changes. Each has a number, which its answers tell.
struct Operated {
    address: SocketAddr,
    config: PathBuf,
    root: PathBuf,
    generation: u32,
}

const FIELD: &str = "X-Generation";

impl Operated {
    fn operate(
        &mut self,
        server: &mut Child,
        successors: &Successors,
        reload_ms: &mut Vec<f64>,
        upgrade_ms: &mut Option<f64>,
    ) -> Result<()> {
        for number in 1..=RELOADS {
            thread::sleep(PAUSE);
            let took = self.change(server, Signal::HUP);
            reload_ms.push(took.with_context(|| format!("reload {number}"))?);
        }
        thread::sleep(PAUSE);
        let took = self.change(server, Signal::USR2).context("the upgrade")?;
        // An answer of the new configuration could be the old process's; a new process could
        // not.
        ensure!(!successors.pids().is_empty(), "there is no new process after SIGUSR2");
        *upgrade_ms = Some(took);
        let deadline = Instant::now() + DRAINED;
        while server.try_wait()?.is_none() {
            interrupt::check()?;
            ensure!(Instant::now() < deadline, "the old process did not end in {DRAINED:?}");
            thread::sleep(Duration::from_millis(20));
        }
        ensure!(self.seen()? == Some(self.generation), "the new process went with the old one");
        Ok(())
    }

    /// Writes the next configuration, sends the signal, and returns after how many milliseconds
    /// it was in force.
    fn change(&mut self, server: &mut Child, signal: Signal) -> Result<f64> {
        self.generation += 1;
        self.write()?;
        let start = Instant::now();
        server.signal(signal)?;
        loop {
            interrupt::check()?;
            if self.seen()? == Some(self.generation) {
                return Ok(start.elapsed().as_secs_f64() * 1e3);
            }
            ensure!(start.elapsed() < IN_FORCE, "not in force after {IN_FORCE:?}");
            thread::sleep(Duration::from_millis(2));
        }
    }

    /// Replaced as a whole: whoever reads it never sees half of it.
    fn write(&self) -> Result<()> {
        let part = self.config.with_extension("part");
        let text = format!(
            "{}{}add_headers = {{ \"{FIELD}\" = \"{}\" }}\n\n[timeouts]\ndrain = \"5s\"\n",
            preamble(&[self.address], None),
            site(&[], &self.root),
            self.generation
        );
        fs::write(&part, text)?;
        fs::rename(&part, &self.config).context("cannot write the configuration")
    }

    /// The number of the configuration that a new connection is answered by.
    fn seen(&self) -> Result<Option<u32>> {
        let mut stream = TcpStream::connect(self.address).context("a connection was refused")?;
        stream.set_read_timeout(Some(IN_FORCE))?;
        let (name, host) = (KIB.name, self.address);
        let request = format!("HEAD /{name} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes())?;
        let mut head = String::new();
        stream.take(1 << 16).read_to_string(&mut head).context("an answer was cut")?;
        if !head.starts_with("HTTP/1.1 200") {
            bail!("{}", head.lines().next().unwrap_or("no answer"));
        }
        Ok(generation(&head))
    }
}

fn generation(head: &str) -> Option<u32> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = fields.find(|(name, _)| name.eq_ignore_ascii_case(FIELD))?;
    value.trim().parse().ok()
}

/// Processes that an upgrade has started: those that run this configuration, which is nobody
/// else's. They belong to no guard, so they are ended by this one.
struct Successors {
    of: u32,
    config: PathBuf,
}

impl Successors {
    fn pids(&self) -> Vec<u32> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|&pid| pid != self.of && runs(pid, &self.config)).collect()
    }
}

fn runs(pid: u32, config: &Path) -> bool {
    let arguments = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let config = config.as_os_str().as_encoded_bytes();
    arguments.split(|&byte| byte == 0).any(|argument| argument == config)
}

impl Drop for Successors {
    fn drop(&mut self) {
        for pid in self.pids() {
            if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

impl Operation {
    /// What went wrong, and what was not done at all.
    fn wrong(&self) -> u64 {
        let reloads = u64::from(RELOADS) - self.reload_ms.len() as u64;
        let upgrade = u64::from(self.upgrade_ms.is_none());
        self.saw.wrong() + reloads + upgrade.max(u64::from(self.fault.is_some()))
    }

    pub(super) fn target(&self) -> Target {
        Target {
            name: format!(
                "{RELOADS} reloads and an upgrade: failed requests, dropped or refused \
                 connections, steps undone"
            ),
            bound: 0.0,
            value: Some(self.wrong() as f64),
        }
    }

    pub(super) fn report(&self) -> String {
        let Churned { answers, connections, closed_in_order, refused, dropped, failed, .. } =
            self.saw;
        let upgrade = self.upgrade_ms.map_or_else(
            || "no upgrade".to_owned(),
            |ms| format!("an upgrade, in force after {ms:.0} ms"),
        );
        let mut text = format!(
            "{} of {RELOADS} reloads under load, in force after {} ms; {upgrade}\n  \
             {answers} answers on {connections} connections ({KEEPING} clients keep theirs, \
             {OPENING} open one for each request)\n  {refused} refused, {dropped} dropped, \
             {failed} failed; {closed_in_order} kept ones closed behind an answer that said so; \
             the longest took {:.0} ms\n",
            self.reload_ms.len(),
            spread(Spread::of(&self.reload_ms), 0),
            self.saw.longest_ms,
        );
        for said in self.fault.iter().chain(&self.saw.told) {
            text += &format!("  {said}\n");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation() -> Operation {
        let saw =
            Churned { answers: 1000, connections: 300, closed_in_order: 8, ..Churned::default() };
        let reload_ms = vec![3.0; RELOADS as usize];
        Operation { reload_ms, upgrade_ms: Some(40.0), fault: None, saw }
    }

    #[test]
    fn every_failure_and_every_step_undone_counts() {
        assert!(!operation().target().is_missed());
        for (dropped, done, upgraded) in [(1, 20, true), (0, 19, true), (0, 20, false)] {
            let mut operation = operation();
            operation.saw.dropped = dropped;
            operation.reload_ms.truncate(done);
            operation.upgrade_ms = upgraded.then_some(1.0);
            assert_eq!(operation.wrong(), 1);
            assert!(operation.target().is_missed());
        }
        let fault = Operation { fault: Some("it died".to_owned()), ..operation() };
        assert!(fault.target().is_missed() && fault.report().contains("it died"));
        assert!(operation().report().contains("20 of 20 reloads"));
    }

    #[test]
    fn the_number_of_a_configuration_is_read_out_of_a_head() {
        let head = "HTTP/1.1 200 OK\r\nx-generation: 7\r\n\r\n";
        assert_eq!(generation(head), Some(7));
        assert_eq!(generation("HTTP/1.1 200 OK\r\n\r\n"), None);
    }

    #[test]
    fn a_process_is_found_by_its_configuration() {
        let mut command = std::process::Command::new("sleep");
        let config = tempfile::tempdir().unwrap().path().join("none.toml");
        command.args(["30", "0"]);
        let child = Child::spawn(command).unwrap();
        // Its arguments may come a moment after its start.
        let deadline = Instant::now() + Duration::from_secs(10);
        while !runs(child.pid(), Path::new("30")) {
            assert!(Instant::now() < deadline);
            thread::sleep(Duration::from_millis(1));
        }
        assert!(!runs(child.pid(), &config));
    }
}
