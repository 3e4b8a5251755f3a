//! A connection of the doctor's own, on the loopback.

use std::io::{self, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use sluicegate::os::probe::reset_on_close;

/// What is done on the loopback takes microseconds; a delayed acknowledgement
/// takes 40 ms, and up to 200 in the worst case.
pub(super) const PATIENCE: Duration = Duration::from_millis(300);

/// Both ends. They end with a reset, so that no port is left in TIME_WAIT.
#[derive(Debug)]
pub(super) struct Pair {
    /// Does not block.
    pub(super) ours: TcpStream,
    /// Waits for [`PATIENCE`] at most.
    theirs: TcpStream,
}

impl Pair {
    pub(super) fn new() -> io::Result<Self> {
        let listener = match TcpListener::bind((Ipv4Addr::LOCALHOST, 0)) {
            Ok(listener) => listener,
            // A host without IPv4.
            Err(first) => TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).map_err(|_| first)?,
        };
        let ours = TcpStream::connect_timeout(&listener.local_addr()?, PATIENCE)?;
        let theirs = accept(&listener, ours.local_addr()?)?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(false)?;
        theirs.set_read_timeout(Some(PATIENCE))?;
        for end in [&ours, &theirs] {
            reset_on_close(end.as_fd())?;
        }
        Ok(Pair { ours, theirs })
    }

    /// Takes so many bytes at the other end.
    pub(super) fn receive(&self, count: usize) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; count];
        (&self.theirs).read_exact(&mut bytes)?;
        Ok(bytes)
    }
}

/// The connection of `peer`: somebody else may have found the port, too.
fn accept(listener: &TcpListener, peer: SocketAddr) -> io::Result<TcpStream> {
    listener.set_nonblocking(true)?;
    wait_for(PATIENCE, || match listener.accept() {
        Ok((stream, address)) if address == peer => Ok(Some(stream)),
        Ok(_) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    })
}

/// Asks until there is an answer, for so long.
pub(super) fn wait_for<T>(
    patience: Duration,
    mut ask: impl FnMut() -> io::Result<Option<T>>,
) -> io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(answer) = ask()? {
            return Ok(answer);
        }
        if Instant::now() >= deadline {
            return Err(io::ErrorKind::TimedOut.into());
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
