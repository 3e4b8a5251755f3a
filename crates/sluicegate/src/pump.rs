//! Carries out what a send queue wants until the transport is full.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use thiserror::Error;

use crate::ledger::Ledger;
use crate::queue::{SLICES, SendQueue, Transmit};
use crate::strategy::Way;
use crate::transport::Transport;

/// How a turn of sending ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Everything queued was accepted.
    Drained,
    /// The socket is full: go on when it is writable.
    Blocked,
    /// The turn's budget is spent: go on after the others had theirs.
    Spent,
}

/// Why sending cannot go on. The peer must not take what it has for the whole:
/// cut the connection.
#[derive(Debug, Error)]
pub enum SendError {
    /// The file ended before the range did: somebody truncated it.
    #[error("the file ends at byte {offset}, before the range that was to be sent")]
    Truncated {
        /// Where it ended, in bytes from its start.
        offset: u64,
    },
    /// A read from the file failed: our side's fault.
    #[error("reading the file at byte {offset}: {source}")]
    File {
        /// Where, in bytes from its start.
        offset: u64,
        /// What the kernel said.
        source: io::Error,
    },
    /// The connection failed: the peer or the network.
    #[error("sending: {0}")]
    Connection(#[source] io::Error),
}

/// Sends from `queue` by `transport`, enters what was accepted into `ledger`,
/// and stops after about `budget` bytes.
///
/// # Errors
/// [`SendError`]; the queue keeps what was not accepted.
pub fn pump<T: Transport>(
    queue: &mut SendQueue<T::File>,
    ledger: &mut Ledger,
    transport: &mut T,
    budget: u64,
) -> Result<Pumped, SendError> {
    let stop = queue.accepted().advanced(budget);
    loop {
        let Some(transmit) = queue.poll_transmit() else {
            return Ok(Pumped::Drained);
        };
        if queue.accepted() >= stop {
            return Ok(Pumped::Spent);
        }
        let step = match transmit {
            Transmit::Send { more } => send(queue, transport, more).map(|n| (Way::Copy, n)),
            Transmit::Sendfile { file, offset, len } => {
                match transport.sendfile(file, offset, len) {
                    Ok(0) => return Err(SendError::Truncated { offset }),
                    Err(error) if error.kind() == ErrorKind::InvalidInput => {
                        queue.handle_refused();
                        continue;
                    }
                    Err(error) if is_disk(&error) => {
                        return Err(SendError::File { offset, source: error });
                    }
                    step => step.map(|n| (Way::Sendfile, n)),
                }
            }
            Transmit::Drain { len, more } => transport.drain(len, more).map(|n| (Way::Splice, n)),
            Transmit::Fill { file, offset, len } => {
                match transport.fill(file, offset, len) {
                    Ok(0) => return Err(SendError::Truncated { offset }),
                    Ok(count) => queue.handle_piped(count as u64),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if is_refusal(&error) => {
                        queue.handle_refused();
                    }
                    Err(source) => return Err(SendError::File { offset, source }),
                }
                continue;
            }
            Transmit::Stage { file, offset, len } => {
                let mut buffer = Vec::with_capacity(len);
                match transport.read(file, offset, len, &mut buffer) {
                    Ok(0) => return Err(SendError::Truncated { offset }),
                    Ok(_) => queue.handle_staged(Bytes::from(buffer)),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(source) => return Err(SendError::File { offset, source }),
                }
                continue;
            }
        };
        match step {
            // A zero from a call that was given bytes: the transport is closed
            // for sending, and asking again would never end.
            Ok((_, 0)) => return Err(SendError::Connection(ErrorKind::WriteZero.into())),
            Ok((way, count)) => {
                queue.handle_accepted(count as u64);
                ledger.handle_accepted(way, count as u64);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(Pumped::Blocked),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(SendError::Connection(error)),
        }
    }
}

fn send<T: Transport>(
    queue: &SendQueue<T::File>,
    transport: &mut T,
    more: bool,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = 0;
    for (slot, slice) in slices.iter_mut().zip(queue.slices()) {
        *slot = IoSlice::new(slice);
        count += 1;
    }
    transport.send(&slices[..count], more)
}

/// The way does not exist for this file, or there is no pipe: another will do.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::WouldBlock)
}

/// `sendfile` joins two ends; EIO and ESTALE can only come from the file's.
fn is_disk(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    error.raw_os_error() == Some(EIO) || error.kind() == ErrorKind::StaleNetworkFileHandle
}
