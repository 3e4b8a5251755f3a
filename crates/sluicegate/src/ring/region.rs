//! A partition that was written, and its use by a socket.

use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;

use bytes::Bytes;

use super::backing::Part;
use super::cut::Loose;
use super::slot::{Found, Settled};
use super::table::Place;
use super::{Alarm, Connection, Ring, Stragglers};
use crate::strategy::Way;

/// What was published of a partition: to be queued to one or many sockets. Its
/// clones are the same bytes; as long as there is one the partition stays what it
/// is, and no straggler is cut loose from it: drop it before you wait for the next.
#[derive(Debug)]
pub struct Region {
    ring: Ring,
    place: Place,
    /// There until it is dropped.
    pages: Option<Arc<Part>>,
    len: usize,
}

impl Region {
    pub(super) fn new(ring: Ring, place: Place, pages: Arc<Part>, len: usize) -> Self {
        Region { ring, place, pages: Some(pages), len }
    }

    /// Bytes of it.
    #[must_use]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Which content of the ring it is ([`super::Lease::version`]).
    #[must_use]
    pub fn version(&self) -> u64 {
        self.place.version
    }

    /// Whom it was leased for; anybody if `None`.
    #[must_use]
    pub fn owner(&self) -> Option<Connection> {
        self.ring.inner.table.owner(self.place)
    }

    /// Makes a use of it by a socket, and tells to how many it was queued
    /// before; `None` where it was leased for another connection.
    /// `alarm` rings when it is cut loose.
    pub(crate) fn enlist(
        &self,
        connection: Option<Connection>,
        alarm: Option<&Arc<Alarm>>,
    ) -> Option<(RegionUse, usize)> {
        let owner = self.owner();
        if owner.is_some() && owner != connection {
            return None;
        }
        let (key, before) = self.ring.inner.table.enlist(self.place, alarm.cloned());
        if owner.is_none() {
            self.ring.inner.crowd.handle_queued(self.place.version);
        }
        let used = RegionUse {
            ring: self.ring.clone(),
            place: self.place,
            key,
            len: self.len,
            at: 0,
            ways: Ways::default(),
            owner,
            is_over: false,
        };
        Some((used, before))
    }

    /// Whether it goes by reference to a socket of which nothing is known, after
    /// it was queued to so many before.
    pub(crate) fn fans_out(&self, sockets_before: usize) -> bool {
        self.ring.fans_out(sockets_before)
    }

    /// Whether it may be taken from its sockets.
    pub(crate) fn can_be_cut(&self) -> bool {
        self.ring.inner.stragglers != Stragglers::Wait
    }

    /// Whether its pages can be replaced.
    pub(crate) fn is_replaceable(&self) -> bool {
        self.ring.is_replaceable()
    }
}

impl AsRef<[u8]> for Region {
    fn as_ref(&self) -> &[u8] {
        let pages = self.pages.as_ref().map(|part| part.pages().as_ref());
        pages.and_then(|bytes| bytes.get(..self.len)).unwrap_or_default()
    }
}

impl Clone for Region {
    fn clone(&self) -> Self {
        self.ring.inner.table.take_handle(self.place);
        Region {
            ring: self.ring.clone(),
            place: self.place,
            pages: self.pages.clone(),
            len: self.len,
        }
    }
}

impl Drop for Region {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            let owner = self.owner();
            self.ring.inner.table.drop_handle(self.place, pages);
            // Whether it is accepted, who looks finds out.
            self.ring.handle_cuttable(owner, true);
        }
    }
}

/// In which ways bytes of a use were accepted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Ways {
    /// From the file's pages: an acknowledgement or fresh pages free them.
    pub(crate) sendfile: bool,
    /// By MSG_ZEROCOPY: the kernel reports it.
    pub(crate) zerocopy: bool,
}

/// The use of a region by one socket, from the queue to its proof. Dropped
/// without one, the partition gets fresh pages before it is written to, or is
/// quarantined.
#[derive(Debug)]
pub struct RegionUse {
    ring: Ring,
    place: Place,
    key: usize,
    len: usize,
    /// Bytes that were accepted.
    at: usize,
    ways: Ways,
    /// The region is for this connection alone, if for one.
    owner: Option<Connection>,
    is_over: bool,
}

/// What a socket finds of its region.
#[derive(Debug)]
pub enum Held<'u> {
    /// The pages, for one call.
    Pages(Pinned<'u>),
    /// What is left of it was copied aside, from the first byte that was not
    /// sent on.
    Copied(Bytes),
    /// It was cut loose, and nothing is left.
    Lost,
}

impl RegionUse {
    /// Bytes that were accepted.
    pub(crate) fn at(&self) -> usize {
        self.at
    }

    /// Bytes that were not accepted.
    #[must_use]
    pub fn left(&self) -> usize {
        self.len - self.at
    }

    pub(crate) fn ways(&self) -> Ways {
        self.ways
    }

    /// Whether its partition is never written again.
    pub(crate) fn is_last(&self) -> bool {
        self.ring.is_retired()
    }

    /// Whether an acknowledgement can be its proof.
    pub(crate) fn is_owned(&self) -> bool {
        self.owner.is_some()
    }

    /// The pages, for one call that reads them.
    pub(crate) fn pin(&mut self) -> Held<'_> {
        match self.ring.inner.table.pin(self.place, self.key) {
            Found::Pages(pages, at) => {
                debug_assert_eq!(at, self.at);
                Held::Pages(Pinned { used: self, pages: Some(pages) })
            }
            Found::Gone => {
                self.is_over = true;
                match self.ring.inner.cut_loose.take(self.place, self.key) {
                    Some(Loose::Copied(bytes)) => Held::Copied(bytes),
                    Some(Loose::Aborted) | None => Held::Lost,
                }
            }
        }
    }

    /// Ends the use with what is known of it.
    pub(crate) fn settle(mut self, settled: Settled) {
        self.end(settled);
    }

    fn end(&mut self, settled: Settled) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        self.ring.inner.table.settle(self.place, self.key, settled);
        self.ring.inner.cut_loose.forget(self.place, self.key);
    }
}

impl Drop for RegionUse {
    fn drop(&mut self) {
        let is_referenced = self.ways.sendfile || self.ways.zerocopy;
        self.end(match is_referenced {
            true => Settled::Unproven,
            false if self.at > 0 => Settled::Copied,
            false => Settled::Unsent,
        });
    }
}

/// The pages of a region during one call.
#[derive(Debug)]
pub struct Pinned<'u> {
    used: &'u mut RegionUse,
    /// There until the call is over.
    pages: Option<Arc<Part>>,
}

impl Pinned<'_> {
    fn part(&self) -> &Part {
        match &self.pages {
            Some(part) => part,
            None => unreachable!("the pages are given back when the call is over"),
        }
    }

    /// The first `len` bytes that were not sent.
    #[must_use]
    pub fn bytes(&self, len: usize) -> &[u8] {
        let at = self.used.at;
        let end = self.used.len.min(at.saturating_add(len));
        self.part().pages().as_ref().get(at..end).unwrap_or_default()
    }

    /// Sends at most `len` of them to `socket` by reference.
    ///
    /// # Errors
    /// As `sendfile(2)`.
    pub fn sendfile(&self, socket: BorrowedFd<'_>, len: usize) -> io::Result<usize> {
        let len = len.min(self.used.left());
        self.part().pages().sendfile(socket, self.used.at, len)
    }

    /// The call took `count` bytes by `way`.
    pub fn accepted(mut self, way: Way, count: usize) {
        self.used.ring.inner.counts.handle_accepted(way, count);
        self.unpin(way, count);
    }

    fn unpin(&mut self, way: Way, count: usize) {
        let Some(pages) = self.pages.take() else { return };
        let used = &mut *self.used;
        let count = count.min(used.left());
        let by_reference = way != Way::Copy;
        used.ring.inner.table.unpin(used.place, used.key, pages, count, by_reference);
        used.at += count;
        if count > 0 {
            used.ways.sendfile |= matches!(way, Way::Sendfile | Way::Splice);
            used.ways.zerocopy |= way == Way::Zerocopy;
        }
        // Also a call that took nothing may have been in somebody's way.
        used.ring.handle_cuttable(used.owner, used.left() == 0);
    }
}

impl Drop for Pinned<'_> {
    /// The call took nothing.
    fn drop(&mut self) {
        self.unpin(Way::Copy, 0);
    }
}
