//! The peer: it receives whatever comes, and acknowledges it without delay.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;

use anyhow::{Context, Result};
use rustix::net::sockopt::set_tcp_quickack;

use crate::harness::network::Network;

/// Received at a time.
const BUFFER: usize = 256 << 10;

/// A listener at the client's side, whose connections are received from by threads that end with
/// them: those that are made together by one.
#[derive(Debug)]
pub(super) struct Sink {
    address: SocketAddr,
    listener: TcpListener,
    cpu: Option<usize>,
}

impl Sink {
    /// Receives on this core, or anywhere.
    pub(super) fn start(network: &Network, cpu: Option<usize>) -> Result<Self> {
        let address = network.client().address();
        let listener = network.client().enter(|| TcpListener::bind((address, 0)))?;
        let listener = listener.context("a peer cannot listen")?;
        let address = listener.local_addr()?;
        Ok(Self { address, listener, cpu })
    }

    /// So many connections from the server's side. One alone is received from; of several, which
    /// are to be idle, the other ends are held until ours are closed.
    pub(super) fn connect(&self, network: &Network, count: usize) -> Result<Vec<TcpStream>> {
        let mut ours = Vec::with_capacity(count);
        let mut theirs = Vec::with_capacity(count);
        for _ in 0..count {
            let address = self.address;
            let stream = network.server().enter(|| TcpStream::connect(address))?;
            ours.push(stream.context("cannot connect to the peer")?);
            theirs.push(self.listener.accept().context("the peer cannot accept")?.0);
        }
        let cpu = self.cpu;
        thread::spawn(move || {
            if let Some(cpu) = cpu {
                let _ = sluicegate_sys::affinity::pin_to(cpu);
            }
            for stream in theirs {
                receive(stream);
            }
        });
        Ok(ours)
    }
}

/// Until the other end is closed.
fn receive(mut stream: TcpStream) {
    let mut buffer = vec![0; BUFFER];
    loop {
        // The kernel takes it back by itself, now and then.
        let _ = set_tcp_quickack(&stream, true);
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}
