//! The head of a request, as an upstream gets it.

use super::super::response_head::is_token_or_version;
use super::rules::{Forwarded, HostOf, RequestRules};
use super::target::{self, Refusal};
use super::{forwarded, framing, push_line, via};
use crate::framing::content_length;
use crate::{Endpoints, Known, Method, Normal, RequestFraming, RequestHead, TargetForm, Version};

/// What is to be known of a request besides its head and the rules of its route.
#[derive(Clone, Copy, Debug)]
pub struct Onward<'a> {
    /// The connection that it came by.
    pub endpoints: &'a Endpoints,
    /// The path by which its route was chosen.
    pub path: &'a Normal<'a>,
    /// The upstream: `host [":" port]`.
    pub authority: &'a str,
    /// How its body goes on.
    pub framing: RequestFraming,
    /// The connection to the upstream is not used again.
    pub closes: bool,
}

/// Writes the head with which a request goes on to an upstream, by HTTP/1.1: line, Host, the fields
/// that go on, ours, the framing, and the empty line. Allocates nothing but in `out`.
///
/// # Errors
/// [`Refusal`]: what the client is answered; `out` is as it was.
pub fn request_head(
    out: &mut Vec<u8>,
    head: &RequestHead,
    rules: &RequestRules,
    onward: &Onward<'_>,
) -> Result<(), Refusal> {
    let mark = out.len();
    if write_usual(out, head, rules, onward).is_some() {
        return Ok(());
    }
    out.truncate(mark);
    let written = write(out, head, rules, onward);
    if written.is_err() {
        out.truncate(mark);
    }
    written
}

/// Writes what [`write`] would, in few pieces, where the request and the rules are what nearly all
/// are; `None` where they are not.
fn write_usual(
    out: &mut Vec<u8>,
    head: &RequestHead,
    rules: &RequestRules,
    onward: &Onward<'_>,
) -> Option<()> {
    let is_usual = matches!(head.method(), Method::Get | Method::Head)
        && head.target_form() == TargetForm::Origin
        && onward.path.is_plain()
        && rules.are_usual()
        && onward.framing == RequestFraming::None
        && !onward.closes
        && head.count(Known::Upgrade) == 0
        && head.count(Known::Te) == 0;
    if !is_usual {
        return None;
    }
    let client = onward.endpoints.peer?.ip().to_canonical();
    let (begin, host) = head.begin_as_ours()?;
    out.reserve(head.as_bytes().len() + host.len() + 192);
    out.extend_from_slice(begin);
    // Host is one.
    if head.field_count() > 1 {
        // Nothing is refused but for OPTIONS.
        fields(out, head, rules, onward.framing).ok()?;
    }
    forwarded::write_usual(out, client, host);
    Some(())
}

#[inline(never)]
fn write(
    out: &mut Vec<u8>,
    head: &RequestHead,
    rules: &RequestRules,
    onward: &Onward<'_>,
) -> Result<(), Refusal> {
    if head.method() == Method::Trace {
        return Err(Refusal::Trace);
    }
    out.reserve(head.as_bytes().len() + rules.set.len() + 256);
    out.extend_from_slice(head.method_str().as_bytes());
    out.push(b' ');
    target::write(out, head, onward.path, &rules.strip)?;
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    // RFC 9112 section 3.2.2: whom the target names wins over Host.
    let host = head.host();
    out.extend_from_slice(
        match &rules.host {
            HostOf::Client => host.unwrap_or(onward.authority),
            HostOf::Upstream => onward.authority,
            HostOf::Fixed(fixed) => fixed,
        }
        .as_bytes(),
    );
    out.extend_from_slice(b"\r\n");
    fields(out, head, rules, onward.framing)?;
    if !rules.set.is_empty() {
        out.extend_from_slice(&rules.set);
    }
    forwarded::write(out, head, host, onward.endpoints, rules);
    if rules.via {
        via(out, head.version() == Version::Http10);
    }
    connection(out, head, rules, onward);
    framing(out, onward.framing);
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// Appends what goes on of the client's fields.
fn fields(
    out: &mut Vec<u8>,
    head: &RequestHead,
    rules: &RequestRules,
    framing: RequestFraming,
) -> Result<(), Refusal> {
    let nominates =
        head.count(Known::Connection) > 0 && head.tokens(Known::Connection).any(nominates);
    let hides = matches!(rules.forwarded, Forwarded::Replace | Forwarded::Rfc7239);
    for line in head.lines() {
        let goes_on = match line.known {
            Some(Known::MaxForwards) if head.method() == Method::Options => {
                if let Some(left) = max_forwards(line.value)?
                    && !rules.takes(line.name)
                {
                    out.extend_from_slice(b"Max-Forwards: ");
                    crate::encode::push_number(out, left);
                    out.extend_from_slice(b"\r\n");
                }
                false
            }
            Some(known) => goes_on(known, framing) && !forwarded::is_ours(known, rules.forwarded),
            None => {
                let is_hidden = hides && forwarded::is_one_of_them(line.name);
                let is_gone = is_hidden || (nominates && is_nominated(head, line.name));
                !is_gone && !is_of_no_upstream(line.name)
            }
        };
        if !goes_on || rules.takes(line.name) {
            continue;
        }
        push_line(out, line.line, line.name, line.value);
    }
    Ok(())
}

/// Whether a name that is not known here never goes on.
fn is_of_no_upstream(name: &[u8]) -> bool {
    // An underscore is a hyphen to whatever hands fields on as variables (CGI, WSGI), so that
    // `X_Forwarded_For` would stand in for ours. No browser sends one. And settings of HTTP/2 are of
    // the upgrade that is never passed on (RFC 7540 section 3.2.1).
    name.contains(&b'_') || name.eq_ignore_ascii_case(b"http2-settings")
}

/// Whether a known field is for whoever answers the request. The others are of the client's
/// connection (RFC 9110 section 7.6.1), or written by us.
fn goes_on(known: Known, framing: RequestFraming) -> bool {
    match known {
        Known::Connection
        | Known::ContentLength
        // We have answered 100 ourselves where it was wanted.
        | Known::Expect
        | Known::Host
        | Known::KeepAlive
        // HTTP_PROXY to whatever hands fields on as variables.
        | Known::Proxy
        | Known::ProxyAuthorization
        | Known::ProxyConnection
        | Known::Te
        | Known::TransferEncoding
        | Known::Upgrade => false,
        Known::Trailer => framing == RequestFraming::Chunked,
        _ => true,
    }
}

/// Whether an option of Connection names a field that is to be removed. RFC 9110 section 7.6.1.
///
/// Fields that are known here are for the upstream, whatever a client lists: it would take away
/// what a proxy in front of us says of it.
pub(super) fn nominates(option: &[u8]) -> bool {
    !option.eq_ignore_ascii_case(b"close") && Known::from_name(option).is_none()
}

fn is_nominated(head: &RequestHead, name: &[u8]) -> bool {
    head.tokens(Known::Connection).any(|option| option.eq_ignore_ascii_case(name))
}

/// RFC 9110 section 7.6.2: one less, and no further at 0. What is no number goes on as none.
fn max_forwards(value: &[u8]) -> Result<Option<u64>, Refusal> {
    match content_length(value) {
        Ok(left) => left.checked_sub(1).map(Some).ok_or(Refusal::LastHop),
        Err(_) => Ok(None),
    }
}

/// What holds for the connection to the upstream.
fn connection(out: &mut Vec<u8>, head: &RequestHead, rules: &RequestRules, onward: &Onward<'_>) {
    if let Some(protocol) = upgrade_asked(head, rules, onward.framing) {
        for part in [b"Connection: upgrade\r\nUpgrade: ".as_slice(), protocol, b"\r\n"] {
            out.extend_from_slice(part);
        }
        return;
    }
    // RFC 9110 section 10.1.4: who sends TE lists it. No coding of a client is ours to ask for.
    let trailers = head.count(Known::Te) > 0 && head.has_token(Known::Te, "trailers");
    let line: &[u8] = match (trailers, onward.closes) {
        (true, true) => b"Connection: close, TE\r\nTE: trailers\r\n",
        (true, false) => b"Connection: TE\r\nTE: trailers\r\n",
        (false, true) => b"Connection: close\r\n",
        (false, false) => return,
    };
    out.extend_from_slice(line);
}

/// The protocol of an upgrade that is passed on: asked for by GET and HTTP/1.1, without a body, one
/// protocol alone, and no other form of HTTP or of its connection: those are not the upstream's to
/// speak to the client.
#[must_use]
pub fn upgrade_asked<'a>(
    head: &'a RequestHead,
    rules: &RequestRules,
    framing: RequestFraming,
) -> Option<&'a [u8]> {
    let protocol = head.known(Known::Upgrade)?;
    let is_asked = rules.upgrade
        && head.method() == Method::Get
        && head.version() == Version::Http11
        && !framing.has_body()
        && head.count(Known::Upgrade) == 1
        && head.has_token(Known::Connection, "upgrade")
        && is_token_or_version(protocol);
    let name = protocol.split(|&byte| byte == b'/').next().unwrap_or_default();
    let is_other_http = ["h2c", "h2", "h3", "http", "tls"]
        .iter()
        .any(|refused| refused.as_bytes().eq_ignore_ascii_case(name));
    (is_asked && !is_other_http).then_some(protocol)
}
