//! Connections of a load balancer that begin by telling whose they are.

use std::future::poll_fn;
use std::io;
use std::task::Poll;
use std::time::Duration;

use sluicegate::{Registration, Socket, Timer};
use sluicegate_http::Endpoints;
use thiserror::Error;

use super::canonical;
use super::shutdown::Shutdown;
use crate::gateway::proxy_protocol::{Header, HeaderError, LONGEST};

/// Why a connection is not served.
#[derive(Debug, Error)]
pub(super) enum Stranger {
    #[error(transparent)]
    Header(#[from] HeaderError),
    /// Its header, or the rest of it, did not come in time.
    #[error("its PROXY header does not come")]
    Late,
    #[error("it ended within its PROXY header")]
    Ended,
    #[error("receiving: {0}")]
    Receive(#[from] io::Error),
    /// It has said nothing at all: somebody looked whether we are here, or we are
    /// about to end.
    #[error("it says nothing")]
    Silent,
}

/// Reads the header that the connection begins with, and no byte more: the two ends
/// as it names them.
pub(super) async fn introduced(
    socket: &mut Socket<Registration>,
    own: Endpoints,
    patience: Duration,
    shutdown: &Shutdown,
) -> Result<Endpoints, Stranger> {
    let mut timer = socket.timer();
    timer.set(Some(socket.now() + patience));
    // Most headers are short; room for the longest is made where one begins so.
    let mut seen = Vec::with_capacity(256);
    loop {
        let before = seen.len();
        if before == seen.capacity() {
            seen.reserve_exact(LONGEST + 1);
        }
        let looked = poll_fn(|cx| {
            if let Poll::Ready(looked) = socket.poll_peek(cx, &mut seen, before) {
                return Poll::Ready(looked.map_err(Stranger::Receive));
            }
            if timer.poll_expired(cx).is_ready() {
                return Poll::Ready(Err(Stranger::Late));
            }
            let silent = if before == 0 { Stranger::Silent } else { Stranger::Ended };
            shutdown.poll_begun(cx).map(|()| Err(silent))
        })
        .await;
        looked?;
        if let Some(header) = Header::parse(&seen)? {
            socket.take_peeked(header.len)?;
            return Ok(match header.ends {
                Some((peer, local)) => Endpoints {
                    peer: Some(canonical(peer)),
                    local: Some(canonical(local)),
                    balanced: own.local,
                },
                None => own,
            });
        }
        match seen.len() {
            0 => return Err(Stranger::Silent),
            same if same == before => return Err(Stranger::Ended),
            _ => {}
        }
    }
}
