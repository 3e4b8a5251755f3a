//! How sure it is that what was read of a file is one version of it.
//!
//! A write sets a file's times when it begins, and a reader can see a part of
//! it; writes through a shared mapping set them at their first page. And where
//! clocks are coarse, two writes within one tick (at most 10 ms) leave the same
//! times. So content that was read shortly after a change may be of two
//! versions with the stamp of the new one, and no later stamp will ever tell.

use std::time::{Duration, SystemTime};

use sluicegate::file::Stamp;

/// How long before it was read a file had changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Age {
    /// A moment: a write may be under way. Its content is not kept, nothing is
    /// said by which somebody could take another version for it, and an open
    /// file is opened anew at the next look.
    Fresh,
    /// Not long: it is read again at the next look.
    Young,
    /// Long enough.
    Settled,
}

/// Longer than a tick of any kernel's clock, and than most writes take.
const MOMENT: Duration = Duration::from_millis(100);

/// Longer than a write takes on all but the slowest disks.
const WHILE: Duration = Duration::from_secs(2);

impl Age {
    /// The age at `now` of what was read in the version `stamp`.
    pub(super) fn of(stamp: &Stamp, now: SystemTime) -> Self {
        let (seconds, nanos) = stamp.changed;
        let Ok(seconds) = u64::try_from(seconds) else {
            return Age::Settled;
        };
        let changed = SystemTime::UNIX_EPOCH.checked_add(Duration::new(seconds, nanos));
        // Nobody can set a change time: one in the future is of a clock that is
        // ahead, or was, and tells nothing.
        match changed.and_then(|changed| now.duration_since(changed).ok()) {
            None => Age::Fresh,
            Some(since) if since <= MOMENT => Age::Fresh,
            Some(since) if since <= WHILE => Age::Young,
            Some(_) => Age::Settled,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate::file::Kind;

    #[test]
    fn what_changed_a_moment_ago_is_not_settled() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (changed, expected) in [
            ((999, 950_000_000), Age::Fresh),
            ((1000, 0), Age::Fresh),
            ((999, 899_999_999), Age::Young),
            ((998, 0), Age::Young),
            ((997, 999_999_999), Age::Settled),
            ((0, 0), Age::Settled),
            ((-1, 0), Age::Settled),
            ((1001, 0), Age::Fresh),
            ((i64::MAX, 999_999_999), Age::Fresh),
        ] {
            let stamp = Stamp {
                kind: Kind::Regular,
                len: 0,
                inode: (0, 0),
                modified: changed,
                changed,
                links: 1,
            };
            assert_eq!(Age::of(&stamp, now), expected, "{changed:?}");
        }
    }
}
