//! Tables and verdicts, as text.

use std::fmt::{self, Display, Write};

use super::statistics::Spread;

/// Lines under a title, in columns: the first to the left, the others to the right.
#[derive(Debug)]
pub(crate) struct Table {
    title: String,
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(crate) fn new(title: impl Into<String>, columns: &[&str]) -> Self {
        let head = columns.iter().map(|&column| column.to_owned()).collect();
        Self { title: title.into(), rows: vec![head] }
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }
}

impl Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column));
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        writeln!(f, "{}", self.title)?;
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                if column == 0 {
                    write!(line, "  {cell:<width$}")?;
                } else {
                    write!(line, "  {cell:>width$}")?;
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// `median (min–max)`, with so many digits behind the point.
pub(crate) fn spread(spread: Option<Spread>, digits: usize) -> String {
    spread.map_or_else(
        || "—".to_owned(),
        |Spread { median, min, max }| format!("{median:.digits$} ({min:.digits$}–{max:.digits$})"),
    )
}

/// A figure that must not be above a bound.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub(crate) struct Target {
    pub(crate) name: String,
    pub(crate) bound: f64,
    /// `None` when it was not measured.
    pub(crate) value: Option<f64>,
}

impl Target {
    pub(crate) fn is_missed(&self) -> bool {
        self.value.is_some_and(|value| value > self.bound)
    }

    fn verdict(&self) -> &'static str {
        match self.value {
            None => "not measured",
            Some(_) if self.is_missed() => "MISSED",
            Some(_) => "met",
        }
    }
}

/// All targets with their verdicts.
pub(crate) fn verdicts(targets: &[Target]) -> Table {
    let mut table = Table::new("Targets", &["", "at most", "measured", "verdict"]);
    for target in targets {
        let value = target.value.map_or_else(|| "—".to_owned(), |value| format!("{value:.2}"));
        let bound = format!("{:.2}", target.bound);
        table.row(vec![target.name.clone(), bound, value, target.verdict().to_owned()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_by_characters() {
        let mut table = Table::new("T", &["", "µs"]);
        table.row(vec!["nginx".into(), "10".into()]);
        table.row(vec!["a".into(), "1–2".into()]);
        assert_eq!(table.to_string(), "T\n          µs\n  nginx   10\n  a      1–2\n");
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_unknown_without_a_figure() {
        let target = |value| Target { name: String::new(), bound: 1.0, value };
        assert_eq!(target(Some(1.0)).verdict(), "met");
        assert_eq!(target(Some(1.01)).verdict(), "MISSED");
        assert_eq!(target(None).verdict(), "not measured");
        assert!(!target(None).is_missed());
    }

    #[test]
    fn a_spread_shows_its_ends() {
        let figures = Spread::of(&[1.0, 2.0, 4.0]);
        assert_eq!(spread(figures, 1), "2.0 (1.0–4.0)");
        assert_eq!(spread(None, 1), "—");
    }
}
