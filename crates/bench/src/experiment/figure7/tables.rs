//! Tables: a row for each size, a column for each way.

use super::comparison::{Comparison, Figure, others};
use super::counts::{CallsOfWay, PacketsOfSize};
use crate::floor::figure7::Join;
use crate::harness::distance::Apart;
use crate::harness::report::Table;

/// Some columns, and one for each way.
fn columns(first: &[&str]) -> Vec<String> {
    let first = first.iter().map(|&column| column.to_owned());
    first.chain(Join::ALL.map(|join| join.to_string())).collect()
}

fn table(title: &str, columns: &[String]) -> Table {
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    Table::new(title, &columns)
}

/// Medians with their digits, near and far: the first figure, the others in parentheses behind it.
pub(super) fn figures(title: &str, sizes: &[Comparison<'_>], of: &[(Figure, usize)]) -> Table {
    let mut table = table(title, &columns(&["", "cores"]));
    for apart in Apart::BOTH {
        for comparison in sizes {
            let cell = |join: Join| {
                let median = |&(figure, digits): &(Figure, usize)| {
                    Some(format!("{:.digits$}", comparison.median(join, apart, figure)?))
                };
                let medians: Vec<String> = of.iter().map(median).collect::<Option<_>>()?;
                let (first, others) = medians.split_first()?;
                let others = others.join(", ");
                Some(if others.is_empty() { first.clone() } else { format!("{first} ({others})") })
            };
            let Some(cells) = Join::ALL.into_iter().map(cell).collect::<Option<Vec<_>>>() else {
                continue;
            };
            let first = vec![comparison.size.name(), apart.to_string()];
            table.row([first, cells].concat());
        }
    }
    table
}

/// Ours by each other.
pub(super) fn comparisons(title: &str, sizes: &[Comparison<'_>]) -> Table {
    let title =
        format!("{title}: core time of ours by that of each other, within rounds [95 % interval]");
    let columns = ["", "/ separate", "/ cork", "/ writev", "/ more", "file / more", "rounds"];
    let mut table = Table::new(title, &columns);
    for comparison in sizes {
        let show = |one: Join, other: Join| {
            comparison.against(one, other).map_or_else(|| "—".to_owned(), |of| of.show())
        };
        let mut row = vec![comparison.size.name()];
        row.extend(others().map(|other| show(Join::Ours, other)));
        row.push(show(Join::OursFile, Join::More));
        row.push(comparison.cell.verdict_in_short());
        table.row(row);
    }
    table
}

/// Packets of each answer.
pub(super) fn packets(title: &str, counts: &[&PacketsOfSize]) -> Table {
    let title = format!(
        "{title}: segments with data for each answer (TCP_INFO; in parentheses frames of the device)"
    );
    let mut table = table(&title, &columns(&["", "bytes", "least"]));
    for PacketsOfSize { size, least, packets, .. } in counts {
        let bytes = packets.first().map_or(0, |packets| packets.bytes);
        let mut row = vec![size.name(), bytes.to_string(), least.to_string()];
        row.extend(packets.iter().map(|packets| match packets.frames {
            Some(frames) => format!("{} ({frames:.2})", packets.segments),
            None => packets.segments.to_string(),
        }));
        table.row(row);
    }
    table
}

/// System calls of each request.
pub(super) fn called(calls: &[CallsOfWay]) -> Table {
    let title = "Head and file over lo, 1 connection: system calls per request (strace -f -c)";
    let mut table = Table::new(title, &["", "way", "calls", "of which"]);
    for calls in calls {
        let total = format!("{:.2}", calls.total());
        let (size, join) = (calls.size.name(), calls.join.to_string());
        table.row(vec![size, join, total, calls.breakdown()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_column_for_each_way_and_one_for_each_comparison() {
        assert_eq!(columns(&["a"])[..3], ["a", "separate", "cork"]);
        assert_eq!(
            others().map(|join| join.to_string()).collect::<Vec<_>>(),
            ["separate", "cork", "writev", "more"]
        );
    }
}
