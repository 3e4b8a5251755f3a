//! A GiB to a fast client, and a KiB to 64 of them: windows in which the proxy's core is busy.

use std::time::Duration;

use anyhow::Result;

use super::finding::Finding;
use super::targets;
use super::{
    APACHE, CADDY, H2O, HAPROXY, HAPROXY_AUTO, HAPROXY_SPLICE, LIGHTTPD, MESSAGE_FLOOR, NGINX,
    NGINX_NO_TEMP_FILE, NGINX_UNBUFFERED, OURS, SPLICE_FLOOR, Scale, front, prepare,
};
use crate::client::Check;
use crate::experiment::contents::{Contents, GIB, KIB};
use crate::experiment::session::{Effort, Session};
use crate::experiment::workload::{Unit, Workload};
use crate::harness::network::Network;
use crate::harness::report::Table;
use crate::peer::Peer;
use crate::upstream::Kind;

const ALL: [Peer; 11] = [
    OURS,
    NGINX,
    NGINX_UNBUFFERED,
    NGINX_NO_TEMP_FILE,
    HAPROXY_SPLICE,
    HAPROXY_AUTO,
    HAPROXY,
    LIGHTTPD,
    APACHE,
    H2O,
    CADDY,
];

/// Of a quick run.
const FEW: [Peer; 3] = [OURS, NGINX, HAPROXY_SPLICE];

fn effort(scale: Scale<'_>, rounds: [usize; 2], milliseconds: [u64; 2]) -> Effort {
    let [quick, full] = milliseconds;
    Effort {
        rounds: scale.rounds(rounds[0], rounds[1]),
        warm_up: Duration::from_millis(scale.of(quick, full) / 5),
        window: Duration::from_millis(scale.of(quick, full)),
    }
}

pub(super) fn large(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    prepare(session, &[GIB])?;
    session.make(effort(scale, [2, 7], [500, 1_000]));
    let mut peers = scale.peers(session, scale.of(&FEW[..], &ALL[..]));
    peers.extend(scale.bench.wants(SPLICE_FLOOR).then_some(SPLICE_FLOOR));
    let of = ("large", GIB, 1, Check::Sampled, Unit::Gib);
    let mut finding = Finding::default();
    if !peers.is_empty() {
        // On one host ours has a congestion control of its own; between two all have the same.
        for name in ["lo", "veth"] {
            if let Some(network) = scale.network(session, &[name]) {
                let peers = (peers.clone(), false);
                finding.join(measure(session, &network, of, Kind::Loop, peers)?);
            }
        }
    }
    Ok(finding)
}

pub(super) fn small(session: &mut Session, scale: Scale<'_>) -> Result<Finding> {
    prepare(session, &[KIB])?;
    session.make(effort(scale, [3, 11], [200, 300]));
    let mut finding = Finding::default();
    for logs in [false, true] {
        let mut peers = scale.peers(session, scale.of(&FEW[..], &ALL[..]));
        // Buffers make no difference to a KiB.
        peers.retain(|&peer| peer != NGINX_NO_TEMP_FILE && peer != NGINX_UNBUFFERED);
        peers.retain(|&peer| peer != HAPROXY_AUTO && (peer != HAPROXY_SPLICE || scale.quick));
        peers.extend(scale.bench.wants(MESSAGE_FLOOR).then_some(MESSAGE_FLOOR));
        if logs {
            peers.retain(|peer| !peer.is_floor());
        }
        let name = if logs { "small-log" } else { "small" };
        let of = (name, KIB, 64, Check::Whole, Unit::Request);
        let more = measure(session, &Network::Loopback, of, Kind::Spinning, (peers, logs))?;
        finding.join(more);
    }
    Ok(finding)
}

/// One workload over a network.
fn measure(
    session: &mut Session,
    network: &Network,
    (name, contents, connections, check, unit): (&str, Contents, usize, Check, Unit),
    kind: Kind,
    (peers, logs): (Vec<Peer>, bool),
) -> Result<Finding> {
    let mut finding = Finding::default();
    if peers.is_empty() {
        return Ok(finding);
    }
    front(session, network, kind)?;
    let name = name.to_owned();
    let workload = Workload { name, contents, files: None, connections, check, unit, peers, logs };
    session.measure(network, &workload)?;
    let Some(cell) = session.cells.pop() else { return Ok(finding) };
    finding.report = format!("{}{}", cell.table(), cell.comparisons());
    if logs {
        let mut table = Table::new("Logs of requests", &["", "form"]);
        for peer in &cell.workload.peers {
            table.row(vec![peer.to_string(), peer.log_habit().to_owned()]);
        }
        finding.add(&table);
    }
    finding.targets = targets::of_stream(&cell);
    let name = format!("{}-{}", cell.workload.name, network.name());
    finding.bars(
        &format!("{name}-cost.svg"),
        &format!("{name}: CPU of the proxy's core"),
        unit.of_cost(),
        cell.bars(|load| unit.core_cost(load)),
    );
    finding.bars(
        &format!("{name}-rate.svg"),
        &format!("{name}: rate"),
        unit.of_rate(),
        cell.bars(|load| unit.rate(load)),
    );
    Ok(finding)
}
