//! Descriptors that are kept for the admin server.

use std::cell::RefCell;
use std::fs::File;

/// So many connections are accepted when the process has no descriptor left.
const SPARE: usize = 4;

/// Descriptors of nothing, let go of one by one when there are no others.
///
/// A worker that also waits for one may get it first; the next try is then for
/// the next one.
#[derive(Debug, Default)]
pub(super) struct Spare {
    files: RefCell<Vec<File>>,
}

impl Spare {
    /// As many as can be had.
    pub(super) fn new() -> Self {
        let spare = Spare::default();
        spare.refill();
        spare
    }

    /// Frees a descriptor; false when there is none to free.
    pub(super) fn let_go(&self) -> bool {
        self.files.borrow_mut().pop().is_some()
    }

    /// Takes back what was let go of, as far as that is possible.
    pub(super) fn refill(&self) {
        let mut files = self.files.borrow_mut();
        while files.len() < SPARE {
            let Ok(file) = File::open("/dev/null") else { return };
            files.push(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_let_go_of_is_taken_back() {
        let spare = Spare::new();
        assert_eq!((0..10).filter(|_| spare.let_go()).count(), SPARE);
        assert!(!spare.let_go());
        spare.refill();
        assert!(spare.let_go());
    }
}
