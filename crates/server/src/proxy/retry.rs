//! Whether another server may be asked for what one has not answered.

use sluicegate::Position;
use sluicegate_http::Method;

use super::held::Held;
use super::trouble::Trouble;

/// How a request failed on one connection.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) trouble: Trouble,
    /// The kernel accepted bytes of the request: the server may have acted on it.
    pub(super) was_sent: bool,
    /// A byte of an answer came.
    pub(super) has_answered: bool,
    /// The connection had served another request before.
    pub(super) was_reused: bool,
}

impl Failed {
    /// On a connection that had sent until `before`; the server is told of it where it is
    /// to blame.
    pub(super) fn of(
        trouble: Trouble,
        held: &mut Held,
        before: Position,
        has_answered: bool,
    ) -> Self {
        let upstream = held.get();
        let after = upstream.as_ref().map(|upstream| upstream.socket.accepted_position());
        let was_sent = after.is_none_or(|after| after > before);
        let was_reused = upstream.as_ref().is_some_and(|upstream| upstream.reused);
        let failed = Failed { trouble, was_sent, has_answered, was_reused };
        if failed.trouble.is_upstreams()
            && !failed.is_stale()
            && let Some(upstream) = upstream
        {
            upstream.failed();
        }
        failed
    }

    /// The server may just have closed a connection that was idle: that says nothing of it.
    pub(super) fn is_stale(&self) -> bool {
        self.was_reused
            && !self.has_answered
            && matches!(self.trouble, Trouble::Closed | Trouble::Broken(_))
    }

    /// Whether the same request may be sent again, to this server or another.
    ///
    /// RFC 9110 section 9.2.2: a proxy MUST NOT retry what is not idempotent by
    /// itself; what was never sent is no retry. `can_repeat`: all of the request's
    /// body that was taken from the client is still here.
    pub(super) fn may_be_repeated(&self, method: Method, can_repeat: bool) -> bool {
        // A server that is slow is not helped by a second one that does the same.
        let is_cut = matches!(self.trouble, Trouble::Closed | Trouble::Broken(_));
        is_cut && can_repeat && !self.has_answered && (!self.was_sent || is_idempotent(method))
    }
}

/// RFC 9110 section 9.2.2.
fn is_idempotent(method: Method) -> bool {
    matches!(
        method,
        Method::Get | Method::Head | Method::Put | Method::Delete | Method::Options | Method::Trace
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_cannot_have_been_done_or_may_be_done_twice_is_asked_again() {
        let failed = |trouble, was_sent, has_answered| Failed {
            trouble,
            was_sent,
            has_answered,
            was_reused: false,
        };
        let closed = |was_sent, has_answered| failed(Trouble::Closed, was_sent, has_answered);
        for method in [Method::Get, Method::Head, Method::Put, Method::Delete, Method::Options] {
            assert!(closed(true, false).may_be_repeated(method, true), "{method:?}");
        }
        for method in [Method::Post, Method::Patch, Method::Connect, Method::Other] {
            assert!(!closed(true, false).may_be_repeated(method, true), "{method:?}");
            assert!(closed(false, false).may_be_repeated(method, true), "{method:?}: never sent");
        }
        assert!(!closed(true, true).may_be_repeated(Method::Get, true), "it had begun to answer");
        assert!(!closed(false, false).may_be_repeated(Method::Get, false), "its body is gone");
        assert!(!failed(Trouble::HeadTimeout, true, false).may_be_repeated(Method::Get, true));
    }
}
