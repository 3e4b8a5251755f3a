//! Prometheus' text format, version 0.0.4, read as strictly as it can be: by its
//! description alone, and by nothing of the program's.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // Not every test uses all.

use std::collections::{BTreeMap, BTreeSet};

/// Metrics of one name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Family {
    pub kind: String,
    pub help: String,
    /// By their labels as they are written: `{way="copied"}`, or nothing.
    pub samples: BTreeMap<String, f64>,
}

/// All families of a page.
///
/// # Panics
/// When it is not what the description asks for: each family together and
/// once, with its help and its type before its samples, names and labels of
/// the right characters, counters that end in `_total`, units that are base
/// units, no set of labels twice, no number that is none.
pub fn parse(text: &str) -> BTreeMap<String, Family> {
    assert!(text.ends_with('\n'), "the last line ends, too");
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current: Option<String> = None;
    for line in text.lines() {
        assert_eq!(line.trim(), line, "no blanks around a line");
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("a help text");
            assert_name(name);
            assert!(!families.contains_key(name), "{name} comes twice");
            assert!(!help.is_empty());
            let family = Family { help: help.to_owned(), ..Family::default() };
            families.insert(name.to_owned(), family);
            current = Some(name.to_owned());
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("a type");
            assert_eq!(Some(name), current.as_deref(), "help, then type");
            let family = families.get_mut(name).unwrap();
            assert!(family.kind.is_empty() && family.samples.is_empty(), "{name}: one type");
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{name}: {kind}");
            assert_eq!(name.ends_with("_total"), kind == "counter", "{name} is a {kind}");
            for unit in ["_ms", "_milliseconds", "_kib", "_kilobytes", "_percent", "_count"] {
                assert!(!name.contains(unit), "{name}: not a base unit");
            }
            family.kind = kind.to_owned();
        } else {
            let (name, labels, value) = sample(line);
            let family = current.as_deref().expect("a family");
            // A histogram's samples have names of their own.
            let part = name.strip_prefix(family).expect("families are in one piece");
            let labels = format!("{part}{labels}");
            let family = families.get_mut(family).unwrap();
            let parts: &[&str] = match &*family.kind {
                "histogram" => &["_bucket", "_sum", "_count"],
                _ => &[""],
            };
            assert!(parts.contains(&part), "{line}: no sample of its family");
            assert!(!family.kind.is_empty(), "{name} has no type");
            if family.kind != "gauge" {
                assert!(value >= 0.0, "{line}");
            }
            let before = family.samples.insert(labels.clone(), value);
            assert_eq!(before, None, "{name}{labels} comes twice");
        }
    }
    for (name, family) in &families {
        assert!(!family.samples.is_empty(), "{name} has no samples");
        if family.kind == "histogram" {
            assert_histogram(name, family);
            continue;
        }
        let labels: BTreeSet<Vec<&str>> = family.samples.keys().map(|set| names(set)).collect();
        assert_eq!(labels.len(), 1, "{name}: the same labels with each sample");
    }
    families
}

/// Buckets grow with their bounds, the last has no bound and all of the samples.
fn assert_histogram(name: &str, family: &Family) {
    let bound = |labels: &str| {
        let text = labels.strip_prefix("_bucket{le=\"")?.strip_suffix("\"}")?;
        Some(if text == "+Inf" { f64::INFINITY } else { text.parse().unwrap() })
    };
    let mut buckets: Vec<(f64, f64)> = family
        .samples
        .iter()
        .filter_map(|(labels, value)| Some((bound(labels)?, *value)))
        .collect();
    buckets.sort_by(|one, other| one.0.total_cmp(&other.0));
    assert!(buckets.is_sorted_by(|one, other| one.1 <= other.1), "{name}: {buckets:?}");
    let (last, all) = *buckets.last().expect("a bucket");
    assert!(last.is_infinite() && all == family.samples["_count"], "{name}: {buckets:?}");
    assert_eq!(family.samples.len(), buckets.len() + 2, "{name}: with its sum and its count");
}

/// The value of a sample.
pub fn value(families: &BTreeMap<String, Family>, name: &str, labels: &str) -> f64 {
    let family = families.get(name).unwrap_or_else(|| panic!("no {name} in {families:#?}"));
    *family.samples.get(labels).unwrap_or_else(|| panic!("no {labels} in {family:#?}"))
}

fn assert_name(name: &str) {
    let first = |byte: u8| byte.is_ascii_alphabetic() || byte == b'_';
    assert!(name.bytes().next().is_some_and(first), "`{name}`");
    assert!(name.bytes().all(|byte| first(byte) || byte.is_ascii_digit()), "`{name}`");
    assert_eq!(name.to_ascii_lowercase(), name);
}

fn sample(line: &str) -> (&str, &str, f64) {
    let end = line.find(['{', ' ']).expect("a value");
    let (name, rest) = line.split_at(end);
    assert_name(name);
    let (labels, value) = if rest.starts_with('{') {
        let end = end_of_labels(rest);
        rest.split_at(end)
    } else {
        ("", rest)
    };
    let value = value.strip_prefix(' ').expect("one blank before the value");
    // Written by Rust, it may be long, but it is a number.
    let number: f64 = value.parse().unwrap_or_else(|_| panic!("`{value}` in `{line}`"));
    assert!(number.is_finite(), "{line}");
    (name, labels, number)
}

/// Where `{name="value",…}` ends; only the three escapes are in values.
fn end_of_labels(text: &str) -> usize {
    let bytes = text.as_bytes();
    let mut at = 1;
    let mut seen = BTreeSet::new();
    loop {
        let equals = at + text[at..].find('=').expect("a label's value");
        let name = &text[at..equals];
        assert_name(name);
        assert!(!name.contains(':') && seen.insert(name), "label `{name}` in `{text}`");
        at = equals + 1;
        assert_eq!(bytes[at], b'"', "{text}");
        at += 1;
        while bytes[at] != b'"' {
            if bytes[at] == b'\\' {
                at += 1;
                assert!(matches!(bytes[at], b'\\' | b'"' | b'n'), "{text}");
            }
            at += 1;
        }
        at += 1;
        match bytes[at] {
            b',' => at += 1,
            b'}' => return at + 1,
            _ => panic!("after a label: {text}"),
        }
    }
}

/// The names in a set of labels, whose values hold none of `,="` here.
fn names(labels: &str) -> Vec<&str> {
    labels
        .trim_matches(['{', '}'])
        .split(',')
        .map(|label| label.split('=').next().unwrap())
        .collect()
}
