//! The Date of a response, formatted once a second.

use std::cell::Cell;
use std::time::{Duration, UNIX_EPOCH};

/// Bytes of an IMF-fixdate, `Sun, 06 Nov 1994 08:49:37 GMT`. RFC 9110 section 5.6.7.
pub(crate) const LEN: usize = 29;

/// A second and its text.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Date {
    pub(crate) second: u64,
    pub(crate) text: [u8; LEN],
}

thread_local! {
    static LAST: Cell<Date> = const { Cell::new(Date { second: u64::MAX, text: [b' '; LEN] }) };
}

/// The current date.
pub(crate) fn now() -> Date {
    let second = sluicegate::unix_seconds();
    let last = LAST.get();
    if last.second == second {
        return last;
    }
    let mut date = Date { second, text: [b' '; LEN] };
    let formatted = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(second));
    // An IMF-fixdate has one length only; httpdate writes no other form.
    if let Ok(text) = <[u8; LEN]>::try_from(formatted.as_bytes()) {
        date.text = text;
    }
    LAST.set(date);
    date
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_text_is_the_second() {
        let date = now();
        let parsed = httpdate::parse_http_date(std::str::from_utf8(&date.text).unwrap()).unwrap();
        assert_eq!(parsed, UNIX_EPOCH + Duration::from_secs(date.second));
    }
}
