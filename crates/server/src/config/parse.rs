//! Values as operators write them, in flags and in the configuration. What is
//! wrong with one is said in words that follow it.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bytesize::ByteSize;
use sluicegate::Way;
use sluicegate_http::normalise;

use crate::files::CacheControl;

/// A path beneath the root, in normal form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PathBytes(pub(crate) Vec<u8>);

/// The beginning of normal forms; empty for all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Prefix(pub(crate) Vec<u8>);

/// The largest file that is worth keeping in memory: beyond it, what a head
/// costs is lost in what the content costs.
pub(crate) const IN_MEMORY: ByteSize = ByteSize::mib(16);

/// How content is sent: chosen by kind and size, or always in one way.
pub(crate) const STRATEGIES: [(&str, Option<Way>); 5] = [
    ("auto", None),
    ("copy", Some(Way::Copy)),
    ("sendfile", Some(Way::Sendfile)),
    ("splice", Some(Way::Splice)),
    ("zerocopy", Some(Way::Zerocopy)),
];

/// A number of bytes; with a unit, unless it is 0.
pub(crate) fn size(text: &str) -> Result<ByteSize, String> {
    let expected = || "expected a size with its unit, such as 24KiB or 1MiB".to_owned();
    let is_bare = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_bare && !text.trim_start_matches('0').is_empty() {
        return Err(expected());
    }
    text.parse().map_err(|_| expected())
}

/// The size up to which files are kept in memory; bytes where there is no unit.
pub(crate) fn in_memory(text: &str) -> Result<ByteSize, String> {
    let size: ByteSize =
        text.parse().map_err(|_| "expected a size, such as 16KiB or 0".to_owned())?;
    if size > IN_MEMORY { Err(format!("at most {IN_MEMORY}")) } else { Ok(size) }
}

/// Whole numbers with units, added up: `250ms`, `20s`, `1m30s`, `2h`, `1d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let expected = || "expected a duration with its unit, such as 250ms, 20s or 1m30s".to_owned();
    let mut total = Duration::ZERO;
    let mut rest = text;
    loop {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (number, tail) = rest.split_at(digits);
        let letters = tail.len() - tail.trim_start_matches(|c: char| c.is_ascii_alphabetic()).len();
        let (unit, tail) = tail.split_at(letters);
        let milliseconds = match unit {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(expected()),
        };
        let number: u64 = number.parse().map_err(|_| expected())?;
        let part = number.checked_mul(milliseconds).map(Duration::from_millis);
        let sum = part.and_then(|part| total.checked_add(part));
        total = sum.ok_or_else(|| "it is longer than time can be counted".to_owned())?;
        if tail.is_empty() {
            return Ok(total);
        }
        rest = tail;
    }
}

/// An address and a port to listen on.
pub(crate) fn address(text: &str) -> Result<SocketAddr, String> {
    let expected = "expected an IP address and a port, such as 127.0.0.1:8080 or [::1]:8080";
    let guess = |address: String| format!("{expected}; did you mean `{address}`?");
    text.parse().map_err(|_| match text.parse::<IpAddr>() {
        Ok(IpAddr::V4(ip)) => guess(format!("{ip}:80")),
        Ok(IpAddr::V6(ip)) => guess(format!("[{ip}]:80")),
        Err(_) => {
            match text.strip_prefix("*:").or(text.strip_prefix(':')).unwrap_or(text).parse() {
                Ok(port @ 1u16..) => guess(format!("0.0.0.0:{port}")),
                _ => match text.strip_prefix("localhost:").map(str::parse) {
                    Some(Ok(port @ 1u16..)) => guess(format!("127.0.0.1:{port}")),
                    _ => expected.to_owned(),
                },
            }
        }
    })
}

/// A duration as [`duration`] takes it.
pub(crate) fn shown(duration: Duration) -> String {
    let milliseconds = duration.as_millis();
    let units = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
    match units.iter().find(|(_, unit)| milliseconds.is_multiple_of(*unit)) {
        _ if milliseconds == 0 => "0s".to_owned(),
        Some((name, unit)) => format!("{}{name}", milliseconds / unit),
        None => format!("{milliseconds}ms"),
    }
}

/// The name of a file in a directory.
pub(crate) fn name(text: &str) -> Result<String, String> {
    if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']) {
        return Err("expected the name of a file, without a slash".to_owned());
    }
    Ok(text.to_owned())
}

/// A path as an operator writes it: no percent-encoding, with or without a
/// slash at the beginning.
pub(crate) fn path(text: &str) -> Result<PathBytes, String> {
    let raw = format!("/{}", text.trim_start_matches('/').replace('%', "%25"));
    let mut out = Vec::new();
    match normalise(&raw, &mut out) {
        Ok(path) if path.ends_with_slash() => Err("expected a file, not a directory".to_owned()),
        Ok(path) => Ok(PathBytes(path.as_bytes().to_vec())),
        Err(error) => Err(error.to_string()),
    }
}

/// The beginning of paths, as it stands in a request.
pub(crate) fn prefix(text: &str) -> Result<Prefix, String> {
    if !text.starts_with('/') {
        return Err("expected a path that begins with a slash".to_owned());
    }
    let mut out = Vec::new();
    let path = normalise(text, &mut out).map_err(|error| error.to_string())?;
    let mut prefix = path.as_bytes().to_vec();
    if path.ends_with_slash() && !path.is_root() {
        prefix.push(b'/');
    }
    Ok(Prefix(prefix))
}

/// The beginning of paths, written as they are after they were decoded: a file
/// is read more often than it is written, and `/a b/` cannot be two things.
pub(crate) fn plain_prefix(text: &str) -> Result<Prefix, String> {
    if !text.starts_with('/') {
        let expected = "expected a path that begins with a slash";
        let is_plain = !text.is_empty() && !text.contains([':', '*', '^', '~', '$']);
        return Err(if is_plain {
            format!("{expected}; did you mean `/{text}`?")
        } else {
            expected.to_owned()
        });
    }
    if text.contains(['?', '#']) {
        return Err("a path ends before `?` and `#`".to_owned());
    }
    let is_escape = |tail: &str| {
        let mut digits = tail.bytes().take(2).filter(u8::is_ascii_hexdigit);
        digits.next().and(digits.next()).is_some()
    };
    if text.split('%').skip(1).any(is_escape) {
        let guess = prefix(text)
            .map(|normal| format!("; did you mean `/{}`?", String::from_utf8_lossy(&normal.0)));
        return Err(format!("expected it without percent-encoding{}", guess.unwrap_or_default()));
    }
    let normal = prefix(&text.replace('%', "%25"))?;
    let shown = format!("/{}", String::from_utf8_lossy(&normal.0));
    if shown != text {
        return Err(format!("expected its shortest form; did you mean `{shown}`?"));
    }
    Ok(normal)
}

/// A value of Cache-Control for the paths that begin with `prefix`.
pub(crate) fn cache_control(prefix: Prefix, value: &str) -> Result<CacheControl, String> {
    if value.trim().is_empty() {
        return Err("expected a value, such as \"max-age=3600\"".to_owned());
    }
    CacheControl::new(prefix.0, value.trim().to_owned()).map_err(|error| error.to_string())
}

/// The status of an error that may have a page of its own.
pub(crate) fn error_status(text: &str) -> Option<u16> {
    let status = text.parse().ok().filter(|_| text.len() == 3);
    status.filter(|status| (400..600).contains(status))
}

/// A network (CIDR), an address, or `all`: what that is of IPv4 and IPv6.
pub(crate) fn networks(text: &str) -> Result<Vec<(IpAddr, u8)>, String> {
    if text == "all" {
        return Ok(vec![(IpAddr::from([0u8; 4]), 0), (IpAddr::from([0u16; 8]), 0)]);
    }
    let network = network(text)?;
    Ok(vec![(network.addr(), network.prefix_len())])
}

/// A network (CIDR) or an address.
pub(crate) fn network(text: &str) -> Result<ipnet::IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let expected = "expected a network, such as 192.0.2.0/24 or 2001:db8::/32, or an address";
    let network: ipnet::IpNet = text.parse().map_err(|_| expected.to_owned())?;
    let whole = network.trunc();
    if whole == network {
        Ok(network)
    } else {
        Err(format!("its address has bits beyond the prefix; did you mean `{whole}`?"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units() {
        let milliseconds = |text| duration(text).map(|value| value.as_millis()).ok();
        assert_eq!(milliseconds("250ms"), Some(250));
        assert_eq!(milliseconds("1m30s"), Some(90_000));
        assert_eq!(milliseconds("1d2h"), Some(93_600_000));
        assert_eq!(milliseconds("0s"), Some(0));
        for bad in ["", "20", "s", "1.5s", "20 s", "-1s", "20S", "1s30", "99999999999999999999s"] {
            assert_eq!(milliseconds(bad), None, "{bad}");
        }
        assert!(duration("18446744073709551615d").unwrap_err().contains("longer"));
    }

    #[test]
    fn sizes_have_units() {
        assert_eq!(size("24KiB"), Ok(ByteSize::kib(24)));
        assert_eq!(size("0"), Ok(ByteSize(0)));
        for bad in ["", "24", "KiB", "-1KiB", "1 parsec"] {
            assert!(size(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_flag_takes_bytes_and_a_key_does_not() {
        assert_eq!(in_memory("4096"), Ok(ByteSize::kib(4)));
        assert_eq!(in_memory("4KiB"), size("4KiB"));
        assert!(size("4096").is_err());
    }

    #[test]
    fn prefixes_are_plain() {
        assert_eq!(plain_prefix("/a b/"), Ok(Prefix(b"a b/".to_vec())));
        assert_eq!(plain_prefix("/"), Ok(Prefix(Vec::new())));
        assert_eq!(plain_prefix("/100%"), Ok(Prefix(b"100%".to_vec())));
        for (bad, guess) in [
            ("/a%20b", "`/a b`"),
            ("/100%25", "`/100%`"),
            ("//a/../b", "`/b`"),
            ("app/", "`/app/`"),
        ] {
            assert!(plain_prefix(bad).unwrap_err().ends_with(&format!("{guess}?")), "{bad}");
        }
        assert!(plain_prefix("/../a").is_err());
        assert!(plain_prefix("/a?b").is_err());
    }

    #[test]
    fn addresses_and_networks() {
        assert!(address("[::1]:80").is_ok());
        for (bad, guess) in [
            ("127.0.0.1", "127.0.0.1:80"),
            ("::1", "[::1]:80"),
            ("8080", "0.0.0.0:8080"),
            ("*:80", "0.0.0.0:80"),
            (":80", "0.0.0.0:80"),
            ("localhost:1", "127.0.0.1:1"),
        ] {
            assert!(address(bad).unwrap_err().ends_with(&format!("`{guess}`?")), "{bad}");
        }
        assert_eq!(networks("all").unwrap().len(), 2);
        assert_eq!(networks("::1").unwrap(), [("::1".parse().unwrap(), 128)]);
        assert!(networks("10.0.0.1/8").unwrap_err().ends_with("`10.0.0.0/8`?"));
        assert!(networks("10.0.0.0/33").is_err() && networks("").is_err());
    }
}
