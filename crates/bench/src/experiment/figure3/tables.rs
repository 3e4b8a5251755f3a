//! Tables: a row for each size.

use super::findings::{CPU, Called, FIRST, Figure, Findings, HELD};
use super::{BLOCKING, OURS, POLLING, WAYS};
use crate::experiment::downloads::Window;
use crate::harness::interval::Interval;
use crate::harness::plot::size_label;
use crate::harness::report::Table;

/// Microseconds with so many digits as mean something.
pub(super) fn micros(us: Option<f64>) -> String {
    match us {
        None => "—".to_owned(),
        Some(us) if us < 100.0 => format!("{us:.2}"),
        Some(us) => format!("{us:.0}"),
    }
}

/// How long callers were held, by way.
pub(super) fn held(findings: &Findings, network: &str) -> Table {
    let columns = [
        "",
        "blocking",
        "p99",
        "then unacked",
        "polling, in calls",
        "calls",
        "until all accepted",
        "ours",
        "p99",
        "until all accepted",
    ];
    let title = format!(
        "Over {network}: µs that handing a file over holds its caller, within whole transfers"
    );
    let mut table = Table::new(title, &columns);
    for cell in findings.of(network) {
        let of = |peer, figure: Figure| micros(cell.median(peer, figure));
        let held_p99: Figure = |window| window.report.as_ref().map_or(0.0, |of| of.held_us.p99);
        let accepted: Figure = |window| window.report.as_ref().map_or(0.0, |of| of.accepted_us.p50);
        let unacked: Figure = |window| window.report.as_ref().map_or(0.0, |of| of.unacked as f64);
        let calls: Figure = |window| {
            let of = window.report.as_ref();
            of.map_or(0.0, |of| of.calls as f64 / of.transfers.max(1) as f64)
        };
        table.row(vec![
            size_label(cell.contents.length),
            of(BLOCKING, HELD),
            of(BLOCKING, held_p99),
            cell.median(BLOCKING, unacked)
                .map_or_else(String::new, |bytes| size_label(bytes as u64)),
            of(POLLING, HELD),
            cell.median(POLLING, calls).map_or_else(String::new, |calls| format!("{calls:.0}")),
            of(POLLING, accepted),
            of(OURS, HELD),
            of(OURS, held_p99),
            of(OURS, accepted),
        ]);
    }
    table
}

/// Our call alone.
pub(super) fn called(findings: &Findings, network: &str) -> Option<Table> {
    let columns = ["", "idle p50", "p99", "p99.9", "max", "stuffed p50", "p99", "p99.9", "max"];
    let found: Vec<&Called> = findings.called(network).collect();
    let repetitions = found.first()?.calls.repetitions;
    let title = format!("Over {network}: µs of our call, {repetitions} times on each socket");
    let mut table = Table::new(title, &columns);
    for Called { length, calls, .. } in found {
        let mut row = vec![size_label(*length)];
        for of in [Some(&calls.idle_us), calls.stuffed_us.as_ref()] {
            row.extend(
                [
                    of.map(|of| of.p50),
                    of.map(|of| of.p99),
                    of.map(|of| of.p999),
                    of.map(|of| of.max),
                ]
                .map(micros),
            );
        }
        table.row(row);
    }
    Some(table)
}

/// When the first byte arrived.
pub(super) fn first(findings: &Findings, network: &str) -> Table {
    let mut columns = vec![String::new()];
    columns.extend(WAYS.map(|way| way.to_string()));
    columns.extend(WAYS.map(|way| format!("{way}, since asked")));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let title = format!(
        "Over {network}: µs from the beginning of the hand-over to the client's first byte (one \
         clock), and from its request"
    );
    let mut table = Table::new(title, &columns);
    for cell in findings.of(network) {
        let asked: Figure = |window| window.downloaded.first_us.p50;
        let mut row = vec![size_label(cell.contents.length)];
        row.extend(WAYS.map(|way| micros(cell.median(way, FIRST).filter(|us| *us > 0.0))));
        row.extend(WAYS.map(|way| micros(cell.median(way, asked))));
        table.row(row);
    }
    table
}

/// What everything cost until it was acknowledged.
pub(super) fn cpu(findings: &Findings, network: &str) -> Table {
    let mut columns = vec![String::new()];
    columns.extend(WAYS.map(|way| format!("{way} (thread)")));
    for what in ["", "threads: "] {
        columns.extend(["blocking", "polling"].map(|other| format!("{what}ours / {other}")));
    }
    columns.push("rounds".to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let title = format!(
        "Over {network}: µs of the server's core until all is acknowledged [95 % interval]"
    );
    let mut table = Table::new(title, &columns);
    for cell in findings.of(network) {
        let cost = |way| {
            let threads = cell.median(way, Window::threads_us);
            format!("{} ({})", micros(cell.median(way, CPU)), micros(threads))
        };
        let ratio = |other, figure: Figure| {
            cell.against(OURS, other, figure).map_or_else(|| "—".to_owned(), Interval::show)
        };
        let mut row = vec![size_label(cell.contents.length)];
        row.extend(WAYS.map(cost));
        for figure in [CPU, Window::threads_us] {
            row.extend([BLOCKING, POLLING].map(|other| ratio(other, figure)));
        }
        row.push(cell.verdict());
        table.row(row);
    }
    table
}
