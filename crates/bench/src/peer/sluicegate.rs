//! Our own server, as it is released.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sluicegate_testkit::process::Child;

use super::{Place, Started, await_address};
use crate::harness::pinned::{own_path, pinned};

/// Brings the release binary up to date when this program was started by cargo; otherwise the
/// one that is there is measured.
pub(crate) fn build() -> Result<()> {
    if let Some(cargo) = env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--release", "-p", "sluicegate-server"])
            .stdin(Stdio::null())
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the server does not build");
    }
    let path = path()?;
    ensure!(
        path.is_file(),
        "there is no {}: cargo build --release -p sluicegate-server",
        path.display()
    );
    Ok(())
}

/// `target/release/sluicegate`, seen from this program in `target/*/`.
pub(crate) fn path() -> Result<PathBuf> {
    let own = own_path()?;
    let target = Path::new(&own).ancestors().nth(2).context("this program is in no target")?;
    Ok(target.join("release/sluicegate"))
}

/// How our server is made to send a file, whatever its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Kept in memory with its head, and sent with it.
    Memory,
    /// Read for each request, and sent with its head.
    Copy,
    Sendfile,
    Splice,
}

impl Form {
    /// Its name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Copy => "copy",
            Self::Sendfile => "sendfile",
            Self::Splice => "splice",
        }
    }

    /// What makes our server do it.
    fn arguments(self) -> [&'static str; 4] {
        match self {
            // More than any file that is asked for in this form.
            Self::Memory => ["--strategy", "auto", "--in-memory", "2MiB"],
            Self::Copy => ["--strategy", "copy", "--in-memory", "0"],
            Self::Sendfile => ["--strategy", "sendfile", "--in-memory", "0"],
            Self::Splice => ["--strategy", "splice", "--in-memory", "0"],
        }
    }
}

pub(super) fn start(on: &Place<'_>, form: Option<Form>) -> Result<Started> {
    let mut command = pinned(on.side, on.cpu, &path()?.to_string_lossy())?;
    command.arg("serve").arg(on.root);
    command.args(["--listen", &format!("{}:0", on.side.address()), "--workers", "1"]);
    command.args(form.map(Form::arguments).into_iter().flatten());
    let mut child = Child::spawn(command)?;
    let address = await_address(&mut child)?;
    Ok((child, address, None))
}
