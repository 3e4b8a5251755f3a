mod messages;
mod paths;
mod recorder;
mod requests;
mod responses;

use super::*;
use crate::client::{ResponseHead, limits};
use crate::{Endpoints, Limits, RequestHead, normalise, normalise_onward};

fn request(text: &str) -> RequestHead {
    let mut head = RequestHead::new();
    head.parse(text.as_bytes(), &Limits::default()).unwrap();
    head
}

fn response(text: &str) -> ResponseHead {
    let mut head = ResponseHead::new();
    let parsed = head.parse(text.as_bytes(), &mut 0, &limits());
    assert_eq!(parsed, Ok(Some(text.len())), "{text:?}");
    head
}

fn rules(forwarded: Forwarded) -> RequestRules {
    RequestRules::new(HostOf::Client, forwarded, b"", true)
}

/// What an upstream at `app.test:81` gets of a request by a client at `peer`.
fn sent_by(peer: Option<&str>, text: &str, rules: &RequestRules) -> Result<String, Refusal> {
    let head = request(text);
    let endpoints =
        Endpoints { peer: peer.map(|peer| peer.parse().unwrap()), ..Endpoints::default() };
    let mut room = Vec::new();
    let path = normalise_onward(head.path(), &mut room).unwrap();
    let framing = RequestFraming::of(&head).unwrap();
    let onward = Onward {
        endpoints: &endpoints,
        path: &path,
        authority: "app.test:81",
        framing,
        closes: false,
    };
    let mut out = b"kept".to_vec();
    let written = request_head(&mut out, &head, rules, &onward);
    assert!(written.is_ok() || out == b"kept");
    // A path that is known to be plain makes no difference but in how it is written.
    if let Ok(path) = &normalise(head.path(), &mut Vec::new()) {
        let mut other = b"kept".to_vec();
        let again = request_head(&mut other, &head, rules, &Onward { path, ..onward });
        assert_eq!((again, &other), (written, &out), "{text:?}");
    }
    written?;
    Ok(String::from_utf8(out).unwrap().strip_prefix("kept").unwrap().to_owned())
}

fn sent(text: &str, rules: &RequestRules) -> String {
    sent_by(Some("192.0.2.7:1234"), text, rules).unwrap()
}
