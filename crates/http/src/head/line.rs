//! Fields as whoever passes them on wants them.

use super::{Known, RequestHead};

/// One field of a request, as it was received and as it means.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Line<'a> {
    pub(crate) known: Option<Known>,
    pub(crate) name: &'a [u8],
    pub(crate) value: &'a [u8],
    /// The line with its CRLF, if it is written as we would write it.
    pub(crate) line: Option<&'a [u8]>,
}

impl RequestHead {
    /// Request line and Host as they came, and the host, if that is how we would write them.
    #[inline]
    pub(crate) fn begin_as_ours(&self) -> Option<(&[u8], &[u8])> {
        const BETWEEN: &[u8] = b" HTTP/1.1\r\nHost: ";
        let first = self.fields.first().filter(|first| first.known == Some(Known::Host))?;
        let (start, end) = (first.value.0 as usize, first.value.1 as usize);
        let is_ours = start == self.line.len() + BETWEEN.len()
            && self.bytes.get(self.line.len()..start) == Some(BETWEEN)
            && self.bytes.get(end..end + 2) == Some(b"\r\n");
        let host = self.bytes.get(start..end)?;
        let begin = self.bytes.get(..end + 2)?;
        (is_ours && !host.is_empty()).then_some((begin, host))
    }

    /// How many fields there are.
    pub(crate) fn field_count(&self) -> usize {
        self.fields.len()
    }

    /// All fields in the order that they came in, for who passes them on.
    pub(crate) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        self.fields.iter().map(|field| {
            let line = (field.name.0, field.value.1 + 2);
            let is_plain = field.value.0 == field.name.1 + 2
                && self.bytes.get(field.name.1 as usize + 1) == Some(&b' ')
                && self.slice(line).ends_with(b"\r\n");
            Line {
                known: field.known,
                name: self.slice(field.name),
                value: self.slice(field.value),
                line: is_plain.then(|| self.slice(line)),
            }
        })
    }
}
