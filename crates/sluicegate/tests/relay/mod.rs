//! A relay between two sockets, as a proxy has it, and peers for both ends.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sluicegate::{
    Reactor, Registration, RingCounters, SendContext, Socket, Spool, SpoolBudget, SpoolBytes,
    SpoolOptions,
};

/// Both ends of a connection over the loopback.
pub(crate) fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener.accept().unwrap().0, client)
}

pub(crate) fn socket(
    stream: TcpStream,
    reactor: &Reactor,
    context: &Arc<SendContext>,
) -> Socket<Registration> {
    stream.set_nonblocking(true).unwrap();
    Socket::with_context(OwnedFd::from(stream), reactor, Arc::clone(context)).unwrap()
}

pub(crate) fn options(memory: u64) -> SpoolOptions {
    SpoolOptions {
        memory,
        disk: 0,
        directory: PathBuf::new(),
        pipes: true,
        memory_ring: false,
        unit: 64 * 1024,
    }
}

/// The same with a ring on disk.
pub(crate) fn on_disk(
    memory: u64,
    disk: u64,
    unit: usize,
    directory: &tempfile::TempDir,
) -> SpoolOptions {
    SpoolOptions { disk, unit, directory: directory.path().to_owned(), ..options(memory) }
}

/// Content of which each place tells where it is.
pub(crate) fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at % 251) as u8 ^ (at / 65_536) as u8).collect()
}

/// What a relay has seen.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) bytes: SpoolBytes,
    /// The most that the spool held.
    pub(crate) most: u64,
    /// Polls of the task: a hot loop has many.
    pub(crate) polls: u64,
    /// Bytes that the sink had accepted when the source had sent its end.
    pub(crate) accepted_at_end: u64,
    pub(crate) counters: RingCounters,
    pub(crate) trouble: Option<String>,
}

/// Relays until the source ends and the sink has all. `known` tells the spool how
/// many bytes come.
pub(crate) async fn relay(
    from: &mut Socket<Registration>,
    to: &mut Socket<Registration>,
    spool: &mut Spool,
    known: Option<u64>,
) -> io::Result<Seen> {
    spool.expect(known);
    let mut seen = Seen::default();
    let (mut told, mut ended) = (to.accepted_position(), false);
    let begin = told;
    poll_fn(|cx| {
        seen.polls += 1;
        loop {
            let mut moved = false;
            while !ended {
                match spool.poll_fill(cx, from, to, u64::MAX) {
                    Poll::Ready(Ok(0)) => {
                        ended = true;
                        moved = true;
                        seen.accepted_at_end = to.accepted_position().since(begin);
                    }
                    Poll::Ready(Ok(_)) => moved = true,
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => break,
                }
                seen.most = seen.most.max(spool.held());
            }
            while to.room() > 0
                && let Some(segment) = spool.segment()
            {
                to.queue(segment).unwrap();
                moved = true;
            }
            if let Poll::Ready(Err(error)) = to.poll_flush(cx) {
                return Poll::Ready(Err(io::Error::other(error)));
            }
            let accepted = to.accepted_position();
            spool.handle_accepted(accepted.since(told));
            moved |= accepted > told;
            told = accepted;
            if ended && spool.held() == 0 {
                return Poll::Ready(Ok(()));
            }
            if !moved {
                return Poll::Pending;
            }
        }
    })
    .await?;
    seen.bytes = spool.bytes();
    seen.counters = spool.counters();
    seen.trouble = spool.take_trouble().map(|error| error.to_string());
    Ok(seen)
}

/// Sends all of `content` from a thread, in pieces of `piece`, and closes.
pub(crate) fn send(
    mut stream: TcpStream,
    content: Vec<u8>,
    piece: usize,
) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        stream.set_nodelay(true).unwrap();
        for piece in content.chunks(piece) {
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    })
}

/// Receives all in a thread, which is asked before each read of at most `piece`
/// bytes.
pub(crate) fn receive(
    mut stream: TcpStream,
    piece: usize,
    mut before: impl FnMut(usize) + Send + 'static,
) -> std::thread::JoinHandle<Vec<u8>> {
    std::thread::spawn(move || {
        let mut all = Vec::new();
        let mut buffer = vec![0; piece];
        loop {
            before(all.len());
            match stream.read(&mut buffer).unwrap() {
                0 => return all,
                count => all.extend_from_slice(&buffer[..count]),
            }
        }
    })
}

/// Small buffers on both sides, so that little hides in the kernel.
pub(crate) fn narrow(stream: &TcpStream) {
    rustix::net::sockopt::set_socket_send_buffer_size(stream.as_fd(), 32 * 1024).unwrap();
    rustix::net::sockopt::set_socket_recv_buffer_size(stream.as_fd(), 32 * 1024).unwrap();
}

/// All that spools and their rings had of it goes back: of a ring only once the kernel says that
/// it has let go of what was sent by reference, to find out where the client is.
pub(crate) fn all_given_back(budget: &SpoolBudget) {
    let end = Instant::now() + Duration::from_secs(60);
    while (budget.held(), budget.on_disk()) != (0, 0) {
        assert!(Instant::now() < end, "{budget:?}");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A spool with a budget of its own.
pub(crate) fn spool(
    options: SpoolOptions,
    budget: u64,
    context: &Arc<SendContext>,
) -> (Spool, Arc<SpoolBudget>) {
    let budget = SpoolBudget::new(budget);
    (Spool::new(&Arc::new(options), &budget, context), budget)
}
