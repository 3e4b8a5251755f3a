//! A real connection over the loopback, whose peer reads when it is told to.

use std::collections::VecDeque;
use std::io::Read;
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use rustix::net::sockopt::set_tcp_quickack;
use sluicegate::{
    Locality, LocalityRule, QueueError, Region, Registration, SendContext, SendError, Socket,
    Worker, yield_now,
};
use sluicegate_sys::socket::{set_receive_buffer, set_send_buffer};

use crate::model::{End, Model, Number, Place};

/// What was accepted is there within this time, or the test fails.
const SOON: Duration = Duration::from_secs(30);

/// A region that waits to be accepted.
#[derive(Debug)]
struct Queued {
    place: Place,
    by_reference: bool,
    is_owned: bool,
    is_begun: bool,
    left: usize,
}

/// The end of our connections: what was accepted of it stays to be read.
pub(crate) struct Ghost {
    client: TcpStream,
    rest: Vec<u8>,
}

impl Ghost {
    /// Reads what the kernel had accepted, long after.
    pub(crate) fn check(mut self) {
        let mut read = Vec::new();
        self.client.read_to_end(&mut read).unwrap();
        assert!(read == self.rest, "bytes of a closed connection have changed");
    }
}

pub(crate) struct Peer {
    number: Number,
    /// It is said to be on another host.
    is_remote: bool,
    pub(crate) socket: Socket<Registration>,
    client: TcpStream,
    /// All that was queued.
    stream: Vec<u8>,
    accepted: usize,
    read: usize,
    queued: VecDeque<Queued>,
    /// What an acknowledgement is awaited for, and until where.
    unacked: VecDeque<(Place, usize)>,
}

impl Peer {
    pub(crate) fn new(
        worker: &Worker,
        (server, client): (TcpStream, TcpStream),
        number: Number,
        is_remote: bool,
    ) -> Self {
        client.set_read_timeout(Some(SOON)).unwrap();
        server.set_nonblocking(true).unwrap();
        // Little, so that much is accepted in parts.
        set_send_buffer(server.as_fd(), 8 * 1024).unwrap();
        set_receive_buffer(client.as_fd(), 32 * 1024).unwrap();
        let at = if is_remote { Locality::Remote } else { Locality::Local };
        let locality = LocalityRule { forced: Some(at), ..LocalityRule::default() };
        let context = SendContext { locality, unsent: None, ..SendContext::default() };
        let context = Arc::new(context);
        let socket = Socket::with_context(server.into(), worker.reactor(), context).unwrap();
        let (stream, queued, unacked) = Default::default();
        Peer { number, is_remote, socket, client, stream, accepted: 0, read: 0, queued, unacked }
    }

    pub(crate) fn number(&self) -> Number {
        self.number
    }

    /// Queues the region of `partition`.
    pub(crate) fn queue(
        &mut self,
        model: &mut Model,
        region: Region,
        partition: usize,
        references_from: usize,
    ) {
        let owner = model.owner(partition);
        let queued = self.socket.queue(region);
        if owner.is_some_and(|owner| owner != self.number) {
            assert_eq!(queued, Err(QueueError::OtherConnection));
            return;
        }
        let (place, before) = model.enlist(partition);
        let bytes = model.region(partition).to_vec();
        self.stream.extend_from_slice(&bytes);
        assert_eq!(queued.unwrap().get(), self.stream.len() as u64);
        if bytes.is_empty() {
            return model.end(place, End::Unsent);
        }
        let is_owned = owner.is_some();
        let by_reference = if is_owned { self.is_remote } else { before >= references_from };
        self.queued.push_back(Queued {
            place,
            by_reference,
            is_owned,
            is_begun: false,
            left: bytes.len(),
        });
    }

    /// Sends what the socket takes. False when it was cut loose, and fails.
    pub(crate) fn flush(&mut self, worker: &Worker, model: &mut Model) -> bool {
        let is_lost = |queued: &Queued| model.cuts.contains(&(queued.place, None));
        let is_cut = self.queued.iter().any(is_lost);
        // The reactor looks at what has become writable.
        worker.run(yield_now()).unwrap();
        let flushed = self.socket.poll_flush(&mut Context::from_waker(Waker::noop()));
        let accepted = usize::try_from(self.socket.accepted_position().get()).unwrap();
        let mut more = accepted - self.accepted;
        while more > 0 {
            let front = self.queued.front_mut().expect("more was accepted than queued");
            let count = more.min(front.left);
            let (place, by_reference) = (front.place, front.by_reference);
            model.handle_accepted(place, count, by_reference);
            self.accepted += count;
            front.left -= count;
            front.is_begun = true;
            more -= count;
            if front.left > 0 {
                continue;
            }
            let is_owned = front.is_owned;
            self.queued.pop_front();
            if !model.has(place) {
                self.take_cut(model, place, true);
            } else if by_reference && is_owned {
                self.unacked.push_back((place, self.accepted));
            } else {
                model.end(place, if by_reference { End::Unproven } else { End::Copied });
            }
        }
        match flushed {
            Poll::Ready(Err(SendError::CutLoose)) => assert!(is_cut, "nothing was cut loose"),
            Poll::Ready(Err(error)) => panic!("{error}"),
            Poll::Ready(Ok(())) => assert!(self.queued.is_empty()),
            Poll::Pending => assert!(!is_cut, "it is not told that it was cut loose"),
        }
        !is_cut
    }

    /// What was copied aside for a use is not held any more.
    fn take_cut(&mut self, model: &mut Model, place: Place, is_sent: bool) {
        let Some(at) = model.cuts.iter().position(|(cut, _)| *cut == place) else {
            assert!(!is_sent, "{place:?} was not cut loose");
            return;
        };
        let (_, copied) = model.cuts.remove(at);
        assert!(!is_sent || copied.is_some(), "what nobody has was sent");
        model.held -= copied.unwrap_or(0) as u64;
    }

    /// The peer reads so many bytes of what was accepted, at most.
    pub(crate) fn read(&mut self, most: usize) {
        let count = most.min(self.accepted - self.read);
        let mut bytes = vec![0; count];
        self.client.read_exact(&mut bytes).unwrap();
        let expected = &self.stream[self.read..][..count];
        assert!(bytes == expected, "accepted bytes have changed");
        self.read += count;
    }

    /// The peer reads all, as if it were remote: only then is what it has
    /// acknowledged nobody's to read. Then the kernel is asked how far it is.
    pub(crate) fn progress(&mut self, model: &mut Model) {
        self.read(usize::MAX);
        // It acknowledges now, and not 40 ms later.
        set_tcp_quickack(&self.client, true).unwrap();
        let acked = usize::try_from(self.socket.progress().unwrap().acked.get()).unwrap();
        while let Some(&(place, _)) = self.unacked.front().filter(|(_, end)| *end <= acked) {
            model.end(place, End::Acked(self.number));
            self.unacked.pop_front();
        }
    }

    pub(crate) fn is_done(&self) -> bool {
        self.queued.is_empty() && self.unacked.is_empty()
    }

    /// Closes the connection. What was accepted is still to be read.
    pub(crate) fn close(mut self, model: &mut Model) -> Ghost {
        drop(self.socket);
        let mut queued = std::mem::take(&mut self.queued);
        // The first may be sent in part: it is looked at after the others.
        let front = queued.pop_front();
        let mut unproven: Vec<Place> = self.unacked.iter().map(|(place, _)| *place).collect();
        for Queued { place, .. } in queued {
            end_unsent(model, place, End::Unsent);
        }
        if let Some(Queued { place, by_reference, is_owned, is_begun, .. }) = front {
            match by_reference && is_begun {
                true if is_owned && model.has(place) => unproven.push(place),
                true => end_unsent(model, place, End::Unproven),
                false if is_begun => end_unsent(model, place, End::Copied),
                false => end_unsent(model, place, End::Unsent),
            }
        }
        unproven.into_iter().for_each(|place| model.end(place, End::Unproven));
        let rest = self.stream[self.read..self.accepted].to_vec();
        Ghost { client: self.client, rest }
    }
}

/// Ends a use of which not all was sent, cut loose or not.
fn end_unsent(model: &mut Model, place: Place, end: End) {
    model.end(place, end);
    if let Some(at) = model.cuts.iter().position(|(cut, _)| *cut == place) {
        let (_, copied) = model.cuts.remove(at);
        model.held -= copied.unwrap_or(0) as u64;
    }
}
