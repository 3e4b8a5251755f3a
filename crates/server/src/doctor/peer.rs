//! A client's way, tried from this end.

use std::net::SocketAddr;

use super::check::{Check, Topic, Verdict};
use super::pair::connect;
use super::sending::send_by_reference;

/// Every web server answers it, and nothing changes by it.
const REQUEST: &[u8] = b"HEAD / HTTP/1.0\r\nUser-Agent: sluicegate-doctor\r\n\r\n";

pub(super) fn checks(peer: SocketAddr) -> Vec<Check> {
    let check = Check::new(
        Topic::Interfaces,
        "peer.zerocopy",
        "by reference",
        "Whether bytes for this peer leave without a copy. Where they are copied the peer is on \
         this host, somebody listens in with a packet tap, or the interface cannot send packets in \
         parts.",
    )
    .about(&peer.to_string());
    let stream = match connect(peer) {
        Ok(stream) => stream,
        Err(error) => {
            let value = format!("no connection: {error}");
            return vec![check.found(Verdict::NotKnown, value)];
        }
    };
    let sent = stream.set_nonblocking(true).and_then(|()| send_by_reference(&stream, REQUEST));
    vec![match sent {
        Ok(false) => check.found(Verdict::Good, "not copied").figure("copied", false),
        Ok(true) => check
            .found(Verdict::CouldBeBetter, "copied by the kernel")
            .figure("copied", true)
            .change(
                "For a peer on another host: see scatter-gather of the interface that leads there, \
                 and end programs that listen in (tcpdump). For one on this host it has to be so.",
            ),
        Err(error) => check.found(Verdict::NotKnown, format!("no answer: {error}")),
    }]
}
