//! Bounds of spools: what all have together, and what one body has.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use bytesize::ByteSize;
use sluicegate::SpoolOptions;
use sluicegate::os::probe::unnamed_file;

use super::memory;
use super::mistakes::quoted;
use super::model::{SPOOL_MEMORY, SPOOL_SHARE, spool};
use super::parse;
use super::schema;
use super::table::{Item, Reader, Table};

/// A partition of less is all overhead, one of more is no partition.
const UNIT: std::ops::RangeInclusive<ByteSize> = ByteSize::kib(4)..=ByteSize::mib(16);

/// Sizes that no machine has are slips of a unit.
const MOST: ByteSize = ByteSize::tib(1);

/// What `[spool]` says: the budget of all, and the bounds of those that do not
/// have their own.
pub(super) fn top(reader: &Reader<'_>, top: &Table<'_>) -> (u64, SpoolOptions) {
    let table = top.get("spool");
    let table = table.and_then(|item| item.table(reader, &schema::SPOOL, "a table, `[spool]`"));
    let budget = table.as_ref().and_then(|table| table.get("memory_budget"));
    let expected = "a share of the memory or a size, such as \"25%\" or \"2GiB\"";
    let budget = budget.and_then(|item| item.parsed(reader, expected, memory_budget));
    let mut options = spool();
    if let Some(table) = table {
        read(reader, &table, &mut options);
    }
    (budget.unwrap_or_else(default_budget), options)
}

/// What all spools may have together where nothing is said.
pub(crate) fn default_budget() -> u64 {
    memory::share(SPOOL_SHARE)
}

/// Hundredths of this machine's memory, or a size.
fn memory_budget(text: &str) -> Result<u64, String> {
    let expected = || "expected 1% to 90%, or a size with its unit, such as 2GiB".to_owned();
    let Some(hundredths) = text.strip_suffix('%') else {
        return parse::size(text).map(|size| size.as_u64()).map_err(|_| expected());
    };
    let number = hundredths.trim_end().parse().ok().filter(|number| (1..=90).contains(number));
    number.map(memory::share).ok_or_else(expected)
}

/// Changes what a table says.
pub(super) fn read(reader: &Reader<'_>, table: &Table<'_>, options: &mut SpoolOptions) {
    let boolean = |key| table.get(key).and_then(|item: Item<'_>| item.boolean(reader));
    options.pipes = boolean("pipes").unwrap_or(options.pipes);
    options.memory_ring = boolean("memory_ring").unwrap_or(options.memory_ring);
    if let Some(item) = table.get("memory") {
        let is_auto = item.value().as_str() == Some("auto");
        let size = if is_auto { Some(ByteSize(SPOOL_MEMORY)) } else { bound(reader, &item) };
        options.memory = size.map_or(options.memory, |size| size.as_u64());
    }
    let unit = table.get("unit").and_then(|item| item.size(reader, UNIT));
    let unit = unit.and_then(|unit| usize::try_from(unit.as_u64()).ok());
    options.unit = unit.unwrap_or(options.unit);
    let disk = table.get("disk");
    let given = disk.and_then(|item| bound(reader, &item));
    options.disk = given.map_or(options.disk, |size| size.as_u64());
    let directory = table.get("directory");
    if let Some(path) = directory.and_then(|item| path(reader, &item)) {
        options.directory = path;
    }
    if let Err(reason) = bounds(options) {
        let item = disk.or(table.get("unit"));
        reader.mistake(item.map_or_else(|| table.span.clone(), |item| item.span()), reason);
    }
    if options.disk > 0
        && let Some(item) = directory.or(disk)
        && let Err(reason) = usable(reader, &options.directory)
    {
        let shown = quoted(&options.directory.to_string_lossy());
        let hint = if directory.is_some() { "" } else { "; expected a `directory` for the ring" };
        reader.mistake(item.span(), format_args!("the directory {shown} {reason}{hint}"));
    }
}

/// Whether a disk ring has its parts.
pub(crate) fn bounds(options: &SpoolOptions) -> Result<(), String> {
    // A ring of one partition could only be written or sent.
    let least = 2 * options.unit as u64;
    if options.disk == 0 || options.disk >= least {
        return Ok(());
    }
    let (disk, unit) = (ByteSize(options.disk), ByteSize(options.unit as u64));
    let least = ByteSize(least);
    Err(format!(
        "a ring of {disk} has no two units of {unit}; expected 0 for none, or {least} and more"
    ))
}

fn bound(reader: &Reader<'_>, item: &Item<'_>) -> Option<ByteSize> {
    item.size(reader, ByteSize(0)..=MOST)
}

fn path(reader: &Reader<'_>, item: &Item<'_>) -> Option<PathBuf> {
    let expected = "a directory, such as \"/var/tmp\"";
    item.parsed(reader, expected, |text| match text.is_empty() || text.contains('\0') {
        true => Err(format!("expected {expected}")),
        false => Ok(reader.path(text)),
    })
}

/// Whether files can be made there. Directories that many routes share are tried
/// once.
fn usable(reader: &Reader<'_>, directory: &Path) -> Result<(), String> {
    let mut known = reader.spools.borrow_mut();
    if let Some(known) = known.get(directory) {
        return known.clone();
    }
    let usable = look(directory);
    known.insert(directory.to_owned(), usable.clone());
    usable
}

/// Whether a ring of files can be in a directory.
pub(crate) fn look(directory: &Path) -> Result<(), String> {
    let opened = unnamed_file(directory).map(drop);
    opened.map_err(|error| match error.kind() {
        ErrorKind::NotFound => "is missing".to_owned(),
        ErrorKind::NotADirectory => "is no directory".to_owned(),
        ErrorKind::PermissionDenied => "may not be written: permission denied".to_owned(),
        ErrorKind::Unsupported | ErrorKind::IsADirectory => {
            "is on a file system without unnamed files (O_TMPFILE)".to_owned()
        }
        _ => format!("takes no files: {error}"),
    })
}
