//! Carries out what a send queue wants until the transport is full.

use std::io::{self, ErrorKind, IoSlice};

use bytes::Bytes;
use sluicegate_sys::file::{Difference, Stamp};
use sluicegate_sys::socket::is_of_memory;
use sluicegate_sys::zerocopy::is_exhausted;
use thiserror::Error;

use crate::ledger::Ledger;
use crate::queue::{SLICES, SendQueue, Transmit};
use crate::ring::Held;
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
    /// The file is not what was to be sent, or cannot be read: our side's fault.
    #[error(transparent)]
    File(Box<FileError>),
    /// The connection failed: the peer or the network.
    #[error("sending: {0}")]
    Connection(#[source] io::Error),
    /// The peer reads too slowly: the region that was being sent was taken for
    /// others ([`crate::Stragglers`]).
    #[error("the peer reads too slowly: what was to be sent was taken back for others")]
    CutLoose,
}

/// What is wrong with a file.
#[derive(Debug, Error)]
#[error("{file}, byte {offset}: {cause}")]
pub struct FileError {
    /// What the file is called.
    pub file: String,
    /// From where on nothing of it was sent, in bytes from its start.
    pub offset: u64,
    /// What is wrong.
    #[source]
    pub cause: FileFault,
}

/// What can be wrong with a file that is being sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum FileFault {
    /// It ends there, before the range did: somebody truncated it.
    #[error("it ends there, before the range that was to be sent")]
    Truncated,
    /// It is not in the version that was to be sent.
    #[error("it was changed while it was sent: {0}")]
    Changed(Difference),
    /// The kernel cannot read it.
    #[error("it cannot be read: {0}")]
    Unreadable(#[source] io::Error),
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
            Transmit::Send { by_reference: false, more } => {
                send(queue, |slices| transport.send(slices, more)).map(|n| (Way::Copy, n))
            }
            Transmit::Send { by_reference: true, more } => {
                match send(queue, |slices| transport.send_zerocopy(slices, more)) {
                    Err(error) if is_exhausted(&error) => {
                        queue.handle_no_buffers();
                        continue;
                    }
                    Err(error) if error.kind() == ErrorKind::Unsupported => {
                        queue.handle_refused();
                        continue;
                    }
                    step => step.map(|n| (Way::Zerocopy, n)),
                }
            }
            Transmit::Region { way, len, more } => match region(queue, transport, way, len, more) {
                Region::Sent(step) => step.map(|n| (way, n)),
                Region::Again => continue,
                Region::Failed(error) => return Err(error),
            },
            Transmit::Sendfile { file, version, offset, len } => {
                check(transport, file, version, offset)?;
                match transport.sendfile(file, offset, len) {
                    Ok(0) => return Err(fault(transport, file, offset, FileFault::Truncated)),
                    Err(error) if error.kind() == ErrorKind::InvalidInput => {
                        queue.handle_refused();
                        continue;
                    }
                    Err(error) if !is_connection(&error) => {
                        return Err(fault(transport, file, offset, FileFault::Unreadable(error)));
                    }
                    step => step.map(|n| (Way::Sendfile, n)),
                }
            }
            Transmit::Drain { file, version, offset, len, more } => {
                // What is in the pipe is a reference too: of a file that was
                // truncated meanwhile the last page is zeroed.
                check(transport, file, version, offset)?;
                transport.drain(len, more).map(|n| (Way::Splice, n))
            }
            Transmit::Piped { pipe, len, more } => {
                transport.drain_pipe(pipe, len, more).map(|n| (Way::Splice, n))
            }
            Transmit::Fill { file, offset, len } => {
                match transport.fill(file, offset, len) {
                    Ok(0) => return Err(fault(transport, file, offset, FileFault::Truncated)),
                    Ok(count) => queue.handle_piped(count as u64),
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if is_refusal(&error) => {
                        queue.handle_refused();
                    }
                    Err(error) => {
                        return Err(fault(transport, file, offset, FileFault::Unreadable(error)));
                    }
                }
                continue;
            }
            Transmit::Stage { file, version, offset, len } => {
                let mut buffer = Vec::with_capacity(len);
                match transport.read(file, offset, len, &mut buffer) {
                    Ok(0) => return Err(fault(transport, file, offset, FileFault::Truncated)),
                    Ok(_) => {
                        // After the read: what is in the buffer is then of this
                        // version, whatever happens to the file.
                        check(transport, file, version, offset)?;
                        queue.handle_staged(Bytes::from(buffer));
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => {
                        return Err(fault(transport, file, offset, FileFault::Unreadable(error)));
                    }
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

/// How a call from a region ended.
enum Region {
    /// As a call on the connection.
    Sent(io::Result<usize>),
    /// The queue wants something else now.
    Again,
    Failed(SendError),
}

/// Sends from the region at the front.
fn region<T: Transport>(
    queue: &mut SendQueue<T::File>,
    transport: &mut T,
    way: Way,
    len: usize,
    more: bool,
) -> Region {
    let sent = match queue.hold_region() {
        Some(Held::Pages(pinned)) => {
            let sent = match way {
                Way::Copy => transport.send(&[IoSlice::new(pinned.bytes(len))], more),
                Way::Zerocopy => transport.send_zerocopy(&[IoSlice::new(pinned.bytes(len))], more),
                Way::Sendfile | Way::Splice => transport.send_region(&pinned, len),
            };
            if let Ok(count) = sent {
                pinned.accepted(way, count);
            }
            Ok(sent)
        }
        Some(Held::Copied(rest)) => Err(rest),
        Some(Held::Lost) | None => return Region::Failed(SendError::CutLoose),
    };
    let error = match sent {
        Ok(Err(error)) => error,
        // At the end of a file that somebody else has made shorter.
        Ok(Ok(0)) if way == Way::Sendfile => return ring_fault(FileFault::Truncated),
        Ok(Ok(count)) => return Region::Sent(Ok(count)),
        Err(rest) => {
            queue.handle_cut_loose(rest);
            return Region::Again;
        }
    };
    if way == Way::Zerocopy && is_exhausted(&error) {
        queue.handle_no_buffers();
        return Region::Again;
    }
    if way != Way::Copy && is_refusal(&error) && error.kind() != ErrorKind::WouldBlock {
        queue.handle_refused();
        return Region::Again;
    }
    if (way == Way::Sendfile && !is_connection(&error)) || is_of_memory(&error) {
        return ring_fault(FileFault::Unreadable(error));
    }
    Region::Sent(Err(error))
}

fn ring_fault(cause: FileFault) -> Region {
    let file = "a ring's file".to_owned();
    Region::Failed(SendError::File(Box::new(FileError { file, offset: 0, cause })))
}

/// Whether `file` is still in the version that was to be sent.
fn check<T: Transport>(
    transport: &mut T,
    file: &T::File,
    version: Option<&Stamp>,
    offset: u64,
) -> Result<(), SendError> {
    let Some(version) = version else {
        return Ok(());
    };
    let cause = match transport.version(file).map(|now| version.difference(&now)) {
        Ok(None) => return Ok(()),
        Ok(Some(difference)) => FileFault::Changed(difference),
        Err(error) => FileFault::Unreadable(error),
    };
    Err(fault(transport, file, offset, cause))
}

fn fault<T: Transport>(transport: &T, file: &T::File, offset: u64, cause: FileFault) -> SendError {
    SendError::File(Box::new(FileError { file: transport.name(file), offset, cause }))
}

fn send<F>(
    queue: &SendQueue<F>,
    call: impl FnOnce(&[IoSlice<'_>]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = 0;
    for (slot, slice) in slices.iter_mut().zip(queue.slices()) {
        *slot = IoSlice::new(slice);
        count += 1;
    }
    call(&slices[..count])
}

/// The way does not exist for this file, or there is no pipe: another will do.
fn is_refusal(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::InvalidInput | ErrorKind::Unsupported | ErrorKind::WouldBlock)
}

/// `sendfile` joins two ends: whether the socket's is what failed, or is full.
/// All that a disk can say (EIO, ESTALE, EUCLEAN, EBADMSG and more) is the file's.
fn is_connection(error: &io::Error) -> bool {
    use ErrorKind as Error;
    matches!(
        error.kind(),
        Error::WouldBlock
            | Error::Interrupted
            | Error::BrokenPipe
            | Error::ConnectionReset
            | Error::ConnectionAborted
            | Error::NotConnected
            | Error::TimedOut
            | Error::HostUnreachable
            | Error::NetworkUnreachable
            | Error::NetworkDown
    )
}
