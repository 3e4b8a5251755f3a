//! The wire between two hosts: a veth pair, and `tc tbf` on its ends.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::LabError;
use super::namespace::Namespace;

/// The name of either end, within its namespace.
pub(super) const DEVICE: &str = "eth0";

/// How long the two ends may take to find each other. The kernel does that in the background,
/// usually at once; it puts it off by up to a second when many devices change.
const UP_LIMIT: Duration = Duration::from_secs(5);

const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// Buckets are filled at timer ticks; the slowest kernels have 100 a second (`CONFIG_HZ`), and a
/// bucket that holds less than one tick's worth would slow the wire down further.
const TICKS_PER_SECOND: u64 = 100;

/// A bucket holds at least some packets: a rate is then kept over tens of packets, and the
/// bytes that pass at once before the throttle is felt are few.
const MINIMAL_BURST: u64 = 16 << 10;

/// How long a packet may wait in the queue before it is dropped: the buffer of an ordinary router.
const LATENCY: &str = "100ms";

/// Joins two namespaces by a veth pair. It is made inside of them and never seen outside.
pub(super) fn join(one: &Namespace, other: &Namespace) -> Result<(), LabError> {
    one.ip(&[
        "link",
        "add",
        "name",
        DEVICE,
        "type",
        "veth",
        "peer",
        "name",
        DEVICE,
        "netns",
        other.name(),
    ])?;
    Ok(())
}

/// Gives this end its address, and takes it into use.
pub(super) fn address(namespace: &Namespace, address: Ipv4Addr) -> Result<(), LabError> {
    namespace.ip(&["address", "add", &format!("{address}/24"), "dev", DEVICE])?;
    namespace.ip(&["link", "set", "dev", DEVICE, "up"])?;
    Ok(())
}

/// Waits until this end carries. A packet sent before is lost, and TCP sends it again only after
/// a second.
pub(super) fn wait_until_up(namespace: &Namespace) -> Result<(), LabError> {
    let deadline = Instant::now() + UP_LIMIT;
    while !namespace.ip(&["-oneline", "link", "show", "dev", DEVICE])?.contains(" state UP ") {
        if Instant::now() >= deadline {
            let namespace = namespace.name().to_owned();
            return Err(LabError::Down { namespace, device: DEVICE, limit: UP_LIMIT });
        }
        thread::sleep(POLL_INTERVAL);
    }
    Ok(())
}

/// Limits what this end sends.
pub(super) fn throttle(namespace: &Namespace, bits_per_second: u64) -> Result<(), LabError> {
    let burst = (bits_per_second / 8 / TICKS_PER_SECOND).max(MINIMAL_BURST);
    namespace.tc(&[
        "qdisc",
        "replace",
        "dev",
        DEVICE,
        "root",
        "tbf",
        "rate",
        &format!("{bits_per_second}bit"),
        "burst",
        &format!("{burst}b"),
        "latency",
        LATENCY,
    ])?;
    Ok(())
}

/// Takes the limit of this end away.
pub(super) fn unthrottle(namespace: &Namespace) -> Result<(), LabError> {
    // A device without a queueing discipline of its own refuses to have it deleted.
    if namespace.tc(&["qdisc", "show", "dev", DEVICE, "root"])?.contains("qdisc tbf") {
        namespace.tc(&["qdisc", "delete", "dev", DEVICE, "root"])?;
    }
    Ok(())
}
