//! Who uses the table: what `Ring`, `Lease`, `Region` and `RegionUse` do with it,
//! call for call, and threads that wait.

use std::future::Future;
use std::pin::pin;
use std::sync::Mutex;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Arc, Condvar};

use crate::memory::{Content, Part, Reference};
use crate::ring::slot::{Found, Phase, Settled};
use crate::ring::table::{Attempt, Place, Table, Taken};
use crate::ring::wait::Wait;
use crate::ring::{Connection, RingError, Stragglers};

/// Bytes of a region: enough to be sent in two calls.
pub(crate) const LEN: usize = 2;

/// A ring of fake memory. Its clones are the same ring.
#[derive(Clone, Debug)]
pub(crate) struct Ring {
    pub(crate) inner: Arc<Inner>,
}

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) table: Table<Part>,
    is_replaceable: bool,
    pub(crate) stragglers: Stragglers,
    /// What the kernel still has when the actors are done. The standard
    /// library's lock: a notebook, which orders nothing that loom sees.
    references: Mutex<Vec<Reference>>,
    /// Regions that were cut loose, and what was left of them.
    cuts: Mutex<Vec<(Place, usize, Rest)>>,
}

/// What a straggler had not sent, as it stood when it was cut loose.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rest {
    pub(crate) at: usize,
    pub(crate) content: Content,
}

/// Wakes a thread. (Not by loom's `unpark`, which a thread that waits for a lock
/// at that moment never hears of.)
#[derive(Default)]
struct Bell {
    has_rung: loom::sync::Mutex<bool>,
    rings: Condvar,
}

impl Wake for Bell {
    fn wake(self: std::sync::Arc<Self>) {
        *self.has_rung.lock().unwrap() = true;
        self.rings.notify_one();
    }
}

impl Bell {
    fn wait(&self) {
        let mut has_rung = self.has_rung.lock().unwrap();
        while !std::mem::take(&mut *has_rung) {
            has_rung = self.rings.wait(has_rung).unwrap();
        }
    }
}

impl Ring {
    pub(crate) fn new(partitions: usize) -> Self {
        Self::with(partitions, true, Stragglers::Wait)
    }

    pub(crate) fn with(partitions: usize, is_replaceable: bool, stragglers: Stragglers) -> Self {
        let parts: Vec<Part> = (0..partitions).map(|_| Part::new(is_replaceable)).collect();
        let (references, cuts) = Default::default();
        let table = Table::new(parts);
        Ring { inner: Arc::new(Inner { table, is_replaceable, stragglers, references, cuts }) }
    }

    pub(crate) fn table(&self) -> &Table<Part> {
        &self.inner.table
    }

    /// As the real one, call for call.
    pub(crate) fn try_acquire(
        &self,
        owner: Option<Connection>,
    ) -> Result<Option<Lease>, RingError> {
        loop {
            match self.table().lease(owner) {
                Attempt::Leased(taken) => {
                    return Ok(Some(Lease { ring: self.clone(), taken, owner }));
                }
                Attempt::Exhausted => return Err(RingError::Exhausted),
                Attempt::Refused(error) => panic!("{error}"),
                Attempt::Busy => {}
            }
            if self.inner.is_replaceable && self.table().take_accepted(owner) {
                continue;
            }
            if self.inner.stragglers == Stragglers::Wait || !self.cut_oldest() {
                return Ok(None);
            }
        }
    }

    /// Waits on this thread.
    pub(crate) fn acquire(&self, owner: Option<Connection>) -> Result<Lease, RingError> {
        let bell = std::sync::Arc::new(Bell::default());
        let waker = Waker::from(std::sync::Arc::clone(&bell));
        let mut wait = pin!(Wait::new(self, owner));
        loop {
            match wait.as_mut().poll(&mut Context::from_waker(&waker)) {
                Poll::Ready(lease) => return lease,
                Poll::Pending => bell.wait(),
            }
        }
    }

    /// Leases what must be there, at last.
    pub(crate) fn lease(&self, owner: Option<Connection>) -> Lease {
        self.acquire(owner).expect("a partition is left")
    }

    /// Looks once, and gives up.
    pub(crate) fn look_once(&self) {
        let mut wait = pin!(Wait::new(self, None));
        if let Poll::Ready(lease) = wait.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            lease.unwrap().revert();
        }
    }

    fn cut_oldest(&self) -> bool {
        self.table().cut_oldest(self.inner.is_replaceable, |place, len, cut| {
            assert!(cut.at < len, "who has sent the whole loses nothing");
            let rest = Rest { at: cut.at, content: cut.pages.read() };
            self.inner.cuts.lock().unwrap().push((place, cut.key, rest));
        })
    }

    /// As `Ring::handle_cuttable`.
    fn handle_cuttable(&self, owner: Option<Connection>, is_accepted: bool) {
        if self.inner.stragglers != Stragglers::Wait {
            self.table().wake_one();
        } else if owner.is_some() && is_accepted {
            self.table().wake_other(owner);
        }
    }

    /// All actors are done: what the kernel still sends is right, and nothing
    /// is missing.
    pub(crate) fn rest(&self) {
        self.inner.references.lock().unwrap().iter().for_each(Reference::look);
        let gone = self.table().quarantined();
        assert_eq!(
            self.table().count(Phase::Free) + gone,
            self.table().len(),
            "a partition is lost"
        );
    }
}

/// A partition that is being written: to be published or reverted. Dropped, it
/// is lost.
#[derive(Debug)]
pub(crate) struct Lease {
    ring: Ring,
    pub(crate) taken: Taken<Part>,
    owner: Option<Connection>,
}

impl Lease {
    /// Writes what the version is.
    pub(crate) fn write(&mut self) -> Content {
        let content = Content { version: self.taken.place.version, owner: self.owner };
        let part = Arc::get_mut(&mut self.taken.pages);
        part.expect("memory is written that somebody reads").write(content);
        content
    }

    pub(crate) fn publish(mut self) -> Region {
        let content = self.write();
        let Lease { ring, taken: Taken { place, pages, .. }, .. } = self;
        ring.table().publish(place, Arc::clone(&pages), LEN);
        Region { ring, place, pages, content }
    }

    pub(crate) fn revert(self) {
        let Lease { ring, taken: Taken { place, pages, before, .. }, .. } = self;
        ring.table().revert(place, pages, before);
    }
}

/// What was published, in somebody's hands. As a real one, it is to be dropped.
pub(crate) struct Region {
    ring: Ring,
    place: Place,
    pages: Arc<Part>,
    content: Content,
}

impl Region {
    pub(crate) fn twice(&self) -> Self {
        self.ring.table().take_handle(self.place);
        let Region { ref ring, place, ref pages, content } = *self;
        Region { ring: ring.clone(), place, pages: Arc::clone(pages), content }
    }

    pub(crate) fn queue(&self) -> Use {
        let owner = self.ring.table().owner(self.place);
        let (key, _) = self.ring.table().enlist(self.place, None);
        let Region { ref ring, place, content, .. } = *self;
        Use { ring: ring.clone(), place, key, owner, content, at: 0, references: Vec::new() }
    }

    /// Reads as a holder may at any time.
    pub(crate) fn read(&self) {
        assert_eq!(self.pages.read(), self.content, "a region has changed");
    }

    /// A slip: the same pages in other hands, without a count.
    pub(crate) fn uncounted(&self) -> Self {
        let Region { ref ring, place, ref pages, content } = *self;
        Region { ring: ring.clone(), place, pages: Arc::clone(pages), content }
    }

    pub(crate) fn drop(self) {
        let Region { ring, place, pages, .. } = self;
        let owner = ring.table().owner(place);
        ring.table().drop_handle(place, pages);
        ring.handle_cuttable(owner, true);
    }
}

/// The use of a region by one socket.
pub(crate) struct Use {
    pub(crate) ring: Ring,
    pub(crate) place: Place,
    pub(crate) key: usize,
    owner: Option<Connection>,
    pub(crate) content: Content,
    pub(crate) at: usize,
    pub(crate) references: Vec<Reference>,
}

/// What a call takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Taking {
    Copies,
    References,
}

impl Use {
    /// One call that takes `count` bytes. What is left, if it was cut loose.
    pub(crate) fn send(&mut self, count: usize, taking: Taking) -> Result<(), Rest> {
        let pages = match self.ring.table().pin(self.place, self.key) {
            Found::Pages(pages, at) => {
                assert_eq!(at, self.at);
                pages
            }
            Found::Gone => {
                let mut cuts = self.ring.inner.cuts.lock().unwrap();
                let is_ours = |cut: &(Place, usize, Rest)| (cut.0, cut.1) == (self.place, self.key);
                let found = cuts.iter().position(is_ours).expect("nobody has cut it loose");
                return Err(cuts.remove(found).2);
            }
        };
        assert_eq!(pages.read(), self.content, "a call reads other bytes");
        let by_reference = taking == Taking::References;
        if by_reference {
            self.references.push(pages.refer(self.content));
        }
        self.at += count;
        self.ring.table().unpin(self.place, self.key, pages, count, by_reference);
        self.ring.handle_cuttable(self.owner, self.at == LEN);
        Ok(())
    }

    /// The peer has acknowledged all; that is a proof for `connection`.
    pub(crate) fn handle_acked(mut self, connection: Connection) {
        for reference in &mut self.references {
            reference.look();
            reference.handle_acked(connection);
        }
        self.settle(Settled::Acked(connection));
    }

    /// The kernel has reported that it holds no more reference.
    pub(crate) fn handle_released(mut self) {
        self.references.drain(..).for_each(|reference| reference.look());
        self.settle(Settled::Released);
    }

    pub(crate) fn settle(self, settled: Settled) {
        let Use { ring, place, key, mut references, .. } = self;
        ring.inner.references.lock().unwrap().append(&mut references);
        ring.table().settle(place, key, settled);
    }
}
