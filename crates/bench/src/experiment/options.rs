//! What experiments are asked alike, and how they end.

use std::path::{Path, PathBuf};

use anyhow::Result;
use clap::Args;

use crate::harness::report::Target;
use crate::harness::run_dir::RunDir;

/// Where the results go, and what a missed target means.
#[derive(Debug, Args)]
pub(crate) struct Outcome {
    /// Where the results go, instead of `runs/DATE-EXPERIMENT`.
    #[arg(long)]
    out: Option<PathBuf>,
    /// Fail when a target is missed.
    #[arg(long)]
    check: bool,
}

impl Outcome {
    pub(super) fn out(&self) -> Option<&Path> {
        self.out.as_deref()
    }

    /// Writes the report, the targets and the plots, and tells of them; returns whether the
    /// outcome is acceptable.
    pub(super) fn conclude(
        &self,
        run: &RunDir,
        report: &str,
        targets: &[Target],
        plot: impl FnOnce(&RunDir) -> Result<()>,
    ) -> Result<bool> {
        run.write("summary.txt", report)?;
        run.write_json("targets.json", &targets)?;
        plot(run)?;
        print!("{report}");
        println!("\nraw data, report and plots: {}", run.path().display());
        run.progress("done");
        Ok(!self.check || !targets.iter().any(Target::is_missed))
    }
}

/// Networks of every kind, by name.
#[derive(Debug, Args)]
pub(crate) struct Networks {
    /// Measure over these networks alone.
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = ["lo", "veth", "veth50", "wire", "wire50", "far50"]
    )]
    network: Vec<String>,
}

impl Networks {
    /// Those that are wanted; `usual` ones where nobody said.
    pub(super) fn or(&self, usual: &[&str]) -> Vec<String> {
        if self.network.is_empty() {
            usual.iter().map(|&name| name.to_owned()).collect()
        } else {
            self.network.clone()
        }
    }
}
