//! Addresses that are listened on, from their binding to their end.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use sluicegate::{SocketLimits, Unsent, os};

use super::inherit::{For, Inherited, covers};
use super::shutdown::Shutdown;
use crate::log::tell;

/// A listening socket, which the workers share.
#[derive(Debug)]
pub(super) struct Bound {
    pub(super) socket: Arc<OwnedFd>,
    /// What was asked for; its port may be 0.
    wanted: SocketAddr,
    /// What it is bound to.
    pub(super) address: SocketAddr,
    /// A service manager opened it and keeps it open: what nobody accepted
    /// there would wait for ever.
    pub(super) is_activated: bool,
    /// Nothing more is to be accepted, but for what is in its queue.
    pub(super) end: Shutdown,
}

impl Bound {
    pub(super) fn new(
        socket: Arc<OwnedFd>,
        wanted: SocketAddr,
        is_activated: bool,
    ) -> io::Result<Self> {
        // Its connections inherit them.
        at_first().apply(socket.as_fd())?;
        let address = os::local_address(&socket)?.ok_or(io::ErrorKind::Unsupported)?;
        Ok(Bound { socket, wanted, address, is_activated, end: Shutdown::default() })
    }

    /// Whether it takes what comes to `address`, as a configuration has it.
    fn serves(&self, address: SocketAddr) -> bool {
        let is_ipv6_only = || os::inherit::is_ipv6_only(self.socket.as_fd()).unwrap_or(true);
        self.wanted == address
            || (address.port() != 0 && covers(self.address, address, is_ipv6_only))
    }
}

/// What a connection may hold of the kernel from the start.
///
/// Unsent bytes: as a slow client; a fast one gets more once it has shown that
/// it is (`SendContext::unsent`). Time: the send timeout (`Limits::send`) gives
/// a client up that acknowledges nothing while it is served; this is for what
/// is left behind when its connection was closed with bytes under way.
fn at_first() -> SocketLimits {
    SocketLimits {
        unsent: Some(Unsent::default().slow),
        send_buffer: None,
        unacknowledged: Some(Duration::from_secs(120)),
    }
}

/// What is known of this process when an address is to be listened on.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Situation<'a> {
    /// What operators look at is at it.
    pub(super) admin: Option<&'a Arc<Bound>>,
    /// It began as another user, who may have been allowed more.
    pub(super) has_become_user: bool,
}

/// Listens on `address`, with an inherited socket if there is one. On those of
/// `open_already` this process listens.
pub(super) fn open(
    address: SocketAddr,
    whom: For,
    open_already: &[Arc<Bound>],
    inherited: &mut Inherited,
    situation: Situation<'_>,
) -> Result<Bound> {
    let bound = match inherited.claim(address, whom) {
        Ok(Some(bound)) => Ok(bound),
        Ok(None) => {
            sluicegate::listen(address).and_then(|socket| Bound::new(socket, address, false))
        }
        Err(error) => Err(error),
    };
    bound.map_err(|error| {
        let hint = match error.kind() {
            io::ErrorKind::AddrInUse => {
                let mut ours = open_already.iter().chain(situation.admin);
                let ours = ours.find(|bound| overlap(bound.address, address, &bound.socket));
                let ours = ours.map(|bound| bound.address);
                match ours.or_else(|| inherited.overlapping(address)) {
                    Some(ours) => &format!(
                        "; this process listens on {ours}, and from one to the other is a matter \
                         of a restart"
                    ),
                    None => "; another program has it",
                }
            }
            io::ErrorKind::PermissionDenied if situation.has_become_user => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE or root, which this process has \
                 given up for `user`: a restart takes the address before that"
            }
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE or root"
            }
            io::ErrorKind::AddrNotAvailable => "; no interface of this host has that address",
            _ => "",
        };
        anyhow::anyhow!("cannot listen on {address}: {error}{hint}")
    })
}

/// Whether a listener at `open` keeps another one from `wanted`: it is one for
/// all addresses, or that is to be.
pub(super) fn overlap(open: SocketAddr, wanted: SocketAddr, socket: &OwnedFd) -> bool {
    let is_one_family = open.is_ipv4() == wanted.is_ipv4();
    let is_for_all = open.ip().is_unspecified() || wanted.ip().is_unspecified();
    // Ours for all of IPv6 are for that alone; one of a service manager may
    // have IPv4 as well.
    let has_both = || {
        open.is_ipv6()
            && open.ip().is_unspecified()
            && !os::inherit::is_ipv6_only(socket.as_fd()).unwrap_or(true)
    };
    open.port() == wanted.port()
        && (open.ip() == wanted.ip() || (is_for_all && (is_one_family || has_both())))
}

/// Listeners for `addresses`, and those of a service manager. What is open
/// already stays as it is. When one fails nothing has changed.
pub(super) fn open_all(
    addresses: &[SocketAddr],
    open_already: &[Arc<Bound>],
    inherited: &mut Inherited,
    situation: Situation<'_>,
) -> Result<Vec<Arc<Bound>>> {
    let mut all: Vec<Arc<Bound>> = Vec::with_capacity(addresses.len());
    let mut activated: Vec<Arc<Bound>> = Vec::new();
    for &address in addresses {
        let serves = |bound: &&Arc<Bound>| bound.serves(address);
        // One for both families of addresses may be wanted twice.
        if activated.iter().any(|bound| serves(&bound)) {
            continue;
        }
        let bound = match open_already.iter().find(serves) {
            Some(bound) => Arc::clone(bound),
            None => Arc::new(open(address, For::Clients, open_already, inherited, situation)?),
        };
        if bound.is_activated {
            activated.push(Arc::clone(&bound));
        }
        all.push(bound);
    }
    let kept = open_already.iter().filter(|bound| bound.is_activated && !contains(&all, bound));
    let kept: Vec<_> = kept.map(Arc::clone).collect();
    all.extend(kept);
    for other in inherited.others().context("cannot use an inherited listener")? {
        tell(format_args!("listening on {} as well: the service manager opened it", other.address));
        all.push(Arc::new(other));
    }
    Ok(all)
}

/// Whether `bound` itself is among `all`.
pub(super) fn contains(all: &[Arc<Bound>], bound: &Arc<Bound>) -> bool {
    all.iter().any(|one| Arc::ptr_eq(one, bound))
}
