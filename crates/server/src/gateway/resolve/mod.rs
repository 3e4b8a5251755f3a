//! Names of servers, asked for their addresses whenever these may have changed.

mod dns;
mod system;
#[cfg(test)]
pub(super) mod tests;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::rc::Weak;
use std::time::Duration;

use sluicegate::Reactor;
use thiserror::Error;

use self::dns::Kind;
use self::system::System;
use super::auxiliary::Watched;
use super::connect::within;
use crate::log::tell;

/// How long an answer holds at least and at most, whatever its time to live says.
const HOLDS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(24 * 3600));

/// How long what the host's own files say holds.
const FILES_HOLD: Duration = Duration::from_secs(5);

/// Before a failed question is asked again, at first and at last.
const PAUSES: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// How much longer than IPv4's addresses those of IPv6 are waited for: some servers
/// never answer what they do not know.
const GRACE: Duration = Duration::from_millis(500);

/// What a name stands for, and for how long.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) addresses: Vec<IpAddr>,
    pub(super) holds: Duration,
}

/// Why a name has no addresses.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
pub(super) enum ResolveError {
    #[error("there is no such name")]
    NoName,
    #[error("the name has no address")]
    NoAddress,
    #[error("the DNS server {0} does not answer")]
    Silent(SocketAddr),
    #[error("the DNS server {server} says {says}")]
    Refused { server: SocketAddr, says: String },
    #[error("asking the DNS server {server}: {why}")]
    Network { server: SocketAddr, why: String },
    #[error("it is no name")]
    NotAName,
}

/// Asks for `name` again and again, for as long as its pool is there.
pub(super) async fn follow(watched: Weak<Watched>, name: String) {
    let mut pause = PAUSES.0;
    let mut is_told = false;
    loop {
        let Some((reactor, pool)) = watched
            .upgrade()
            .and_then(|watched| Some((watched.reactor.clone(), watched.pool.upgrade()?)))
        else {
            return;
        };
        let (resolver, pool_name) = (pool.rule.resolver, pool.rule.name.clone());
        drop(pool);
        let found = lookup(&reactor, &name, resolver).await;
        let Some(watched) = watched.upgrade() else { return };
        let Some(pool) = watched.pool.upgrade() else { return };
        let wait = match found {
            Ok(found) => {
                if is_told {
                    tell(format_args!("pool `{pool_name}`: `{name}` is resolved now"));
                }
                (is_told, pause) = (false, PAUSES.0);
                if pool.resolved(&name, Ok(found.addresses)) {
                    watched.look_at_servers();
                }
                found.holds
            }
            Err(error) => {
                if !is_told {
                    tell(format_args!("pool `{pool_name}`: `{name}` cannot be resolved: {error}"));
                }
                is_told = true;
                pool.resolved(&name, Err(error.to_string()));
                let wait = pause;
                pause = (pause * 2).min(PAUSES.1);
                wait
            }
        };
        drop((watched, pool));
        reactor.sleep(wait).await;
    }
}

/// The addresses of `name`: the hosts file's, or what the DNS says.
pub(super) async fn lookup(
    reactor: &Reactor,
    name: &str,
    resolver: Option<SocketAddr>,
) -> Result<Found, ResolveError> {
    lookup_by(reactor, &System::read(resolver), name).await
}

async fn lookup_by(reactor: &Reactor, system: &System, name: &str) -> Result<Found, ResolveError> {
    let mut addresses = system.hosts(name);
    // RFC 6761 section 6.3: nobody is asked for it.
    if addresses.is_empty() && name.trim_end_matches('.').eq_ignore_ascii_case("localhost") {
        addresses = vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()];
    }
    if !addresses.is_empty() {
        return Ok(Found { addresses: usable(addresses), holds: FILES_HOLD });
    }
    let mut error = ResolveError::NoName;
    for candidate in system.candidates(name) {
        match ask_both(reactor, system, &candidate).await {
            Ok(found) => {
                let holds = found.holds.clamp(HOLDS.0, HOLDS.1);
                return Ok(Found { addresses: usable(found.addresses), holds });
            }
            // The next may be the one that is meant.
            Err(ResolveError::NoName) => {}
            Err(ResolveError::NoAddress) if error == ResolveError::NoName => {
                error = ResolveError::NoAddress;
            }
            Err(ResolveError::NoAddress) => {}
            // Who fails for one domain may know of the next, and of the name as it is.
            Err(refused @ ResolveError::Refused { .. }) => error = refused,
            Err(other) => return Err(other),
        }
    }
    Err(error)
}

/// Both kinds of addresses of an absolute name.
async fn ask_both(reactor: &Reactor, system: &System, name: &str) -> Result<Found, ResolveError> {
    let mut v6 = Box::pin(dns::ask(reactor, system, name, Kind::V6));
    let mut v6_found = None;
    let mut v4 = Box::pin(dns::ask(reactor, system, name, Kind::V4));
    let v4_found = std::future::poll_fn(|cx| {
        if v6_found.is_none()
            && let std::task::Poll::Ready(found) = v6.as_mut().poll(cx)
        {
            v6_found = Some(found);
        }
        v4.as_mut().poll(cx)
    })
    .await;
    let v6_found = match v6_found {
        Some(found) => found,
        None if matches!(v4_found, Ok(_) | Err(ResolveError::NoName)) => {
            let late = v4_found.clone().and(Err(ResolveError::NoAddress));
            within(reactor, GRACE, v6).await.unwrap_or(late)
        }
        None => v6.await,
    };
    match (v4_found, v6_found) {
        (Ok(mut one), Ok(other)) => {
            one.addresses.extend(other.addresses);
            Ok(Found { addresses: one.addresses, holds: one.holds.min(other.holds) })
        }
        (Ok(found), Err(_)) | (Err(_), Ok(found)) => Ok(found),
        // It exists if one of them says so.
        (Err(ResolveError::NoName), Err(ResolveError::NoAddress))
        | (Err(ResolveError::NoAddress), Err(ResolveError::NoName)) => Err(ResolveError::NoAddress),
        // RFC 8020: a name that is not there has nothing of any kind.
        (Err(ResolveError::NoName), Err(_)) | (Err(_), Err(ResolveError::NoName)) => {
            Err(ResolveError::NoName)
        }
        (Err(other), Err(_)) => Err(other),
    }
}

/// In order, each once; without those that this host has no way to, if it has one to
/// others: a host without IPv6 is given IPv6 addresses as well.
fn usable(mut addresses: Vec<IpAddr>) -> Vec<IpAddr> {
    addresses.sort_unstable();
    addresses.dedup();
    let near: Vec<IpAddr> = addresses.iter().copied().filter(|&ip| has_way(ip)).collect();
    if near.is_empty() { addresses } else { near }
}

/// Whether there is a route: connecting a UDP socket sends nothing.
fn has_way(ip: IpAddr) -> bool {
    let own: IpAddr = match ip {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind(SocketAddr::new(own, 0));
    socket.and_then(|socket| socket.connect(SocketAddr::new(ip, 53))).is_ok()
}
