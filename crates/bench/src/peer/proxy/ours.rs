//! Our own proxy, by a configuration.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use sluicegate_testkit::process::{Child, find_program};

use super::To;
use crate::harness::pinned::{own_path, pinned};
use crate::peer::sluicegate::start_configured;
use crate::peer::{Place, START, Started, free_address, preamble, sluicegate_path};

/// A form of our proxy: what its configuration says of the spool. `None` is what the program
/// does by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spool {
    pub(crate) name: &'static str,
    /// Bytes of a body in memory, and behind that on disk, as the configuration has them.
    pub(crate) memory: Option<&'static str>,
    pub(crate) disk: Option<&'static str>,
    /// Whether bytes move through pipes, and what has none through a ring of memory.
    pub(crate) pipes: bool,
    pub(crate) memory_ring: Option<bool>,
    /// Bytes of a ring's partition.
    pub(crate) unit: Option<&'static str>,
    /// The clients are on another host, whatever it looks like: acknowledgements are proof.
    pub(crate) is_remote: bool,
    /// The build in which a ring's memory is reused without proof.
    pub(crate) is_lawless: bool,
    /// By a user who has 64 pipes of 1 MiB, and no more.
    pub(crate) is_unprivileged: bool,
}

impl Spool {
    /// What the program does by itself.
    pub(crate) const DEFAULT: Self = Self {
        name: "sluicegate",
        memory: None,
        disk: None,
        pipes: true,
        memory_ring: None,
        unit: None,
        is_remote: false,
        is_lawless: false,
        is_unprivileged: false,
    };

    /// The form of the paper: all of a body goes through a file of 1 MiB that is reused
    /// cyclically, when its bytes are acknowledged.
    pub(crate) const PAPER: Self = Self {
        name: "sluicegate-paper",
        memory: Some("0"),
        disk: Some("1MiB"),
        pipes: false,
        memory_ring: Some(false),
        is_remote: true,
        ..Self::DEFAULT
    };

    /// As an inline table, if it says anything.
    fn table(&self) -> Option<String> {
        let mut keys = Vec::new();
        let mut text = |key: &str, value: Option<&str>| {
            keys.extend(value.map(|value| format!("{key} = \"{value}\"")));
        };
        text("memory", self.memory);
        text("disk", self.disk);
        text("unit", self.unit);
        keys.extend((!self.pipes).then(|| "pipes = false".to_owned()));
        keys.extend(self.memory_ring.map(|ring| format!("memory_ring = {ring}")));
        (!keys.is_empty()).then(|| format!("{{ {} }}", keys.join(", ")))
    }
}

pub(super) fn start(to: &To<'_>, spool: Spool) -> Result<Started> {
    let directory = to.directory("sluicegate")?;
    let (address, config) = write(to.on, directory.path(), to.upstream, spool)?;
    let program = if spool.is_lawless { lawless_path()? } else { sluicegate_path()? };
    let mut command = if spool.is_unprivileged && rustix::process::geteuid().is_root() {
        as_nobody(to, &program)?
    } else {
        pinned(to.on.side, to.on.cpu, &program.to_string_lossy())?
    };
    command.arg("run").arg(&config);
    let mut child = Child::spawn(command)?;
    to.on.side.enter(|| child.wait_for_port(address, START))??;
    Ok((child, address, Some(directory)))
}

/// Somebody whose limits hold, but who may read what is root's alone: the program and its
/// configuration may be there, and to read is not what is measured.
fn as_nobody(to: &To<'_>, program: &Path) -> Result<Command> {
    const NOBODY: &str = "65534";
    let setpriv = find_program("setpriv").context("there is no setpriv")?;
    let mut command = pinned(to.on.side, to.on.cpu, &setpriv.to_string_lossy())?;
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"]);
    command.args(["--inh-caps", "-all,+dac_override", "--ambient-caps", "-all,+dac_override"]);
    command.args(["--bounding-set", "-all,+dac_override", "--pdeathsig", "KILL", "--"]);
    command.arg(program);
    Ok(command)
}

/// Writes a configuration of one route to one upstream; returns where it listens, and its path.
pub(crate) fn write(
    on: &Place<'_>,
    directory: &Path,
    upstream: SocketAddr,
    spool: Spool,
) -> Result<(SocketAddr, PathBuf)> {
    let address = free_address(on)?;
    let admin = on.side.enter(|| {
        Ok::<_, anyhow::Error>(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?)
    })??;
    let preamble = preamble(&[address], on.log);
    Ok((address, write_behind(preamble, admin, directory, upstream, spool)?))
}

/// The same where all addresses are known.
pub(crate) fn write_at(
    listen: SocketAddr,
    admin: SocketAddr,
    directory: &Path,
    upstream: SocketAddr,
    spool: Spool,
) -> Result<PathBuf> {
    write_behind(preamble(&[listen], None), admin, directory, upstream, spool)
}

fn write_behind(
    preamble: String,
    admin: SocketAddr,
    directory: &Path,
    upstream: SocketAddr,
    spool: Spool,
) -> Result<PathBuf> {
    let config = directory.join("sluicegate.toml");
    let mut text = preamble;
    let _ = writeln!(text, "admin = \"{admin}\"");
    fs::write(directory.join("admin"), admin.to_string())?;
    if spool.is_remote {
        text += "\n[send]\nlocality = \"remote\"\n";
    }
    let _ = writeln!(text, "\n[spool]\ndirectory = {:?}", directory.display().to_string());
    text += &pool("up", &[upstream]);
    text += &site(&[], "up", spool);
    fs::write(&config, text)?;
    Ok(config)
}

fn pool(name: &str, servers: &[SocketAddr]) -> String {
    let servers: Vec<String> = servers.iter().map(SocketAddr::to_string).collect();
    format!(
        "\n[pool.{name}]\nservers = {servers:?}\nkeep_alive = 2048\n\
         requests_per_connection = 100000000\n"
    )
}

fn site(hosts: &[&str], pool: &str, spool: Spool) -> String {
    let hosts = if hosts.is_empty() { String::new() } else { format!("hosts = {hosts:?}\n") };
    let spool = spool.table().map_or_else(String::new, |table| format!(", spool = {table}"));
    format!(
        "\n[[site]]\n{hosts}\n[[site.route]]\npath = \"/\"\n\
         proxy = {{ pool = \"{pool}\", host = \"preserve\"{spool} }}\n"
    )
}

/// So many pools of two servers, each with a host of its own.
pub(super) fn start_pools(
    on: &Place<'_>,
    all: &[[SocketAddr; 2]],
    host: impl Fn(u32) -> String,
) -> Result<Started> {
    let directory = tempfile::Builder::new().prefix("bench-pools-").tempdir()?;
    let address = free_address(on)?;
    let config = directory.path().join("pools.toml");
    fs::write(&config, pools(address, all, host))?;
    let child = start_configured(on, address, &config)?;
    Ok((child, address, Some(directory)))
}

/// A configuration of those; a single one is the default site.
fn pools(address: SocketAddr, pools: &[[SocketAddr; 2]], host: impl Fn(u32) -> String) -> String {
    let mut text = preamble(&[address], None);
    for (number, servers) in (0..).zip(pools) {
        let name = format!("p{number}");
        text += &pool(&name, servers);
        let host = host(number);
        let hosts = [host.as_str()];
        text += &site(if pools.len() == 1 { &[] } else { &hosts }, &name, Spool::DEFAULT);
    }
    text
}

/// `target/lawless/release/sluicegate`: a build in which a ring's partition may be written again as
/// soon as its bytes are accepted, so that the paper's race can be seen. It is built with
/// `--cfg sluicegate_lawless`, which no feature and no profile sets.
fn lawless_path() -> Result<PathBuf> {
    Ok(lawless_target()?.join("release/sluicegate"))
}

fn lawless_target() -> Result<PathBuf> {
    let own = own_path()?;
    let target = Path::new(&own).ancestors().nth(2).context("this program is in no target")?;
    Ok(target.join("lawless"))
}

/// Brings that build up to date when this program was started by cargo; otherwise there must be
/// one.
pub(crate) fn build_lawless() -> Result<()> {
    if let Some(cargo) = env::var_os("CARGO") {
        let status = Command::new(cargo)
            .args(["build", "--release", "-p", "sluicegate-server", "--target-dir"])
            .arg(lawless_target()?)
            .env("RUSTFLAGS", "--cfg sluicegate_lawless")
            // Quicker to build; nobody measures it.
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "16")
            .stdin(Stdio::null())
            .status()
            .context("cannot run cargo")?;
        ensure!(status.success(), "the server without the law does not build");
    }
    let path = lawless_path()?;
    ensure!(path.is_file(), "there is no {}: start this by cargo", path.display());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_says_what_differs_from_the_default() {
        assert_eq!(Spool::DEFAULT.table(), None);
        assert_eq!(
            Spool::PAPER.table().unwrap(),
            "{ memory = \"0\", disk = \"1MiB\", pipes = false, memory_ring = false }"
        );
    }

    #[test]
    fn every_pool_has_its_host_and_a_single_one_is_for_all() {
        let address: SocketAddr = "127.0.0.1:80".parse().unwrap();
        let two = pools(address, &[[address; 2]; 2], |number| format!("h{number}"));
        assert!(two.contains("hosts = [\"h1\"]") && two.contains("pool = \"p1\""));
        let one = pools(address, &[[address; 2]], |number| format!("h{number}"));
        assert!(!one.contains("hosts") && one.contains("[pool.p0]"));
    }
}
