//! Memory of requests under way, kept from one to the next.

use std::cell::RefCell;
use std::ops::{Deref, DerefMut};
use std::rc::Rc;

use sluicegate::{Readiness, Registration, Timer};
use sluicegate_http::client::ResponseHead;

/// More than so many at a time make and free their own.
const KEPT: usize = 64;

/// What is received of an answer before anybody knows what it is. An answer of up
/// to so much is passed on from here, with one call for all of it.
pub(super) const INPUT: usize = 16 * 1024;

/// Memory for one request.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    /// The request's head as it is sent.
    pub(super) out: Vec<u8>,
    /// What was received of the answer.
    pub(super) input: Vec<u8>,
    pub(super) head: ResponseHead,
    /// A deadline that moves from request to request is a store; a timer for each
    /// would be more.
    pub(super) timer: Option<<Registration as Readiness>::Timer>,
}

impl Scratch {
    #[cold]
    fn boxed() -> Box<Self> {
        Box::default()
    }
}

/// What the last requests of a worker have left.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratches {
    #[expect(clippy::vec_box, reason = "moved in and out as a pointer")]
    kept: Rc<RefCell<Vec<Box<Scratch>>>>,
}

/// A scratch on loan.
#[derive(Debug)]
pub(super) struct Lent {
    /// There until it is dropped.
    scratch: Option<Box<Scratch>>,
    from: Scratches,
}

impl Scratches {
    pub(super) fn take(&self) -> Lent {
        let kept = self.kept.borrow_mut().pop();
        let scratch = kept.unwrap_or_else(Scratch::boxed);
        Lent { scratch: Some(scratch), from: self.clone() }
    }

    /// Room for a request's head that leaves at once; `write` takes no scratch.
    pub(super) fn with_out<T>(&self, write: impl FnOnce(&mut Vec<u8>) -> T) -> T {
        let mut kept = self.kept.borrow_mut();
        if kept.is_empty() {
            kept.push(Scratch::boxed());
        }
        let mut none = Vec::new();
        let out = kept.last_mut().map_or(&mut none, |scratch| &mut scratch.out);
        // What a request that panicked has left is not the beginning of the next.
        out.clear();
        let written = write(out);
        out.clear();
        written
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        let Some(mut scratch) = self.scratch.take() else { return };
        if let Some(timer) = &mut scratch.timer {
            timer.set(None);
        }
        let mut kept = self.from.kept.borrow_mut();
        // A head of the largest kind is too rare to keep room for.
        if kept.len() < KEPT && scratch.input.capacity() <= 2 * INPUT {
            scratch.out.clear();
            scratch.input.clear();
            kept.push(scratch);
        }
    }
}

impl Deref for Lent {
    type Target = Scratch;

    fn deref(&self) -> &Scratch {
        match &self.scratch {
            Some(scratch) => scratch,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Scratch {
        match &mut self.scratch {
            Some(scratch) => scratch,
            None => unreachable!("it is there until it is dropped"),
        }
    }
}
