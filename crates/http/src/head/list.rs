//! Comma-separated field values. RFC 9110 section 5.6.1.

use super::field::trim;

/// The members of one field value, white space trimmed, empty ones included.
///
/// A comma within a quoted string does not separate (RFC 9110 section 5.6.4). Iterates over
/// slices of the value and allocates nothing.
#[derive(Clone, Debug)]
pub struct ListMembers<'a> {
    rest: Option<&'a [u8]>,
}

impl<'a> ListMembers<'a> {
    /// The members of `value`; an empty value has one empty member.
    #[must_use]
    pub fn new(value: &'a [u8]) -> Self {
        Self { rest: Some(value) }
    }
}

impl<'a> Iterator for ListMembers<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let rest = self.rest.take()?;
        let (mut quoted, mut escaped) = (false, false);
        let comma = rest.iter().position(|&byte| {
            match (quoted, byte) {
                (true, _) if escaped => escaped = false,
                (true, b'\\') => escaped = true,
                (_, b'"') => quoted = !quoted,
                (false, b',') => return true,
                _ => {}
            }
            false
        });
        let member = match comma {
            Some(at) => {
                self.rest = rest.get(at + 1..);
                rest.get(..at).unwrap_or_default()
            }
            None => rest,
        };
        Some(trim(member))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_trimmed_and_quotes_hold_their_commas() {
        let check = |value: &str, expected: &[&str]| {
            let members: Vec<_> = ListMembers::new(value.as_bytes())
                .map(|m| String::from_utf8_lossy(m).into_owned())
                .collect();
            assert_eq!(members, expected, "{value}");
        };
        check("a, b ,\tc", &["a", "b", "c"]);
        check("", &[""]);
        check(",a,,", &["", "a", "", ""]);
        check(r#"a="x, \", y", b"#, &[r#"a="x, \", y""#, "b"]);
        check(r#"open "a, b"#, &[r#"open "a, b"#]);
    }
}
