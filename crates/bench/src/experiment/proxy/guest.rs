//! The paper's form through the network card of a virtual machine: upstream and proxy are in the
//! guest, the client is on the host. It runs in software, so it is good for bytes and proofs, and
//! no measure of time.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use sluicegate_testkit::process::Child;
use sluicegate_testkit::vm::{self, Options, Vm};

use super::watch::{Admin, Metrics};
use crate::client::{PacedLoad, Resource};
use crate::experiment::session::{CLIENT_CPU, SERVER_CPU};
use crate::harness::network::Side;
use crate::harness::pinned::{answer_of, own_path, pinned};
use crate::peer::proxy::{Spool, write_at};
use crate::peer::sluicegate_path;
use crate::upstream::UpstreamServer;

/// What begins the line with which the guest tells what its proxy did.
const MARK: &str = "sluicegate-proxy ";

/// Where proxy, upstream and the guest itself listen.
const PORTS: [u16; 4] = [8080, 8081, 8082, 8083];

/// The seed of the body.
const SEED: u64 = 2011;

/// What the guest may take: some MB a second, and some time to begin.
const LIMIT: Duration = Duration::from_secs(240);

/// Upstream and proxy, in the guest, until somebody connects and goes.
#[derive(Debug, Args)]
pub(crate) struct ProxyGuest {
    /// The program that is a proxy.
    #[arg(long)]
    program: String,
}

impl ProxyGuest {
    /// Relays, and tells what the ring did.
    pub(crate) fn run(&self) -> Result<()> {
        let [proxy, admin, upstream, control] = PORTS;
        let local = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let server = UpstreamServer::at(local(upstream), Path::new("/tmp"));
        thread::spawn(move || server.run());
        let control = TcpListener::bind((Ipv4Addr::UNSPECIFIED, control))?;
        let directory = Path::new("/tmp");
        let listen = SocketAddr::from((Ipv4Addr::UNSPECIFIED, proxy));
        let config = write_at(listen, local(admin), directory, local(upstream), Spool::PAPER)?;
        let mut command = Command::new(&self.program);
        command.arg("run").arg(&config);
        let child = Child::spawn(command)?;
        let (mut stream, _) = control.accept()?;
        let _ = stream.read(&mut [0]);
        let admin = Admin::of(Some(directory.to_owned())).context("no address to ask")?;
        let metrics = admin.ask(Side::Here).with_context(|| child.output())?;
        println!("{MARK}{}", serde_json::to_string(&metrics)?);
        Ok(())
    }
}

/// What came out of it.
#[derive(Debug, Clone, serde::Serialize)]
pub(super) struct OverCard {
    pub(super) kernel: String,
    pub(super) load: PacedLoad,
    pub(super) metrics: Metrics,
}

/// A body of so many bytes; an error says why there is none, a missing machine included.
pub(super) fn download(length: u64) -> Result<OverCard> {
    // On a thread of its own and on the server's processor: the machine inherits it.
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            sluicegate_sys::affinity::pin_to(SERVER_CPU)?;
            over_card(length)
        });
        thread.join().map_err(|_| anyhow!("the guest's thread panicked"))?
    })
}

fn over_card(length: u64) -> Result<OverCard> {
    let own = own_path()?;
    let name = |path: &str| {
        let name = Path::new(path).file_name().and_then(|name| name.to_str());
        name.map(|name| format!("/programs/{name}")).context("a program without a name")
    };
    let server = sluicegate_path()?.to_string_lossy().into_owned();
    let options = Options::new().memory(1024).program(&own).program(&server);
    let guest = Vm::boot(&options)?;
    let command = [name(&own)?, "proxy-guest".into(), "--program".into(), name(&server)?];
    let command: Vec<&str> = command.iter().map(String::as_str).collect();
    let (load, finished) = thread::scope(|scope| {
        let running = scope.spawn(|| guest.run(&command, &[], LIMIT));
        let load = read(&guest, length);
        let finished = running.join().map_err(|_| anyhow!("the guest's runner panicked"))?;
        Ok::<_, anyhow::Error>((load, finished?))
    })?;
    let line = finished.output.lines().find_map(|line| line.strip_prefix(MARK));
    let load = load.with_context(|| format!("in the guest: {}", finished.output))?;
    let Some(line) = line else { bail!("the guest failed:\n{}", finished.output) };
    let metrics = serde_json::from_str(line)?;
    Ok(OverCard { kernel: guest.kernel().to_owned(), load, metrics })
}

/// The client, which has the guest end when it has.
fn read(guest: &Vm, length: u64) -> Result<PacedLoad> {
    let [proxy, _, _, control] = PORTS;
    let (host, side) = (guest.host(), Side::At(guest.host()));
    let at = |port| SocketAddr::from((vm::GUEST, port));
    let deadline = Instant::now() + Duration::from_secs(30);
    let is_there =
        || host.enter(|| TcpStream::connect_timeout(&at(proxy), Duration::from_secs(1)).is_ok());
    let mut outcome = Err(anyhow!("nobody listens in the guest"));
    while Instant::now() < deadline {
        if is_there()? {
            let path = format!("/made/{SEED}/{length}");
            let resource =
                Resource { address: at(proxy), path, length, seed: SEED, files: None, sites: None };
            let mut client = pinned(side, CLIENT_CPU, &own_path()?)?;
            client.args(["client", "paced"]).args(resource.arguments());
            client.args(["--check", "whole", "--server-cpu", &SERVER_CPU.to_string()]);
            client.args(["--server-pid", &std::process::id().to_string()]);
            outcome = answer_of(client, LIMIT);
            break;
        }
        thread::sleep(Duration::from_millis(200));
    }
    let end = host.enter(|| TcpStream::connect_timeout(&at(control), Duration::from_secs(10)))?;
    drop(end);
    outcome
}
