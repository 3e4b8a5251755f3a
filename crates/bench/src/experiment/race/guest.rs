//! The virtual machine's network card: the guest sends, and the host is the slow reader.

use std::net::SocketAddr;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use sluicegate_testkit::vm::{self, Options, Vm};

use super::backing::{Backing, Ground};
use super::cell::{Cell, Plan, connect};
use super::ours::{Account, Knowledge};
use super::reader;
use super::sizes::GUEST_WIRE;
use super::ways::Way;
use crate::experiment::session::SERVER_CPU;
use crate::harness::pinned::own_path;

/// What begins the line with which the guest tells of its ring.
const MARK: &str = "sluicegate-race ";

/// What a cell may take: a megabyte a second, at the least, and some time to begin.
const LIMIT: Duration = Duration::from_secs(300);

/// The sender, in the guest.
#[derive(Debug, Args)]
pub(crate) struct RaceGuest {
    /// Where the reader listens.
    #[arg(long)]
    reader: SocketAddr,
    /// When memory is overwritten.
    #[arg(long)]
    way: String,
    /// Bytes behind the head.
    #[arg(long)]
    length: u64,
}

impl RaceGuest {
    /// Sends, and tells what the ring did.
    pub(crate) fn run(&self) -> Result<()> {
        let way = Way::by_name(&self.way).with_context(|| format!("no way {}", self.way))?;
        let plan = plan(way, self.length, 0);
        let stream = connect(self.reader)?;
        let account = plan.send(vec![stream], &Ground::memory(), Knowledge::Probed)?;
        println!("{MARK}{}", serde_json::to_string(&account)?);
        Ok(())
    }
}

fn plan(way: Way, length: u64, pauses: u64) -> Plan {
    Plan { backing: Backing::Memfd, way, readers: 1, length, pauses }
}

/// A running guest with this program in it.
#[derive(Debug)]
pub(super) struct Guest {
    vm: Vm,
    program: String,
}

impl Guest {
    /// Boots one.
    pub(super) fn boot() -> Result<Self> {
        let path = own_path()?;
        let name = Path::new(&path).file_name().and_then(|name| name.to_str());
        let program = format!("/programs/{}", name.context("this program has no name")?);
        let vm = Vm::boot(&Options::new().program(path))?;
        Ok(Self { vm, program })
    }

    /// Its kernel.
    pub(super) fn kernel(&self) -> &str {
        self.vm.kernel()
    }

    /// One way through its network card.
    pub(super) fn run(&self, way: Way, length: u64, pauses: u64) -> Result<Cell> {
        let began = Instant::now();
        let plan = plan(way, length, pauses);
        let listener = self.vm.host().enter(|| reader::listen(vm::HOST.into()))??;
        let address = listener.local_addr()?.to_string();
        let (way, length) = (way.argument(), length.to_string());
        let command = [
            self.program.as_str(),
            "race-guest",
            "--reader",
            &address,
            "--way",
            &way,
            "--length",
            &length,
        ];
        let outcome = thread::scope(|scope| {
            let reader = scope.spawn(|| plan.receive(&reader::accept(&listener)?.0));
            let finished = self.vm.run(&command, &[], LIMIT);
            let got = reader.join().map_err(|_| anyhow!("the reader panicked"))?;
            let account = account(&finished?)?;
            Ok::<_, anyhow::Error>((got?, account))
        });
        let outcome = outcome.with_context(|| plan.name(GUEST_WIRE))?;
        Ok(Cell::new(GUEST_WIRE, plan, outcome, began))
    }
}

/// What the guest tells of its ring.
fn account(finished: &vm::Finished) -> Result<Option<Account>> {
    let vm::Finished { status, output } = finished;
    let line = output.lines().find_map(|line| line.strip_prefix(MARK));
    match line {
        Some(line) if *status == 0 => Ok(serde_json::from_str(line)?),
        _ => bail!("the guest's sender failed (status {status}):\n{output}"),
    }
}

/// Runs `work` with a guest, on a thread of its own and on the sender's processor: the machine that
/// it boots inherits it. `None` where there is no guest to be had, which is told.
pub(super) fn with<T: Send>(
    lacks: &mut Vec<String>,
    work: impl FnOnce(&Guest) -> Result<T> + Send,
) -> Result<Option<T>> {
    let result = thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sluicegate_sys::affinity::pin_to(SERVER_CPU)?;
            match Guest::boot() {
                Ok(guest) => work(&guest).map(Ok),
                Err(error) => Ok(Err(error)),
            }
        });
        thread.join().map_err(|_| anyhow!("the guest's thread panicked"))?
    })?;
    Ok(match result {
        Ok(done) => Some(done),
        Err(error) => {
            lacks.push(format!("everything over {GUEST_WIRE}: {error:#}"));
            None
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_guest_tells_is_read_and_a_failure_is_one() {
        let told = |status, output: &str| vm::Finished { status, output: output.to_owned() };
        assert_eq!(account(&told(0, "x\nsluicegate-race null\n")).unwrap(), None);
        let account = account(&told(1, "sluicegate-race null\nno ring")).unwrap_err();
        assert!(account.to_string().contains("no ring"));
        assert!(super::account(&told(0, "")).is_err());
    }
}
