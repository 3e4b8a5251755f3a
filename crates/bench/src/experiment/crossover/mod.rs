//! At which size our server should send a file in another form: from memory, read for each
//! request, by `sendfile`, by `splice`. What comes out stands in `sluicegate::Strategy`.

pub(super) mod findings;
mod sizes;
mod workloads;

use std::path::PathBuf;

use anyhow::{Result, ensure};
use clap::Args;

use self::findings::Findings;
use self::workloads::{FULL, QUICK, SET_FILES, workloads};
use super::contents;
use super::session::Session;

#[derive(Debug, Args)]
pub(crate) struct Crossover {
    /// Short windows, three sizes, 64 connections alone: under two minutes.
    #[arg(long)]
    quick: bool,
    /// Where the results go, instead of `runs/DATE-crossover`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Measure over these networks alone.
    #[arg(long, value_delimiter = ',', value_parser = ["lo", "veth"])]
    network: Vec<String>,
    /// Measure these sizes alone, such as 16KiB,64KiB.
    #[arg(long, value_delimiter = ',')]
    size: Vec<String>,
    /// Files of a set, at most: more than the server keeps open are opened for each request.
    #[arg(long, default_value_t = SET_FILES, value_parser = clap::value_parser!(u32).range(1..))]
    set_files: u32,
}

impl Crossover {
    /// Measures and reports.
    pub(crate) fn run(&self) -> Result<()> {
        for size in &self.size {
            ensure!(
                sizes::ALL.iter().any(|contents| contents.label() == size),
                "{size} is not among the sizes: {}",
                sizes::ALL.map(|contents| contents.label()).join(", ")
            );
        }
        let workloads = workloads(self.quick, &self.size, self.set_files);
        let effort = if self.quick { QUICK } else { FULL };
        let mut session = Session::open("crossover", self.out.as_deref(), effort, true)?;
        session.run.progress("preparing the files");
        let mut files = Vec::new();
        for workload in &workloads {
            match workload.files {
                Some(count) => contents::prepare_set(workload.contents, count)?,
                None => files.push(workload.contents),
            }
        }
        session.serve(contents::prepare(&files)?);
        for network in session.networks(&self.network) {
            for workload in &workloads {
                session.measure(&network, workload)?;
            }
        }

        let Session { run, machine, cells, skipped, .. } = session;
        let findings = Findings { cells, skipped };
        let report = format!("{}\n\n{}", machine.summary(), findings.report());
        run.write("summary.txt", &report)?;
        run.write("cells.txt", &findings.details())?;
        run.write_json("crossovers.json", &findings.crossovers())?;
        findings.plot(&run)?;
        print!("{report}");
        println!("\nraw data, report and plots: {}", run.path().display());
        run.progress("done");
        Ok(())
    }
}
