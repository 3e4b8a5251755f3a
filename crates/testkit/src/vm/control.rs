//! The serial line over which the host tells the guest what to run.

use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

/// How long a read waits before the deadline is looked at again.
const TURN: Duration = Duration::from_millis(100);

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// The end of the line that the machine connects to.
#[derive(Debug)]
pub(super) struct Line {
    listener: UnixListener,
}

/// Why nothing came.
#[derive(Debug)]
pub(super) enum Silence {
    /// The deadline has come. What had come until then is kept: [`Control::unread`].
    Deadline,
    /// The machine has ended.
    End,
    /// The socket fails.
    Failed(io::Error),
}

impl Line {
    pub(super) fn listen(path: &Path) -> io::Result<Self> {
        let listener = UnixListener::bind(path)?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener })
    }

    /// Waits until the machine has connected. `ended` tells whether it has given up.
    pub(super) fn accept(
        self,
        deadline: Instant,
        mut ended: impl FnMut() -> bool,
    ) -> Result<Control, Silence> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    stream.set_nonblocking(false).map_err(Silence::Failed)?;
                    stream.set_read_timeout(Some(TURN)).map_err(Silence::Failed)?;
                    stream.set_write_timeout(Some(TURN * 10)).map_err(Silence::Failed)?;
                    return Ok(Control { stream, unread: Vec::new() });
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(Silence::Failed(error)),
            }
            if ended() {
                return Err(Silence::End);
            }
            if Instant::now() >= deadline {
                return Err(Silence::Deadline);
            }
            thread::sleep(POLL_INTERVAL);
        }
    }
}

/// The line, once both ends are there.
#[derive(Debug)]
pub(super) struct Control {
    stream: UnixStream,
    unread: Vec<u8>,
}

impl Control {
    pub(super) fn send(&mut self, line: &str) -> Result<(), Silence> {
        self.stream.write_all(format!("{line}\n").as_bytes()).map_err(Silence::Failed)
    }

    /// Waits for a line that begins with `mark` and a space. Returns what came before it, and
    /// what the line says behind the mark.
    pub(super) fn read_to(
        &mut self,
        mark: &str,
        deadline: Instant,
    ) -> Result<(String, String), Silence> {
        let mut scanned = 0;
        loop {
            // Only whole lines are looked at, each once.
            while let Some(length) = self.unread[scanned..].iter().position(|&byte| byte == b'\n') {
                let end = scanned + length;
                let line = String::from_utf8_lossy(&self.unread[scanned..end]).into_owned();
                if let Some(rest) = line.strip_prefix(mark).and_then(|it| it.strip_prefix(' ')) {
                    let before = String::from_utf8_lossy(&self.unread[..scanned]).into_owned();
                    self.unread.drain(..=end);
                    return Ok((before, rest.trim_end().to_owned()));
                }
                scanned = end + 1;
            }
            if Instant::now() >= deadline {
                return Err(Silence::Deadline);
            }
            let mut buffer = [0; 16 << 10];
            match self.stream.read(&mut buffer) {
                Ok(0) => return Err(Silence::End),
                Ok(length) => self.unread.extend_from_slice(&buffer[..length]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted => {}
                    ErrorKind::ConnectionReset => return Err(Silence::End),
                    _ => return Err(Silence::Failed(error)),
                },
            }
        }
    }

    /// What came and was not returned yet.
    pub(super) fn unread(&self) -> String {
        String::from_utf8_lossy(&self.unread).into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::{Line, Silence};
    use std::io::Write;
    use std::os::unix::net::UnixStream;
    use std::time::{Duration, Instant};

    #[test]
    fn what_comes_is_split_at_marks_that_begin_a_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("line");
        let line = Line::listen(&path).expect("a socket");
        let mut machine = UnixStream::connect(&path).expect("it listens");
        let soon = || Instant::now() + Duration::from_secs(5);
        let mut control = line.accept(soon(), || false).expect("connected");

        machine.write_all(b"a mark 1\nmark 2\nb\nmark").expect("room");
        let (before, rest) = control.read_to("mark", soon()).expect("it is there");
        assert_eq!((before.as_str(), rest.as_str()), ("a mark 1\n", "2"));
        let silence = control.read_to("mark", Instant::now() + Duration::from_millis(1));
        assert!(matches!(silence, Err(Silence::Deadline)));
        assert_eq!(control.unread(), "b\nmark");
        machine.write_all(b" 3\n").expect("room");
        let (before, rest) = control.read_to("mark", soon()).expect("it is there");
        assert_eq!((before.as_str(), rest.as_str()), ("b\n", "3"));
        drop(machine);
        assert!(matches!(control.read_to("mark", soon()), Err(Silence::End)));
    }
}
