//! Text in a page: names of any bytes, sizes, times.
//!
//! Escaping is these few lines and no crate's, because what has to be escaped
//! here is more than HTML asks for.

use std::fmt::{self, Display, Formatter, Write};

/// A name as HTML text, also between quotes in an attribute.
///
/// Bytes that are no UTF-8 and characters that are not seen, or that would move
/// others, are written as escapes: two names never look the same because of
/// them, and no name reads otherwise than it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Name<'a> {
    bytes: &'a [u8],
    is_marked: bool,
}

impl<'a> Name<'a> {
    /// For places that take no elements, such as a title.
    pub(crate) fn plain(bytes: &'a [u8]) -> Self {
        Name { bytes, is_marked: false }
    }

    /// With escapes in elements of their own, which show that the name does not
    /// hold a backslash.
    pub(crate) fn marked(bytes: &'a [u8]) -> Self {
        Name { bytes, is_marked: true }
    }

    fn escape(self, f: &mut Formatter<'_>, escape: impl Display) -> fmt::Result {
        if self.is_marked { write!(f, "<i>{escape}</i>") } else { write!(f, "{escape}") }
    }
}

impl Display for Name<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for chunk in self.bytes.utf8_chunks() {
            for char in chunk.valid().chars() {
                match char {
                    '&' => f.write_str("&amp;")?,
                    '<' => f.write_str("&lt;")?,
                    '>' => f.write_str("&gt;")?,
                    '"' => f.write_str("&quot;")?,
                    '\'' => f.write_str("&#39;")?,
                    '\n' | '\r' | '\t' => self.escape(f, char.escape_default())?,
                    unseen if is_unseen(unseen) => self.escape(f, unseen.escape_unicode())?,
                    seen => f.write_char(seen)?,
                }
            }
            for byte in chunk.invalid() {
                self.escape(f, format_args!("\\x{byte:02x}"))?;
            }
        }
        Ok(())
    }
}

/// Control and format characters, but for the two joiners that scripts and
/// emoji are written with.
fn is_unseen(char: char) -> bool {
    char.is_control()
        || matches!(
            char,
            '\u{ad}'
                | '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'
                | '\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// A number with its digits in groups of three.
pub(crate) fn grouped(number: impl Display) -> String {
    let digits = number.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A moment in UTC, as calendar and clock show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Utc {
    year: i64,
    month: i64,
    day: i64,
    /// Seconds of the day.
    second: i64,
}

impl Utc {
    /// From seconds since the epoch. The calendar is counted from 1 March of
    /// the year 0, so that a leap day is the last day of its year: Howard
    /// Hinnant, *chrono-compatible low-level date algorithms*, `civil_from_days`.
    pub(crate) fn of(seconds: i64) -> Self {
        let days = seconds.div_euclid(86_400) + 719_468;
        let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
        let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
        let day = day - (365 * year + year / 4 - year / 100);
        let from_march = (5 * day + 2) / 153;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        Utc {
            year: year + era * 400 + i64::from(month <= 2),
            month,
            day: day - (153 * from_march + 2) / 5 + 1,
            second: seconds.rem_euclid(86_400),
        }
    }

    /// `2026-11-22 06:30`.
    pub(crate) fn short(self) -> String {
        let Utc { year, month, day, second } = self;
        let (hour, minute) = (second / 3600, second / 60 % 60);
        format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}")
    }

    /// `2026-11-22T06:30:00Z`, as the attribute `datetime` has it. RFC 3339.
    pub(crate) fn full(self) -> String {
        let Utc { year, month, day, second } = self;
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_in_a_name_is_text() {
        let name = br#"<script>alert("1")</script>&'.html"#;
        let expected = "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39;.html";
        assert_eq!(Name::plain(name).to_string(), expected);
        assert_eq!(Name::marked(name).to_string(), expected);
    }

    #[test]
    fn what_is_not_seen_or_moves_others_is_written_out() {
        for (name, expected) in [
            (&b"a\nb\t\r"[..], r"a\nb\t\r"),
            (b"\x01\x7f", r"\u{1}\u{7f}"),
            (b"a\xffb\xf0\x9f", r"a\xffb\xf0\x9f"),
            ("gpj.\u{202e}exe".as_bytes(), r"gpj.\u{202e}exe"),
            ("\u{2066}\u{200b}\u{feff}\u{85}".as_bytes(), r"\u{2066}\u{200b}\u{feff}\u{85}"),
            ("é 日本 שלום 👩\u{200d}🚀".as_bytes(), "é 日本 שלום 👩\u{200d}🚀"),
        ] {
            assert_eq!(Name::plain(name).to_string(), expected);
        }
        assert_eq!(Name::marked(b"a\n\xff").to_string(), r"a<i>\n</i><i>\xff</i>");
    }

    #[test]
    fn moments_are_those_of_the_calendar() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (-1, "1969-12-31T23:59:59Z"),
            (951_782_399, "2000-02-28T23:59:59Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_709_164_800, "2024-02-29T00:00:00Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (784_111_777, "1994-11-06T08:49:37Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
            (-62_135_596_800, "0001-01-01T00:00:00Z"),
        ] {
            assert_eq!(Utc::of(seconds).full(), expected, "{seconds}");
        }
        assert_eq!(Utc::of(784_111_777).short(), "1994-11-06 08:49");
        // What a file system may say, but no calendar.
        for seconds in [i64::MIN, i64::MAX] {
            assert!(!Utc::of(seconds).full().is_empty());
        }
    }

    #[test]
    fn digits_come_in_groups_of_three() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), expected);
        }
    }
}
