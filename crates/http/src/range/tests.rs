use super::*;
use crate::Limits;
use proptest::prelude::*;

fn check(value: &str, length: u64, expected: &RangeSet) {
    assert_eq!(&RangeSet::parse(value.as_bytes(), length), expected, "{value} of {length}");
}

#[test]
fn ranges_are_resolved_against_the_length() {
    use RangeSet::{Ignored, Multiple, Single, Unsatisfiable};
    for (value, length, expected) in [
        ("bytes=0-499", 10_000, Single(0..500)),
        ("BYTES=9500-", 10_000, Single(9500..10_000)),
        ("bytes=-500", 10_000, Single(9500..10_000)),
        ("bytes=-500", 100, Single(0..100)),
        ("bytes=0-0,-1", 10_000, Multiple(vec![0..1, 9999..10_000])),
        ("bytes= 5-6 , 1-2,", 10, Multiple(vec![5..7, 1..3])),
        ("bytes=0-99999", 10, Single(0..10)),
        ("bytes=9-", 10, Single(9..10)),
        ("bytes=10-", 10, Unsatisfiable),
        ("bytes=10-20", 10, Unsatisfiable),
        ("bytes=-0", 10, Unsatisfiable),
        ("bytes=20-,1-1", 10, Single(1..2)),
        ("bytes=1-1,20-", 10, Single(1..2)),
        ("bytes=0-", 0, Unsatisfiable),
        ("bytes=-5", 0, Ignored),
        ("bytes=-0", 0, Unsatisfiable),
        ("bytes=5-4", 10, Ignored),
        ("bytes=1-2,5-4", 10, Ignored),
        ("bytes=", 10, Ignored),
        ("bytes=,", 10, Ignored),
        ("bytes=-", 10, Ignored),
        ("bytes=a-b", 10, Ignored),
        ("bytes=1 - 2", 10, Ignored),
        ("bytes=+1-2", 10, Ignored),
        ("bytes=1-2-3", 10, Ignored),
        ("bytes 1-2", 10, Ignored),
        ("bytes =1-2", 10, Ignored),
        ("lines=1-2", 10, Ignored),
        ("byte", 10, Ignored),
        ("bytes=18446744073709551615-", u64::MAX, Unsatisfiable),
        ("bytes=99999999999999999999999-88888888888888888888888", 10, Ignored),
        ("bytes=88888888888888888888888-99999999999999999999999", 10, Unsatisfiable),
        ("bytes=007-0000000000000000000000008", 10, Single(7..9)),
        (
            "bytes=18446744073709551614-18446744073709551615",
            u64::MAX,
            Single(u64::MAX - 1..u64::MAX),
        ),
        ("bytes=99999999999999999999999-", 10, Unsatisfiable),
        ("bytes=0-99999999999999999999999", 10, Single(0..10)),
        ("bytes=-99999999999999999999999", 10, Single(0..10)),
    ] {
        check(value, length, &expected);
    }
}

#[test]
fn many_or_overlapping_ranges_are_ignored() {
    let many = |count| {
        format!(
            "bytes={}",
            (0..count).map(|i| format!("{0}-{0}", i * 2)).collect::<Vec<_>>().join(",")
        )
    };
    assert!(
        matches!(RangeSet::parse(many(RANGES).as_bytes(), 1000), RangeSet::Multiple(ranges) if ranges.len() == RANGES)
    );
    check(&many(RANGES + 1), 1000, &RangeSet::Ignored);
    check(&format!("bytes={}1-2", ",".repeat(RANGES)), 1000, &RangeSet::Ignored);
    check("bytes=0-,0-", 1000, &RangeSet::Ignored);
    check("bytes=0-9,5-14", 1000, &RangeSet::Multiple(vec![0..10, 5..15]));
    check("bytes=0-9,1-2,3-4,5-6", 1000, &RangeSet::Ignored);
}

#[test]
fn range_counts_for_get_and_once() {
    let of = |text: &str| {
        let mut head = RequestHead::new();
        head.parse(text.as_bytes(), &Limits::default()).unwrap();
        RangeSet::of(&head, 10)
    };
    assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n"), RangeSet::Single(1..3));
    assert_eq!(of("HEAD / HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\n\r\n"), RangeSet::Ignored);
    assert_eq!(of("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), RangeSet::Ignored);
    assert_eq!(
        of("GET / HTTP/1.1\r\nHost: a\r\nRange: bytes=1-2\r\nRange: bytes=1-2\r\n\r\n"),
        RangeSet::Ignored
    );
}

#[test]
fn content_range_names_the_last_byte() {
    assert_eq!(
        ContentRange::Satisfied { range: 0..500, length: 1234 }.to_string(),
        "bytes 0-499/1234"
    );
    assert_eq!(ContentRange::Unsatisfied { length: 1234 }.to_string(), "bytes */1234");
}

proptest! {
    #[test]
    fn ranges_stay_within_the_representation(value in "bytes=[0-9, -]{0,24}", length in prop_oneof![0u64..300, Just(u64::MAX)]) {
        let ranges = match RangeSet::parse(value.as_bytes(), length) {
            RangeSet::Single(range) => vec![range],
            RangeSet::Multiple(ranges) => ranges,
            _ => vec![],
        };
        prop_assert!(ranges.iter().all(|range| range.start < range.end && range.end <= length));
        prop_assert!(ranges.iter().map(|range| u128::from(range.end - range.start)).sum::<u128>() <= u128::from(length));
    }
}
