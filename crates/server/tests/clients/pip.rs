//! pip: a wheel from an index that is plain files and directories.

use std::path::{Path, PathBuf};
use std::process::Command;

use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

use crate::common::Served;
use crate::ways::Ways;
use crate::{assert_same, assert_whole, program, run, size, succeed};

pub(crate) const SEED: u64 = 17;
pub(crate) const LENGTH: u64 = 3_000_000;
pub(crate) const WHEEL: &str = "sluicegate_test_hello-1.0-py3-none-any.whl";

/// Writes a wheel of the files beneath the first argument, uncompressed.
const ZIP: &str = "
import os, sys, zipfile
root, wheel = sys.argv[1:]
with zipfile.ZipFile(wheel, 'w') as out:
    for place, _, names in os.walk(root):
        for name in names:
            path = os.path.join(place, name)
            out.write(path, os.path.relpath(path, root))
";

/// Python without anybody's settings.
fn python(interpreter: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = program(interpreter.to_str().unwrap(), home);
    command.env("PIP_CONFIG_FILE", "/dev/null").env("PYTHONDONTWRITEBYTECODE", "1").args(args);
    command
}

pub(crate) fn pip(interpreter: &Path, home: &Path, args: &[&str]) -> Command {
    let mut command = python(interpreter, home, &["-m", "pip"]);
    command.args(&args[..1]).args(["--isolated", "--no-cache-dir", "--disable-pip-version-check"]);
    command.args(["--retries", "0", "--timeout", "30", "--no-deps"]).args(&args[1..]);
    command
}

/// Interpreters with pip: the one of `PATH`, and the system's own.
pub(crate) fn interpreters(home: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = Vec::new();
    for path in ["python3", "/usr/bin/python3"].into_iter().filter_map(find_program) {
        let has_pip = run(python(&path, home, &["-m", "pip", "--version"])).0.success();
        if has_pip && !found.contains(&path) {
            found.push(path);
        }
    }
    found
}

/// An index as PEP 503 has it, with one wheel of three megabytes.
pub(crate) fn index(interpreter: &Path, home: &Path) -> Tree {
    let root = tempfile::tempdir().unwrap();
    let package = root.path().join("sluicegate_test_hello");
    let info = root.path().join("sluicegate_test_hello-1.0.dist-info");
    std::fs::create_dir_all(&package).unwrap();
    std::fs::create_dir_all(&info).unwrap();
    std::fs::write(package.join("__init__.py"), "GREETING = 'hello'\n").unwrap();
    corpus::write_file(&package.join("data.bin"), SEED, LENGTH).unwrap();
    let metadata = "Metadata-Version: 2.1\nName: sluicegate-test-hello\nVersion: 1.0\n";
    std::fs::write(info.join("METADATA"), metadata).unwrap();
    let wheel = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n";
    std::fs::write(info.join("WHEEL"), wheel).unwrap();
    let record = "sluicegate_test_hello/__init__.py,,\nsluicegate_test_hello/data.bin,,\n\
                  sluicegate_test_hello-1.0.dist-info/METADATA,,\n\
                  sluicegate_test_hello-1.0.dist-info/WHEEL,,\n\
                  sluicegate_test_hello-1.0.dist-info/RECORD,,\n";
    std::fs::write(info.join("RECORD"), record).unwrap();

    let tree = Tree::new().unwrap().directory("packages").unwrap();
    let mut zip = python(interpreter, home, &["-c", ZIP]);
    zip.arg(root.path()).arg(tree.join("packages").join(WHEEL));
    succeed(zip);
    let page = format!("<!DOCTYPE html><a href=\"../../packages/{WHEEL}\">{WHEEL}</a>\n");
    let names = "<!DOCTYPE html><a href=\"sluicegate-test-hello/\">sluicegate-test-hello</a>\n";
    let tree = tree.text("simple/index.html", names).unwrap();
    tree.text("simple/sluicegate-test-hello/index.html", page).unwrap()
}

#[test]
fn pip_installs_and_downloads_a_wheel_from_an_index_of_files() {
    require!(Need::Program("python3"));
    let home = tempfile::tempdir().unwrap();
    let interpreters = interpreters(home.path());
    require!(Need::Fact { what: "a python3 with pip", holds: !interpreters.is_empty() });
    let tree = index(&interpreters[0], home.path());
    let wheel = tree.join("packages").join(WHEEL);
    for interpreter in &interpreters {
        let out = tempfile::tempdir().unwrap();
        let [target, downloads, found] = ["target", "downloads", "found"]
            .map(|name| out.path().join(name).to_str().unwrap().to_owned());
        let served = Served::with(tree.path(), &[]);
        let pip = |args: &[&str]| succeed(pip(interpreter, home.path(), args));
        let url = served.url("/simple/");
        let name = "Sluicegate.Test_Hello"; // As people write it.
        pip(&["install", "--index-url", &url, "--target", &target, name]);
        let installed = Path::new(&target).join("sluicegate_test_hello");
        assert_whole(&installed.join("data.bin"), SEED, LENGTH);
        let code = "import sluicegate_test_hello as it; print(it.GREETING, it.__file__)";
        let mut import = python(interpreter, home.path(), &["-c", code]);
        import.env("PYTHONPATH", &target);
        let said = succeed(import);
        assert_eq!(said.trim(), format!("hello {}", installed.join("__init__.py").display()));

        pip(&["download", "--index-url", &url, "--dest", &downloads, name]);
        assert_same(&Path::new(&downloads).join(WHEEL), &wheel);
        // A directory without its slash: links are relative to where the
        // redirect leads.
        let page = served.url("/simple/sluicegate-test-hello");
        pip(&["download", "--no-index", "--find-links", &page, "--dest", &found, name]);
        assert_same(&Path::new(&found).join(WHEEL), &wheel);
        let length = size(&wheel);
        let ways = Ways::default().file(length).file(length).file(length);
        ways.up_to(8, 8 * 1024).assert(served.stop());
    }
}
