//! The life of a connection, split by what it does.
//!
//! ```text
//!            ┌──────────────── idle ◄───────────────┐
//!            │ readable          │ expired, drained │ all answered
//!            ▼                   ▼                  │
//!        exchange ─ inbound   closed            outbound
//!            │      head, body    ▲                 ▲
//!            └── handler ─────────┼─ response ──────┘
//!                    last answer ─┴─ linger
//! ```
//! `inbound` turns received bytes into heads and bodies and knows no socket;
//! `outbound` turns a response into segments; `exchange` joins the two around
//! a handler, which it runs in `handling` with the `upload` that it asks for, or
//! refuses by `refusal`; `streamed` sends a body while it is made; where
//! somebody else moves it, `relayed` has the exchange and `onward` is what he sees
//! of the connection; `account` keeps what an observer is to be told of a request;
//! `linger` closes so that the client gets the last answer. An idle
//! connection holds none of their memory: this file's task waits, and boxes
//! the rest only while there is something to do.

mod account;
mod acks;
mod apart;
mod exchange;
mod handling;
mod inbound;
mod linger;
mod onward;
mod outbound;
mod refusal;
mod relayed;
mod streamed;
mod upload;

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::net::{SocketAddr, SocketAddrV4};
use std::ops::Deref;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::Poll;

use sluicegate::{Readiness, Socket, Timer};

use self::apart::Apart;
use self::exchange::Scratch;
use crate::handler::{Failure, Handler};
use crate::limits::Limits;
use crate::request::Endpoints;

/// Scratch memory that a thread keeps for reuse. More than so many connections
/// that are active on it at a time make and free their own.
const SCRATCH: usize = 64;

thread_local! {
    /// What the last active connections of this thread have left.
    #[expect(clippy::vec_box, reason = "moved in and out as a pointer: a scratch is a kilobyte")]
    static KEPT: RefCell<Vec<Box<Scratch>>> = const { RefCell::new(Vec::new()) };
}

fn take_scratch() -> Box<Scratch> {
    // A thread that is ending has none left.
    KEPT.try_with(|kept| kept.borrow_mut().pop()).ok().flatten().unwrap_or_default()
}

fn give_back(mut scratch: Box<Scratch>) {
    if scratch.reset() {
        let _ = KEPT.try_with(|kept| {
            let mut kept = kept.borrow_mut();
            if kept.len() < SCRATCH {
                kept.push(scratch);
            }
        });
    }
}

/// A handler and what its connections share.
#[derive(Debug)]
pub struct Service<H> {
    handler: H,
    limits: Limits,
    end: AtomicU8,
}

/// Every answer is the last of its connection.
const DRAINING: u8 = 1;
/// Connections that have nothing to answer close, too.
const CLOSING: u8 = 2;

impl<H: Handler> Service<H> {
    /// Serves with `handler` within `limits`.
    #[must_use]
    pub fn new(handler: H, limits: Limits) -> Self {
        Service { handler, limits, end: AtomicU8::new(0) }
    }

    /// The handler.
    #[must_use]
    pub fn handler(&self) -> &H {
        &self.handler
    }

    /// From now on every answer is the last of its connection. Idle
    /// connections stay open: see [`Service::close_idle`].
    pub fn drain(&self) {
        self.end.fetch_max(DRAINING, Ordering::Relaxed);
    }

    /// As [`Service::drain`], and idle connections close when they are next
    /// woken, if the client has sent nothing until then: see
    /// [`sluicegate::Reactor::wake_readers`], which a shared reactor has too.
    ///
    /// Who has only just connected finds its connection closed by this, before
    /// it could ask. Where another process goes on, that one has the next
    /// clients, and this can wait until the last ones here have had the time.
    pub fn close_idle(&self) {
        self.end.fetch_max(CLOSING, Ordering::Relaxed);
    }

    fn is_draining(&self) -> bool {
        self.end.load(Ordering::Relaxed) >= DRAINING
    }

    fn closes_idle(&self) -> bool {
        self.end.load(Ordering::Relaxed) >= CLOSING
    }
}

/// How a stretch of exchanges ended.
#[derive(Debug)]
enum Ending {
    /// All answered; the client may send more.
    Idle,
    /// Close: the client sends no more, or there is nothing to say to it.
    Close,
    /// The last answer is out: close once the client has it.
    Linger,
}

/// [`Endpoints`] in a quarter of their place, for as long as a connection is idle.
enum Ends {
    Unknown,
    V4(SocketAddrV4, SocketAddrV4),
    Other(Box<Endpoints>),
}

impl Ends {
    fn of(endpoints: Endpoints) -> Self {
        match (endpoints.peer, endpoints.local, endpoints.balanced) {
            (None, None, None) => Ends::Unknown,
            (Some(SocketAddr::V4(peer)), Some(SocketAddr::V4(local)), None) => {
                Ends::V4(peer, local)
            }
            _ => Ends::Other(Box::new(endpoints)),
        }
    }

    fn get(&self) -> Endpoints {
        match self {
            Ends::Unknown => Endpoints::default(),
            Ends::V4(peer, local) => {
                let (peer, local) = (Some((*peer).into()), Some((*local).into()));
                Endpoints { peer, local, balanced: None }
            }
            Ends::Other(endpoints) => **endpoints,
        }
    }
}

/// Serves one connection to its end.
///
/// `service` is shared: an `Rc` on one thread, an `Arc` among several.
pub fn serve<R, H, P>(socket: Socket<R>, service: P) -> impl Future<Output = ()>
where
    R: Readiness,
    H: Handler,
    P: Deref<Target = Service<H>>,
{
    serve_between(socket, Endpoints::default(), service)
}

/// As [`serve`], with its two ends told to the handler.
// Not an `async fn`: that would keep room for its arguments twice, as passed
// and as used, for as long as the connection is idle.
pub fn serve_between<R, H, P>(
    mut socket: Socket<R>,
    endpoints: Endpoints,
    service: P,
) -> impl Future<Output = ()>
where
    R: Readiness,
    H: Handler,
    P: Deref<Target = Service<H>>,
{
    let mut timer = socket.timer();
    let mut served = 0;
    let ends = Ends::of(endpoints);
    async move {
        loop {
            timer.set(Some(socket.now() + service.limits.timeouts.idle));
            let readable = poll_fn(|cx| {
                // The order matters: what the client has sent is still answered.
                if socket.poll_readable(cx).is_ready() {
                    return Poll::Ready(true);
                }
                timer.poll_expired(cx).map(|()| false)
            })
            .await;
            if !readable {
                return;
            }
            // Boxed, and freed before the next wait: this is what keeps an
            // idle connection small.
            let active = exchange::run(&mut socket, ends.get(), &*service, &mut timer, &mut served);
            match Box::pin(active).await {
                // Only after a look at what the client has sent: closing on an
                // unread request would reset the connection.
                Ok(Ending::Idle) if service.closes_idle() => return,
                Ok(Ending::Idle) => {}
                Ok(Ending::Close) => return,
                Ok(Ending::Linger) | Err(Failure::Offence(_)) => {
                    let patience = service.limits.timeouts.send;
                    return Apart::new(linger::linger(&mut socket, &mut timer, patience)).await;
                }
                Err(Failure::Receive(_)) => return,
                Err(
                    Failure::Unread
                    | Failure::Gone
                    | Failure::Send(_)
                    | Failure::Body(_)
                    | Failure::Upload(_)
                    | Failure::Relay(_)
                    | Failure::Cut,
                ) => return socket.abort(),
            }
        }
    }
}
