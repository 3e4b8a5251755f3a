use super::*;
use crate::Limits;
use Precondition::{Failed, NotModified, Proceed};

const BEFORE: &str = "Sat, 07 Nov 2026 10:00:00 GMT";
const SAME: &str = "Sun, 08 Nov 2026 10:00:00 GMT";
const AFTER: &str = "Mon, 09 Nov 2026 10:00:00 GMT";

fn head(method: &str, fields: &[(&str, &str)]) -> RequestHead {
    let fields: String =
        fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let mut head = RequestHead::new();
    head.parse(
        format!("{method} / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes(),
        &Limits::default(),
    )
    .unwrap();
    head
}

fn modified() -> SystemTime {
    // Half a second past: the fraction never reaches a comparison.
    httpdate::parse_http_date(SAME).unwrap() + Duration::from_millis(500)
}

fn both() -> Validators {
    Validators::new(EntityTag::strong("v1"), Some(modified()))
}

#[test]
fn conditions_are_evaluated_in_the_order_of_rfc_9110_section_13_2_2() {
    const MATCH: &str = "If-Match";
    const NONE_MATCH: &str = "If-None-Match";
    const SINCE: &str = "If-Modified-Since";
    const UNMODIFIED: &str = "If-Unmodified-Since";
    for (method, fields, expected) in [
        ("GET", vec![], Proceed),
        ("GET", vec![(MATCH, "\"v1\"")], Proceed),
        ("GET", vec![(MATCH, "\"v0\", \"v1\"")], Proceed),
        ("GET", vec![(MATCH, "*")], Proceed),
        ("PUT", vec![(MATCH, "\"v2\"")], Failed),
        ("GET", vec![(MATCH, "W/\"v1\"")], Failed),
        ("PUT", vec![(MATCH, "v1")], Failed),
        ("PUT", vec![(MATCH, "")], Failed),
        // If-Match present: If-Unmodified-Since is not looked at.
        ("PUT", vec![(MATCH, "\"v1\""), (UNMODIFIED, BEFORE)], Proceed),
        ("PUT", vec![(UNMODIFIED, BEFORE)], Failed),
        ("PUT", vec![(UNMODIFIED, SAME)], Proceed),
        ("PUT", vec![(UNMODIFIED, AFTER)], Proceed),
        ("PUT", vec![(UNMODIFIED, "yesterday")], Proceed),
        ("GET", vec![(NONE_MATCH, "\"v1\"")], NotModified),
        ("HEAD", vec![(NONE_MATCH, "W/\"v1\"")], NotModified),
        ("GET", vec![(NONE_MATCH, "*")], NotModified),
        ("PUT", vec![(NONE_MATCH, "*")], Failed),
        ("DELETE", vec![(NONE_MATCH, "\"v1\"")], Failed),
        ("GET", vec![(NONE_MATCH, "\"v0\"")], Proceed),
        ("GET", vec![(NONE_MATCH, "\"v0\""), (NONE_MATCH, "\"v1\"")], NotModified),
        // If-None-Match present: If-Modified-Since is not looked at.
        ("GET", vec![(NONE_MATCH, "\"v0\""), (SINCE, AFTER)], Proceed),
        ("GET", vec![(SINCE, BEFORE)], Proceed),
        ("GET", vec![(SINCE, SAME)], NotModified),
        ("HEAD", vec![(SINCE, AFTER)], NotModified),
        ("POST", vec![(SINCE, AFTER)], Proceed),
        ("GET", vec![(SINCE, "Sun, 08 Nov 2026 10:00:00 CET")], Proceed),
        ("GET", vec![(SINCE, SAME), (SINCE, SAME)], Proceed),
        // The first pair is decided before the second.
        ("GET", vec![(MATCH, "\"v2\""), (NONE_MATCH, "\"v1\"")], Failed),
        ("GET", vec![(MATCH, "\"v1\""), (NONE_MATCH, "\"v1\"")], NotModified),
        ("GET", vec![(UNMODIFIED, BEFORE), (SINCE, SAME)], Failed),
        ("OPTIONS", vec![(MATCH, "\"v2\"")], Proceed),
        ("TRACE", vec![(UNMODIFIED, BEFORE)], Proceed),
    ] {
        assert_eq!(evaluate(&head(method, &fields), &both()), expected, "{method} {fields:?}");
    }
}

#[test]
fn without_validators_only_a_star_matches() {
    let none = Validators::default();
    assert_eq!(evaluate(&head("GET", &[("If-Match", "\"v1\"")]), &none), Failed);
    assert_eq!(evaluate(&head("GET", &[("If-Match", "*")]), &none), Proceed);
    assert_eq!(
        evaluate(
            &head("GET", &[("If-Modified-Since", AFTER), ("If-Unmodified-Since", BEFORE)]),
            &none
        ),
        Proceed
    );
}

#[test]
fn a_range_needs_the_very_same_representation() {
    let late = modified() + Duration::from_secs(60);
    let weak = Validators::new(EntityTag::weak("v1"), Some(modified()));
    let holds = |value: &str, validators: &Validators, now| {
        if_range_holds(&head("GET", &[("If-Range", value)]), validators, now)
    };
    assert!(if_range_holds(&head("GET", &[]), &both(), late));
    assert!(holds("\"v1\"", &both(), late));
    assert!(!holds("\"v2\"", &both(), late));
    assert!(!holds("W/\"v1\"", &both(), late));
    assert!(!holds("\"v1\"", &weak, late));
    assert!(!holds("\"v1\", \"v2\"", &both(), late));
    assert!(!holds("*", &both(), late));
    assert!(holds(SAME, &both(), late));
    assert!(!holds(BEFORE, &both(), late));
    assert!(!holds(AFTER, &both(), late), "not older is not the same");
    assert!(!holds(SAME, &both(), modified()), "a date within its own second is weak");
    assert!(!holds(SAME, &Validators::default(), late));
    assert!(!holds("nonsense", &both(), late));
    assert!(!if_range_holds(
        &head("GET", &[("If-Range", SAME), ("If-Range", SAME)]),
        &both(),
        late
    ));
}

#[test]
fn times_that_no_http_date_can_name_are_no_validators() {
    let of = |time| Validators::new(None, Some(time)).last_modified();
    assert_eq!(of(UNIX_EPOCH - Duration::from_secs(1)), None);
    assert_eq!(of(UNIX_EPOCH + Duration::from_secs(LAST_SECOND + 1)), None);
    let last = of(UNIX_EPOCH + Duration::from_secs(LAST_SECOND)).unwrap();
    assert_eq!(httpdate::fmt_http_date(last), "Fri, 31 Dec 9999 23:59:59 GMT");
    assert_eq!(of(modified()), Some(httpdate::parse_http_date(SAME).unwrap()));
}
