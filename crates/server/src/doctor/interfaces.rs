//! Network interfaces: whether they take packets in parts, and how large ones.

use std::io;

use anyhow::{Result, bail};
use sluicegate::os::probe::{Feature, Link, driver, feature, links};

use super::check::{Check, Topic, Verdict};
use super::text;

/// Interfaces that are told of by themselves. A host of containers has one for
/// each.
const MOST: usize = 16;

/// # Errors
/// There is no interface of this name.
pub(super) fn checks(only: Option<&str>) -> Result<Vec<Check>> {
    let mut checks = Vec::new();
    let found = match links() {
        Ok(found) => found,
        Err(error) => {
            checks.push(
                check("interface.list", "", "Which interfaces there are, and how they are set up.")
                    .found(Verdict::NotKnown, format!("the kernel does not list them: {error}"))
                    .change(
                        "Allow netlink sockets where they are forbidden: `RestrictAddressFamilies=` \
                         of the unit without AF_NETLINK, or a seccomp profile.",
                    ),
            );
            from_table(&text::read("/proc/net/dev").unwrap_or_default())
        }
    };
    let names = || found.iter().map(|link| link.name.as_str()).collect::<Vec<_>>().join(", ");
    let chosen: Vec<&Link> = match only {
        Some(name) => found.iter().filter(|link| link.name == name).collect(),
        None => found.iter().filter(|link| link.is_up).collect(),
    };
    if let Some(name) = only.filter(|_| chosen.is_empty()) {
        bail!("there is no network interface `{name}`; there are: {}", names());
    }
    if chosen.is_empty() {
        let check = check("interface.list", "", "Clients come through one that is up.");
        let check = check.found(Verdict::NotKnown, "none is up");
        checks.push(check.change("Take one into use:").command("ip link set lo up"));
    }
    for link in chosen.iter().take(MOST) {
        checks.extend(of(link));
    }
    if chosen.len() > MOST {
        let rest = chosen.len() - MOST;
        let check = check("interface.list", "", "A host of containers has one for each.");
        let value = format!("{rest} more are up");
        let change = "Ask for one of them by `--interface NAME`.";
        checks.push(check.found(Verdict::Information, value).change(change));
    }
    Ok(checks)
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    let title = if title.is_empty() { "interfaces" } else { title };
    Check::new(Topic::Interfaces, name, title, why)
}

/// What the table of counters tells: names alone. All are taken for being up.
fn from_table(table: &str) -> Vec<Link> {
    let link = |name: &str| Link {
        name: name.to_owned(),
        is_up: true,
        is_loopback: name == "lo",
        ..Link::default()
    };
    text::devices(table).map(link).collect()
}

fn of(link: &Link) -> Vec<Check> {
    vec![by_reference(link), segmentation(link), packets(link)]
}

/// What is handed over by reference to a receiver on this very host.
fn shares_pages(link: &Link) -> Option<&'static str> {
    let kind = link.kind.as_deref();
    if link.is_loopback {
        Some("loopback")
    } else if kind == Some("veth") || driver(&link.name).is_ok_and(|name| name == "veth") {
        Some("veth")
    } else {
        None
    }
}

fn by_reference(link: &Link) -> Check {
    let name = &link.name;
    let check = check(
        "interface.scatter_gather",
        "scatter-gather",
        "Without it the kernel puts every packet together anew before it hands it to the interface: \
         what sendfile, splice and MSG_ZEROCOPY send by reference is copied after all, which costs \
         a third more CPU than a plain copy. It also needs transmit checksums.",
    )
    .about(name);
    let (parts, sums) =
        (feature(name, Feature::ScatterGather), feature(name, Feature::TransmitChecksum));
    let state = |on: &io::Result<bool>| on.as_ref().ok().copied();
    let local = shares_pages(link);
    let check = check
        .figure("scatter_gather", state(&parts))
        .figure("transmit_checksum", state(&sums))
        .figure("shares_pages", local.is_some());
    match (parts, sums) {
        (Ok(true), Ok(true)) => {
            let local = local.map(|kind| {
                format!("; {kind}: pages are shared with the receiver, MSG_ZEROCOPY is copied")
            });
            check.found(Verdict::Good, format!("on{}", local.unwrap_or_default()))
        }
        (Ok(true), Ok(false)) => check
            .found(Verdict::CouldBeBetter, "on, but transmit checksums are off")
            .change("Let the interface sum up what it sends, if it can:")
            .command(format!("ethtool -K {name} tx on sg on")),
        (Ok(true), Err(error)) => {
            check.found(Verdict::Good, format!("on; transmit checksums are not told ({error})"))
        }
        (Ok(false), _) => check
            .found(Verdict::CouldBeBetter, "off")
            .change("Switch it on, if the interface can:")
            .command(format!("ethtool -K {name} tx on sg on")),
        (Err(error), _) => check.found(Verdict::NotKnown, format!("not told: {error}")),
    }
}

fn segmentation(link: &Link) -> Check {
    let name = &link.name;
    let check = check(
        "interface.segmentation",
        "segmentation",
        "With it (TSO, or GSO in the kernel) up to 64 KiB go down to the interface in one piece \
         instead of one packet at a time: most of what a large download costs.",
    )
    .about(name);
    let (card, kernel) =
        (feature(name, Feature::TcpSegmentation), feature(name, Feature::GenericSegmentation));
    let state = |on: &io::Result<bool>| on.as_ref().ok().copied();
    let check = check.figure("tso", state(&card)).figure("gso", state(&kernel));
    let command = format!("ethtool -K {name} tso on gso on");
    match (card, kernel) {
        (Ok(true), _) => check.found(Verdict::Good, "by the interface (TSO)"),
        (Ok(false), Ok(true)) => check
            .found(Verdict::Good, "by the kernel (GSO); the interface's own (TSO) is off")
            .change("Where the interface can do it, it costs less still:")
            .command(command),
        (Ok(false), Ok(false)) => {
            check.found(Verdict::CouldBeBetter, "off").change("Switch it on:").command(command)
        }
        (Err(error), _) | (_, Err(error)) => {
            check.found(Verdict::NotKnown, format!("not told: {error}"))
        }
    }
}

fn packets(link: &Link) -> Check {
    let check = check(
        "interface.packets",
        "packets",
        "How large they are, and who puts them in order before they leave.",
    )
    .about(&link.name)
    .figure("mtu", link.mtu)
    .figure("qdisc", link.qdisc.as_str())
    .figure("kind", link.kind.as_deref())
    .figure("driver", driver(&link.name).ok());
    if link.mtu == 0 {
        return check.found(Verdict::NotKnown, "not told");
    }
    let kind = match (link.is_loopback, &link.kind, driver(&link.name)) {
        (true, ..) => "loopback".to_owned(),
        (_, Some(kind), _) => kind.clone(),
        (_, None, Ok(driver)) => driver,
        (_, None, Err(_)) => "of a driver that does not tell its name".to_owned(),
    };
    let state = if link.is_up { "" } else { ", down" };
    let value = format!("{} bytes, qdisc {}, {kind}{state}", link.mtu, link.qdisc);
    check.found(Verdict::Information, value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_shares_pages() {
        let checks = checks(Some("lo")).unwrap();
        let check = checks.iter().find(|check| check.name == "interface.scatter_gather").unwrap();
        assert_eq!(check.measured["shares_pages"], true);
        assert_eq!(check.verdict, Verdict::Good);
        assert!(super::checks(Some("no-such")).unwrap_err().to_string().contains("lo"));
    }

    #[test]
    fn a_table_of_names_is_enough_and_garbage_is_no_interface() {
        let found = from_table("\n\n lo: 1\n eth0: 2\n");
        assert!(found[0].is_loopback && !found[1].is_loopback);
        assert_eq!(from_table("x\ny\nz\n: 1\n"), []);
    }
}
