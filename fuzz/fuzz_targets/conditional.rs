//! Preconditions are evaluated in the order of RFC 9110 section 13.2.2. The oracle is its list of
//! steps on plain values; besides, fields that a step must not look at are taken away, and the
//! outcome must stay.
//!
//! Input: `METHOD ETAG MODIFIED NOW` (`-` for no tag or no time; times in milliseconds since the
//! epoch), LF, then field lines that end with LF.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::{Corpus, fuzz_target};
use sluicegate_fuzz::{first_line, trim};
use sluicegate_http::{
    EntityTag, Known, Limits, Method, Precondition, RequestHead, Validators, evaluate,
    if_range_holds,
};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

fuzz_target!(|input: &[u8]| -> Corpus {
    let (line, text) = first_line(input);
    let Some(given) = Given::of(line) else {
        return Corpus::Reject;
    };
    let lines: Vec<&[u8]> =
        text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).collect();
    let Some(head) = request(given.method, &lines) else {
        return Corpus::Reject;
    };
    let validators = given.validators;
    let outcome = evaluate(&head, &validators);
    assert_eq!(outcome, steps(&head, &validators), "not the steps of section 13.2.2");
    let holds = if_range_holds(&head, &validators, given.now);
    assert_eq!(holds, range_holds(&head, &validators, given.now), "another reading of If-Range");

    let without = |unwanted: &[&str]| -> Precondition {
        let kept: Vec<_> = lines
            .iter()
            .copied()
            .filter(|line| !unwanted.iter().any(|name| is_field(line, name)))
            .collect();
        let head = request(given.method, &kept);
        head.map_or(outcome, |head| evaluate(&head, &validators))
    };
    let has = |name: &str| lines.iter().any(|line| is_field(line, name));
    let reads = matches!(head.method(), Method::Get | Method::Head);
    assert_eq!(without(&["If-Range"]), outcome, "If-Range counts");
    if has("If-None-Match") || !reads {
        assert_eq!(without(&["If-Modified-Since"]), outcome, "If-Modified-Since counts");
    }
    if has("If-Match") {
        assert_eq!(without(&["If-Unmodified-Since"]), outcome, "If-Unmodified-Since counts");
    }
    if head.values(Known::IfMatch).any(|value| value == b"*") {
        // The representation exists, so that step 1 is passed and step 2 left out.
        assert_eq!(without(&["If-Match", "If-Unmodified-Since"]), outcome, "a star fails");
    }
    if outcome == Precondition::NotModified {
        assert!(reads, "304 to a method that does not read");
        assert!(has("If-None-Match") || has("If-Modified-Since"));
    }
    if validators == Validators::default() {
        assert!(!holds || !has("If-Range"), "If-Range holds without a validator");
    }
    let reversed: Vec<_> = lines.iter().rev().copied().collect();
    if let Some(head) = request(given.method, &reversed) {
        assert_eq!(evaluate(&head, &validators), outcome, "the order of the fields counts");
        assert_eq!(if_range_holds(&head, &validators, given.now), holds);
    }
    Corpus::Keep
});

/// The first line of an input.
struct Given<'a> {
    method: &'a str,
    validators: Validators,
    now: SystemTime,
}

impl<'a> Given<'a> {
    fn of(line: &'a [u8]) -> Option<Self> {
        let mut words = str::from_utf8(line).ok()?.split(' ');
        let (method, tag, modified, now) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let time =
            |word: &str| UNIX_EPOCH.checked_add(Duration::from_millis(word.parse::<u64>().ok()?));
        let opaque = |tag: &'a str| tag.strip_prefix('"')?.strip_suffix('"');
        let etag = match tag.strip_prefix("W/") {
            Some(tag) => opaque(tag).and_then(EntityTag::weak),
            None => opaque(tag).and_then(EntityTag::strong),
        };
        Some(Self { method, validators: Validators::new(etag, time(modified)), now: time(now)? })
    }
}

fn request(method: &str, lines: &[&[u8]]) -> Option<RequestHead> {
    // CONNECT has a target of its own.
    let target = if method == "CONNECT" { "a:1" } else { "/" };
    let mut bytes = format!("{method} {target} HTTP/1.1\r\nHost: a\r\n").into_bytes();
    for line in lines {
        bytes.extend_from_slice(line);
        bytes.extend_from_slice(b"\r\n");
    }
    bytes.extend_from_slice(b"\r\n");
    let mut head = RequestHead::new();
    head.parse(&bytes, &Limits::default()).ok()?;
    Some(head)
}

fn is_field(line: &[u8], name: &str) -> bool {
    line.split(|&byte| byte == b':').next().is_some_and(|n| n.eq_ignore_ascii_case(name.as_bytes()))
}

/// All values of a field; none is another thing than an empty one.
fn values<'a>(head: &'a RequestHead, name: &str) -> Vec<&'a [u8]> {
    head.headers().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
}

/// Seconds of a field that comes once with a date that can be read.
fn date(values: &[&[u8]]) -> Option<u64> {
    let [value] = values else {
        return None;
    };
    let time = httpdate::parse_http_date(str::from_utf8(value).ok()?).ok()?;
    Some(time.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

fn modified(validators: &Validators) -> Option<u64> {
    Some(validators.last_modified()?.duration_since(UNIX_EPOCH).ok()?.as_secs())
}

/// The steps of RFC 9110 section 13.2.2 but the last, which is If-Range's.
fn steps(head: &RequestHead, validators: &Validators) -> Precondition {
    let method = head.method_str();
    if ["CONNECT", "OPTIONS", "TRACE"].contains(&method) {
        return Precondition::Proceed;
    }
    let reads = ["GET", "HEAD"].contains(&method);
    let ours = validators.etag().map(EntityTag::as_str);
    let modified = modified(validators);

    let if_match = values(head, "If-Match");
    let matches = if_match.iter().any(|value| {
        *value == b"*"
            || tags(value)
                .into_iter()
                .any(|tag| tag[0] == b'"' && ours.is_some_and(|ours| ours.as_bytes() == tag))
    });
    let unmodified = match (date(&values(head, "If-Unmodified-Since")), modified) {
        (Some(date), Some(modified)) => modified <= date,
        _ => true,
    };
    if !(if if_match.is_empty() { unmodified } else { matches }) {
        return Precondition::Failed;
    }

    let if_none_match = values(head, "If-None-Match");
    let weak = |tag: &[u8]| tag.strip_prefix(b"W/").unwrap_or(tag).to_vec();
    let none_match = !if_none_match.iter().any(|value| {
        *value == b"*"
            || tags(value)
                .into_iter()
                .any(|tag| ours.is_some_and(|ours| weak(ours.as_bytes()) == weak(tag)))
    });
    if !if_none_match.is_empty() {
        return match (none_match, reads) {
            (true, _) => Precondition::Proceed,
            (false, true) => Precondition::NotModified,
            (false, false) => Precondition::Failed,
        };
    }
    match (date(&values(head, "If-Modified-Since")), modified) {
        (Some(date), Some(modified)) if reads && modified <= date => Precondition::NotModified,
        _ => Precondition::Proceed,
    }
}

/// The tags of a list as written, up to the first member that is none. RFC 9110 section 8.8.3.
fn tags(value: &[u8]) -> Vec<&[u8]> {
    let mut tags = Vec::new();
    let mut start = 0;
    // A comma separates unless it stands within a tag, so that the end of a member is the first
    // comma after an even number of quotes. A backslash escapes nothing.
    while start <= value.len() {
        let mut quoted = false;
        let rest = &value[start..];
        let len = rest
            .iter()
            .position(|&byte| {
                quoted ^= byte == b'"';
                byte == b',' && !quoted
            })
            .unwrap_or(rest.len());
        let member = trim(&rest[..len]);
        start += len + 1;
        if member.is_empty() {
            continue;
        }
        if !is_tag(member) {
            break;
        }
        tags.push(member);
    }
    tags
}

fn is_tag(member: &[u8]) -> bool {
    match member.strip_prefix(b"W/").unwrap_or(member) {
        [b'"', opaque @ .., b'"'] => {
            opaque.iter().all(|&byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..))
        }
        _ => false,
    }
}

/// RFC 9110 section 13.1.5: the very same strong tag, or the very same date once it is strong.
fn range_holds(head: &RequestHead, validators: &Validators, now: SystemTime) -> bool {
    let fields = values(head, "If-Range");
    let [value] = fields[..] else {
        return fields.is_empty();
    };
    if is_tag(value) {
        let ours = validators.etag().map(EntityTag::as_str);
        return value[0] == b'"' && ours.is_some_and(|ours| ours.as_bytes() == value);
    }
    match (date(&fields), modified(validators)) {
        (Some(date), Some(modified)) => {
            date == modified && now >= UNIX_EPOCH + Duration::from_secs(modified + 1)
        }
        _ => false,
    }
}
