//! A connection of the doctor's own, on the loopback.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sluicegate::os::probe::reset_on_close;

/// What is done on the loopback takes microseconds; a delayed acknowledgement
/// takes 40 ms, and up to 200 in the worst case.
const PATIENCE: Duration = Duration::from_millis(500);

/// Milliseconds that all probes together wait for what does not come. After that
/// each has a moment left, so that the doctor ends where nothing works.
const BUDGET: u64 = 1000;

/// What is left to a probe when the budget is spent.
const MOMENT: Duration = Duration::from_millis(10);

/// Milliseconds that were waited for nothing.
static WASTED: AtomicU64 = AtomicU64::new(0);

/// How long the next wait may take.
pub(super) fn patience() -> Duration {
    let left = BUDGET.saturating_sub(WASTED.load(Ordering::Relaxed));
    Duration::from_millis(left).clamp(MOMENT, PATIENCE)
}

/// It took all of `patience`, and nothing came.
pub(super) fn timed_out(patience: Duration) -> io::Error {
    let wasted = u64::try_from(patience.as_millis()).unwrap_or(BUDGET);
    WASTED.fetch_add(wasted, Ordering::Relaxed);
    io::ErrorKind::TimedOut.into()
}

/// Both ends. They end with a reset, so that no port is left in TIME_WAIT.
#[derive(Debug)]
pub(super) struct Pair {
    /// Does not block.
    pub(super) ours: TcpStream,
    theirs: TcpStream,
    /// How long that end waits.
    patience: Duration,
}

impl Pair {
    pub(super) fn new() -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            Ok(listener) => listener,
            // A host without IPv4.
            Err(first) => TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).map_err(|_| first)?,
        };
        let ours = connect(listener.local_addr()?)?;
        let theirs = accept(&listener, ours.local_addr()?)?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(false)?;
        let patience = patience();
        theirs.set_read_timeout(Some(patience))?;
        for end in [&ours, &theirs] {
            reset_on_close(end.as_fd())?;
        }
        Ok(Pair { ours, theirs, patience })
    }

    /// Takes so many bytes at the other end.
    pub(super) fn receive(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        match (&self.theirs).read_exact(&mut bytes) {
            // The receive timeout has no error of its own (`socket(7)`).
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(timed_out(self.patience))
            }
            read => read.map(|()| bytes),
        }
    }
}

/// A connection to `address`, waited for as long as there is patience.
pub(super) fn connect(address: SocketAddr) -> io::Result<TcpStream> {
    let patience = patience();
    TcpStream::connect_timeout(&address, patience).map_err(|error| match error.kind() {
        io::ErrorKind::TimedOut => timed_out(patience),
        _ => error,
    })
}

/// The connection of `peer`: somebody else may have found the port, too.
fn accept(listener: &TcpListener, peer: SocketAddr) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    wait_for(|| match listener.accept() {
        Ok((stream, address)) if address == peer => Ok(Some(stream)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    })
}

/// Asks until there is an answer.
///
/// # Errors
/// Those of `ask`; `TimedOut`.
pub(super) fn wait_for<T>(mut ask: impl FnMut() -> io::Result<Option<T>>) -> io::Result<T> {
    let patience = patience();
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(timed_out(patience));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[test]
    fn what_goes_in_comes_out() {
        let pair = Pair::new().unwrap();
        (&pair.ours).write_all(b"hello").unwrap();
        assert_eq!(pair.receive(5).unwrap(), b"hello");
        assert!(pair.receive(1).is_err(), "it does not wait for ever");
    }
}
