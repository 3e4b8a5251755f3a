//! Tables: a row for each wire and backing, a column for each way; and what rings did.

use super::cell::Cell;
use super::findings::Findings;
use super::sizes::show;
use super::ways::Way;
use crate::harness::report::Table;

/// A row for each wire, backing and number of readers, a column for each way.
fn by_way(findings: &Findings, title: &str, figure: fn(&Cell) -> String) -> Table {
    let mut columns = vec!["".to_owned(), "on".to_owned(), "readers".to_owned()];
    columns.extend(Way::ALL.map(|way| way.to_string()));
    let columns: Vec<&str> = columns.iter().map(String::as_str).collect();
    let mut table = Table::new(title, &columns);
    let mut rows: Vec<_> = Vec::new();
    for cell in &findings.cells {
        let key = (cell.wire, cell.plan.backing, cell.plan.readers);
        if !rows.contains(&key) {
            rows.push(key);
        }
    }
    for key in rows {
        let (wire, backing, readers) = key;
        let mut row = vec![wire.to_owned(), backing.to_string(), readers.to_string()];
        row.extend(Way::ALL.map(|way| {
            let mut cells = findings.cells.iter();
            let cell = cells.find(|cell| {
                (cell.wire, cell.plan.backing, cell.plan.readers) == key && cell.plan.way == way
            });
            cell.map_or_else(|| "—".to_owned(), figure)
        }));
        table.row(row);
    }
    table
}

/// What was wrong of what arrived.
pub(super) fn corrupted(findings: &Findings) -> Table {
    by_way(findings, "Corrupted bytes (of a hundred that were sent)", |cell| {
        match cell.got.corrupted {
            0 => "0".to_owned(),
            bytes => format!("{bytes} ({:.2})", cell.share()),
        }
    })
}

/// How much that was, and how long it took.
pub(super) fn sent(findings: &Findings) -> Table {
    by_way(findings, "Sent to each reader, and seconds", |cell| {
        format!("{} {:.0} s", show(cell.plan.length), cell.seconds)
    })
}

/// Partitions by proof, and bytes by path.
pub(super) fn accounts(findings: &Findings) -> Table {
    let columns = [
        "",
        "on",
        "readers",
        "reused",
        "copied",
        "released",
        "acked",
        "replaced",
        "first",
        "quarantined",
        "MiB copied",
        "sendfile",
        "zerocopy",
        "copied out",
    ];
    let title = "(c): partitions by the proof that freed them, and bytes by their way (MiB)";
    let mut table = Table::new(title, &columns);
    for cell in &findings.cells {
        let Some(of) = &cell.account else { continue };
        let mut row = vec![
            cell.wire.to_owned(),
            cell.plan.backing.to_string(),
            cell.plan.readers.to_string(),
        ];
        let proofs =
            [of.reused(), of.copied, of.released, of.acked, of.replaced, of.unsent, of.quarantined];
        row.extend(proofs.map(|count| count.to_string()));
        let bytes = [of.bytes_copied, of.bytes_sendfile, of.bytes_zerocopy, of.bytes_copied_out];
        row.extend(bytes.map(|bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20))));
        table.row(row);
    }
    table
}
