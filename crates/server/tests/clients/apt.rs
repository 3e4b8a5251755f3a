//! apt: a package from a repository of our own making. It reads none of the
//! machine's configuration and leaves its state alone.

use std::fmt::Write;
use std::path::{Path, PathBuf};

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;
use tempfile::TempDir;

use crate::common::Served;
use crate::ways::Ways;
use crate::{assert_same, program, size, succeed};

const SEED: u64 = 15;
/// Any will do: the package is for all of them, and nothing is installed.
const ARCHITECTURE: &str = "amd64";
pub(crate) const PACKAGE: &str = "sluicegate-test-hello";
pub(crate) const DEB: &str = "pool/main/sluicegate-test-hello_1.0_all.deb";

/// A repository with one package of three megabytes.
pub(crate) fn repository() -> Tree {
    let control = format!(
        "Package: {PACKAGE}\nVersion: 1.0\nArchitecture: all\n\
         Maintainer: Nobody <nobody@example.org>\nDescription: a test\n"
    );
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("DEBIAN")).unwrap();
    std::fs::create_dir_all(root.path().join("usr/share/sluicegate")).unwrap();
    std::fs::write(root.path().join("DEBIAN/control"), &control).unwrap();
    corpus::write_file(&root.path().join("usr/share/sluicegate/data"), SEED, 3_000_000).unwrap();

    let tree = Tree::new().unwrap().directory("pool/main").unwrap();
    let mut build = program("dpkg-deb", root.path());
    build.args(["-Znone", "--root-owner-group", "--build", "."]).arg(tree.join(DEB));
    succeed(build);

    let deb = tree.join(DEB);
    let packages = format!(
        "{control}Filename: {DEB}\nSize: {}\nSHA256: {}\n\n",
        size(&deb),
        sha256(&deb, tree.path())
    );
    let index = format!("main/binary-{ARCHITECTURE}/Packages");
    let tree = tree.text(&format!("dists/stable/{index}"), packages).unwrap();
    let mut compress = program("gzip", tree.path());
    compress.arg("--keep").arg(tree.join(&format!("dists/stable/{index}")));
    succeed(compress);

    let mut release = format!(
        "Origin: test\nSuite: stable\nCodename: stable\nArchitectures: {ARCHITECTURE}\n\
         Components: main\nDate: Sat, 03 Feb 2001 04:05:06 UTC\nSHA256:\n"
    );
    for name in [index.clone(), format!("{index}.gz")] {
        let path = tree.join(&format!("dists/stable/{name}"));
        writeln!(release, " {} {} {name}", sha256(&path, tree.path()), size(&path)).unwrap();
    }
    tree.text("dists/stable/Release", release).unwrap()
}

fn sha256(path: &Path, home: &Path) -> String {
    let mut command = program("sha256sum", home);
    command.arg(path);
    succeed(command)[..64].to_owned()
}

/// apt with a machine's state of its own.
pub(crate) struct Apt {
    directory: TempDir,
}

impl Apt {
    /// With one source, at `url`.
    pub(crate) fn new(url: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        for name in ["state/lists/partial", "cache/archives/partial", "etc", "log"] {
            std::fs::create_dir_all(root.join(name)).unwrap();
        }
        std::fs::write(root.join("state/status"), "").unwrap();
        let source = format!("deb [trusted=yes] {url} stable main\n");
        std::fs::write(root.join("etc/sources.list"), source).unwrap();
        // Read before all others: it leads apt away from the machine's.
        let configuration = format!(
            "Dir \"{root}\";\nDir::State \"state\";\nDir::State::status \"{root}/state/status\";\n\
             Dir::Cache \"cache\";\nDir::Log \"log\";\nDir::Etc \"etc\";\n\
             Dir::Etc::sourcelist \"{root}/etc/sources.list\";\n\
             Dir::Etc::sourceparts \"/dev/null\";\nDir::Etc::parts \"/dev/null\";\n\
             Dir::Etc::preferencesparts \"/dev/null\";\nDir::Etc::trustedparts \"/dev/null\";\n\
             APT::Architecture \"{ARCHITECTURE}\";\nAPT::Architectures {{ \"{ARCHITECTURE}\"; }};\n\
             APT::Sandbox::User \"root\";\nAcquire::Languages \"none\";\n\
             Acquire::http::Proxy \"DIRECT\";\nAcquire::Retries \"0\";\n\
             Acquire::http::Timeout \"30\";\n",
            root = root.display()
        );
        std::fs::write(root.join("apt.conf"), configuration).unwrap();
        Apt { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn get(&self, args: &[&str]) -> String {
        let mut command = program("apt-get", self.directory.path());
        command.env("APT_CONFIG", self.path("apt.conf")).arg("--quiet").args(args);
        succeed(command)
    }
}

#[test]
fn apt_updates_once_and_downloads_whole_packages() {
    require!(Need::Program("apt-get"), Need::Program("dpkg-deb"), Need::Program("gzip"));
    let tree = repository();
    let deb = tree.join(DEB);
    let served = Served::with(tree.path(), &[]);
    let apt = Apt::new(&served.url("/"));

    let said = apt.get(&["update"]);
    assert!(
        said.lines().any(|line| line.starts_with("Get:") && line.contains("Packages")),
        "{said}"
    );
    let said = apt.get(&["update"]);
    assert!(said.lines().any(|line| line.starts_with("Hit:")), "{said}");
    assert!(!said.contains("Packages"), "{said}");

    apt.get(&["download", PACKAGE]);
    let name = Path::new(DEB).file_name().unwrap();
    assert_same(&apt.directory.path().join(name), &deb);

    let said = apt.get(&["install", "--yes", "--download-only", PACKAGE]);
    assert!(said.contains("download only mode"), "{said}");
    let archived = apt.path("cache/archives").join(name);
    assert_same(&archived, &deb);
    // The package twice; the small files with their heads, and for each of two
    // updates the signatures that are not there.
    let ways = Ways::default().file(size(&deb)).file(size(&deb));
    ways.up_to(16, 16 * 1024).assert(served.stop());
}

#[test]
fn apt_goes_on_with_a_package_that_it_has_a_part_of() {
    require!(Need::Program("apt-get"), Need::Program("dpkg-deb"), Need::Program("gzip"));
    let tree = repository();
    let deb = tree.join(DEB);
    let length = size(&deb);
    // RFC 9110 section 8.8.2.2: a date is a strong validator when it is older
    // than the answer by a second at least.
    let file = std::fs::File::options().write(true).open(&deb).unwrap();
    let earlier = std::time::SystemTime::now() - std::time::Duration::from_secs(100);
    file.set_modified(earlier).unwrap();

    for (part, expected) in [(1_000_000, length - 1_000_000), (length - 10, 10)] {
        let served = Served::with(tree.path(), &[]);
        let apt = Apt::new(&served.url("/"));
        apt.get(&["update"]);
        let name = Path::new(DEB).file_name().unwrap();
        let partial = apt.path("cache/archives/partial").join(name);
        std::fs::copy(&deb, &partial).unwrap();
        crate::cut(&partial, part);
        let file = std::fs::File::options().write(true).open(&partial).unwrap();
        file.set_modified(earlier).unwrap();
        apt.get(&["install", "--yes", "--download-only", PACKAGE]);
        assert_same(&apt.path("cache/archives").join(name), &deb);
        Ways::default().file(expected).up_to(8, 16 * 1024).assert(served.stop());
    }
}
