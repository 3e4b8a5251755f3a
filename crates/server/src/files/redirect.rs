//! From a directory's name to the directory.

use std::fmt::Write;

use sluicegate_http::Response;

/// Sends the client to the same directory with a slash at the end, from where
/// its relative links lead to the right place.
///
/// The target is written from the normal form: a raw `//host` would lead to
/// another server.
pub(super) fn into(path: &[u8], query: Option<&str>) -> Response {
    let mut location = String::from("/");
    push_encoded(&mut location, path);
    location.push('/');
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::status_page(301);
    match response.add("Location", location) {
        Ok(()) => response,
        Err(_) => Response::status_page(404),
    }
}

/// Writes a path of raw bytes as part of a URL. RFC 3986 section 2.3: what
/// needs no escaping anywhere stays; and the slash.
pub(crate) fn push_encoded(out: &mut String, path: &[u8]) {
    for &byte in path {
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}
