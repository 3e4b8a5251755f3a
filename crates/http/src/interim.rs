//! Interim answers (1xx), which go before the answer. RFC 9110 section 15.2.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use crate::encode;
use crate::response::Fields;

/// Bytes of interim answers of one request that may wait for the connection's
/// task. What is more is not sent: nobody has to get them.
const WAITING: usize = 16 * 1024;

/// The request is one of HTTP/1.1 and not answered yet.
const OPEN: u8 = 1;
/// The client waits for `100 Continue`.
const WAITS: u8 = 2;
/// Something is to be sent.
const SOME: u8 = 4;

/// Where a handler leaves interim answers to its request. RFC 9110 section 15.2.
#[derive(Clone, Debug, Default)]
pub struct Interim {
    /// None: there is no request.
    shared: Option<Arc<Shared>>,
}

#[derive(Debug, Default)]
struct Shared {
    /// What a look is cheap at: nearly no request has an interim answer.
    flags: AtomicU8,
    waiting: Mutex<Waiting>,
}

#[derive(Debug, Default)]
struct Waiting {
    /// As they are sent.
    heads: Vec<u8>,
    /// Where to find the connection's task.
    connection: Option<Waker>,
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self) -> Vec<u8> {
        let mut waiting = self.waiting();
        self.flags.fetch_and(!SOME, Ordering::Relaxed);
        std::mem::take(&mut waiting.heads)
    }

    #[inline]
    fn has(&self, flag: u8) -> bool {
        self.flags.load(Ordering::Acquire) & flag != 0
    }
}

impl Interim {
    /// Sends an interim answer, as soon as the client takes it; it leaves at once,
    /// while the handler makes its answer. Nothing is sent to HTTP/1.0 clients
    /// (RFC 9110 section 15.2), nor once the request is answered, nor with another status
    /// than 100, 102 to 199: 101 is [`crate::Response::upgrade`]. Of 100 only the first is
    /// sent, and only if the client waits for it; reading the body sends it as well.
    pub fn send(&self, status: u16, fields: &Fields) {
        let Some(shared) = &self.shared else { return };
        let may = match status {
            100 => self.take_wait(),
            102..=199 => shared.has(OPEN),
            _ => false,
        };
        if !may {
            return;
        }
        let connection = {
            let mut waiting = shared.waiting();
            if waiting.heads.len() + fields.as_bytes().len() > WAITING {
                return;
            }
            encode::interim(&mut waiting.heads, status, fields.as_bytes());
            shared.flags.fetch_or(SOME, Ordering::Release);
            waiting.connection.take()
        };
        if let Some(connection) = connection {
            connection.wake();
        }
    }

    /// Opens the engine's end for a request, of which `handed` is the handler's.
    /// What others have kept of an older one is of no effect any more.
    #[inline]
    pub(crate) fn begin(&mut self, handed: &mut Interim, is_http11: bool, waits: bool) {
        let flags = if is_http11 { OPEN | if waits { WAITS } else { 0 } } else { 0 };
        if let (Some(ours), Some(theirs)) = (&self.shared, &handed.shared)
            && Arc::ptr_eq(ours, theirs)
            && Arc::strong_count(ours) == 2
            && ours.flags.load(Ordering::Relaxed) & SOME == 0
        {
            ours.flags.store(flags, Ordering::Relaxed);
            return;
        }
        self.begin_anew(handed, flags);
    }

    fn begin_anew(&mut self, handed: &mut Interim, flags: u8) {
        let shared = Arc::new(Shared { flags: flags.into(), ..Shared::default() });
        *handed = Interim { shared: Some(Arc::clone(&shared)) };
        self.shared = Some(shared);
    }

    /// Whether the client waits for `100 Continue` and was not sent it.
    pub(crate) fn waits(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.has(WAITS))
    }

    /// As [`Interim::waits`]; whoever is told so sends it, once.
    pub(crate) fn take_wait(&self) -> bool {
        self.shared
            .as_ref()
            .is_some_and(|shared| shared.flags.fetch_and(!WAITS, Ordering::AcqRel) & WAITS != 0)
    }

    /// What is to be sent.
    #[inline]
    pub(crate) fn take(&self) -> Option<Vec<u8>> {
        let shared = self.shared.as_ref()?;
        if shared.has(SOME) { Some(shared.take()) } else { None }
    }

    /// The connection's task sleeps: somebody else may have to wake it. False where
    /// something was left meanwhile.
    pub(crate) fn sleep(&self, cx: &mut Context<'_>) -> bool {
        let Some(shared) = &self.shared else { return true };
        // The handler itself runs in this task, unless it has given its end away.
        if Arc::strong_count(shared) == 2 {
            return true;
        }
        let mut waiting = shared.waiting();
        let is_known = waiting.connection.as_ref().is_some_and(|known| known.will_wake(cx.waker()));
        if !is_known {
            waiting.connection = Some(cx.waker().clone());
        }
        !shared.has(SOME)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_outlives_its_request_sends_nothing_into_the_next() {
        let (mut ours, mut handed) = (Interim::default(), Interim::default());
        handed.send(103, &Fields::default());
        assert_eq!(ours.take(), None);
        ours.begin(&mut handed, true, false);
        let kept = handed.clone();
        handed.send(103, &Fields::default());
        assert_eq!(ours.take().unwrap(), b"HTTP/1.1 103 Early Hints\r\n\r\n");
        ours.begin(&mut handed, true, true);
        kept.send(103, &Fields::default());
        kept.send(100, &Fields::default());
        assert_eq!(ours.take(), None);
        assert!(ours.waits());
    }

    #[test]
    fn of_100_the_first_goes_and_only_to_who_waits_and_of_101_none() {
        let (mut ours, mut handed) = (Interim::default(), Interim::default());
        ours.begin(&mut handed, true, false);
        for status in [0, 99, 100, 101, 200, 999] {
            handed.send(status, &Fields::default());
        }
        assert_eq!(ours.take(), None);
        ours.begin(&mut handed, true, true);
        handed.send(100, &Fields::default());
        handed.send(100, &Fields::default());
        assert!(!ours.waits());
        assert_eq!(ours.take().unwrap(), b"HTTP/1.1 100 Continue\r\n\r\n");
        // RFC 9110 section 15.2: none to HTTP/1.0.
        ours.begin(&mut handed, false, true);
        handed.send(100, &Fields::default());
        handed.send(102, &Fields::default());
        assert_eq!(ours.take(), None);
    }

    #[test]
    fn what_waits_is_bounded() {
        let (mut ours, mut handed) = (Interim::default(), Interim::default());
        ours.begin(&mut handed, true, false);
        let mut fields = Fields::default();
        fields.add("Link", "x".repeat(1000)).unwrap();
        for _ in 0..1000 {
            handed.send(103, &fields);
        }
        assert!(ours.take().unwrap().len() < 2 * WAITING);
    }
}
