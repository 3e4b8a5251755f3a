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

pub(super) fn start(on: &Place<'_>) -> Result<Started> {
    let mut command = pinned(on.side, on.cpu, &path()?.to_string_lossy())?;
    command.arg("serve").arg(on.root);
    command.args(["--listen", &format!("{}:0", on.side.address()), "--workers", "1"]);
    let mut child = Child::spawn(command)?;
    let address = await_address(&mut child)?;
    Ok((child, address, None))
}
