//! What a proxy does while a client is slow, to be watched: a body of 2 GiB to a reader of 50 MB/s
//! through our proxy as it is by itself, and through nginx's as most people run it, at once.

mod lane;
mod reader;
mod sockets;

use std::io::{IsTerminal, Write};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::Args;

use self::lane::Lane;
use super::race::parse_size;
use crate::harness::interrupt;
use crate::harness::machine::{Machine, version};
use crate::harness::network::Side;
use crate::harness::report::Table;
use crate::peer::proxy::{Buffering, Proxy, Spool};
use crate::peer::{self, Peer, Place, sluicegate_path};
use crate::upstream::{Kind, Upstream};

/// The seed of the body.
const SEED: u64 = 2026;

/// Bytes a second of each reader.
const RATE: u64 = 50_000_000;

/// How often the lines are drawn.
const PERIOD: Duration = Duration::from_secs(1);

const MIB: f64 = (1 << 20) as f64;

#[derive(Debug, Args)]
pub(crate) struct Demo {
    /// The length of the body.
    #[arg(long, value_parser = parse_size, default_value = "2GiB")]
    size: u64,
}

impl Demo {
    /// Downloads, and tells meanwhile and at the end.
    pub(crate) fn run(&self) -> Result<()> {
        peer::build()?;
        let mut machine = Machine::look();
        machine.sluicegate = version(&sluicegate_path()?.to_string_lossy(), "--version");
        let cpus = sluicegate_sys::affinity::allowed()?;
        let (server_cpu, other) = (*cpus.first().unwrap_or(&0), *cpus.last().unwrap_or(&0));
        let root = tempfile::tempdir()?;
        let kind = Kind::Loop;
        let side = Side::Here;
        let mut lanes = Vec::new();
        for proxy in [Proxy::Ours(Spool::DEFAULT), Proxy::Nginx(Buffering::Default)] {
            let peer = Peer::Proxy(proxy);
            if let Some(program) = peer.missing() {
                println!("there is no {program}: {peer} is left out");
                continue;
            }
            // One for each, so that its account is of one body.
            let upstream = Upstream::start(side, other, root.path(), kind)?;
            let origin = Some(upstream.origin());
            let (root, log, spool) = (root.path(), None, None);
            let on = Place { side, cpu: server_cpu, root, log, upstream: origin, spool };
            lanes.push(Lane::start(peer.start(&on, "")?, upstream)?);
        }
        println!(
            "{:.0} MiB to a reader of {:.0} MB/s, {}; about {:.0} s\n",
            self.size as f64 / MIB,
            RATE as f64 / 1e6,
            lanes.iter().map(Lane::name).collect::<Vec<_>>().join(" and "),
            self.size as f64 / RATE as f64
        );
        self.download(&mut lanes)?;
        println!("\n{}", summary(&lanes, self.size)?);
        println!("{}", machine.summary());
        println!(
            "sluicegate-bench demo, {}: CPU of own threads; every 64th block compared",
            machine.date
        );
        Ok(())
    }

    /// All at once, drawn each second: over each other on a terminal, below each other elsewhere.
    fn download(&self, lanes: &mut [Lane]) -> Result<()> {
        let path = format!("/made/{SEED}/{}", self.size);
        let redraws = std::io::stdout().is_terminal();
        let began = Instant::now();
        thread::scope(|scope| {
            let mut readers = Vec::new();
            for lane in lanes.iter() {
                let (address, path, progress) = (lane.address(), &path, lane.progress());
                let size = self.size;
                readers.push(
                    scope.spawn(move || reader::read(address, path, (size, SEED), RATE, &progress)),
                );
            }
            let mut turn = 0_u32;
            loop {
                let is_over = readers.iter().all(thread::ScopedJoinHandle::is_finished);
                let stop = interrupt::check();
                if stop.is_err() {
                    lanes.iter().for_each(|lane| lane.progress().stop());
                }
                let looked = lanes.iter_mut().try_for_each(Lane::look);
                if looked.is_err() {
                    lanes.iter().for_each(|lane| lane.progress().stop());
                }
                looked?;
                draw(lanes, began, redraws && turn > 0)?;
                turn += 1;
                if is_over {
                    break;
                }
                let due = began + PERIOD * turn;
                while Instant::now() < due
                    && !readers.iter().all(thread::ScopedJoinHandle::is_finished)
                {
                    thread::sleep(Duration::from_millis(20));
                }
            }
            interrupt::check()?;
            for (reader, lane) in readers.into_iter().zip(lanes.iter()) {
                let read = reader.join().map_err(|_| anyhow::anyhow!("a reader panicked"))?;
                read.with_context(|| lane.blame())?;
            }
            Ok(())
        })
    }
}

fn draw(lanes: &[Lane], began: Instant, again: bool) -> Result<()> {
    let mut out = std::io::stdout().lock();
    if again {
        write!(out, "\x1b[{}A", lanes.len())?;
    }
    let seconds = began.elapsed().as_secs_f64();
    for lane in lanes {
        writeln!(out, "{}{}", lane.line(seconds), if again { "\x1b[K" } else { "" })?;
    }
    out.flush()?;
    Ok(())
}

/// Four rows, as README has them.
fn summary(lanes: &[Lane], size: u64) -> Result<Table> {
    let mut columns = vec![""];
    columns.extend(lanes.iter().map(Lane::name_str));
    let mut table = Table::new("In the end", &columns);
    let ends = lanes.iter().map(|lane| lane.end(size)).collect::<Result<Vec<_>>>()?;
    let mut row = |name: &str, of: &dyn Fn(&lane::End) -> String| {
        let mut cells = vec![name.to_owned()];
        cells.extend(ends.iter().map(of));
        table.row(cells);
    };
    row("CPU, s/GiB", &|end| format!("{:.3}", end.cpu));
    row("disk written, MiB", &|end| format!("{:.0}", end.written as f64 / MIB));
    row("peak memory, MiB", &|end| format!("{:.1}", end.memory as f64 / MIB));
    row("upstream held, s", &|end| {
        end.held_s.map_or_else(|| "—".to_owned(), |seconds| format!("{seconds:.1}"))
    });
    Ok(table)
}
