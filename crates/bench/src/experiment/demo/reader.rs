//! The slow reader.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

use crate::client::{Answer, Check};

/// How often it reads.
const TICK: Duration = Duration::from_millis(2);

/// A proxy that says nothing for so long is dead.
const SILENCE: Duration = Duration::from_secs(10);

/// How far a reader is.
#[derive(Debug, Default)]
pub(super) struct Progress {
    received: AtomicU64,
    is_stopped: AtomicBool,
}

impl Progress {
    /// Bytes of the answer.
    pub(super) fn received(&self) -> u64 {
        self.received.load(Ordering::Relaxed)
    }

    /// Nothing more is to be read.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
    }
}

/// Downloads a body of so many bytes of the corpus with a seed, at so many bytes a second.
pub(super) fn read(
    address: SocketAddr,
    path: &str,
    (length, seed): (u64, u64),
    rate: u64,
    progress: &Progress,
) -> Result<()> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(SILENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n")?;
    let mut answer = Answer::new(length, seed, Check::Sampled);
    let mut buffer = vec![0; 1 << 20];
    let (began, mut received) = (Instant::now(), 0_u64);
    loop {
        if progress.is_stopped.load(Ordering::Relaxed) {
            return Ok(());
        }
        let due = (began.elapsed().as_secs_f64() * rate as f64) as u64;
        let room = due.saturating_sub(received).min(buffer.len() as u64) as usize;
        if room < buffer.len() / 64 {
            thread::sleep(TICK);
            continue;
        }
        let count = stream.read(&mut buffer[..room])?;
        if count == 0 {
            bail!("the connection was closed after {received} bytes");
        }
        received += count as u64;
        progress.received.store(received, Ordering::Relaxed);
        if answer.take(&buffer[..count])? {
            return Ok(());
        }
    }
}
