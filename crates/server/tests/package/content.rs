//! What is in it.

use std::fs;
use std::path::Path;
use std::process::Command;

use sluicegate_testkit::need::{Need, met};
use sluicegate_testkit::{require, test_name};

use crate::{BUILD, build, text};

#[test]
fn the_same_commit_makes_the_same_package() {
    require!(BUILD[0], BUILD[1], BUILD[2]);
    let (one, other) = (build(), build());
    assert_eq!(one.path.file_name(), other.path.file_name());
    let (one, other) = (fs::read(&one.path).unwrap(), fs::read(&other.path).unwrap());
    assert!(one == other, "{} and {} bytes", one.len(), other.len());
}

#[test]
fn every_file_is_roots_and_where_it_is_looked_for() {
    require!(BUILD[0], BUILD[1], BUILD[2]);
    let package = build();
    let list = Command::new("dpkg-deb").arg("--contents").arg(&package.path).output().unwrap();
    let list = text(&list);
    for line in list.lines() {
        assert!(line.contains(" root/root "), "{line}");
        // Nobody else may write anything.
        let mode = line.split(' ').next().unwrap();
        assert!(["drwxr-xr-x", "-rwxr-xr-x", "-rw-r--r--"].contains(&mode), "{line}");
    }
    for path in [
        "/usr/bin/sluicegate",
        "/etc/sluicegate/sluicegate.toml",
        "/etc/logrotate.d/sluicegate",
        "/lib/systemd/system/sluicegate.service",
        "/lib/systemd/system/sluicegate.socket",
        "/usr/share/man/man1/sluicegate.1.gz",
        "/usr/share/man/man1/sluicegate-serve.1.gz",
        "/usr/share/man/man1/sluicegate-run.1.gz",
        "/usr/share/man/man1/sluicegate-proxy.1.gz",
        "/usr/share/man/man5/sluicegate.toml.5.gz",
        "/usr/share/bash-completion/completions/sluicegate",
        "/usr/share/zsh/vendor-completions/_sluicegate",
        "/usr/share/fish/vendor_completions.d/sluicegate.fish",
        "/usr/share/doc/sluicegate/copyright",
        "/usr/share/doc/sluicegate/changelog.Debian.gz",
        "/usr/share/doc/sluicegate/licenses-of-dependencies.gz",
        "/usr/share/doc/sluicegate/README.md",
        "/usr/share/doc/sluicegate/examples/example.toml",
        "/usr/share/sluicegate/welcome/index.html",
    ] {
        assert!(list.lines().any(|line| line.ends_with(&format!(" .{path}"))), "{path}: {list}");
    }
    assert!(!list.contains("generate"), "{list}");

    let root = package.unpacked();
    let conffiles = fs::read_to_string(root.join("DEBIAN/conffiles")).unwrap();
    assert_eq!(conffiles, "/etc/logrotate.d/sluicegate\n/etc/sluicegate/sluicegate.toml\n");
    let sums = ["--check", "--strict", "--quiet", "DEBIAN/md5sums"];
    text(&Command::new("md5sum").args(sums).current_dir(&root).output().unwrap());

    let version = Command::new(root.join("usr/bin/sluicegate")).arg("--version").output();
    assert_eq!(text(&version.unwrap()), format!("sluicegate {}\n", env!("CARGO_PKG_VERSION")));
    let control = fs::read_to_string(root.join("DEBIAN/control")).unwrap();
    assert!(
        control.contains(&format!("\nVersion: {}-1\n", env!("CARGO_PKG_VERSION"))),
        "{control}"
    );
    assert!(!control.contains('@') || control.matches('@').count() == 1, "{control}");
}

/// dpkg-shlibdeps looks up what each symbol needs, and is the judge of it.
#[test]
fn the_libraries_are_those_that_the_program_needs() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("dpkg-shlibdeps"));
    let package = build();
    let root = package.unpacked();
    fs::create_dir(root.join("debian")).unwrap();
    fs::write(root.join("debian/control"), "Source: sluicegate\n").unwrap();
    let mut command = Command::new("dpkg-shlibdeps");
    command.args(["-O", "usr/bin/sluicegate"]).current_dir(&root);
    let asked = text(&command.output().unwrap());
    let asked = asked.trim_end().strip_prefix("shlibs:Depends=").unwrap();
    let control = fs::read_to_string(root.join("DEBIAN/control")).unwrap();
    let depends = control.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap();
    let given: Vec<&str> = depends.split(", ").collect();
    for library in asked.split(", ") {
        assert!(given.contains(&library), "{library}: {depends}");
    }
}

#[test]
fn the_manual_renders_without_a_warning() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("man"), Need::Program("groff"));
    let package = build();
    let root = package.unpacked();
    let mut pages = 0;
    for section in ["man1", "man5"] {
        for page in fs::read_dir(root.join("usr/share/man").join(section)).unwrap() {
            let page = page.unwrap().path();
            let mut command = Command::new("man");
            command.args(["--warnings", "--local-file"]).arg(&page);
            command.env("LC_ALL", "C.UTF-8").env("MANWIDTH", "80");
            let output = command.output().unwrap();
            let name = page.display();
            assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{name}");
            let manual = text(&output);
            assert!(manual.contains("NAME\n") && manual.contains("sluicegate"), "{name}");
            let sections: &[&str] = match page.file_name().unwrap().to_str().unwrap() {
                "sluicegate.1.gz" => &["EXIT STATUS", "SIGNALS", "ENVIRONMENT", "FILES", "SIGUSR2"],
                "sluicegate.toml.5.gz" => &["listen", "access_log", "[[site.route]]", "files"],
                _ => &["SYNOPSIS", "--help"],
            };
            for section in sections {
                assert!(manual.contains(section), "{name}: {section}\n{manual}");
            }
            pages += 1;
        }
    }
    assert!(pages >= 6, "{pages}");
}

#[test]
fn shells_load_their_completions() {
    require!(BUILD[0], BUILD[1], BUILD[2], Need::Program("bash"));
    let package = build();
    let root = package.unpacked();
    let share = root.join("usr/share");
    // As the shell calls it after `sluicegate se<TAB>`, and `sluicegate serve --li<TAB>`.
    let script = "source \"$1\"
        COMP_WORDS=(sluicegate se) COMP_CWORD=1
        _sluicegate sluicegate se sluicegate; echo \"${COMPREPLY[@]}\"
        COMP_WORDS=(sluicegate serve --li) COMP_CWORD=2
        _sluicegate sluicegate --li serve; echo \"${COMPREPLY[@]}\"
        complete -p sluicegate";
    let mut command = Command::new("bash");
    command.args(["--norc", "-c", script, "bash"]);
    let output = command.arg(share.join("bash-completion/completions/sluicegate")).output();
    let offered = text(&output.unwrap());
    let mut lines = offered.lines();
    assert_eq!(lines.next(), Some("serve"), "{offered}");
    let flags: Vec<&str> = lines.next().unwrap().split(' ').collect();
    assert_eq!(flags, ["--listen", "--listing"], "{offered}");
    assert!(lines.next().unwrap().contains("-F _sluicegate"), "{offered}");

    let loads = |shell: &'static str, file: &Path| {
        if met(&test_name!(), &[Need::Program(shell)]) {
            text(&Command::new(shell).arg("-n").arg(file).output().unwrap());
        }
    };
    loads("zsh", &share.join("zsh/vendor-completions/_sluicegate"));
    loads("fish", &share.join("fish/vendor_completions.d/sluicegate.fish"));
}
