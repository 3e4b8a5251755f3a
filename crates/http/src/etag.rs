//! Entity tags. RFC 9110 section 8.8.3.

use std::fmt;

/// The longest tag of ours, in bytes between the quotes: room for a SHA-512 in base64.
pub const OPAQUE: usize = 88;

/// The bytes of `W/"` and of the closing quote.
const FRAME: usize = 4;

/// An entity tag that we send. Kept in place, so that making one allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct EntityTag {
    /// The field value: `"opaque"` or `W/"opaque"`, ASCII.
    text: [u8; OPAQUE + FRAME],
    len: u8,
}

impl EntityTag {
    /// A strong tag: equal tags promise equal bytes. RFC 9110 section 8.8.1.
    ///
    /// `None` if `opaque` is longer than [`OPAQUE`] or holds anything but printable ASCII without
    /// quote and space (`etagc` of RFC 9110 section 8.8.3, without obs-text).
    #[must_use]
    pub fn strong(opaque: &str) -> Option<Self> {
        Self::new(b"\"", opaque)
    }

    /// A weak tag: equal tags promise equal meaning. As [`strong`](Self::strong) otherwise.
    #[must_use]
    pub fn weak(opaque: &str) -> Option<Self> {
        Self::new(b"W/\"", opaque)
    }

    /// The strong tag of a file: its length in bytes, its modification time in nanoseconds since
    /// the epoch and its inode, in hexadecimal.
    ///
    /// The inode catches what the time does not: a file replaced by `rename` within one tick of the
    /// kernel's clock. A file rewritten *in place*, to the same length, within one tick (4 ms on
    /// many kernels) keeps its tag; nothing short of reading it could tell.
    #[must_use]
    pub fn of_file(len: u64, mtime_ns: i128, ino: u64) -> Self {
        let mut tag = Self { text: [0; OPAQUE + FRAME], len: 0 };
        tag.push(b'"');
        // The low 64 bits of the time are 584 years: two times of one file never share them.
        for (index, number) in [len, mtime_ns as u64, ino].into_iter().enumerate() {
            if index > 0 {
                tag.push(b'-');
            }
            let digits = (16 - number.leading_zeros() / 4).max(1);
            for digit in (0..digits).rev() {
                tag.push(b"0123456789abcdef"[(number >> (digit * 4) & 15) as usize]);
            }
        }
        tag.push(b'"');
        tag
    }

    fn new(open: &[u8], opaque: &str) -> Option<Self> {
        if opaque.len() > OPAQUE
            || !opaque.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'"')
        {
            return None;
        }
        let mut tag = Self { text: [0; OPAQUE + FRAME], len: 0 };
        open.iter().copied().chain(opaque.bytes()).chain([b'"']).for_each(|byte| tag.push(byte));
        Some(tag)
    }

    /// Callers never pass more than the array holds; a byte beyond it would be dropped.
    fn push(&mut self, byte: u8) {
        if let Some(slot) = self.text.get_mut(usize::from(self.len)) {
            *slot = byte;
            self.len += 1;
        }
    }

    /// The field value of ETag.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.text
            .get(..usize::from(self.len))
            .and_then(|text| str::from_utf8(text).ok())
            .unwrap_or_default()
    }

    /// Whether it is weak.
    #[must_use]
    pub fn is_weak(&self) -> bool {
        self.text[0] == b'W'
    }

    /// The tag as a client's is read.
    #[must_use]
    pub fn received(&self) -> ReceivedTag<'_> {
        let text = self.as_str().as_bytes();
        let opaque = text.get(if self.is_weak() { 3 } else { 1 }..text.len().saturating_sub(1));
        ReceivedTag { weak: self.is_weak(), opaque: opaque.unwrap_or_default() }
    }
}

impl fmt::Debug for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for EntityTag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An entity tag in a field of a client, of any length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReceivedTag<'a> {
    /// Whether it began with `W/`.
    pub weak: bool,
    /// The bytes between the quotes.
    pub opaque: &'a [u8],
}

impl<'a> ReceivedTag<'a> {
    /// A field value that is one tag and nothing else, as in If-Range.
    #[must_use]
    pub fn parse(value: &'a [u8]) -> Option<Self> {
        match Self::split(value)? {
            (tag, []) => Some(tag),
            _ => None,
        }
    }

    /// Both strong and equal. RFC 9110 section 8.8.3.2.
    #[must_use]
    pub fn strong_eq(self, other: ReceivedTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Equal, whether weak or not. RFC 9110 section 8.8.3.2.
    #[must_use]
    pub fn weak_eq(self, other: ReceivedTag<'_>) -> bool {
        self.opaque == other.opaque
    }

    /// RFC 9110 section 8.8.3: entity-tag = [ %s"W/" ] DQUOTE *etagc DQUOTE.
    fn split(value: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let (weak, quoted) = match value.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, value),
        };
        let rest = quoted.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', rest)?;
        let opaque = rest.get(..end)?;
        // No backslash escapes in a tag: `\` is an etagc like any other.
        if opaque.iter().any(|&byte| byte <= b' ' || byte == 0x7f) {
            return None;
        }
        Some((Self { weak, opaque }, rest.get(end + 1..)?))
    }
}

/// The tags of an If-Match or If-None-Match value, up to the first that is malformed.
///
/// What follows a malformed tag matches nothing: If-Match fails and If-None-Match sends the whole
/// representation, the safe side of both.
#[derive(Clone, Debug)]
pub struct TagList<'a> {
    rest: &'a [u8],
}

impl<'a> TagList<'a> {
    /// The tags of one field value that is not `*`.
    #[must_use]
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: value }
    }
}

impl<'a> Iterator for TagList<'a> {
    type Item = ReceivedTag<'a>;

    fn next(&mut self) -> Option<ReceivedTag<'a>> {
        // RFC 9110 section 5.6.1.2: empty list members are ignored.
        let start = self.rest.iter().position(|byte| !matches!(byte, b' ' | b'\t' | b','))?;
        let split = self.rest.get(start..).and_then(ReceivedTag::split);
        self.rest = b"";
        let (tag, rest) = split?;
        let after =
            rest.iter().position(|byte| !matches!(byte, b' ' | b'\t')).unwrap_or(rest.len());
        self.rest = rest.get(after..).unwrap_or_default();
        if !matches!(self.rest.first(), None | Some(b',')) {
            self.rest = b"";
            return None;
        }
        Some(tag)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_a_strong_tag_of_length_time_and_inode() {
        assert_eq!(EntityTag::of_file(0x1000, 0xabcdef, 0).as_str(), "\"1000-abcdef-0\"");
        let longest = EntityTag::of_file(u64::MAX, -1, u64::MAX);
        assert_eq!(longest.as_str().len(), 2 + 3 * 16 + 2);
        assert!(!longest.is_weak());
    }

    #[test]
    fn tags_hold_printable_ascii_up_to_their_room() {
        assert_eq!(EntityTag::strong("a,b").unwrap().as_str(), "\"a,b\"");
        assert_eq!(EntityTag::weak("").unwrap().as_str(), "W/\"\"");
        assert_eq!(EntityTag::weak(&"x".repeat(OPAQUE)).unwrap().as_str().len(), OPAQUE + FRAME);
        for bad in ["a b", "a\"b", "ä", "\n", &"x".repeat(OPAQUE + 1)] {
            assert_eq!(EntityTag::strong(bad), None, "{bad}");
        }
        let tag = EntityTag::weak("v1").unwrap();
        assert_eq!(ReceivedTag::parse(tag.as_str().as_bytes()), Some(tag.received()));
    }

    #[test]
    fn comparison_follows_the_table_of_rfc_9110_section_8_8_3_2() {
        let tag = |text: &'static str| ReceivedTag::parse(text.as_bytes()).unwrap();
        for (a, b, strong, weak) in [
            ("W/\"1\"", "W/\"1\"", false, true),
            ("W/\"1\"", "W/\"2\"", false, false),
            ("W/\"1\"", "\"1\"", false, true),
            ("\"1\"", "\"1\"", true, true),
        ] {
            assert_eq!(
                (tag(a).strong_eq(tag(b)), tag(a).weak_eq(tag(b))),
                (strong, weak),
                "{a} {b}"
            );
        }
    }

    #[test]
    fn a_list_ends_at_its_first_malformed_tag() {
        let check = |value: &str, expected: &[&str]| {
            let tags: Vec<_> = TagList::new(value.as_bytes())
                .map(|tag| String::from_utf8_lossy(tag.opaque).into_owned())
                .collect();
            assert_eq!(tags, expected, "{value}");
        };
        check(r#""a", W/"b,c" ,"" "#, &["a", "b,c", ""]);
        check(r#" ,, "a","#, &["a"]);
        check(r#""a", w/"b", "c""#, &["a"]);
        check(r#""a" "b""#, &[]);
        check(r#"a, "b""#, &[]);
        check(r#""a"#, &[]);
        check(r#""a b""#, &[]);
    }
}
