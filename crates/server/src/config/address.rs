//! Addresses of upstreams, as pools, `url` and the command line have them.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use super::host::host;
use super::model::{Address, Host};

/// The longest path of a Unix socket: `sun_path` of unix(7) with its last zero.
const LONGEST: usize = 107;

/// A server of a pool: `127.0.0.1:9001`, `app.internal:9001`, `unix:/run/app.sock`.
pub(crate) fn server(text: &str) -> Result<Address, String> {
    let expected = "expected an address and a port, such as 127.0.0.1:9001, or unix:/run/app.sock";
    if let Some((scheme, rest)) = text.split_once("://") {
        if scheme == "https" {
            return Err(NO_TLS.to_owned());
        }
        let rest = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let guess =
            if authority(rest, None).is_ok() { rest.to_owned() } else { format!("{rest}:80") };
        let is_right = authority(&guess, None).is_ok();
        return Err(match is_right {
            true => format!("expected it without `{scheme}://`; did you mean `{guess}`?"),
            false => expected.to_owned(),
        });
    }
    match text.strip_prefix("unix:") {
        Some(path) => unix(path),
        None => authority(text, None),
    }
}

/// What routes and the command line name a single server by: `http://` and its
/// address, or `http://unix:/run/app.sock`.
pub(crate) fn url(text: &str) -> Result<Address, String> {
    let expected = "expected a URL, such as http://127.0.0.1:9001 or http://unix:/run/app.sock";
    let Some((scheme, rest)) = text.split_once("://") else {
        let is_address = !text.is_empty() && server(text).is_ok();
        let guess = is_address.then(|| format!("; did you mean `http://{text}`?"));
        return Err(format!("{expected}{}", guess.unwrap_or_default()));
    };
    if scheme.eq_ignore_ascii_case("https") {
        return Err(NO_TLS.to_owned());
    }
    if !scheme.eq_ignore_ascii_case("http") {
        return Err(expected.to_owned());
    }
    if let Some(path) = rest.strip_prefix("unix:") {
        return unix(path);
    }
    let (name, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if name.contains('@') {
        return Err("expected no user in it; `set_headers` can have an Authorization".to_owned());
    }
    let address = authority(name, Some(80))?;
    if path.is_empty() || path == "/" {
        return Ok(address);
    }
    let hint = "paths are passed on as they come, without what `strip_prefix` takes off";
    Err(format!("expected it without a path ({hint}); did you mean `{scheme}://{name}`?"))
}

const NO_TLS: &str = "`https` to upstreams is not in this version yet; expected `http`";

fn unix(path: &str) -> Result<Address, String> {
    if !Path::new(path).is_absolute() || path.ends_with('/') || path.contains('\0') {
        return Err("expected the whole path of a socket, such as unix:/run/app.sock".to_owned());
    }
    if path.len() > LONGEST {
        return Err(format!("the path of a socket has at most {LONGEST} bytes"));
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

/// A host and its port.
fn authority(text: &str, port: Option<u16>) -> Result<Address, String> {
    let expected = "expected an address and a port, such as 127.0.0.1:9001 or app.internal:9001";
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => Err("expected a port from 1 to 65535".to_owned()),
            _ => Ok(Address::Tcp(address)),
        };
    }
    let missing = |shown: String| format!("{expected}; did you mean `{shown}:80`?");
    let brackets = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    if let Ok(ip) = brackets.unwrap_or(text).parse::<IpAddr>() {
        return match (port, ip) {
            (None, IpAddr::V6(ip)) => Err(missing(format!("[{ip}]"))),
            (None, IpAddr::V4(ip)) => Err(missing(ip.to_string())),
            (Some(port), ip) if ip.is_ipv4() == brackets.is_none() => {
                Ok(Address::Tcp(SocketAddr::new(ip, port)))
            }
            (Some(_), _) => Err(format!("expected brackets around the address: `[{ip}]`")),
        };
    }
    let (name, port) = match text.rsplit_once(':') {
        Some((name, digits)) => {
            let number = digits.parse().ok().filter(|port| *port != 0);
            let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
            let number = number.filter(|_| is_number);
            (name, Some(number.ok_or("expected a port from 1 to 65535")?))
        }
        None => (text, port),
    };
    let Ok(Host::Name(mut host)) = host(name) else { return Err(expected.to_owned()) };
    // An absolute name: no search domain goes behind it.
    if name.ends_with('.') {
        host.push('.');
    }
    match port {
        Some(port) => Ok(Address::Name { host, port }),
        None => Err(missing(host)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(address: Result<Address, String>) -> String {
        address.map(|address| address.to_string()).unwrap()
    }

    #[test]
    fn servers_are_addresses_names_and_sockets() {
        for text in ["127.0.0.1:9001", "[::1]:80", "app.internal:9001", "my_app:1", "unix:/run/a"] {
            assert_eq!(shown(server(text)), text);
        }
        assert_eq!(shown(server("App.Internal.:80")), "app.internal.:80");
        for (bad, reason) in [
            ("", "expected an address"),
            ("127.0.0.1", "did you mean `127.0.0.1:80`?"),
            ("::1", "did you mean `[::1]:80`?"),
            ("app", "did you mean `app:80`?"),
            ("app:0", "a port from 1 to 65535"),
            ("127.0.0.1:0", "a port from 1 to 65535"),
            ("app:65536", "a port from 1 to 65535"),
            ("app:+1", "a port from 1 to 65535"),
            ("*.app:80", "expected an address"),
            ("a b:80", "expected an address"),
            ("10.1:80", "expected an address"),
            ("http://app:9001/x", "did you mean `app:9001`?"),
            ("http://app", "did you mean `app:80`?"),
            ("http://", "expected an address"),
            ("https://app", "not in this version yet"),
            ("unix:", "unix:/run/app.sock"),
            ("unix:run/a", "unix:/run/app.sock"),
            ("unix:/run/", "unix:/run/app.sock"),
        ] {
            let error = server(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
        assert!(server(&format!("unix:/{}", "x".repeat(107))).unwrap_err().contains("107"));
    }

    #[test]
    fn urls_are_servers_with_their_scheme() {
        for (text, address) in [
            ("http://127.0.0.1:9001", "127.0.0.1:9001"),
            ("http://127.0.0.1/", "127.0.0.1:80"),
            ("HTTP://[::1]", "[::1]:80"),
            ("http://app.internal", "app.internal:80"),
            ("http://unix:/run/app.sock", "unix:/run/app.sock"),
        ] {
            assert_eq!(shown(url(text)), address);
        }
        for (bad, reason) in [
            ("", "expected a URL"),
            ("http://", "expected an address"),
            ("127.0.0.1:9001", "did you mean `http://127.0.0.1:9001`?"),
            ("unix:/run/a", "did you mean `http://unix:/run/a`?"),
            ("app", "expected a URL"),
            ("https://app", "not in this version yet"),
            ("ftp://app", "expected a URL"),
            ("http://u:p@app", "no user"),
            ("http://app/x", "did you mean `http://app`?"),
            ("http://app?x", "without a path"),
            ("http://::1", "brackets"),
            ("http://unix:a", "unix:/run/app.sock"),
        ] {
            let error = url(bad).unwrap_err();
            assert!(error.contains(reason), "{bad}: {error}");
        }
    }
}
