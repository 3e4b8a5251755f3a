//! Upstreams in processes of their own, which can be killed: the test's program, started again.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use sluicegate_testkit::lab::Lab;
use sluicegate_testkit::process::{Child, Signal};

use crate::proxied::PATIENCE;
use crate::proxied::answers::{Body, catalogue, head, text};
use crate::proxied::chance::Chance;
use crate::proxied::incoming::Framing;
use crate::proxied::upstream::{Exchange, Next, Upstream};

/// Names the address and the log of such a process in its environment.
const VARIABLE: &str = "SLUICEGATE_CHAOS_UPSTREAM";

const SERVERS: usize = 3;

pub(crate) struct Servers<'a> {
    lab: &'a Lab,
    children: Vec<Option<Child>>,
    log: PathBuf,
    /// What chance does to requests follows from it.
    seed: u64,
    pub(crate) kills: usize,
    pub(crate) pauses: usize,
}

fn address(server: usize) -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9_000 + server as u16))
}

impl<'a> Servers<'a> {
    /// On the host of the program under test.
    pub(crate) fn start(lab: &'a Lab, directory: &Path, seed: u64) -> Self {
        let log = directory.join("posts");
        let children = (0..SERVERS).map(|_| None).collect();
        let mut servers = Servers { lab, children, log, seed, kills: 0, pauses: 0 };
        servers.mend();
        servers
    }

    pub(crate) fn addresses(&self) -> [SocketAddr; SERVERS] {
        std::array::from_fn(address)
    }

    /// Kills one with whatever it does. One of them stays.
    pub(crate) fn kill_one(&mut self, chance: &mut Chance) {
        if self.children.iter().flatten().count() < 2 {
            self.mend();
        }
        let alive: Vec<usize> = (0..SERVERS).filter(|at| self.children[*at].is_some()).collect();
        let server = alive[chance.below(alive.len() as u64) as usize];
        if let Some(mut child) = self.children[server].take() {
            assert_lives(&mut child);
            child.signal(Signal::KILL).unwrap();
            child.wait_timeout(PATIENCE).unwrap();
            self.kills += 1;
        }
    }

    /// One of them does nothing for a while, in the midst of whatever it does.
    pub(crate) fn pause_one(&mut self, chance: &mut Chance) {
        if let Some(child) = &mut self.children[chance.below(SERVERS as u64) as usize] {
            child.signal(Signal::STOP).unwrap();
            sleep(chance.millis(50, 800));
            child.signal(Signal::CONT).unwrap();
            self.pauses += 1;
        }
    }

    /// Starts those that are gone.
    pub(crate) fn mend(&mut self) {
        self.children.iter_mut().flatten().for_each(assert_lives);
        for (server, child) in self.children.iter_mut().enumerate() {
            if child.is_none() {
                let program = std::env::current_exe().unwrap();
                let mut command = self.lab.server().command(program.to_str().unwrap());
                command.args(["--exact", "upstream", "--nocapture"]);
                command.env(
                    VARIABLE,
                    format!("{} {} {}", address(server), self.seed, self.log.display()),
                );
                let mut started = Child::spawn(command).unwrap();
                started.wait_for_line(|line| line == "listens", PATIENCE).unwrap();
                *child = Some(started);
            }
        }
    }

    /// How often each POST came to any of them.
    pub(crate) fn posts(&self) -> std::collections::HashMap<String, u32> {
        let mut counts = std::collections::HashMap::new();
        for id in std::fs::read_to_string(&self.log).unwrap().lines() {
            *counts.entry(id.to_owned()).or_default() += 1;
        }
        counts
    }
}

/// None of them ends by itself, unless it finds something wrong.
fn assert_lives(child: &mut Child) {
    let status = child.try_wait().unwrap();
    assert!(status.is_none(), "an upstream has ended: {status:?}: {}", child.output());
}

/// What the test's program does when it is an upstream.
pub(crate) fn run_where_it_is_asked_for() {
    let Ok(asked) = std::env::var(VARIABLE) else { return };
    let [address, seed, log] = asked.splitn(3, ' ').collect::<Vec<_>>()[..] else { unreachable!() };
    let seed: u64 = seed.parse().unwrap();
    let log = OpenOptions::new().create(true).append(true).open(log).unwrap();
    let listener = TcpListener::bind(address.parse::<SocketAddr>().unwrap()).unwrap();
    let upstream = Upstream::at(listener, move |exchange| answer(exchange, seed, &log));
    // The harness has written the test's name before it, without the end of a line.
    println!("\nlistens");
    loop {
        sleep(Duration::from_millis(100));
        // Ends the process, which its parent takes for what it is.
        upstream.check();
    }
}

/// Chance, by what is asked for: each of them repeats what another did.
fn chance(seed: u64, target: &str) -> Chance {
    let hash = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3);
    Chance::new(target.bytes().fold(0xcbf2_9ce4_8422_2325 ^ seed, hash))
}

fn answer(exchange: &mut Exchange, seed: u64, mut log: &File) -> io::Result<Next> {
    let target = exchange.asked.target().to_owned();
    let Some(id) = exchange.asked.query("honest").map(str::to_owned) else {
        // Checks, and what nobody reads.
        return if target == "/health" { text(exchange, "lives") } else { catalogue(exchange) };
    };
    if exchange.asked.method() == "POST" {
        // In one piece, whoever else writes.
        log.write_all(format!("{id}\n").as_bytes())?;
    }
    let mut chance = chance(seed, &target);
    match chance.below(18) {
        0 => return Ok(Next::Reset),
        1 => return Ok(Next::Close),
        2 => {
            // It is through before it has answered, and hears on.
            exchange.incoming.stream.shutdown(Shutdown::Write)?;
            exchange.wait_for_end();
            return Ok(Next::Close);
        }
        3 => sleep(chance.millis(0, 1_500)),
        _ => {}
    }
    if exchange.asked.method() == "POST" {
        if exchange.receive_content().is_err() {
            return Ok(Next::Close);
        }
        let content = &exchange.asked.content;
        let is_right = sluicegate_testkit::corpus::verify(5, 0, content).is_ok();
        let said = format!("{id} {} {is_right}", content.len());
        return text(exchange, &said);
    }
    let path = target.split('?').next().unwrap_or_default();
    let words: Vec<&str> = path.split('/').collect();
    let (content, length) = (words[2].parse().unwrap(), words[3].parse::<u64>().unwrap());
    let is_chunked = words[1] == "chunked";
    let framing = if is_chunked { Framing::Chunked } else { Framing::Sized(length) };
    let mut body = Body::new(framing, content, length);
    body.chunk = 1 + chance.below(70_000) as usize;
    match chance.below(14) {
        0 => {
            // Its head comes byte by byte.
            let length = format!("Content-Length: {length}");
            let line = if is_chunked { "Transfer-Encoding: chunked" } else { &length };
            for byte in head("200 OK", &[line]).as_bytes().chunks(3) {
                exchange.send(byte)?;
                sleep(Duration::from_millis(5));
            }
            body.send_content(exchange)?;
            return Ok(Next::Keep);
        }
        1 => {
            body.until = Some(length / 2);
            body.send(exchange)?;
            return Ok(if chance.below(2) == 0 { Next::Close } else { Next::Reset });
        }
        2 => (body.every, body.pause) = (length / 2 + 1, Duration::from_millis(800)),
        3 => (body.every, body.pause) = (100_000, Duration::from_millis(20)),
        4 => {
            // Half of it, and then its end in that direction alone.
            body.until = Some(length / 2);
            body.send(exchange)?;
            exchange.incoming.stream.shutdown(Shutdown::Write)?;
            exchange.wait_for_end();
            return Ok(Next::Close);
        }
        _ => {}
    }
    let next = body.send(exchange)?;
    // Some are through after that, and reset as soon as they are asked again, or close.
    Ok(if chance.below(7) == 0 { Next::Close } else { next })
}
