//! Many connections that have each been served once, and the memory that they cost the server.

use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::{Check, Resource, send};
use crate::harness::memory::Memory;

/// How many of the connections must still answer after the pause.
const SAMPLE: usize = 100;

/// A server that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

#[derive(Debug, Args)]
pub(crate) struct Idle {
    #[command(flatten)]
    resource: Resource,
    /// How many.
    #[arg(long)]
    connections: usize,
    /// Milliseconds for which all of them stay open and silent.
    #[arg(long)]
    hold: u64,
    /// The process of the server.
    #[arg(long)]
    server_pid: u32,
}

/// The server's memory with no connection (but after one that was served and closed), and with
/// all of them idle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct IdleMemory {
    pub(crate) connections: usize,
    pub(crate) before: Memory,
    pub(crate) idle: Memory,
}

impl IdleMemory {
    /// Resident bytes for each connection.
    pub(crate) fn resident_each(&self) -> f64 {
        (self.idle - self.before).resident as f64 / self.connections as f64
    }

    /// The same by proportional set size.
    pub(crate) fn proportional_each(&self) -> Option<f64> {
        let bytes = (self.idle - self.before).proportional?;
        Some(bytes as f64 / self.connections as f64)
    }
}

impl Idle {
    pub(crate) fn run(&self) -> Result<IdleMemory> {
        sluicegate_sys::limits::raise_descriptors().context("cannot raise the descriptor limit")?;
        let request = self.resource.request(&self.resource.path);
        let mut buffer = vec![0; 64 << 10];

        drop(self.open(&request, &mut buffer)?);
        thread::sleep(Duration::from_millis(100));
        let before = Memory::read(self.server_pid)?;

        let mut streams = Vec::with_capacity(self.connections);
        for number in 1..=self.connections {
            let stream = self.open(&request, &mut buffer);
            streams.push(stream.with_context(|| format!("connection {number}"))?);
        }
        thread::sleep(Duration::from_millis(self.hold));
        let idle = Memory::read(self.server_pid)?;

        let step = (streams.len() / SAMPLE).max(1);
        for stream in streams.iter().step_by(step) {
            self.ask(stream, &request, &mut buffer).context("a connection that was idle")?;
        }
        Ok(IdleMemory { connections: self.connections, before, idle })
    }

    fn open(&self, request: &[u8], buffer: &mut [u8]) -> Result<TcpStream> {
        let stream = self.resource.connect()?;
        stream.set_read_timeout(Some(SILENCE))?;
        self.ask(&stream, request, buffer)?;
        Ok(stream)
    }

    fn ask(&self, stream: &TcpStream, request: &[u8], buffer: &mut [u8]) -> Result<()> {
        send(stream, request)?;
        let answer = Answer::new(self.resource.length, self.resource.seed, Check::Whole);
        answer.receive(stream, buffer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cost_of_a_connection_is_the_growth_by_their_count() {
        let memory =
            |resident, proportional| Memory { resident, anonymous: resident, proportional };
        let idle = IdleMemory {
            connections: 10,
            before: memory(1000, Some(500)),
            idle: memory(3000, Some(1500)),
        };
        assert_eq!(idle.resident_each(), 200.0);
        assert_eq!(idle.proportional_each(), Some(100.0));
        let json = serde_json::to_string(&idle).unwrap();
        assert_eq!(serde_json::from_str::<IdleMemory>(&json).unwrap(), idle);
    }
}
