//! Where this process runs: filters, containers, sockets that were handed over.

use std::path::Path;

use super::check::{Check, Topic, Verdict};
use super::text;

pub(super) fn checks() -> Vec<Check> {
    vec![filter(), container(), activation()]
}

fn check(name: &'static str, title: &str, why: &'static str) -> Check {
    Check::new(Topic::Process, name, title, why)
}

fn filter() -> Check {
    let check = check(
        "process.seccomp",
        "filter of system calls",
        "A filter (seccomp) may forbid what Sluicegate would use. The checks above were made \
         under it; run the doctor where the server will run.",
    );
    let status = text::read("/proc/self/status").unwrap_or_default();
    let check = check.figure("no_new_privileges", text::field(&status, "NoNewPrivs") == Some("1"));
    match text::field(&status, "Seccomp") {
        Some("0") => check.found(Verdict::Information, "none").figure("filtered", false),
        Some(_) => {
            let count = text::field(&status, "Seccomp_filters").unwrap_or("some");
            check.found(Verdict::Information, count).figure("filtered", true)
        }
        None => check.found(Verdict::NotKnown, "/proc/self/status does not tell"),
    }
}

fn container() -> Check {
    let check = check(
        "process.container",
        "container",
        "Clients of a container come through a veth, where pages are shared with this host: what \
         is sent by reference is not used again before it is released. Settings of the kernel \
         (sysctl) are the host's, and are changed there.",
    );
    match found_container(Path::new("/")) {
        Some(name) => {
            check.found(Verdict::Information, format!("yes ({name})")).figure("container", name)
        }
        None => check
            .found(Verdict::Information, "no sign of one")
            .figure("container", serde_json::Value::Null),
    }
}

/// The signs that managers leave (systemd's "Container Interface" for the
/// second; the others are customs of Docker and Podman).
fn found_container(root: &Path) -> Option<String> {
    let manager = text::read(root.join("run/systemd/container")).ok();
    if let Some(name) = manager.filter(|name| !name.is_empty()) {
        return Some(name);
    }
    let signs = [(".dockerenv", "docker"), ("run/.containerenv", "podman")];
    let sign = signs.into_iter().find(|(file, _)| root.join(file).exists());
    sign.map(|(_, name)| name.to_owned())
}

fn activation() -> Check {
    let check = check(
        "process.activation",
        "sockets from systemd",
        "With a .socket unit systemd opens the ports, and hands them to a Sluicegate without any \
         privilege.",
    );
    let variable = |name: &str| std::env::var(name).ok();
    let count = handed_over(
        variable("LISTEN_PID").as_deref(),
        variable("LISTEN_FDS").as_deref(),
        std::process::id(),
    );
    let value = match count {
        0 => "none were handed to this process".to_owned(),
        count => format!("{count} were handed to this process"),
    };
    check
        .found(Verdict::Information, value)
        .figure("sockets", count)
        .figure("readiness", variable("NOTIFY_SOCKET").is_some())
}

/// Descriptors that were handed to this process (`sd_listen_fds(3)`).
fn handed_over(pid: Option<&str>, count: Option<&str>, own: u32) -> u32 {
    if pid.and_then(|pid| pid.parse().ok()) != Some(own) {
        return 0;
    }
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_for_another_process_are_not_ours() {
        assert_eq!(handed_over(Some("7"), Some("2"), 7), 2);
        assert_eq!(handed_over(Some("8"), Some("2"), 7), 0);
        for garbage in ["", "x", "-1", "99999999999999999999"] {
            assert_eq!(handed_over(Some(garbage), Some("2"), 7), 0);
            assert_eq!(handed_over(Some("7"), Some(garbage), 7), 0);
        }
    }

    #[test]
    fn signs_of_containers_are_known() {
        let root = tempfile::tempdir().unwrap();
        assert_eq!(found_container(root.path()), None);
        std::fs::create_dir_all(root.path().join("run/systemd")).unwrap();
        std::fs::write(root.path().join("run/.containerenv"), "").unwrap();
        assert_eq!(found_container(root.path()).as_deref(), Some("podman"));
        std::fs::write(root.path().join("run/systemd/container"), "lxc\n").unwrap();
        assert_eq!(found_container(root.path()).as_deref(), Some("lxc"));
    }
}
