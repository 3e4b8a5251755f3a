//! What the kernel tells of bytes that it has accepted.

use std::io::{self, Write};
use std::os::fd::AsFd;

use sluicegate::os::probe::{
    Entry, Numbering, errqueue, set_unsent_limit, unacknowledged, unsent_limit,
};

use super::check::{Check, Topic, Verdict};
use super::pair::{Pair, wait_for};

pub(super) fn checks() -> Vec<Check> {
    vec![counted(), reported(), bounded()]
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Acknowledgements, name, title, why)
}

fn counted() -> Check {
    let check = check(
        "acks.outq",
        "how much is not acknowledged",
        "SIOCOUTQ is what Sluicegate believes: bytes that were accepted and are not acknowledged \
         yet. Memory is used again, and downloads are counted as arrived, by it alone.",
    );
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    let tried = || {
        (&pair.ours).write_all(b"hello")?;
        pair.receive(5)?;
        wait_for(|| Ok((unacknowledged(pair.ours.as_fd())? == 0).then_some(())))
    };
    match tried() {
        Ok(()) => check.found(Verdict::Good, "SIOCOUTQ works"),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => {
            check.found(Verdict::Missing, "it stays above 0 for bytes that have been read")
        }
        Err(error) => check.refused(&error, "ioctl(SIOCOUTQ)", "2.6"),
    }
}

fn reported() -> Check {
    let check = check(
        "acks.reports",
        "reports of acknowledgements",
        "A time stamp of the acknowledgement (SO_TIMESTAMPING with TX_ACK) wakes who waits until \
         bytes have arrived. Without such reports he looks by himself now and then.",
    );
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    let tried = || {
        let socket = pair.ours.as_fd();
        let numbering = errqueue::number_acks(socket)?;
        errqueue::report_acks(socket, numbering, true)?;
        (&pair.ours).write_all(b"hello")?;
        pair.receive(5)?;
        wait_for(|| {
            let entry = errqueue::next(socket)?;
            Ok(matches!(entry, Some(Entry::Acked { .. })).then_some(numbering))
        })
    };
    match tried() {
        Ok(Numbering::FromNow) => check
            .found(Verdict::Good, "delivered, and numbered from the first byte (OPT_ID_TCP)")
            .figure("opt_id_tcp", true),
        Ok(Numbering::FromUnacknowledged) => check
            .found(Verdict::Good, "delivered")
            .figure("opt_id_tcp", false)
            .change("Linux 6.2 and later number them more exactly (OPT_ID_TCP)."),
        Err(error) if error.kind() == io::ErrorKind::TimedOut => check
            .found(Verdict::Missing, "none came")
            .change("Some sandboxes have no error queue. Run on a kernel of its own."),
        Err(error) => check.refused(&error, "setsockopt(SO_TIMESTAMPING)", "3.17"),
    }
}

fn bounded() -> Check {
    let check = check(
        "acks.notsent_lowat",
        "bounding what waits in a socket",
        "TCP_NOTSENT_LOWAT keeps what slow clients hold in the kernel small: 64 KiB each instead \
         of megabytes, of an account that all connections of the host share (tcp_mem).",
    );
    let pair = match Pair::new() {
        Ok(pair) => pair,
        Err(error) => return check.not_tried(&error),
    };
    const BOUND: u32 = 64 * 1024;
    let socket = pair.ours.as_fd();
    match set_unsent_limit(socket, BOUND).and_then(|()| unsent_limit(socket)) {
        Ok(BOUND) => check.found(Verdict::Good, "TCP_NOTSENT_LOWAT works"),
        Ok(other) => {
            check.found(Verdict::Missing, format!("{BOUND} was set, and {other} is in force"))
        }
        Err(error) => check.refused(&error, "setsockopt(TCP_NOTSENT_LOWAT)", "3.12"),
    }
}
