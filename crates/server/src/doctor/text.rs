//! Reading the kernel's texts (`proc(5)`). Whatever is in them, nothing panics:
//! what cannot be read is `None`.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Bytes of a text at most. A page holds every setting; tables are longer.
const LIMIT: u64 = 64 * 1024;

/// A text, without the line's end.
pub(super) fn read(path: impl AsRef<Path>) -> io::Result<String> {
    let mut bytes = Vec::new();
    File::open(path)?.take(LIMIT).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).trim_end().to_owned())
}

/// A setting by its name of `sysctl(8)`, such as `net.core.somaxconn`.
pub(super) fn setting(name: &str) -> io::Result<String> {
    read(format!("/proc/sys/{}", name.replace('.', "/")))
}

/// A setting that is one number.
pub(super) fn number(name: &str) -> io::Result<u64> {
    setting(name)?.parse().map_err(|_| io::ErrorKind::InvalidData.into())
}

/// A setting of so many numbers, such as `net.ipv4.tcp_mem`.
pub(super) fn numbers<const N: usize>(name: &str) -> io::Result<[u64; N]> {
    parse_numbers(&setting(name)?).ok_or_else(|| io::ErrorKind::InvalidData.into())
}

fn parse_numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Vec<u64> =
        text.split_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// The value of `Name:` in `/proc/self/status`.
pub(super) fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    status.lines().find_map(|line| {
        let (field, value) = line.split_once(':')?;
        (field == name).then_some(value.trim())
    })
}

/// Whether a set of capabilities, as `/proc/self/status` has it, holds the one
/// of this number (`<linux/capability.h>`).
pub(super) fn has_capability(status: &str, number: u32) -> Option<bool> {
    let set = u64::from_str_radix(field(status, "CapEff")?, 16).ok()?;
    Some(set.checked_shr(number)? & 1 == 1)
}

/// The word in brackets: `always [never]` of `admin-guide/mm/transhuge.rst`.
pub(super) fn chosen(text: &str) -> Option<&str> {
    let (_, behind) = text.split_once('[')?;
    behind.split_once(']').map(|(chosen, _)| chosen)
}

/// Pages that TCP holds on this host now (`/proc/net/sockstat`).
pub(super) fn tcp_pages(sockstat: &str) -> Option<u64> {
    let line = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"))?;
    let mut words = line.split_whitespace().skip_while(|word| *word != "mem");
    words.nth(1)?.parse().ok()
}

/// Names of devices in `/proc/net/dev`.
pub(super) fn devices(table: &str) -> impl Iterator<Item = &str> {
    table.lines().skip(2).filter_map(|line| {
        let (name, _) = line.split_once(':')?;
        Some(name.trim()).filter(|name| !name.is_empty())
    })
}

/// Where this process is in the tree of control groups (`cgroups(7)`), by
/// `/proc/self/cgroup`: `(path in the unified tree, path in version 1's own tree
/// of memory)`.
pub(super) fn cgroups(text: &str) -> (Option<&str>, Option<&str>) {
    let (mut unified, mut memory) = (None, None);
    for line in text.lines() {
        let mut parts = line.splitn(3, ':');
        let (Some(_), Some(controllers), Some(path)) = (parts.next(), parts.next(), parts.next())
        else {
            continue;
        };
        if !path.starts_with('/') {
            continue;
        }
        if controllers.is_empty() {
            unified = Some(path);
        } else if controllers.split(',').any(|controller| controller == "memory") {
            memory = Some(path);
        }
    }
    (unified, memory)
}

/// Bytes, for people.
pub(super) fn bytes(count: u64) -> String {
    bytesize::ByteSize::b(count).display().iec().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STATUS: &str = "Name:\tcat\nCapEff:\t0000000000000400\nSeccomp:\t2\n";

    #[test]
    fn texts_of_a_kernel_are_read() {
        assert_eq!(parse_numbers("1\t22 333"), Some([1, 22, 333]));
        assert_eq!(field(STATUS, "Seccomp"), Some("2"));
        assert_eq!(has_capability(STATUS, 10), Some(true));
        assert_eq!(has_capability(STATUS, 14), Some(false));
        assert_eq!(chosen("always within_size [never] deny"), Some("never"));
        let sockstat = "sockets: used 1\nTCP: inuse 1 orphan 0 tw 16 alloc 1 mem 42\nUDP: mem 3\n";
        assert_eq!(tcp_pages(sockstat), Some(42));
        let table = "Inter-|\n face |bytes\n    lo: 1 2\n  eth0:3 4\n";
        assert_eq!(devices(table).collect::<Vec<_>>(), ["lo", "eth0"]);
        let groups = "9:name=systemd:/\n4:cpu,memory:/pod/x\n0::/user.slice/a:b\n";
        assert_eq!(cgroups(groups), (Some("/user.slice/a:b"), Some("/pod/x")));
    }

    #[test]
    fn garbage_is_nothing() {
        let huge = "9".repeat(400);
        let texts = [
            "",
            "\n\n",
            ":",
            "::",
            "[",
            "]",
            "[]",
            "TCP: mem",
            "TCP: mem x",
            "a:b:c",
            "\u{0}",
            &huge,
        ];
        for text in texts {
            assert_eq!(parse_numbers::<3>(text), None, "{text:?}");
            assert_eq!(field(text, "Seccomp"), None, "{text:?}");
            assert_eq!(has_capability(&format!("CapEff: {text}"), 10), None, "{text:?}");
            assert!(chosen(text).is_none_or(str::is_empty), "{text:?}");
            assert_eq!(tcp_pages(text), None, "{text:?}");
            assert_eq!(devices(text).count(), 0, "{text:?}");
            assert_eq!(cgroups(text), (None, None), "{text:?}");
        }
        assert_eq!(has_capability(STATUS, 64), None);
        assert!(read("/no/such/text").is_err());
        assert!(setting("no.such.setting").is_err());
        assert!(number("kernel.osrelease").is_err());
        assert!(numbers::<2>("net.ipv4.tcp_wmem").is_err(), "it has three");
    }

    proptest::proptest! {
        #[test]
        fn no_text_ends_it(text in "(?s)[\\[\\]:/0-9a-f\n ]{0,60}|(?s).{0,60}") {
            let _ = parse_numbers::<2>(&text);
            let _ = has_capability(&text, 10);
            let _ = has_capability(&format!("CapEff:{text}"), 200);
            let _ = (chosen(&text), tcp_pages(&format!("TCP:{text}mem {text}")));
            let _ = (devices(&text).count(), cgroups(&text));
        }
    }

    #[test]
    fn a_text_without_an_end_is_cut() {
        assert!(read("/dev/zero").unwrap().len() as u64 <= LIMIT);
    }
}
