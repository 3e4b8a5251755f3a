//! Settings of the host's TCP.

use std::net::TcpListener;
use std::os::fd::AsFd;

use sluicegate::BACKLOG;
use sluicegate::os::probe::{congestion_control, page_size, set_congestion_control};

use super::check::{Check, Topic, Verdict};
use super::text;

const MIB: u64 = 1024 * 1024;

pub(super) fn checks() -> Vec<Check> {
    vec![
        memory(),
        buffer(
            "network.tcp_wmem",
            "send buffer of a connection",
            "What one connection may have sent and not acknowledged: its speed is at most so much \
             a round trip.",
            "net.ipv4.tcp_wmem",
        ),
        buffer(
            "network.tcp_rmem",
            "receive buffer of a connection",
            "Uploads, and answers of servers behind this one, come at most at so much a round trip.",
            "net.ipv4.tcp_rmem",
        ),
        backlog(),
        handshakes(),
        ports(),
        congestion(),
        pacing(),
    ]
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Network, name, title, why)
}

/// TCP's memory in pages: from where on it is saved, and what it never exceeds.
fn memory() -> Check {
    let check = check(
        "network.tcp_mem",
        "memory of all connections",
        "What waits in sockets, sent by copy or by reference, is one account for the whole host. \
         From the middle figure on the kernel shrinks buffers, at the last one it drops packets. A \
         slow client holds 64 KiB of it, a fast one up to 4 MiB.",
    );
    let [_, pressure, most] = match text::numbers::<3>("net.ipv4.tcp_mem") {
        Ok(pages) => pages.map(|pages| pages.saturating_mul(page_size() as u64)),
        Err(error) => {
            let value =
                format!("the host's own setting, not shown in this network namespace ({error})");
            return check.found(Verdict::NotKnown, value);
        }
    };
    let used = text::read("/proc/net/sockstat").ok();
    let used = used
        .and_then(|table| text::tcp_pages(&table))
        .map(|pages| pages.saturating_mul(page_size() as u64));
    let now = used.map(|used| format!(", now {}", text::bytes(used))).unwrap_or_default();
    let value =
        format!("{} at most, short from {} on{now}", text::bytes(most), text::bytes(pressure));
    let check = check.figure("pressure", pressure).figure("most", most).figure("used", used);
    if most >= 256 * MIB && used.is_none_or(|used| used < pressure) {
        return check.found(Verdict::Good, value);
    }
    let pages = |bytes: u64| bytes / page_size() as u64;
    let wanted = most.saturating_mul(2).max(512 * MIB);
    check
        .found(Verdict::CouldBeBetter, value)
        .change(
            "Give TCP more, if the machine has it (the figures are pages), or let fewer clients \
             in; every program's sockets count, not Sluicegate's alone:",
        )
        .command(format!(
            "sysctl -w net.ipv4.tcp_mem=\"{} {} {}\"",
            pages(wanted / 2),
            pages(wanted / 4 * 3),
            pages(wanted)
        ))
}

/// The kernel's own bound where there is memory enough.
const BUFFER: u64 = 4 * MIB;

fn buffer(name: &'static str, title: &str, why: &'static str, setting: &str) -> Check {
    let check = check(name, title, why);
    let [least, initial, most] = match text::numbers::<3>(setting) {
        Ok(numbers) => numbers,
        Err(error) => return check.found(Verdict::NotKnown, format!("{setting}: {error}")),
    };
    // Over 50 milliseconds: a client on the same continent.
    let speed = text::bytes(most.saturating_mul(20));
    let value = format!("{} at most: {speed}/s at 50 ms", text::bytes(most));
    let check = check.figure("initial", initial).figure("most", most);
    if most >= BUFFER {
        check.found(Verdict::Good, value)
    } else {
        check
            .found(Verdict::CouldBeBetter, value)
            .change("Raise the last figure; a connection takes it only when it needs it:")
            .command(format!("sysctl -w {setting}=\"{least} {initial} {BUFFER}\""))
    }
}

fn backlog() -> Check {
    let check = check(
        "network.somaxconn",
        "connections that may wait",
        "Clients that arrive while all workers are busy wait in the listener's queue; Sluicegate \
         asks for 4096 places, and the kernel cuts that down to net.core.somaxconn. Beyond it \
         clients see a delay of a second or more.",
    )
    .figure("asked", BACKLOG);
    match text::number("net.core.somaxconn") {
        Ok(places) => {
            let check = check.figure("places", places);
            if places >= u64::from(BACKLOG.unsigned_abs()) {
                check.found(Verdict::Good, format!("{BACKLOG} at each listener"))
            } else {
                check
                    .found(Verdict::CouldBeBetter, format!("{places} at each listener"))
                    .change("Let listeners have what they ask for:")
                    .command(format!("sysctl -w net.core.somaxconn={BACKLOG}"))
            }
        }
        Err(error) => check.found(Verdict::NotKnown, format!("net.core.somaxconn: {error}")),
    }
}

fn handshakes() -> Check {
    let check = check(
        "network.tcp_max_syn_backlog",
        "handshakes under way",
        "Connections whose handshake is not over. Beyond this the kernel answers with cookies if \
         net.ipv4.tcp_syncookies is on (large windows may be lost), and drops clients if not.",
    );
    let (most, cookies) = (
        text::number("net.ipv4.tcp_max_syn_backlog"),
        text::number("net.ipv4.tcp_syncookies").ok(),
    );
    let most = match most {
        Ok(most) => most,
        Err(error) => {
            return check
                .found(Verdict::NotKnown, format!("net.ipv4.tcp_max_syn_backlog: {error}"));
        }
    };
    let check = check.figure("most", most).figure("syncookies", cookies);
    let value = format!("{most}, cookies {}", if cookies == Some(0) { "off" } else { "on" });
    if cookies == Some(0) {
        check
            .found(Verdict::CouldBeBetter, value)
            .change("Answer with cookies rather than not at all:")
            .command("sysctl -w net.ipv4.tcp_syncookies=1")
    } else if most < 512 {
        check
            .found(Verdict::CouldBeBetter, value)
            .change("Raise it:")
            .command("sysctl -w net.ipv4.tcp_max_syn_backlog=2048")
    } else {
        check.found(Verdict::Good, value)
    }
}

fn ports() -> Check {
    let check = check(
        "network.ip_local_port_range",
        "ports for connections of our own",
        "Each connection to a server behind this one takes a port, and keeps it for a minute after \
         it is over. Serving files needs none.",
    );
    match text::numbers::<2>("net.ipv4.ip_local_port_range") {
        Ok([first, last]) => {
            let count = last.saturating_add(1).saturating_sub(first);
            let check = check.figure("first", first).figure("last", last);
            let value = format!("{count}, from {first} to {last}");
            if count >= 16_384 {
                check.found(Verdict::Good, value)
            } else {
                check
                    .found(Verdict::CouldBeBetter, value)
                    .change("Widen the range, around the ports that programs here listen on:")
                    .command("sysctl -w net.ipv4.ip_local_port_range=\"32768 60999\"")
            }
        }
        Err(error) => {
            check.found(Verdict::NotKnown, format!("net.ipv4.ip_local_port_range: {error}"))
        }
    }
}

fn congestion() -> Check {
    let check = check(
        "network.congestion_control",
        "congestion control",
        "BBR paces each connection by a timer, which over the loopback costs more than twice the \
         CPU. Listeners on loopback addresses therefore choose Reno where BBR is the default.",
    );
    let tried = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let default = congestion_control(listener.as_fd())?;
        let reno = set_congestion_control(listener.as_fd(), "reno").is_ok();
        Ok((default, reno))
    };
    let (default, reno): (String, bool) = match tried() {
        Ok(found) => found,
        Err(error) => return check.not_tried(&error),
    };
    let is_paced = default.starts_with("bbr");
    let check = check.figure("default", default.as_str()).figure("may_choose_reno", reno);
    match (is_paced, reno) {
        (false, _) => check.found(Verdict::Good, default),
        (true, true) => {
            check.found(Verdict::Good, format!("{default}; reno may be chosen for the loopback"))
        }
        (true, false) => check
            .found(Verdict::CouldBeBetter, format!("{default}; reno may not be chosen"))
            .change("Let users choose it:")
            .command("sysctl -w net.ipv4.tcp_allowed_congestion_control=\"bbr cubic reno\""),
    }
}

fn pacing() -> Check {
    let check = check(
        "network.default_qdisc",
        "queueing discipline",
        "Where BBR is the default, `fq` paces all connections of an interface together; without it \
         each connection has a timer of its own, for every 64 KiB.",
    );
    let control = text::setting("net.ipv4.tcp_congestion_control").unwrap_or_default();
    match text::setting("net.core.default_qdisc") {
        Ok(found) => {
            let check = check.figure("setting", found.as_str());
            if control.starts_with("bbr") && found != "fq" {
                check
                    .found(Verdict::CouldBeBetter, format!("{found} with {control}"))
                    .change(
                        "Make `fq` the default of new interfaces (module sch_fq), and set it on \
                         those that there are:",
                    )
                    .command(
                        "sysctl -w net.core.default_qdisc=fq\ntc qdisc replace dev eth0 root fq",
                    )
            } else {
                check.found(Verdict::Good, found)
            }
        }
        Err(error) => check.found(
            Verdict::NotKnown,
            format!("the host's own setting, not shown in this network namespace ({error})"),
        ),
    }
}
