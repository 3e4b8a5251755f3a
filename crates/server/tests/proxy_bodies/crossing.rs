//! Both ends of a connection say that they are through: either first, and each before it knows of
//! the other's end. Nothing may be left of it.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::thread::sleep;
use std::time::{Duration, Instant};

use sluicegate_testkit::lab::{Conditions, Direction, Host, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::proxied::answers::{Body, head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::gate::Gate;
use crate::proxied::incoming::Framing;
use crate::proxied::program::{PROGRAM, Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};
use crate::proxied::{PATIENCE, eventually};

const SEED: u64 = 4;

fn sockets(proxied: &Proxied) -> usize {
    proxied.descriptors().iter().filter(|name| name.starts_with("socket:")).count()
}

/// How many it has when nothing is under way and no idle connection is kept.
fn resting(proxied: &Proxied) -> usize {
    let mut last = usize::MAX;
    eventually("its sockets are those that it always has", || {
        sleep(Duration::from_millis(300));
        let now = sockets(proxied);
        std::mem::replace(&mut last, now) == now
    });
    last
}

#[test]
fn no_connection_is_left_whoever_ends_it_first() {
    let upstream = Upstream::new(|exchange| {
        if exchange.asked.query("upstream") == Some("last") {
            let lines = ["Connection: close", "Content-Length: 50000"];
            exchange.send(head("200 OK", &lines))?;
            Body::sized(SEED, 50_000).send_content(exchange)?;
            // It was told that nothing more comes.
            assert!(!exchange.wait_for_end(), "a whole answer ends in order");
            return Ok(Next::Close);
        }
        Body::new(Framing::Close, SEED, 50_000).send(exchange)
    });
    let proxied = Proxied::new(&upstream);
    proxied.client().get("/").whole(200);
    upstream.wait_until_open(0);
    let before = resting(&proxied);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let proxied = &proxied;
            scope.spawn(move || {
                for number in 0..24 {
                    let (client_is_first, side) =
                        (number % 2 == 0, ["first", "last"][number / 2 % 2]);
                    let target = format!("/{thread}/{number}?upstream={side}");
                    let mut client = proxied.client();
                    client.ask(&format!("GET {target} HTTP/1.1"), &["Connection: close"]);
                    if client_is_first {
                        client.finish();
                    }
                    client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
                    client.assert_ended();
                }
            });
        }
    });
    upstream.wait_until_open(0);
    eventually("all sockets are closed", || sockets(&proxied) == before);
    proxied.stop();
}

/// As `/proc/net/tcp` has them (`include/net/tcp_states.h`).
const FIN_WAIT_1: u8 = 4;
const TIME_WAIT: u8 = 6;
const CLOSING: u8 = 11;

/// The states of a host's connections to this port of the other.
fn states(host: &Host, peer: SocketAddr) -> Vec<u8> {
    let read = || std::fs::read_to_string("/proc/thread-self/net/tcp").unwrap();
    let hexadecimal = |text: &str| u32::from_str_radix(text, 16).unwrap();
    let all = host.enter(read).unwrap();
    let lines = all.lines().skip(1).map(|line| line.split_whitespace().collect::<Vec<_>>());
    let to_it = |words: &Vec<&str>| {
        let (address, port) = words[2].split_once(':').unwrap();
        let address = Ipv4Addr::from(hexadecimal(address).to_ne_bytes());
        SocketAddr::from((address, hexadecimal(port) as u16)) == peer
    };
    lines.filter(to_it).map(|words| hexadecimal(words[3]) as u8).collect()
}

struct Held {
    lab: Lab,
    listen: SocketAddr,
}

impl Held {
    fn new() -> Self {
        let lab = Lab::wire(Wire::default()).unwrap();
        let listen = (lab.server().address(), 8080).into();
        Held { lab, listen }
    }

    fn start(&self, upstream: &Upstream) -> Proxied {
        // Idle connections would be counted with what is left.
        let setup = Setup::to(&[upstream]).pool("keep_alive = 0").workers(1);
        let proxied =
            Proxied::start_by(&setup, self.listen, |_| self.lab.server().command(PROGRAM));
        // Whose descriptors are made when they are needed is there.
        let mut client = self.lab.client().enter(|| Client::new(self.listen)).unwrap();
        client.ask("GET /warm HTTP/1.1", &["Connection: close"]);
        client.reply("GET", Expected::Any).whole(200);
        client.assert_ended();
        proxied
    }

    /// Nothing that the program sends comes over the wire, for now: so of its own end the peer
    /// learns nothing, and acknowledges nothing of it.
    fn lose(&self, all: bool) {
        let drop_one_in = u32::from(all);
        let conditions = Conditions { drop_one_in, ..Conditions::default() };
        self.lab.wire_control().unwrap().set(Direction::ToClient, conditions);
    }

    #[track_caller]
    fn await_state(&self, peer: SocketAddr, state: u8) {
        let mut seen = Vec::new();
        let until = Instant::now() + PATIENCE;
        while seen != [state] {
            assert!(Instant::now() < until, "in {seen:?}, not in {state}");
            sleep(Duration::from_millis(2));
            seen = states(self.lab.server(), peer);
        }
    }

    /// Nothing is left of it in the kernel but what is for the wire's stragglers.
    #[track_caller]
    fn await_end(&self, peer: SocketAddr) {
        eventually("the kernel has none of it", || {
            states(self.lab.server(), peer).iter().all(|state| *state == TIME_WAIT)
        });
    }
}

#[test]
fn no_connection_is_left_of_a_client_whose_end_crosses_ours() {
    require!(Need::TrueWire);
    let held = Held::new();
    let gate = Gate::default();
    let passed = gate.clone();
    let upstream = held.lab.server().enter(|| {
        Upstream::new(move |exchange| {
            if exchange.asked.target() == "/warm" {
                return text(exchange, "warm");
            }
            passed.pass();
            Body::sized(SEED, 50_000).send(exchange)
        })
    });
    let upstream = upstream.unwrap();
    let proxied = held.start(&upstream);
    let before = resting(&proxied);
    for number in 1..=3 {
        gate.close();
        let mut client = held.lab.client().enter(|| Client::new(held.listen)).unwrap();
        let peer = client.stream().local_addr().unwrap();
        client.ask(&format!("GET /{number} HTTP/1.1"), &["Connection: close"]);
        upstream.eventually("it is asked", || gate.waiting() == 1);
        held.lose(true);
        gate.open();
        held.await_state(peer, FIN_WAIT_1);
        client.finish();
        held.await_state(peer, CLOSING);
        held.lose(false);
        let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
        assert_eq!(reply.length, 50_000);
        client.assert_ended();
        held.await_end(peer);
        eventually("its socket is closed", || sockets(&proxied) == before);
        assert_eq!(proxied.logged(&format!("/{number}"))["failure"], serde_json::Value::Null);
    }
    proxied.stop();
}

#[test]
fn no_connection_is_left_of_an_upstream_whose_end_crosses_ours() {
    require!(Need::TrueWire);
    let held = Held::new();
    let gates = [Gate::default(), Gate::default()];
    let [answers, ends] = gates.clone();
    let upstream = held.lab.client().enter(|| {
        let listener = TcpListener::bind((held.lab.client().address(), 0)).unwrap();
        Upstream::at(listener, move |exchange| {
            if exchange.asked.target() == "/warm" {
                exchange.send(head("200 OK", &["Connection: close", "Content-Length: 0"]))?;
                return Ok(Next::Close);
            }
            answers.pass();
            // As much as needs no acknowledgement.
            let lines = ["Connection: close", "Content-Length: 5000"];
            exchange.send(head("200 OK", &lines))?;
            Body::sized(SEED, 5_000).send_content(exchange)?;
            ends.pass();
            Ok(Next::Close)
        })
    });
    let upstream = upstream.unwrap();
    let proxied = held.start(&upstream);
    upstream.wait_until_open(0);
    let before = resting(&proxied);
    for number in 1..=3 {
        gates.iter().for_each(Gate::close);
        let mut client = held.lab.server().enter(|| Client::new(held.listen)).unwrap();
        client.ask(&format!("GET /{number} HTTP/1.1"), &["Connection: close"]);
        upstream.eventually("it is asked", || gates[0].waiting() == 1);
        held.lose(true);
        gates[0].open();
        let reply = client.reply("GET", Expected::Corpus(SEED, 0)).whole(200);
        assert_eq!(reply.length, 5_000);
        client.assert_ended();
        drop(client);
        // All of the answer was here: the program has ended the connection, or keeps nothing of it.
        let peer = upstream.address();
        eventually("we are through", || states(held.lab.server(), peer).contains(&FIN_WAIT_1));
        gates[1].open();
        eventually("so is the upstream", || states(held.lab.server(), peer).contains(&CLOSING));
        held.lose(false);
        held.await_end(peer);
        upstream.wait_until_open(0);
        eventually("its socket is closed", || sockets(&proxied) == before);
    }
    proxied.stop();
}
