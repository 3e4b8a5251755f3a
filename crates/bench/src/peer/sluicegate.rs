//! Our own server, as it is released.

use std::env;
use std::fs;
use std::io::Write;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};
use sluicegate_testkit::process::{Child, free_port};

use super::{Place, START, Started, await_address, free_address};
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
    if form.is_none() && runs_configurations() {
        return run(on);
    }
    ensure!(on.log.is_none(), "`sluicegate serve` has no log of requests");
    let mut command = pinned(on.side, on.cpu, &path()?.to_string_lossy())?;
    command.arg("serve").arg(on.root);
    command.args(["--listen", &format!("{}:0", on.side.address()), "--workers", "1"]);
    command.args(form.map(Form::arguments).into_iter().flatten());
    let mut child = Child::spawn(command)?;
    let address = await_address(&mut child)?;
    Ok((child, address, None))
}

/// Runs a configuration that says what `serve` would do, and where the log is.
fn run(on: &Place<'_>) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("sluicegate-run-").tempdir()?;
    let address = free_address(on)?;
    let config = directory.path().join("sluicegate.toml");
    let text = format!("{}{}", preamble(&[address], on.log), site(&[], on.root));
    fs::write(&config, text)?;
    let child = start_configured(on, address, &config)?;
    Ok((child, address, Some(directory)))
}

/// Starts our server by a configuration, and waits until it listens at `address`.
pub(super) fn start_configured(
    on: &Place<'_>,
    address: SocketAddr,
    config: &Path,
) -> Result<Child> {
    let mut command = pinned(on.side, on.cpu, &path()?.to_string_lossy())?;
    command.arg("run").arg(config);
    let mut child = Child::spawn(command)?;
    on.side.enter(|| child.wait_for_port(address, START))??;
    Ok(child)
}

/// The beginning of a configuration with one worker.
pub(crate) fn preamble(listen: &[SocketAddr], log: Option<&Path>) -> String {
    let addresses: Vec<String> = listen.iter().map(SocketAddr::to_string).collect();
    let log = log.map_or_else(String::new, |path| {
        format!(
            "access_log = {{ path = {:?}, format = \"combined\" }}\n",
            path.display().to_string()
        )
    });
    format!("workers = 1\nlisten = {addresses:?}\n{log}")
}

/// A site of a configuration: its names (none: the default), and the files that it serves.
pub(crate) fn site(hosts: &[&str], root: &Path) -> String {
    let hosts = if hosts.is_empty() { String::new() } else { format!("hosts = {hosts:?}\n") };
    let root = root.display().to_string();
    format!("\n[[site]]\n{hosts}\n[[site.route]]\npath = \"/\"\nfiles = {{ root = {root:?} }}\n")
}

/// Whether the version that is measured answers `sluicegate run`.
pub(crate) fn runs_configurations() -> bool {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    *ANSWER.get_or_init(|| {
        let listens = || -> Result<()> {
            let listen = SocketAddr::from(([127, 0, 0, 1], free_port()?));
            let mut config = tempfile::Builder::new().suffix(".toml").tempfile()?;
            write!(config, "{}{}", preamble(&[listen], None), site(&[], &env::temp_dir()))?;
            let mut command = Command::new(path()?);
            command.arg("run").arg(config.path());
            Ok(Child::spawn(command)?.wait_for_port(listen, START)?)
        };
        listens().is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_names_its_addresses_its_log_and_its_sites() {
        let address = "127.0.0.1:80".parse().unwrap();
        let begun = preamble(&[address], Some(Path::new("/l")));
        assert!(begun.contains(r#"listen = ["127.0.0.1:80"]"#), "{begun}");
        assert!(begun.contains(r#"access_log = { path = "/l", format = "combined" }"#), "{begun}");
        assert!(!site(&[], Path::new("/r")).contains("hosts"));
        let site = site(&["a.test"], Path::new("/r"));
        assert!(site.contains(r#"hosts = ["a.test"]"#) && site.contains(r#"root = "/r""#));
    }
}
