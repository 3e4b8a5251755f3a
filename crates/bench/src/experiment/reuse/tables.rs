//! Tables: a row for each size, a column for each way.

use super::FAST;
use super::cell::{Figure, ReuseCell, Window};
use super::findings::Findings;
use crate::floor::reuse::Make;
use crate::harness::interval::Interval;
use crate::harness::report::Table;

/// Microseconds with so many digits as mean something.
fn micros(us: Option<f64>) -> String {
    match us {
        None => "—".to_owned(),
        Some(us) if us < 100.0 => format!("{us:.1}"),
        Some(us) => format!("{us:.0}"),
    }
}

fn table(title: &str, last: &str) -> Table {
    let mut columns = vec![String::new()];
    columns.extend(Make::ALL.map(|way| way.to_string()));
    columns.push(last.to_owned());
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    Table::new(title, &columns)
}

/// What images cost to make and send.
pub(super) fn cpu(findings: &Findings, network: &str) -> Table {
    let title = format!(
        "Over {network}: s/GiB of the server's core, making included (own thread; of that making)"
    );
    let mut table = table(&title, "rounds");
    for cell in findings.of(network) {
        let mut row = vec![cell.size.name.to_owned()];
        row.extend(Make::ALL.map(|way| {
            let of = |figure: Figure| {
                cell.median(way, figure).map_or_else(|| "—".to_owned(), |of| format!("{of:.3}"))
            };
            format!("{} ({}; {})", of(Window::core), of(Window::threads), of(Window::making))
        }));
        row.push(cell.verdict());
        table.row(row);
    }
    table
}

/// Each way by the first.
pub(super) fn compared(findings: &Findings, network: &str) -> Table {
    let is_fast = FAST.contains(&network);
    let figure: Figure = if is_fast { Window::core } else { Window::threads };
    let what = if is_fast { "core time" } else { "own thread's time" };
    let title = format!("Over {network}: {what} by that of `heap`, within rounds [95 % interval]");
    let mut table = table(&title, "rounds");
    for cell in findings.of(network) {
        let mut row = vec![cell.size.name.to_owned()];
        row.extend(Make::ALL.map(|way| {
            let interval = cell.against(way, Make::Heap, figure);
            interval.map_or_else(|| "—".to_owned(), Interval::show)
        }));
        row.push(cell.verdict());
        table.row(row);
    }
    table
}

/// What microseconds of an image are shown.
pub(super) type Moment = fn(&ReuseCell, Make) -> Option<f64>;

/// Moments after the first call, in microseconds.
pub(super) fn times(findings: &Findings, network: &str, what: &str, of: Moment) -> Table {
    let mut table = table(&format!("Over {network}: µs {what}"), "rounds");
    for cell in findings.of(network) {
        let mut row = vec![cell.size.name.to_owned()];
        row.extend(Make::ALL.map(|way| micros(of(cell, way))));
        row.push(cell.verdict());
        table.row(row);
    }
    table
}
