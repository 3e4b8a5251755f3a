//! Names of sites.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::model::Host;

/// A host as a site has it: a name, an address, or `*.` and a name.
pub(super) fn host(text: &str) -> Result<Host, String> {
    let expected = "expected a name, such as \"example.test\" or \"*.example.test\"";
    if text.is_empty() {
        return Err(expected.to_owned());
    }
    if text == "*" {
        return Err("a site for all names is one without `hosts`".to_owned());
    }
    if let Some((_, rest)) = text.split_once("://") {
        let name = rest.split(['/', ':', '?']).next().unwrap_or_default();
        return Err(format!("expected a name alone; did you mean `{name}`?"));
    }
    if text.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("expected brackets around the address; did you mean `[{text}]`?"));
    }
    if let Some(address) = bracketed(text) {
        return Ok(Host::Name(format!("[{address}]")));
    }
    if let Some((name, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        let hint = "ports belong into `listen`";
        return Err(format!("expected a name without a port ({hint}); did you mean `{name}`?"));
    }
    if let Some((name, _)) = text.split_once('/') {
        return Err(format!("expected a name without a path; did you mean `{name}`?"));
    }
    if !text.is_ascii() {
        return Err("expected the name's ASCII form, which begins with `xn--`".to_owned());
    }
    if let Some(name) = text.strip_prefix('.') {
        return Err(format!("expected `{name}`, or `*.{name}` for all names beneath it, or both"));
    }
    let name = text.to_ascii_lowercase();
    let name = name.strip_suffix('.').unwrap_or(&name);
    let (name, is_wildcard) = match name.strip_prefix("*.") {
        Some(name) => (name, true),
        None => (name, false),
    };
    if name.contains('*') {
        return Err("`*` stands for whole labels at the beginning alone, \
                    such as \"*.example.test\""
            .to_owned());
    }
    let is_label = |label: &str| {
        let is_name_byte = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(is_name_byte)
    };
    // RFC 1035 section 2.3.4; underscores, since they are in use.
    if name.len() > 253 || !name.split('.').all(is_label) {
        return Err(expected.to_owned());
    }
    // `10.1` would be an address to some clients and a name to others.
    let is_number = name.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    if is_number && (is_wildcard || name.parse::<Ipv4Addr>().is_err()) {
        return Err("expected a name, or a whole IP address".to_owned());
    }
    let name = name.to_owned();
    Ok(if is_wildcard { Host::Wildcard(name) } else { Host::Name(name) })
}

fn bracketed(text: &str) -> Option<Ipv6Addr> {
    text.strip_prefix('[')?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_addresses_and_wildcards() {
        for (text, name) in [
            ("Example.TEST.", "example.test"),
            ("127.0.0.1", "127.0.0.1"),
            ("[0:0::1]", "[::1]"),
            ("my_host", "my_host"),
        ] {
            assert_eq!(host(text), Ok(Host::Name(name.to_owned())));
        }
        assert_eq!(host("*.Example.test"), Ok(Host::Wildcard("example.test".to_owned())));
    }

    #[test]
    fn what_is_no_host_is_told_why() {
        for (text, reason) in [
            ("", "expected a name"),
            ("*", "without `hosts`"),
            ("a.test:80", "did you mean `a.test`?"),
            ("[::1]:80", "did you mean `[::1]`?"),
            ("http://a.test/x", "did you mean `a.test`?"),
            ("a.test/x", "did you mean `a.test`?"),
            ("::1", "did you mean `[::1]`?"),
            ("a.*.test", "`*` stands"),
            ("a*.test", "`*` stands"),
            ("*.*.test", "`*` stands"),
            ("~^www", "expected a name"),
            ("a..test", "expected a name"),
            (".a.test", "or `*.a.test`"),
            ("bücher.test", "xn--"),
            ("10.1", "whole IP address"),
            ("a b", "expected a name"),
        ] {
            let error = host(text).unwrap_err();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }
}
