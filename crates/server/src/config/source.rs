//! The text of a configuration, and where in it something is.

use std::fmt::Write;
use std::ops::Range;
use std::path::Path;

/// Characters of a line that are shown around a mistake.
const SHOWN: usize = 120;

/// The byte order mark that some editors begin UTF-8 with.
const MARK: char = '\u{feff}';

/// A file's name and text.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// As the operator named it.
    pub(super) path: &'a Path,
    pub(super) text: &'a str,
    /// Where each line begins, in bytes.
    lines: Vec<usize>,
}

/// A place that editors find: both from 1, the column in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
}

impl<'a> Source<'a> {
    pub(super) fn new(path: &'a Path, text: &'a str) -> Self {
        let ends = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let lines = std::iter::once(0).chain(ends.map(|(at, _)| at + 1)).collect();
        Source { path, text, lines }
    }

    /// The line, from 1, of the byte at `at`.
    pub(super) fn line_of(&self, at: usize) -> usize {
        self.lines.partition_point(|start| *start <= at).max(1)
    }

    /// Where a line begins.
    fn start(&self, line: usize) -> usize {
        self.lines.get(line.saturating_sub(1)).copied().unwrap_or(self.text.len())
    }

    /// Where the byte at `at` is; the end of the text for what is beyond it.
    pub(super) fn place(&self, at: usize) -> Place {
        let at = self.text.floor_char_boundary(at);
        let line = self.line_of(at);
        let before = self.text.get(self.start(line)..at).unwrap_or_default();
        // A mark of the encoding at the beginning is no column.
        let column = before.trim_start_matches(MARK).chars().count() + 1;
        Place { line, column }
    }

    /// A line, counted from 1, without its end.
    pub(super) fn line(&self, number: usize) -> &'a str {
        let text = self.text.get(self.start(number)..).unwrap_or_default();
        text.lines().next().unwrap_or_default()
    }

    /// The line at `span`, with carets beneath what is meant.
    ///
    /// ```text
    ///   7 | liste = ["127.0.0.1:80"]
    ///     | ^^^^^
    /// ```
    pub(super) fn excerpt(&self, span: &Range<usize>) -> String {
        let [from, to] = [span.start, span.end].map(|at| self.text.floor_char_boundary(at));
        let number = self.line_of(from);
        let line = self.line(number);
        // A place may be in the middle of the line's own end.
        let at = from.saturating_sub(self.start(number)).min(line.len());
        let (before, after) = line.split_at_checked(at).unwrap_or((line, ""));
        // Of a long line what is around the place.
        let skipped = before.char_indices().rev().nth(SHOWN / 2).map_or(0, |(at, _)| at);
        let before = before.get(skipped..).unwrap_or_default().trim_start_matches(MARK);
        let before: String = before.chars().map(visible).collect();
        let after: String = after.chars().take(SHOWN / 2).map(visible).collect();
        let spanned = self.text.get(from..to).unwrap_or_default().chars();
        let spanned = spanned.take(SHOWN / 2).take_while(|c| *c != '\n').count();
        let carets = "^".repeat(spanned.min(after.chars().count()).max(1));
        // A tab stays one, so that the carets stand where the text does.
        let space: String = before.chars().map(|c| if c == '\t' { c } else { ' ' }).collect();
        let mut out = String::new();
        let _ = writeln!(out, "  {number} | {before}{after}");
        let _ =
            writeln!(out, "  {:width$} | {space}{carets}", "", width = number.to_string().len());
        out
    }
}

/// What a terminal may be given: no control sequences.
fn visible(c: char) -> char {
    if c.is_control() && c != '\t' { '\u{fffd}' } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_count_lines_and_characters() {
        let source = Source::new(Path::new("a.toml"), "ab\nä = 1\r\n\n");
        let place = |at| {
            let Place { line, column } = source.place(at);
            (line, column)
        };
        assert_eq!(place(0), (1, 1));
        assert_eq!(place(3), (2, 1));
        // In the middle of a character is at it.
        assert_eq!(place(4), (2, 1));
        assert_eq!(place(5), (2, 2));
        assert_eq!(place(usize::MAX), (4, 1));
        assert_eq!(Source::new(Path::new("a"), "").place(7), Place { line: 1, column: 1 });
    }

    #[test]
    fn carets_stand_beneath_what_is_meant() {
        let source = Source::new(Path::new("a.toml"), "x = 1\n\tky = \"\u{1b}[2J\"\n");
        assert_eq!(source.excerpt(&(7..9)), "  2 | \tky = \"\u{fffd}[2J\"\n    | \t^^\n");
        assert_eq!(source.excerpt(&(0..99)), "  1 | x = 1\n    | ^^^^^\n");
        let long = format!("{}here{}", "x".repeat(5000), "y".repeat(5000));
        let source = Source::new(Path::new("a.toml"), &long);
        let excerpt = source.excerpt(&(5000..5004));
        assert!(excerpt.len() < 400 && excerpt.contains("xhere"), "{excerpt}");
        let (line, carets) = excerpt.split_once('\n').unwrap();
        assert_eq!(line.find("here"), carets.find("^^^^"));
    }
}
