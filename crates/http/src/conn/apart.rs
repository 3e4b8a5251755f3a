//! What is rare, out of the way of what is not.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A future in memory of its own, whose code is not part of that which awaits it: a request that
/// has no use for it then goes through fewer lines of the processor's cache.
#[must_use]
pub(super) struct Apart<F>(Pin<Box<F>>);

impl<F: Future> Apart<F> {
    #[cold]
    #[inline(never)]
    pub(super) fn new(future: F) -> Self {
        Apart(Box::pin(future))
    }
}

impl<F: Future> Future for Apart<F> {
    type Output = F::Output;

    #[inline(never)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.0.as_mut().poll(cx)
    }
}
