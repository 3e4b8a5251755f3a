//! The library: the caller queues and goes on, the reactor sends.
//!
//! Besides whole transfers the call alone is timed, many times:
//! - `GET /stuff` fills the asking socket, whose client does not read, queues the file on it again
//!   and again, and ends the connection by a reset;
//! - `GET /calls` does the same on the asking socket, which is idle, and tells both results.

use std::fs::File;
use std::future::poll_fn;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};
use sluicegate::{Listener, Reactor, Registration, Segment, SendContext, Socket, Worker};
use sluicegate_sys::outq;

use super::{Account, REQUEST, Request, answer, head, nanoseconds};
use crate::client::Latency;

/// Calls that are timed on each socket.
const REPETITIONS: u64 = 20_000;

/// Calls between two clearings of a stuffed socket's queue, which then is that long.
const BATCH: u64 = 500;

/// More than any socket takes whose peer does not read, in pieces.
const STUFFING: usize = 2 << 20;
const PIECES: usize = 64;

/// A socket that has taken nothing for so long is stuffed.
const STUFFED: Duration = Duration::from_millis(30);

/// How long the call takes that hands the file over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Calls {
    pub(crate) repetitions: u64,
    pub(crate) idle_us: Latency,
    /// Of the last socket that was stuffed.
    pub(crate) stuffed_us: Option<Latency>,
}

/// Serves one connection after another.
pub(super) fn serve(listener: Arc<OwnedFd>, file: File) -> Result<()> {
    let worker = Worker::new()?;
    let reactor = worker.reactor().clone();
    let listener = Listener::new(listener, reactor.clone())?;
    let mut server = Server {
        length: file.metadata()?.len(),
        file: Arc::new(file),
        account: Account::new()?,
        stuffed: None,
    };
    worker.run(async move {
        let context = Arc::new(SendContext::default());
        loop {
            let (fd, _) = listener.accept().await.context("cannot accept")?;
            let socket = Socket::with_context(fd, &reactor, Arc::clone(&context))?;
            if let Err(error) = server.connection(socket, &reactor).await {
                eprintln!("{error:#}");
            }
        }
    })?
}

struct Server {
    file: Arc<File>,
    length: u64,
    account: Account,
    stuffed: Option<Latency>,
}

impl Server {
    async fn connection(
        &mut self,
        mut socket: Socket<Registration>,
        reactor: &Reactor,
    ) -> Result<()> {
        let mut request = Vec::with_capacity(REQUEST);
        loop {
            request.clear();
            if socket.receive(&mut request).await? == 0 {
                return Ok(());
            }
            ensure!(
                outq::unacknowledged(socket.as_fd())? == 0,
                "asked before all was acknowledged"
            );
            match Request::read(&request)? {
                Request::File => self.hand_over(&mut socket).await?,
                Request::Report => {
                    socket.queue(Segment::given(answer(&self.account.report())?))?;
                    socket.flush().await?;
                }
                Request::Calls => {
                    let idle_us = self.on_an_idle(&mut socket)?;
                    let stuffed_us = self.stuffed.take();
                    let calls = Calls { repetitions: REPETITIONS, idle_us, stuffed_us };
                    socket.queue(Segment::given(answer(&calls)?))?;
                    socket.flush().await?;
                }
                Request::Stuff => {
                    self.stuffed = Some(self.on_a_stuffed(&mut socket, reactor).await?);
                    socket.abort();
                    return Ok(());
                }
            }
        }
    }

    async fn hand_over(&mut self, socket: &mut Socket<Registration>) -> Result<()> {
        socket.queue(Segment::given(head(self.length)))?;
        let start = Instant::now();
        socket.queue(Segment::file(&self.file, 0..self.length))?;
        let held = start.elapsed();
        socket.flush().await?;
        self.account.add(socket.as_fd(), 1, held, start.elapsed())
    }

    /// Each call is taken back before the next: the socket is idle again, and nothing was sent.
    fn on_an_idle(&self, socket: &mut Socket<Registration>) -> Result<Latency> {
        let mut times = Histogram::new(3)?;
        for _ in 0..REPETITIONS {
            self.time(socket, &mut times)?;
            socket.cancel();
        }
        Ok(Latency::of(&times))
    }

    /// Each call finds a full socket, and a queue that is longer by one.
    async fn on_a_stuffed(
        &self,
        socket: &mut Socket<Registration>,
        reactor: &Reactor,
    ) -> Result<Latency> {
        let stuffing = Segment::given(vec![0; STUFFING]);
        for _ in 0..PIECES {
            socket.queue(stuffing.clone())?;
        }
        let mut timer = Box::pin(reactor.sleep(STUFFED));
        loop {
            let before = socket.accepted_position();
            let mut is_due = false;
            let flushed = poll_fn(|cx| {
                is_due = timer.as_mut().poll(cx).is_ready();
                match socket.poll_flush(cx) {
                    Poll::Ready(result) => Poll::Ready(Some(result)),
                    Poll::Pending if is_due => Poll::Ready(None),
                    Poll::Pending => Poll::Pending,
                }
            })
            .await;
            ensure!(flushed.transpose()?.is_none(), "the socket took everything: its peer reads");
            if socket.accepted_position() == before {
                break;
            }
            timer = Box::pin(reactor.sleep(STUFFED));
        }
        let mut times = Histogram::new(3)?;
        while times.len() < REPETITIONS {
            for _ in 0..BATCH {
                self.time(socket, &mut times)?;
            }
            socket.cancel();
            // The first of the next queue: refused by a socket that is as full as before.
            socket.queue(stuffing.clone())?;
            let is_full = poll_fn(|cx| Poll::Ready(socket.poll_flush(cx).is_pending())).await;
            ensure!(is_full, "the socket has room: its peer reads");
        }
        Ok(Latency::of(&times))
    }

    fn time(&self, socket: &mut Socket<Registration>, times: &mut Histogram<u64>) -> Result<()> {
        let start = Instant::now();
        socket.queue(Segment::file(&self.file, 0..self.length))?;
        times.record(nanoseconds(start.elapsed())?)?;
        Ok(())
    }
}
