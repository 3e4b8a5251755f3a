//! The time of a line. Its text is made once a second.

use std::time::Duration;

use super::PAIRS;

/// `2026-11-22T09:31:51.`, to which the milliseconds come. RFC 3339.
const RFC_3339: usize = 20;

/// `[22/Nov/2026:09:31:51 +0000]`, as Apache writes it (`%t`).
const COMMON: usize = 28;

const MONTHS: [&[u8; 3]; 12] = [
    b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
];

const DAY: u64 = 24 * 60 * 60;

/// The last second that a line was of, as text.
#[derive(Clone, Debug)]
pub(in crate::observe) struct Clock {
    second: Option<u64>,
    rfc_3339: [u8; RFC_3339],
    common: [u8; COMMON],
}

impl Default for Clock {
    fn default() -> Self {
        Clock { second: None, rfc_3339: [b' '; RFC_3339], common: [b' '; COMMON] }
    }
}

impl Clock {
    /// Appends `2026-11-22T09:31:51.123Z`; `time` is since the Unix epoch.
    pub(super) fn push_rfc_3339(&mut self, out: &mut Vec<u8>, time: Duration) {
        self.tell(time.as_secs());
        let mut text = [0; RFC_3339 + 4];
        text[..RFC_3339].copy_from_slice(&self.rfc_3339);
        let millis = time.subsec_millis() as usize;
        text[RFC_3339] = b'0' + (millis / 100) as u8;
        put_two(&mut text, RFC_3339 + 1, millis % 100);
        text[RFC_3339 + 3] = b'Z';
        out.extend_from_slice(&text);
    }

    /// Appends `[22/Nov/2026:09:31:51 +0000]`.
    pub(super) fn push_common(&mut self, out: &mut Vec<u8>, time: Duration) {
        self.tell(time.as_secs());
        out.extend_from_slice(&self.common);
    }

    fn tell(&mut self, second: u64) {
        if self.second != Some(second) {
            self.second = Some(second);
            self.write(second);
        }
    }

    #[cold]
    fn write(&mut self, second: u64) {
        let Date { year, month, day } = date(second / DAY);
        let of_day = (second % DAY) as usize;
        let [hour, minute, second] = [of_day / 3600, of_day / 60 % 60, of_day % 60];
        let text = &mut self.rfc_3339;
        text.copy_from_slice(b"0000-00-00T00:00:00.");
        put_two(text, 0, year / 100);
        put_two(text, 2, year % 100);
        for (at, number) in [(5, month), (8, day), (11, hour), (14, minute), (17, second)] {
            put_two(text, at, number);
        }
        let text = &mut self.common;
        text.copy_from_slice(b"[00/Jan/0000:00:00:00 +0000]");
        put_two(text, 1, day);
        text[4..7].copy_from_slice(MONTHS[month - 1]);
        put_two(text, 8, year / 100);
        put_two(text, 10, year % 100);
        for (at, number) in [(13, hour), (16, minute), (19, second)] {
            put_two(text, at, number);
        }
    }
}

fn put_two(text: &mut [u8], at: usize, number: usize) {
    // Of years beyond 9999 the end.
    let pair = 2 * (number % 100);
    text[at..at + 2].copy_from_slice(&PAIRS[pair..pair + 2]);
}

/// A day of the Gregorian calendar; month and day count from 1.
struct Date {
    year: usize,
    month: usize,
    day: usize,
}

/// The date of the day that is so many after 1970-01-01.
fn date(days: u64) -> Date {
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    // Four centuries have the same number of days, always.
    const ERA: u64 = 146_097;
    let (mut year, mut left) = (1970 + days / ERA * 400, days % ERA);
    loop {
        let length = if is_leap(year) { 366 } else { 365 };
        if left < length {
            break;
        }
        (year, left) = (year + 1, left - length);
    }
    let february = if is_leap(year) { 29 } else { 28 };
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31] {
        if left < length {
            break;
        }
        (month, left) = (month + 1, left - length);
    }
    Date { year: year as usize, month, day: left as usize + 1 }
}
