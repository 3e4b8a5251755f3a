//! A partition that is being written.

use std::io::{self, Write};
use std::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::backing::Part;
use super::table::{Place, Taken};
use super::{Region, Ring};

/// A partition of a [`Ring`] that is this holder's to write. Dropped, it goes
/// back as it was: nobody sees what was written.
///
/// As a slice it is the whole partition, with whatever it had before. As
/// [`Write`] it is filled from its start, by `pwrite(2)` where its pages are
/// missing, which costs half of writing them through the slice.
#[derive(Debug)]
pub struct Lease {
    ring: Ring,
    place: Place,
    before: u64,
    /// There until it is published or dropped. Nobody else has it meanwhile.
    pages: Option<Arc<Part>>,
    /// Bytes that were written by [`Write`].
    written: usize,
}

impl Lease {
    pub(super) fn new(ring: Ring, taken: Taken<Part>) -> Self {
        let Taken { place, before, pages, .. } = taken;
        Lease { ring, place, before, pages: Some(pages), written: 0 }
    }

    /// Which content of the ring this will be: one more with each lease.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.place.version
    }

    /// Bytes that were written by [`Write`] so far.
    #[must_use]
    pub fn written(&self) -> usize {
        self.written
    }

    /// Bytes that [`Write`] still takes.
    #[must_use]
    pub fn room(&self) -> usize {
        self.len() - self.written
    }

    /// Makes a region of the first `len` bytes, of all if there are fewer.
    #[must_use]
    pub fn publish(mut self, len: usize) -> Region {
        let len = len.min(self.ring.partition_len());
        let written = self.written;
        self.part_mut().written(written);
        let Some(pages) = self.pages.take() else {
            unreachable!("the pages are taken here, and when the lease is dropped");
        };
        self.ring.inner.table.publish(self.place, Arc::clone(&pages), len);
        Region::new(self.ring.clone(), self.place, pages, len)
    }

    /// As [`Lease::publish`], of what was written by [`Write`].
    #[must_use]
    pub fn publish_written(self) -> Region {
        let written = self.written;
        self.publish(written)
    }

    fn part(&self) -> &Part {
        match &self.pages {
            Some(pages) => pages,
            None => unreachable!("the pages are taken with the lease"),
        }
    }

    fn part_mut(&mut self) -> &mut Part {
        match self.pages.as_mut().and_then(Arc::get_mut) {
            Some(part) => part,
            None => unreachable!("leased pages are in one place, and taken with the lease"),
        }
    }
}

impl Deref for Lease {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.part().pages().as_ref()
    }
}

impl DerefMut for Lease {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.part_mut().bytes_mut()
    }
}

impl AsMut<[u8]> for Lease {
    fn as_mut(&mut self) -> &mut [u8] {
        self
    }
}

impl Write for Lease {
    /// Takes what there is room for; 0 when the partition is full.
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(self.room());
        let at = self.written;
        self.part_mut().write_at(at, &bytes[..count])?;
        self.written += count;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if let Some(pages) = self.pages.take() {
            self.ring.inner.counts.handle_revert();
            self.ring.inner.table.revert(self.place, pages, self.before);
        }
    }
}
