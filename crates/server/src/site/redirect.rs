//! Another place, made of what was asked for.

use std::fmt::Write;

use sluicegate_http::{BadField, Normal, RequestHead, Response};

use crate::config::{self, Host};
use crate::files::push_encoded;

/// Where clients are sent to.
#[derive(Debug)]
pub(super) struct Redirect {
    status: u16,
    pieces: Vec<Piece>,
    /// For requests that name no host, or none that could stand in a URL.
    host: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// As it is, with nothing in it that a URL cannot have.
    Text(String),
    Host,
    Path,
    Query,
}

const PLACEHOLDERS: [(&str, Piece); 3] =
    [("{host}", Piece::Host), ("{path}", Piece::Path), ("{query}", Piece::Query)];

/// Takes apart what is between the placeholders.
fn pieces(to: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = to;
    while !rest.is_empty() {
        let found = PLACEHOLDERS.into_iter().filter_map(|(name, piece)| {
            let at = rest.find(name)?;
            Some((at, name.len(), piece))
        });
        let (at, len, piece) = match found.min_by_key(|(at, ..)| *at) {
            Some((at, len, piece)) => (at, len, Some(piece)),
            None => (rest.len(), 0, None),
        };
        if at > 0 {
            let mut text = String::new();
            push_url(&mut text, rest.get(..at).unwrap_or_default());
            pieces.push(Piece::Text(text));
        }
        pieces.extend(piece);
        rest = rest.get(at + len..).unwrap_or_default();
    }
    pieces
}

/// Writes what is or should be a part of a URL, and nothing that a URL cannot
/// have (RFC 3986 section 2): what is not allowed anywhere is percent-encoded.
fn push_url(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

/// Whether a host name, or an address, that came in a request may stand in a
/// URL of ours. The engine lets all of RFC 3986 pass; browsers and caches read
/// less of it alike.
fn is_plain(host: &str) -> bool {
    // The engine has found an address between brackets.
    host.starts_with('[')
        || host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
}

impl Redirect {
    /// For a site of these names.
    pub(super) fn new(redirect: &config::Redirect, hosts: &[Host]) -> Self {
        let named = hosts.iter().find_map(|host| match host {
            Host::Name(name) => Some(name.clone()),
            Host::Wildcard(_) => None,
        });
        Redirect { status: redirect.status, pieces: pieces(&redirect.to), host: named }
    }

    /// Sends the client away. 400 to one whose request does not say where to.
    pub(super) fn respond(&self, path: &Normal<'_>, head: &RequestHead) -> Response {
        match self.location(path, head).map(|location| self.to(&location)) {
            Some(Ok(response)) => response,
            Some(Err(_)) | None => Response::status_page(400),
        }
    }

    fn to(&self, location: &str) -> Result<Response, BadField> {
        let mut response = Response::status_page(self.status);
        response.add("Location", location)?;
        Ok(response)
    }

    fn location(&self, path: &Normal<'_>, head: &RequestHead) -> Option<String> {
        let mut location = String::with_capacity(128);
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => location.push_str(text),
                Piece::Host => {
                    let asked = head.host_name().filter(|host| is_plain(host));
                    location.push_str(asked.or(self.host.as_deref())?);
                }
                // From the normal form: it begins with one slash, and what
                // follows is no other server's name.
                Piece::Path => {
                    location.push('/');
                    push_encoded(&mut location, path.as_bytes());
                    if path.ends_with_slash() && !path.is_root() {
                        location.push('/');
                    }
                }
                Piece::Query => {
                    if let Some(query) = head.query() {
                        location.push('?');
                        push_url(&mut location, query);
                    }
                }
            }
        }
        Some(location)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_http::{Limits, normalise};

    fn redirect(to: &str) -> Redirect {
        let hosts = [Host::Wildcard("x.test".to_owned()), Host::Name("a.test".to_owned())];
        Redirect::new(&config::Redirect { status: 308, to: to.to_owned() }, &hosts)
    }

    fn location(redirect: &Redirect, line: &str, fields: &str) -> Option<String> {
        let mut head = RequestHead::new();
        head.parse(format!("GET {line}\r\n{fields}\r\n").as_bytes(), &Limits::default()).unwrap();
        let mut out = Vec::new();
        let path = normalise(head.path(), &mut out).unwrap();
        let response = redirect.respond(&path, &head);
        let location = response.field("Location")?;
        assert_eq!(response.status(), 308);
        Some(String::from_utf8(location.to_vec()).unwrap())
    }

    #[test]
    fn placeholders_are_filled_with_what_was_asked_for() {
        let whole = redirect("https://{host}{path}{query}");
        for (target, host, expected) in [
            ("/", "b.test", "https://b.test/"),
            ("/a/b?c=d&e", "B.test:8080", "https://B.test/a/b?c=d&e"),
            ("/a//b/?", "b.test", "https://b.test/a/b/?"),
            ("/%41%20%c3%a4", "[::1]:80", "https://[::1]/A%20%C3%A4"),
            ("/x", "b.test.", "https://b.test./x"),
            // Not for a URL: the site's own name.
            ("/x", "b'(&;=)", "https://a.test/x"),
            ("/x", "b%41.test", "https://a.test/x"),
            ("/x", "", "https://a.test/x"),
            ("http://c.test/x", "b.test", "https://c.test/x"),
        ] {
            let found =
                location(&whole, &format!("{target} HTTP/1.1"), &format!("Host: {host}\r\n"));
            assert_eq!(found.as_deref(), Some(expected), "{target} of {host}");
        }
        assert_eq!(location(&whole, "/x HTTP/1.0", "").as_deref(), Some("https://a.test/x"));
    }

    #[test]
    fn where_nobody_says_which_host_it_is_a_bad_request() {
        let nameless = config::Redirect { status: 301, to: "https://{host}/".to_owned() };
        let nameless = Redirect::new(&nameless, &[]);
        let mut head = RequestHead::new();
        head.parse(b"GET / HTTP/1.0\r\n\r\n", &Limits::default()).unwrap();
        let mut out = Vec::new();
        let response = nameless.respond(&normalise("/", &mut out).unwrap(), &head);
        assert_eq!((response.status(), response.field("Location")), (400, None));
    }

    #[test]
    fn nothing_that_a_client_sends_leads_elsewhere_or_splits_the_answer() {
        let path = redirect("{path}");
        for (target, expected) in [
            ("//evil.test/x", "/evil.test/x"),
            ("/%0d%0aSet-Cookie:%20a", "/%0D%0ASet-Cookie%3A%20a"),
            ("/a/..//evil.test", "/evil.test"),
            ("/.//evil.test", "/evil.test"),
            ("/@evil.test", "/%40evil.test"),
            ("/%00", ""),
            ("/\\evil.test", ""),
        ] {
            let mut out = Vec::new();
            if expected.is_empty() {
                assert!(normalise(target, &mut out).is_err(), "{target}");
                continue;
            }
            let found = location(&path, &format!("{target} HTTP/1.1"), "Host: a\r\n");
            assert_eq!(found.as_deref(), Some(expected), "{target}");
        }
        let query = redirect("/new{query}");
        let found = location(&query, "/?%0d%0aA:b&<script>\"{}` HTTP/1.1", "Host: a\r\n");
        assert_eq!(found.as_deref(), Some("/new?%0d%0aA:b&%3Cscript%3E%22%7B%7D%60"));
    }

    #[test]
    fn what_an_operator_writes_is_made_fit_for_a_header() {
        for (to, expected) in [
            ("/a b\r\nX: y", "/a%20b%0D%0AX:%20y"),
            ("/\u{e4}", "/%C3%A4"),
            ("/{other}", "/%7Bother%7D"),
            ("https://[::1]:8/a%20b?c#d", "https://[::1]:8/a%20b?c#d"),
            ("", ""),
        ] {
            let found = location(&redirect(to), "/x?y HTTP/1.1", "Host: a\r\n");
            assert_eq!(found.as_deref(), Some(expected), "{to}");
        }
        assert_eq!(pieces("{host}{path}{query}{host").len(), 4);
    }
}
