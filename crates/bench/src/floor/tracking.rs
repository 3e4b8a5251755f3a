//! One file after another on one connection, sent by the library: with events that tell how far the
//! peer has acknowledged it, and without.
//!
//! - `GET /…`: the file;
//! - `GET /report`: how many events there were since the last one, as JSON.

use std::fmt::{self, Display};
use std::fs::File;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::io::ioctl_fionbio;
use serde::{Deserialize, Serialize};
use sluicegate::{
    AckQueue, Event, Listener, Registration, Segment, SendContext, Socket, SocketId, Tag, Watch,
    Worker,
};
use sluicegate_sys::socket;

use super::head;

/// The path of the account.
pub(crate) const REPORT: &str = "/report";

/// Room for a request, of which the path alone is looked at.
const REQUEST: usize = 4096;

/// Further than any stream here goes.
const NEVER: u64 = 1 << 62;

/// Of what the sender is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Track {
    /// Of nothing: `Socket::flush`.
    Plain,
    /// Of the last byte of each file: an `AckQueue` that asks for no other report.
    AtEnd,
    /// Of each MiB: an `AckQueue` as it is.
    Tracked,
}

impl Track {
    /// All of them, in the order in which they are shown.
    pub(crate) const ALL: [Self; 3] = [Self::Plain, Self::AtEnd, Self::Tracked];

    /// The same as arguments of a command line.
    pub(crate) fn arguments(self) -> Vec<String> {
        vec!["tracking-floor".to_owned(), self.to_string()]
    }
}

impl Display for Track {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Plain => "plain",
            Self::AtEnd => "at-end",
            Self::Tracked => "tracked",
        })
    }
}

/// The command line of a [`Track`].
#[derive(Debug, Args)]
pub(crate) struct TrackingFloor {
    #[arg(value_enum)]
    track: Track,
    #[arg(long)]
    listen: SocketAddr,
    #[arg(long)]
    file: PathBuf,
}

impl TrackingFloor {
    /// Serves until it is killed.
    pub(crate) fn run(&self) -> Result<()> {
        let file = File::open(&self.file);
        let file = file.with_context(|| format!("cannot open {}", self.file.display()))?;
        // As our server listens: without pacing on the loopback.
        let listener = sluicegate::listen(self.listen).context("cannot listen")?;
        let address = sluicegate::os::local_address(&listener)?.unwrap_or(self.listen);
        println!("listening on http://{address}");
        match self.track {
            Track::Plain => plain(listener, file),
            track => tracked(&listener, file, track),
        }
        .context("cannot serve")
    }
}

/// What was told, of all that was sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Told {
    pub(crate) events: u64,
    /// Bytes that they told of, heads included.
    pub(crate) acked: u64,
}

impl Told {
    fn answer(&mut self) -> Result<Vec<u8>> {
        let json = serde_json::to_string(&std::mem::take(self))?;
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", json.len());
        Ok((head + &json).into_bytes())
    }
}

fn is_report(request: &[u8]) -> bool {
    request.split(|&byte| byte == b' ').nth(1) == Some(REPORT.as_bytes())
}

fn plain(listener: Arc<OwnedFd>, file: File) -> Result<()> {
    let length = file.metadata()?.len();
    let file = Arc::new(file);
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    worker.run(async move {
        let context = Arc::new(SendContext::default());
        loop {
            let (fd, _) = listener.accept().await.context("cannot accept")?;
            let socket = Socket::with_context(fd, &reactor, Arc::clone(&context))?;
            if let Err(error) = connection(socket, &file, length).await {
                eprintln!("{error:#}");
            }
        }
    })?
}

async fn connection(mut socket: Socket<Registration>, file: &Arc<File>, length: u64) -> Result<()> {
    let mut request = Vec::with_capacity(REQUEST);
    loop {
        request.clear();
        if socket.receive(&mut request).await? == 0 {
            return Ok(());
        }
        // The clients send a whole request in one packet, and none ahead.
        ensure!(request.ends_with(b"\r\n\r\n"), "half a request");
        if is_report(&request) {
            socket.queue(Segment::given(Told::default().answer()?))?;
        } else {
            socket.queue(Segment::given(head(length)))?;
            socket.queue(Segment::file(file, 0..length))?;
        }
        socket.flush().await?;
    }
}

fn tracked(listener: &OwnedFd, file: File, track: Track) -> Result<()> {
    ioctl_fionbio(listener, false)?;
    let length = file.metadata()?.len();
    let file = Arc::new(file);
    let mut queue = AckQueue::new()?;
    if track == Track::AtEnd {
        queue.report_every(NEVER);
    }
    let mut told = Told::default();
    loop {
        let (fd, _) = socket::accept(listener.as_fd()).context("cannot accept")?;
        let id = queue.add(fd, Watch::Ours)?;
        if let Err(error) = tell(&mut queue, id, &file, length, &mut told) {
            eprintln!("{error:#}");
        }
        queue.remove(id);
    }
}

/// Answers on one connection until its client goes.
fn tell(
    queue: &mut AckQueue,
    id: SocketId,
    file: &Arc<File>,
    length: u64,
    told: &mut Told,
) -> Result<()> {
    let mut events = Vec::new();
    let mut request = Vec::with_capacity(REQUEST);
    loop {
        queue.wait(&mut events, None)?;
        for event in events.drain(..) {
            match event {
                Event::Acked(_, grown) => {
                    told.events += 1;
                    told.acked += grown.grown;
                }
                Event::Readable(_) => loop {
                    request.clear();
                    match queue.receive(id, &mut request) {
                        Ok(0) => return Ok(()),
                        Ok(_) => {}
                        Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                        Err(error) => return Err(error.into()),
                    }
                    ensure!(request.ends_with(b"\r\n\r\n"), "half a request");
                    if is_report(&request) {
                        let answer = Segment::given(told.answer()?);
                        queue.queue(id, answer, Tag::Number(1))?;
                    } else {
                        queue.queue(id, Segment::given(head(length)), Tag::Number(0))?;
                        queue.queue_file(id, file, 0..length)?;
                    }
                },
                Event::Failed(_, error) => return Err(error.into()),
                other => bail!("an unknown event: {other:?}"),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{Answer, Check};
    use std::io::{Read, Write};
    use std::net::TcpStream;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn each_sends_the_same_and_is_told_of_what_it_asked_for() {
        const LENGTH: u64 = 9 << 20;
        for track in Track::ALL {
            let directory = tempfile::tempdir().unwrap();
            let path = directory.path().join("body.bin");
            sluicegate_testkit::corpus::write_file(&path, 5, LENGTH).unwrap();
            let file = File::open(path).unwrap();
            let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
            let address = sluicegate::os::local_address(&listener.as_fd()).unwrap().unwrap();
            // The thread ends with the process of the tests.
            thread::spawn(move || match track {
                Track::Plain => plain(listener, file),
                track => tracked(&listener, file, track),
            });
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
            for _ in 0..3 {
                stream.write_all(b"GET /body HTTP/1.1\r\n\r\n").unwrap();
                let answer = Answer::new(LENGTH, 5, Check::Whole);
                answer.receive(&stream, &mut [0; 64 << 10]).unwrap();
            }
            stream.write_all(b"GET /report HTTP/1.1\r\n\r\n").unwrap();
            let mut received = vec![0; 4096];
            let count = stream.read(&mut received).unwrap();
            let end = memchr::memmem::find(&received, b"\r\n\r\n").unwrap() + 4;
            let told: Told = serde_json::from_slice(&received[end..count]).unwrap();
            // The last file's may be under way yet, and other events look at all of them.
            match track {
                Track::Plain => assert_eq!(told, Told::default()),
                Track::AtEnd => assert!(told.acked >= 2 * LENGTH, "{told:?}"),
                Track::Tracked => assert!(told.events >= 3 && told.acked >= 2 * LENGTH, "{told:?}"),
            }
        }
    }
}
