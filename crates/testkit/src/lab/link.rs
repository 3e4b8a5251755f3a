//! The ends of a wire: devices, their addresses, and `tc tbf` on them; and the veth pair.

use std::net::Ipv4Addr;
use std::thread;
use std::time::{Duration, Instant};

use super::namespace::Namespace;
use super::{LabError, tool};

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

/// How many packets may wait in a TUN device for the relay; more are dropped by the device.
///
/// A card stops its senders when its queue is full; a TUN device only drops. So its queue is
/// longer than a card's (1,000): what a few connections have in flight at the most (`tcp_wmem`, of
/// 4 MiB each) is not lost while the relay waits for its processor.
const TRANSMIT_QUEUE: &str = "10000";

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

/// Sets the longest packet that this end sends, in bytes, and the queue of its device.
pub(super) fn size(namespace: &Namespace, mtu: u16) -> Result<(), LabError> {
    let mtu = mtu.to_string();
    namespace.ip(&["link", "set", "dev", DEVICE, "mtu", &mtu, "txqueuelen", TRANSMIT_QUEUE])?;
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

/// Has one processor do what packets that arrive at this end set off.
pub(super) fn receive_on(namespace: &Namespace, cpu: usize) -> Result<(), LabError> {
    // `ip netns exec` mounts the `/sys` that shows this namespace's devices.
    let set = format!("echo {} > /sys/class/net/{DEVICE}/queues/rx-0/rps_cpus", mask(cpu));
    tool::run("ip", &["netns", "exec", namespace.name(), "sh", "-c", &set])?;
    Ok(())
}

/// One processor as the kernel reads a set of them: groups of 32 bits, the highest first.
fn mask(cpu: usize) -> String {
    format!("{:x}{}", 1_u32 << (cpu % 32), ",00000000".repeat(cpu / 32))
}

#[cfg(test)]
mod tests {
    use super::mask;

    #[test]
    fn a_processor_is_a_bit_in_groups_of_32() {
        assert_eq!(mask(0), "1");
        assert_eq!(mask(31), "80000000");
        assert_eq!(mask(33), "2,00000000");
    }
}
