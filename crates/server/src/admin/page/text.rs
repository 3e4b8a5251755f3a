//! Figures as people read them, with their units.

use std::fmt::Display;

use crate::files::grouped;

/// A count: exact while it is short.
pub(super) fn count(number: u64) -> String {
    if number < 1_000_000 { grouped(number) } else { metric(number as f64) }
}

/// A count of which nobody asks for the last digits.
pub(super) fn about(number: u64) -> String {
    if number < 10_000 { grouped(number) } else { metric(number as f64) }
}

/// With three digits that count, and the unit before the last three, six …
/// others: k, M, G, T.
fn metric(number: f64) -> String {
    // Rounded first, so that what is a hair below a thousand is one.
    let scales = [(1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")];
    for (scale, unit) in scales {
        if number >= scale * 0.9995 {
            return format!("{}{unit}", three(number / scale));
        }
    }
    three(number)
}

/// A number below a thousand, by three digits, without a fraction of zeroes.
fn three(number: f64) -> String {
    let text = match number {
        small if small < 9.995 => format!("{small:.2}"),
        middle if middle < 99.95 => format!("{middle:.1}"),
        large => return format!("{large:.0}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// How often in a second.
pub(super) fn rate(per_second: f64) -> String {
    // Nobody counts hundredths of requests.
    if per_second < 99.95 {
        let text = format!("{per_second:.1}");
        return text.trim_end_matches(".0").to_owned();
    }
    if per_second < 9_999.5 { grouped(per_second.round() as u64) } else { metric(per_second) }
}

/// `1.24 MiB`: as counts, by three digits.
pub(super) fn bytes(count: u64) -> String {
    let mut number = count as f64;
    let mut units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"].into_iter();
    let mut unit = units.next().unwrap_or_default();
    // What would be rounded to a thousand is of the next unit.
    while number >= 999.5
        && let Some(next) = units.next()
    {
        (number, unit) = (number / 1024.0, next);
    }
    format!("{} {unit}", three(number))
}

/// A number and its unit apart: the unit is written smaller.
pub(super) fn split(text: &str) -> (&str, &str) {
    text.split_once(' ').unwrap_or((text, ""))
}

/// Bytes in a second, rounded to whole ones.
pub(super) fn byte_rate(per_second: f64) -> String {
    bytes(per_second.round() as u64)
}

/// A part of a whole in percent: all and nothing are said of nothing else.
pub(super) fn percent(share: f64) -> String {
    match share * 100.0 {
        none if none <= 0.0 => "0 %".to_owned(),
        little if little < 0.1 => "< 0.1 %".to_owned(),
        all if all >= 100.0 => "100 %".to_owned(),
        most if most > 99.9 => "> 99.9 %".to_owned(),
        part => format!("{part:.1} %"),
    }
}

/// A time by its two largest units: `3 d 4 h`, `2 min 5 s`.
pub(super) fn span(seconds: u64) -> String {
    let two = |large: u64, one: &str, small: u64, other: &str| match small {
        0 => format!("{large} {one}"),
        _ => format!("{large} {one} {small} {other}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds / 60 % 60, "min"),
        _ => two(seconds / 86_400, "d", seconds / 3600 % 24, "h"),
    }
}

/// `1 file`, `2 files`.
pub(super) fn plural(count: u64, one: &str, many: &str) -> String {
    number(count, if count == 1 { one } else { many })
}

fn number(number: u64, unit: impl Display) -> String {
    format!("{} {unit}", count(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_exact_while_they_are_short() {
        for (number, text) in [
            (0, "0"),
            (999, "999"),
            (123_456, "123,456"),
            (999_999, "999,999"),
            (1_000_000, "1 M"),
            (1_234_567, "1.23 M"),
            (99_960_000, "100 M"),
            (999_600_000, "1 G"),
            (12_340_000_000, "12.3 G"),
            (u64::MAX, "18446744 T"),
        ] {
            assert_eq!(count(number), text);
        }
    }

    #[test]
    fn rates_have_the_digits_that_somebody_reads() {
        for (number, text) in [
            (0.0, "0"),
            (0.04, "0"),
            (0.25, "0.2"),
            (12.0, "12"),
            (99.94, "99.9"),
            (99.96, "100"),
            (1234.4, "1,234"),
            (9_999.4, "9,999"),
            (9_999.6, "10 k"),
            (123_456.0, "123 k"),
            (1_234_567.0, "1.23 M"),
        ] {
            assert_eq!(rate(number), text, "{number}");
        }
        assert_eq!(byte_rate(1_572_864.2), "1.5 MiB");
        assert_eq!(byte_rate(-1.0), "0 B");
    }

    #[test]
    fn sizes_are_of_the_unit_that_suits_them() {
        for (size, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1024, "1 KiB"),
            (1_048_575, "1 MiB"),
            (12_345_678, "11.8 MiB"),
            (1 << 40, "1 TiB"),
            (u64::MAX, "16384 PiB"),
        ] {
            assert_eq!(bytes(size), text);
        }
    }

    #[test]
    fn a_part_is_never_said_to_be_all_or_nothing() {
        for (share, text) in [
            (0.0, "0 %"),
            (0.000_001, "< 0.1 %"),
            (0.123_4, "12.3 %"),
            (0.999_9, "> 99.9 %"),
            (1.0, "100 %"),
        ] {
            assert_eq!(percent(share), text);
        }
    }

    #[test]
    fn times_have_two_units() {
        for (seconds, text) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (125, "2 min 5 s"),
            (3600, "1 h"),
            (90_000, "1 d 1 h"),
            (86_400 * 400, "400 d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
