//! Clients that ask for much and read nothing, and are replaced one by one.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle, sleep};
use std::time::Duration;

use sluicegate_testkit::lab::Lab;

use crate::proxied::chance::Chance;
use crate::proxied::client::Client;

/// So many at a time.
pub(crate) const CLIENTS: usize = 200;

/// Each of which has its part of them.
const THREADS: usize = 4;

pub(crate) struct Stalled {
    stop: Arc<AtomicBool>,
    replaced: Arc<AtomicU64>,
    threads: Vec<JoinHandle<()>>,
}

impl Stalled {
    pub(crate) fn start(lab: &Lab, server: SocketAddr, chance: &mut Chance) -> Self {
        let (stop, replaced) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let start = |mut chance: Chance| {
            let (stop, replaced) = (Arc::clone(&stop), Arc::clone(&replaced));
            thread::spawn(move || stall(server, &mut chance, &stop, &replaced))
        };
        let chances: Vec<Chance> = (0..THREADS).map(|_| Chance::new(chance.next())).collect();
        // A thread has the network of the one that starts it.
        let threads = lab.client().enter(|| chances.into_iter().map(start).collect()).unwrap();
        Stalled { stop, replaced, threads }
    }

    /// All of them go; returns how many there were.
    pub(crate) fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::SeqCst);
        for thread in std::mem::take(&mut self.threads) {
            thread.join().expect("a client that reads nothing fails at nothing");
        }
        self.replaced.load(Ordering::SeqCst)
    }

    pub(crate) fn has_failed(&self) -> bool {
        self.threads.iter().any(JoinHandle::is_finished)
    }
}

impl Drop for Stalled {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

fn ask(server: SocketAddr, chance: &mut Chance) -> Client {
    let mut client = Client::narrow(server);
    let kind = ["sized", "chunked"][chance.below(2) as usize];
    let request = format!("GET /{kind}/1/40000000 HTTP/1.1\r\nHost: site.test\r\n\r\n");
    // On this wire it may be that it never comes to that.
    let _ = client.incoming.stream.write_all(request.as_bytes());
    if chance.below(5) == 0 {
        client.finish();
    }
    client
}

fn stall(server: SocketAddr, chance: &mut Chance, stop: &AtomicBool, replaced: &AtomicU64) {
    let mut clients = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        if clients.len() == CLIENTS / THREADS {
            let mut gone: Client = clients.swap_remove(chance.below(clients.len() as u64) as usize);
            match chance.below(3) {
                0 => gone.reset(),
                // With bytes that it has not read, closing is a reset, too.
                1 => drop(gone),
                _ => {
                    // There may be no more of it.
                    let limit = Some(Duration::from_millis(100));
                    gone.stream().set_read_timeout(limit).unwrap();
                    let _ = gone.incoming.exactly(chance.below(200_000) as usize);
                    gone.finish();
                }
            }
            sleep(chance.millis(1, 50));
        }
        clients.push(ask(server, chance));
        replaced.fetch_add(1, Ordering::SeqCst);
    }
    clients.into_iter().for_each(Client::reset);
}
