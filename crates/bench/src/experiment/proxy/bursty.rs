//! An upstream that has something to say by fits and starts, to a client that could always listen:
//! what a larger spool buys. Of a body whose length is known to be more than a spool may have none is
//! taken ahead, since that would not free the upstream; what is made on the way has no length.

use std::fs;

use anyhow::Result;

use super::finding::{Finding, table};
use super::targets;
use super::trip::{Plan, Trip};
use super::{HAPROXY_SPLICE, NGINX, SLOW, Scale, prepare};
use crate::experiment::contents::Contents;
use crate::experiment::session::Session;
use crate::harness::network::Network;
use crate::harness::plot::size_label;
use crate::peer::Peer;
use crate::peer::proxy::{Proxy, Spool};

pub(super) const SMALL: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-1MiB",
    memory: Some("1MiB"),
    disk: Some("0"),
    ..Spool::DEFAULT
}));
pub(super) const LARGE: Peer = Peer::Proxy(Proxy::Ours(Spool {
    name: "sluicegate-64MiB",
    memory: Some("64MiB"),
    disk: Some("0"),
    ..Spool::DEFAULT
}));

/// Bytes that the small one may have.
const SMALL_HOLDS: u64 = 1 << 20;

/// Some bursts each.
const FILES: [Contents; 2] = [
    Contents { name: "192MiB.bin", length: 192 << 20, seed: 73 },
    Contents { name: "512MiB.bin", length: 512 << 20, seed: 74 },
];

/// What a client of a narrow line announces. With the kernel's own choice some MiB of each burst
/// would wait in its socket, whatever the proxy did.
const RECEIVE_BUFFER: usize = 256 << 10;

/// What the kernel may hold between the upstream and the proxy, in bytes: a spool that nobody has
/// configured. It grows to that while a body is on its way.
fn kernels_own() -> u64 {
    let most = |name: &str| -> Option<u64> {
        let text = fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?;
        text.split_whitespace().last()?.parse().ok()
    };
    most("tcp_rmem").unwrap_or(0) + most("tcp_wmem").unwrap_or(0)
}

/// The most that a large spool may take by what a small one takes. In each burst of a second
/// and its pause the large one passes on 100 MB; a small one the 50 MB that the client takes in
/// the second, what it holds, and what the kernel does, for the pause. At least a quarter is to
/// be seen where the kernel holds little.
pub(super) fn bound() -> f64 {
    let small = SLOW + kernels_own() + SMALL_HOLDS;
    (small as f64 / (2 * SLOW) as f64).clamp(0.75, 1.0)
}

pub(super) fn measure(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    let contents = FILES[usize::from(!scale.quick)];
    prepare(session, &[contents])?;
    let mut finding = Finding::default();
    let all = [SMALL, LARGE, NGINX, HAPROXY_SPLICE];
    let peers = scale.peers(session, scale.of(&all[..2], &all[..]));
    if peers.is_empty() {
        return Ok(finding);
    }
    let plan = Plan {
        path: format!("/burst/{}", contents.name),
        rounds: scale.rounds(1, 5),
        rate: Some(SLOW),
        is_endless: true,
        receive_buffer: Some(RECEIVE_BUFFER),
        ..Plan::new("bursty", contents, peers)
    };
    let cell = plan.run(session, &Network::Loopback)?;
    let title = format!(
        "A bursty upstream (100 MB/s for a second, then nothing for one), {} to a client of 50 \
         MB/s, which takes {:.1} s by itself",
        size_label(contents.length),
        contents.length as f64 / SLOW as f64
    );
    finding.add(&table(&title, &cell));
    finding.targets = targets::of_bursty(&cell);
    let took = ("bursty-seconds.svg", "A bursty upstream: download", "s");
    finding.bars_of(took, std::slice::from_ref(&cell), Trip::took_s);
    Ok(finding)
}
