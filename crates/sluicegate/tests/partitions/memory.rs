//! Pages, and the kernel's references to them, of which this process's counts
//! know nothing.

use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering::Relaxed};

use crate::ring::Connection;
use crate::ring::table::{Memory, Replaced};

/// What stands in a page: a version, and whom it was written for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) version: u64,
    pub(crate) owner: Option<Connection>,
}

impl Content {
    fn number(self) -> u64 {
        self.version * 256 + self.owner.map_or(0, |Connection(number)| u64::from(number))
    }

    fn of(number: u64) -> Self {
        let owner = u8::try_from(number % 256).unwrap();
        let owner = (owner != 0).then_some(Connection(owner));
        Content { version: number / 256, owner }
    }
}

/// A page. Nothing but the partition's own lock orders who writes it and who
/// reads it, so that what no lock orders, loom reorders.
#[derive(Debug)]
struct Page(AtomicU64);

/// A partition's memory.
#[derive(Debug)]
pub(crate) struct Part {
    page: Arc<Page>,
    is_replaceable: bool,
}

impl Memory for Part {
    fn replace(&mut self) -> Replaced {
        if !self.is_replaceable {
            return Replaced::Never;
        }
        self.page = Arc::new(Page(AtomicU64::new(0)));
        Replaced::Done
    }
}

impl Part {
    pub(crate) fn new(is_replaceable: bool) -> Self {
        Part { page: Arc::new(Page(AtomicU64::new(0))), is_replaceable }
    }

    /// As all that writes, it takes pages that nobody of this process shares.
    pub(crate) fn write(&mut self, content: Content) {
        self.page.0.store(content.number(), Relaxed);
    }

    pub(crate) fn read(&self) -> Content {
        Content::of(self.page.0.load(Relaxed))
    }

    /// A call took `content`, by reference.
    pub(crate) fn refer(&self, content: Content) -> Reference {
        Reference { page: Arc::clone(&self.page), content, acked: None }
    }
}

/// A reference of the kernel's to a page.
#[derive(Debug)]
pub(crate) struct Reference {
    page: Arc<Page>,
    /// What was accepted.
    content: Content,
    /// Whose peer has acknowledged it. A packet of it may still wait in a queue
    /// of ours, to that peer.
    acked: Option<Connection>,
}

impl Reference {
    pub(crate) fn handle_acked(&mut self, connection: Connection) {
        self.acked = Some(connection);
    }

    /// Whether what was accepted is still there.
    pub(crate) fn is_unchanged(&self) -> bool {
        Content::of(self.page.0.load(Relaxed)) == self.content
    }

    /// The kernel sends from the page now. Until it is acknowledged, what was
    /// accepted; after that, nobody's bytes but the same connection's. A page
    /// that was wrong once stays so: looking late misses nothing.
    pub(crate) fn look(&self) {
        let found = Content::of(self.page.0.load(Relaxed));
        match self.acked {
            None => assert_eq!(found, self.content, "accepted bytes have changed"),
            Some(connection) => {
                let is_its_own = found.owner == Some(connection);
                assert!(is_its_own, "{found:?} leaves on the wire of {connection:?}");
            }
        }
    }
}
