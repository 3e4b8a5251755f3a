//! What the operator is told while the program runs, on standard error.

use std::fmt::Arguments;
use std::io::Write;

/// Writes one line. A standard error that is closed, or whose reader is gone,
/// is no reason to stop serving, which `eprintln!` would by its panic.
pub(crate) fn tell(line: Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "sluicegate: {line}");
}
