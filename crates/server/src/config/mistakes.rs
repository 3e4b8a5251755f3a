//! What is wrong with a configuration: everything, each with its place.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::ops::Range;

use super::source::{Place, Source};

/// One thing that is wrong.
#[derive(Clone, Debug)]
pub(super) struct Mistake {
    /// Bytes of the text.
    pub(super) span: Range<usize>,
    /// What is wrong; what was expected; what was perhaps meant.
    pub(super) message: String,
    /// That something is not there, which may only seem so where the text
    /// could not be read.
    pub(super) is_absence: bool,
}

/// Mistakes that are shown: whoever has more of them gives us the wrong file.
const SHOWN: usize = 1000;

/// All mistakes of a file, in its order, as an operator reads them:
/// `file:line:column: message`, and the line.
#[derive(Debug)]
pub(crate) struct Mistakes {
    count: usize,
    file: String,
    /// With where they are, for tests.
    shown: Vec<(Place, String)>,
}

impl Mistakes {
    /// `None` when there is none.
    pub(super) fn of(source: &Source<'_>, mut mistakes: Vec<Mistake>) -> Option<Self> {
        if mistakes.is_empty() {
            return None;
        }
        mistakes.sort_by_key(|mistake| (mistake.span.start, mistake.span.end));
        let shown = mistakes.iter().take(SHOWN).map(|mistake| {
            let place @ Place { line, column } = source.place(mistake.span.start);
            let excerpt = source.excerpt(&mistake.span);
            let path = source.path.display();
            (place, format!("{path}:{line}:{column}: {}\n{excerpt}", mistake.message))
        });
        let file = source.path.display().to_string();
        Some(Mistakes { count: mistakes.len(), file, shown: shown.collect() })
    }

    #[cfg(test)]
    pub(super) fn count(&self) -> usize {
        self.count
    }

    #[cfg(test)]
    pub(super) fn places(&self) -> impl Iterator<Item = Place> {
        self.shown.iter().map(|(place, _)| *place)
    }
}

impl Display for Mistakes {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let plural = if self.count == 1 { "" } else { "s" };
        writeln!(f, "{} mistake{plural} in {}", self.count, self.file)?;
        let text: String = self.shown.iter().map(|(_, text)| text.as_str()).collect();
        write!(f, "{}", text.trim_end_matches('\n'))?;
        match self.count - self.shown.len() {
            0 => Ok(()),
            more => write!(f, "\nand {more} more"),
        }
    }
}

impl Error for Mistakes {}

/// The one of `known` that `word` was perhaps meant to be.
pub(super) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    // Nobody's slip is longer than any key, and the comparison is quadratic.
    if word.len() > 64 {
        return None;
    }
    let word = word.to_ascii_lowercase().replace('-', "_");
    let near = known.into_iter().map(|key| (strsim::jaro_winkler(&word, key), key));
    let near = near.filter(|(likeness, _)| *likeness > 0.8);
    near.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, key)| key)
}

/// `` `a`, `b` and `c` ``.
pub(super) fn listed(words: &[&str], last: &str) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
    match quoted.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., end] => format!("{} {last} {end}", most.join(", ")),
    }
}

/// A value of the file inside a message: short, without control characters.
pub(super) fn quoted(text: &str) -> String {
    let short: String = text.chars().take(80).flat_map(char::escape_debug).collect();
    // Quotes mean nothing between backquotes.
    let short = short.replace("\\\"", "\"").replace("\\'", "'");
    if text.chars().nth(80).is_some() { format!("`{short}…`") } else { format!("`{short}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_key_is_suggested_and_no_distant_one() {
        let keys = ["listen", "listing", "hosts", "strip_prefix"];
        assert_eq!(nearest("lisen", keys), Some("listen"));
        assert_eq!(nearest("strip-prefix", keys), Some("strip_prefix"));
        assert_eq!(nearest("Hosts", keys), Some("hosts"));
        assert_eq!(nearest("zebra", keys), None);
        assert_eq!(nearest(&"listen".repeat(100), keys), None);
    }

    #[test]
    fn values_in_messages_are_short_and_printable() {
        assert_eq!(quoted("a\u{1b}\"b\""), "`a\\u{1b}\"b\"`");
        assert!(quoted(&"x".repeat(500)).chars().count() < 90);
        assert_eq!(listed(&["a", "b", "c"], "or"), "`a`, `b` or `c`");
    }
}
