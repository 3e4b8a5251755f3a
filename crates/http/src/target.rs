//! The request target and the Host header: who is asked for what. RFC 9112 section 3.2.

use crate::{Method, Offence};
use std::net::Ipv6Addr;
use std::ops::Range;

/// The four forms of a request target. RFC 9112 section 3.2.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum TargetForm {
    /// `/path?query`: what clients send to servers.
    #[default]
    Origin,
    /// `http://host/path?query`: what clients send to proxies, and servers must accept.
    Absolute,
    /// `host:port`, for CONNECT alone.
    Authority,
    /// `*`, for OPTIONS alone.
    Asterisk,
}

/// Byte ranges of a target's parts, relative to the target.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) form: TargetForm,
    pub(crate) authority: Option<Range<usize>>,
    /// Empty for an absolute form without a path (it means `/`) and for the authority form.
    pub(crate) path: Range<usize>,
    pub(crate) query: Option<Range<usize>>,
}

/// Whether a target may contain the byte.
///
/// RFC 3986 section 2 allows fewer: `"`, `<`, `>`, `\`, `^`, `` ` ``, `{`, `|` and `}` are to be
/// percent-encoded. Browsers send several of them as they are (WHATWG URL, query percent-encode
/// set), no server reads them as delimiters, and so they pass. Refused is what splits a request
/// line (controls, SP, DEL), what peers decode differently (bytes beyond ASCII), and `#`, because a
/// target has no fragment and some peers would cut there.
pub(crate) fn is_target_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b'#'
}

/// Takes a target apart whose bytes have all passed [`is_target_byte`].
pub(crate) fn parse(method: Method, target: &str) -> Result<Target, Offence> {
    // RFC 9112 section 3.2.3: authority-form is only used for CONNECT requests.
    if method == Method::Connect {
        // RFC 9110 section 9.3.6: a server MUST reject a CONNECT with an empty or invalid port.
        return match authority(target.as_bytes()) {
            Ok(Authority { host: 1.., port: Some(1..) }) => Ok(Target {
                form: TargetForm::Authority,
                authority: Some(0..target.len()),
                path: target.len()..target.len(),
                query: None,
            }),
            _ => Err(Offence::BadTarget),
        };
    }
    if target.starts_with('/') {
        return Ok(with_query(target, TargetForm::Origin, None, 0));
    }
    if target == "*" {
        // RFC 9112 section 3.2.4: asterisk-form is only used for a server-wide OPTIONS.
        return if method == Method::Options {
            Ok(Target { form: TargetForm::Asterisk, authority: None, path: 0..1, query: None })
        } else {
            Err(Offence::BadTarget)
        };
    }
    // RFC 9112 section 3.2.2: a server MUST accept the absolute-form, also when it is no proxy.
    let start = ["http://", "https://"]
        .into_iter()
        .find(|scheme| {
            target.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .ok_or(Offence::BadTarget)?
        .len();
    let rest = target.as_bytes().get(start..).unwrap_or_default();
    let end =
        start + rest.iter().position(|byte| matches!(byte, b'/' | b'?')).unwrap_or(rest.len());
    // RFC 9110 section 4.2.4: userinfo in a received URI is to be treated as an error; `@` is in
    // no host, so the check of the authority refuses it.
    match authority(target.as_bytes().get(start..end).unwrap_or_default()) {
        // RFC 9110 section 4.2.1: an http URI with an empty host MUST be rejected as invalid.
        Ok(Authority { host: 1.., .. }) => {
            Ok(with_query(target, TargetForm::Absolute, Some(start..end), end))
        }
        _ => Err(Offence::BadTarget),
    }
}

fn with_query(
    target: &str,
    form: TargetForm,
    authority: Option<Range<usize>>,
    path: usize,
) -> Target {
    let question = memchr::memchr(b'?', target.as_bytes());
    Target {
        form,
        authority,
        path: path..question.unwrap_or(target.len()),
        query: question.map(|at| at + 1..target.len()),
    }
}

/// What an authority is made of, as far as anybody needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Authority {
    /// Bytes of the host.
    host: usize,
    /// `None` without a port or with an empty one (`host:` is allowed by RFC 3986 section 3.2.3).
    port: Option<u16>,
}

/// Checks a Host value: `uri-host [ ":" port ]`, or nothing. RFC 9110 section 7.2.
pub(crate) fn check_host(value: &[u8]) -> Result<(), Offence> {
    match authority(value) {
        Ok(Authority { host: 1.., .. }) => Ok(()),
        // RFC 9112 section 3.2: Host is empty where the target URI has no authority. What an empty
        // one means here is section 3.3's "configured default": `RequestHead::host` says `None`.
        Ok(Authority { host: 0, .. }) if value.is_empty() => Ok(()),
        _ => Err(Offence::BadHost),
    }
}

/// Reads `uri-host [ ":" port ]` without userinfo. RFC 3986 section 3.2.
fn authority(bytes: &[u8]) -> Result<Authority, Offence> {
    let host = if bytes.first() == Some(&b'[') {
        let end = memchr::memchr(b']', bytes).ok_or(Offence::BadHost)?;
        let inside =
            bytes.get(1..end).and_then(|b| str::from_utf8(b).ok()).ok_or(Offence::BadHost)?;
        // Zone identifiers and IPvFuture are refused with everything else that is no address:
        // neither can name a site of ours.
        inside.parse::<Ipv6Addr>().map_err(|_| Offence::BadHost)?;
        end + 1
    } else {
        // Most names are of these bytes alone; a colon ends them.
        let plain = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
        let start = bytes.iter().position(|byte| !plain(byte)).unwrap_or(bytes.len());
        let rest = bytes.get(start..).unwrap_or_default();
        let end = start + rest.iter().position(|&byte| byte == b':').unwrap_or(rest.len());
        check_reg_name(bytes.get(start..end).unwrap_or_default())?;
        end
    };
    let port = match bytes.get(host..).unwrap_or_default() {
        [] | [b':'] => None,
        [b':', digits @ ..] => Some(port(digits)?),
        _ => return Err(Offence::BadHost),
    };
    Ok(Authority { host, port })
}

/// RFC 3986 section 3.2.2: reg-name = *( unreserved / pct-encoded / sub-delims ).
fn check_reg_name(name: &[u8]) -> Result<(), Offence> {
    let mut rest = name;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~', _) => tail,
            // The comma, also a sub-delim, is refused: it may be two Host lines that somebody
            // joined.
            (b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b';' | b'=', _) => tail,
            (b'%', [high, low, tail @ ..])
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                tail
            }
            _ => return Err(Offence::BadHost),
        };
    }
    Ok(())
}

fn port(digits: &[u8]) -> Result<u16, Offence> {
    digits
        .iter()
        .try_fold(0u16, |port, byte| {
            let digit = byte.is_ascii_digit().then(|| u16::from(byte - b'0'))?;
            port.checked_mul(10)?.checked_add(digit)
        })
        .ok_or(Offence::BadHost)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_is_a_name_or_an_address_with_an_optional_port() {
        for good in [
            "a",
            "example.test:80",
            "127.0.0.1",
            "[::1]",
            "[::ffff:1.2.3.4]:8080",
            "a_b",
            "x%41",
            "a:",
            "",
        ] {
            assert_eq!(check_host(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in [
            "a b",
            "a/b",
            "user@a",
            "a:b",
            "a:65536",
            "a:80:80",
            ":80",
            "[::1",
            "[::1]x",
            "[fe80::1%25eth0]",
            "[v1.a]",
            "::1",
            "a,b",
            "a%4",
            "a%zz",
            "a\"",
            "ä",
            "a\t",
            "[]",
            "a:+80",
            "a?b",
            "a#b",
            "a\\b",
        ] {
            assert_eq!(check_host(bad.as_bytes()), Err(Offence::BadHost), "{bad}");
        }
    }

    #[test]
    fn each_form_belongs_to_its_methods() {
        use TargetForm::{Absolute, Asterisk, Authority, Origin};
        let check = |method, target, expected| {
            assert_eq!(parse(method, target).map(|t| t.form).ok(), expected, "{target}");
        };
        check(Method::Get, "/a?b", Some(Origin));
        check(Method::Get, "//a", Some(Origin));
        check(Method::Get, "http://a", Some(Absolute));
        check(Method::Get, "HTTPS://a:1/?x", Some(Absolute));
        check(Method::Options, "*", Some(Asterisk));
        check(Method::Connect, "a:443", Some(Authority));
        check(Method::Connect, "[::1]:443", Some(Authority));
        for bad in [
            "*",
            "",
            "a",
            "a/b",
            "?x",
            "http:/a",
            "http://",
            "http:///a",
            "http://u@a/",
            "http://u:p@a/",
            "ftp://a/",
            "http://:80/",
            "**",
        ] {
            check(Method::Get, bad, None);
        }
        for bad in ["/", "a", "a:", "a:0", "http://a:80/", "a:80/x", ":80", "*", "a:99999"] {
            check(Method::Connect, bad, None);
        }
    }

    #[test]
    fn parts_are_ranges_of_the_target() {
        let target = "http://h:1/p/q?a?b";
        let parts = parse(Method::Get, target).unwrap();
        assert_eq!(&target[parts.authority.unwrap()], "h:1");
        assert_eq!(&target[parts.path], "/p/q");
        assert_eq!(&target[parts.query.unwrap()], "a?b");
        let bare = parse(Method::Get, "http://h?x").unwrap();
        assert!(bare.path.is_empty());
        assert_eq!(bare.query, Some(9..10));
    }
}
