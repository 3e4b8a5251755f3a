//! What an operator can choose about a directory of files.

use sluicegate::file::Links;
use sluicegate_http::{BadField, Coding, Fields};

/// Names that a directory is answered with when it is asked for by its name
/// and a slash, unless others are given.
pub(crate) const INDEX: &str = "index.html";

/// How a directory of files is served.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Options {
    /// Names of a directory's own page; the first that is there is served.
    pub(crate) index: Vec<String>,
    /// Whether a directory without an index shows its contents.
    pub(crate) listing: bool,
    /// The file for paths that lead to nothing, beneath the root: the page of
    /// a single-page application. Served with 200.
    pub(crate) fallback: Option<Vec<u8>>,
    /// Files, beneath the root, that take the place of our own error pages.
    pub(crate) error_pages: Vec<(u16, Vec<u8>)>,
    /// Values of Cache-Control, the longest prefix first.
    pub(crate) cache_control: Vec<CacheControl>,
    /// Which symbolic links are followed.
    pub(crate) links: Links,
    /// Whether names that begin with a dot are served. `.well-known` always is.
    pub(crate) dotfiles: bool,
    /// Encodings whose neighbours (`page.html.br`) are looked for, the most
    /// wanted first.
    pub(crate) precompressed: Vec<Coding>,
    /// Prefixes beneath which files are edited in place while they are served:
    /// those are sent from copies. An empty one is all files.
    pub(crate) in_place_edits: Vec<Vec<u8>>,
    /// Files of at most so many bytes are kept in memory, ready to be sent.
    pub(crate) in_memory: u64,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            index: vec![INDEX.to_owned()],
            listing: false,
            fallback: None,
            error_pages: Vec::new(),
            cache_control: Vec::new(),
            links: Links::Inside,
            dotfiles: false,
            precompressed: Coding::COMPRESSED.to_vec(),
            in_place_edits: Vec::new(),
            in_memory: sluicegate::MEMORY_UP_TO,
        }
    }
}

impl Options {
    /// The value of Cache-Control for the file at `path`, a normal form.
    pub(crate) fn cache_control(&self, path: &[u8]) -> Option<&str> {
        let rule = self.cache_control.iter().find(|rule| path.starts_with(&rule.prefix));
        rule.map(|rule| rule.value.as_str())
    }

    /// Whether the file at `path`, a normal form, is edited in place.
    pub(crate) fn is_edited_in_place(&self, path: &[u8]) -> bool {
        self.in_place_edits.iter().any(|prefix| path.starts_with(prefix))
    }

    /// The file that takes the place of the page of `status`.
    pub(crate) fn error_page(&self, status: u16) -> Option<&[u8]> {
        let page = self.error_pages.iter().find(|(of, _)| *of == status);
        page.map(|(_, path)| path.as_slice())
    }

    /// Brings what was given in any order into the order that is looked up.
    pub(crate) fn settle(&mut self) {
        self.cache_control.sort_by_key(|rule| std::cmp::Reverse(rule.prefix.len()));
    }
}

/// What Cache-Control says of the files beneath a prefix.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct CacheControl {
    /// The beginning of the normal form; empty for all files.
    pub(crate) prefix: Vec<u8>,
    /// The field's value.
    pub(crate) value: String,
}

impl CacheControl {
    /// A rule whose value can be sent.
    ///
    /// # Errors
    /// [`BadField`] for a control byte in the value.
    pub(crate) fn new(prefix: Vec<u8>, value: String) -> Result<Self, BadField> {
        Fields::default().add("Cache-Control", &value)?;
        Ok(CacheControl { prefix, value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_prefix_says_how_long_a_file_may_be_kept() {
        let rule = |prefix: &str, value: &str| {
            CacheControl::new(prefix.as_bytes().to_vec(), value.to_owned()).unwrap()
        };
        let mut options = Options {
            cache_control: vec![rule("", "no-cache"), rule("assets/", "max-age=9")],
            ..Options::default()
        };
        options.settle();
        assert_eq!(options.cache_control(b"assets/a.js"), Some("max-age=9"));
        assert_eq!(options.cache_control(b"assets"), Some("no-cache"));
        assert!(CacheControl::new(Vec::new(), "a\r\nb".to_owned()).is_err());
    }
}
