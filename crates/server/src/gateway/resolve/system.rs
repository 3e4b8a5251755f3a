//! What the host's own files say of names: hosts(5) and resolv.conf(5).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::Duration;

/// Names of DNS servers beyond this are not looked at, as in the C library.
const SERVERS: usize = 3;

/// Bytes of such a file that are read.
const READ: u64 = 1024 * 1024;

/// How names are asked for here and now: the files may change at any time.
#[derive(Clone, Debug)]
pub(super) struct System {
    hosts: String,
    pub(super) servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
    /// For one question to one server, and how often all of them are asked.
    pub(super) timeout: Duration,
    pub(super) attempts: u32,
}

impl System {
    /// What the files say; with `resolver`, names go to that alone, as they are.
    pub(super) fn read(resolver: Option<SocketAddr>) -> Self {
        let hosts = read(Path::new("/etc/hosts"));
        match resolver {
            Some(server) => {
                let system = System::parse(hosts, "");
                System { servers: vec![server], search: Vec::new(), ..system }
            }
            None => System::parse(hosts, &read(Path::new("/etc/resolv.conf"))),
        }
    }

    pub(super) fn parse(hosts: String, resolv_conf: &str) -> Self {
        let mut system = System {
            hosts,
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
            timeout: Duration::from_secs(2),
            attempts: 2,
        };
        for line in resolv_conf.lines() {
            let mut words = line.split_ascii_whitespace();
            match words.next() {
                Some("nameserver") if system.servers.len() < SERVERS => {
                    // An address of the link has its interface behind it, which
                    // cannot be said here.
                    let server = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    system.servers.extend(server.map(|ip| SocketAddr::new(ip, 53)));
                }
                Some("search") => system.search = words.map(str::to_owned).collect(),
                Some("domain") => system.search = words.take(1).map(str::to_owned).collect(),
                Some("options") => words.for_each(|option| system.option(option)),
                _ => {}
            }
        }
        if system.servers.is_empty() {
            system.servers.push((Ipv4Addr::LOCALHOST, 53).into());
        }
        system
    }

    fn option(&mut self, option: &str) {
        let number = |text: &str| text.parse::<u32>().ok();
        if let Some(ndots) = option.strip_prefix("ndots:").and_then(number) {
            self.ndots = ndots.min(15) as usize;
        } else if let Some(seconds) = option.strip_prefix("timeout:").and_then(number) {
            self.timeout = Duration::from_secs(seconds.clamp(1, 30).into());
        } else if let Some(attempts) = option.strip_prefix("attempts:").and_then(number) {
            self.attempts = attempts.clamp(1, 5);
        }
    }

    /// The addresses that the hosts file has for `name`.
    pub(super) fn hosts(&self, name: &str) -> Vec<IpAddr> {
        let name = name.trim_end_matches('.');
        let of_line = |line: &str| {
            let line = line.split('#').next()?;
            let mut words = line.split_ascii_whitespace();
            let ip = words.next()?.parse::<IpAddr>().ok()?;
            words.any(|word| word.eq_ignore_ascii_case(name)).then_some(ip)
        };
        self.hosts.lines().filter_map(of_line).collect()
    }

    /// The absolute names that `name` may mean, in the order in which they are tried.
    pub(super) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let within = |domain: &String| format!("{name}.{}", domain.trim_matches('.'));
        let mut all: Vec<String> = self.search.iter().map(within).collect();
        let dots = name.bytes().filter(|&byte| byte == b'.').count();
        let place = if dots >= self.ndots { 0 } else { all.len() };
        all.insert(place, name.to_owned());
        all
    }
}

/// A file that is not there, or no text, says nothing.
fn read(path: &Path) -> String {
    use std::io::Read;
    let mut text = Vec::new();
    let file = std::fs::File::open(path);
    let _ = file.and_then(|file| file.take(READ).read_to_end(&mut text));
    String::from_utf8_lossy(&text).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_is_read_line_by_line() {
        let hosts = "127.0.0.1 localhost\n192.0.2.7\tApp app.example # no\n# 192.0.2.8 app\n\
                     2001:db8::7 app\nbroken app\n";
        let system = System::parse(hosts.to_owned(), "");
        let app: [IpAddr; 2] = ["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()];
        assert_eq!(system.hosts("APP"), app);
        assert_eq!(system.hosts("app.example."), app[..1]);
        assert!(system.hosts("no").is_empty());
    }

    #[test]
    fn servers_search_and_options_are_taken_from_resolv_conf() {
        let text = "; comment\nnameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver 2001:db8::1\n\
                    domain old.example\nsearch one.example two.example.\n\
                    options ndots:2 timeout:7 attempts:9 rotate\n";
        let system = System::parse(String::new(), text);
        let servers: [SocketAddr; 2] =
            ["192.0.2.1:53".parse().unwrap(), "[2001:db8::1]:53".parse().unwrap()];
        assert_eq!(system.servers, servers);
        assert_eq!((system.timeout, system.attempts), (Duration::from_secs(7), 5));
        assert_eq!(system.candidates("app"), ["app.one.example", "app.two.example", "app"]);
        assert_eq!(system.candidates("a.b.c"), ["a.b.c", "a.b.c.one.example", "a.b.c.two.example"]);
        assert_eq!(system.candidates("app."), ["app"]);
        let nothing = System::parse(String::new(), "");
        assert_eq!(nothing.servers, ["127.0.0.1:53".parse().unwrap()]);
        assert_eq!(nothing.candidates("app"), ["app"]);
    }
}
