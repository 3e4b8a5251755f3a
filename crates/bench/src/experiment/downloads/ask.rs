//! Asking a server of ours about itself.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use memchr::memmem;
use serde::de::DeserializeOwned;

use crate::harness::network::Side;

/// No answer about itself takes a server longer.
const LIMIT: Duration = Duration::from_secs(20);

/// An answer is no longer.
const ANSWER: usize = 64 << 10;

/// Asks for a path whose answer is JSON, on the server's own side.
pub(in crate::experiment) fn ask<T: DeserializeOwned>(
    side: Side<'_>,
    address: SocketAddr,
    path: &str,
) -> Result<T> {
    let stream = side.enter(|| TcpStream::connect_timeout(&address, LIMIT))?;
    let mut stream = stream.with_context(|| format!("cannot connect to {address}"))?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n").as_bytes())?;
    let mut received = Vec::new();
    let mut buffer = [0; 4096];
    loop {
        let count = stream.read(&mut buffer).with_context(|| format!("no answer to {path}"))?;
        ensure!(count > 0 && received.len() < ANSWER, "no answer to {path}");
        received.extend_from_slice(&buffer[..count]);
        // The answers are objects: part of one cannot be mistaken for the whole.
        if let Some(end) = memmem::find(&received, b"\r\n\r\n")
            && let Ok(answer) = serde_json::from_slice(&received[end + 4..])
        {
            return Ok(answer);
        }
    }
}
