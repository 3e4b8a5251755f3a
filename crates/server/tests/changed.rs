//! Files that are changed, or cannot be read, while they are served.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use common::{PATIENCE, PROGRAM, Served};
use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

/// Far more than the buffers of a connection hold.
const LENGTH: u64 = 48 << 20;
const SEED: u64 = 5;

/// Asks for the large file and stops reading after its first bytes, so that
/// the server is in the middle of it.
fn begin(served: &Served) -> (TcpStream, Vec<u8>) {
    let mut stream = served.connect();
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut got = vec![0; 100_000];
    stream.read_exact(&mut got).unwrap();
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    got.drain(..end);
    // The server fills the buffers meanwhile, and waits.
    std::thread::sleep(Duration::from_millis(100));
    (stream, got)
}

/// Reads to the end, whichever way it comes.
fn finish(stream: &mut TcpStream, got: &mut Vec<u8>) -> Result<(), std::io::ErrorKind> {
    let mut buffer = vec![0; 1 << 20];
    while (got.len() as u64) < LENGTH {
        match stream.read(&mut buffer) {
            Ok(0) => return Err(std::io::ErrorKind::UnexpectedEof),
            Ok(count) => got.extend_from_slice(&buffer[..count]),
            Err(error) => return Err(error.kind()),
        }
    }
    Ok(())
}

fn overwrite(path: &Path, at: u64, bytes: &[u8]) {
    let mut file = std::fs::File::options().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(at)).unwrap();
    file.write_all(bytes).unwrap();
}

#[test]
fn a_file_that_is_changed_in_any_way_while_it_is_sent_cuts_its_answer_and_the_log_says_why() {
    type Change = fn(&Path);
    let changes: [(&str, &str, Change); 5] = [
        ("appended", "it had 50331648 bytes and has 50331652", |path| {
            std::fs::File::options().append(true).open(path).unwrap().write_all(b"more").unwrap();
        }),
        ("truncated", "it had 50331648 bytes and has 20000000", |path| {
            std::fs::File::options().write(true).open(path).unwrap().set_len(20_000_000).unwrap();
        }),
        ("overwritten", "its modification time is another", |path| {
            overwrite(path, LENGTH - 10, b"##########");
        }),
        ("overwritten with its time set back", "its change time is another", |path| {
            let time = std::fs::metadata(path).unwrap().modified().unwrap();
            overwrite(path, LENGTH - 10, b"##########");
            std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
        }),
        ("given other permissions", "its change time is another", |path| {
            std::fs::set_permissions(path, PermissionsExt::from_mode(0o640)).unwrap();
        }),
    ];
    for strategy in ["copy", "sendfile", "splice"] {
        for (name, told, change) in &changes {
            let tree = Tree::new().unwrap().file("large", SEED, LENGTH).unwrap();
            let tree = tree.text("small", b"small").unwrap();
            let flags = ["--workers", "1", "--strategy", strategy];
            let mut served = Served::with(tree.path(), &flags);
            let (mut stream, mut got) = begin(&served);
            change(&tree.join("large"));
            let end = finish(&mut stream, &mut got);
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{strategy}, {name}");
            assert!((got.len() as u64) < LENGTH, "{strategy}, {name}: all of it came");
            let line =
                served.child.wait_for_line(|line| line.contains("was cut"), PATIENCE).unwrap();
            let path = tree.join("large").display().to_string();
            assert!(line.contains(told) && line.contains(&path), "{strategy}, {name}: {line}");
            assert_eq!(served.get("/small").content, b"small", "others go on");
            let whole = served.get("/large").content;
            assert_eq!(whole, std::fs::read(tree.join("large")).unwrap(), "the new one, at once");
        }
    }
}

#[test]
fn a_file_that_is_replaced_or_deleted_while_it_is_sent_is_sent_to_its_end() {
    for strategy in ["copy", "sendfile", "splice"] {
        for is_replaced in [true, false] {
            let tree = Tree::new().unwrap().file("large", SEED, LENGTH).unwrap();
            let flags = ["--workers", "1", "--strategy", strategy];
            let served = Served::with(tree.path(), &flags);
            let (mut stream, mut got) = begin(&served);
            if is_replaced {
                std::fs::write(tree.join("new"), "new").unwrap();
                std::fs::rename(tree.join("new"), tree.join("large")).unwrap();
            } else {
                std::fs::remove_file(tree.join("large")).unwrap();
            }
            finish(&mut stream, &mut got).unwrap();
            corpus::verify(SEED, 0, &got).unwrap();
        }
    }
}

#[test]
fn where_files_are_edited_in_place_no_byte_of_an_answer_is_of_another_version() {
    for (flags, is_safe) in
        [(&["--in-place-edits"][..], true), (&["--strategy", "sendfile"], false)]
    {
        let tree = Tree::new().unwrap().file("large", SEED, LENGTH).unwrap();
        let served = Served::with(tree.path(), flags);
        let (mut stream, mut got) = begin(&served);
        let before = got.len();
        // What the kernel has accepted and the client has not read is overwritten.
        overwrite(&tree.join("large"), 0, &vec![0; LENGTH as usize]);
        let end = finish(&mut stream, &mut got);
        assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
        // How much that was is the kernel's choice: a receive buffer that was
        // read from once may have stayed at its first 64 KiB.
        assert!(got.len() > before + 16_384, "some of it was on its way: {}", got.len());
        // Without copies these bytes are the file's own pages: what README says
        // of editing in place is true, and this test sees it.
        assert_eq!(corpus::verify(SEED, 0, &got).is_ok(), is_safe, "{flags:?}");
        let sent = served.stop();
        assert_eq!(sent.sendfile + sent.spliced == 0, is_safe, "{sent:?}");
    }
}

/// The server with its system calls under strace, which makes some of them fail.
fn failing(directory: &Path, flags: &[&str], inject: &str) -> Served {
    let mut command = Command::new(find_program("strace").unwrap());
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("inject={inject}")]);
    command.arg(PROGRAM).arg("serve").arg(directory);
    command.args(["--listen", "127.0.0.1:0", "--workers", "1"]).args(flags);
    Served::by(command)
}

#[test]
fn a_disk_that_fails_cuts_the_answer_that_needed_it_and_no_other() {
    require!(Need::Program("strace"));
    for (strategy, call) in [("copy", "pread64"), ("sendfile", "sendfile"), ("splice", "splice")] {
        for error in ["EIO", "ESTALE", "EUCLEAN", "ENOMEM"] {
            let tree = Tree::new().unwrap().file("large", SEED, LENGTH).unwrap();
            let tree = tree.text("small", b"small").unwrap();
            let inject = format!("{call}:error={error}:when=3");
            let mut served = failing(tree.path(), &["--strategy", strategy], &inject);
            // Keeps a connection through the other's accident.
            let mut bystander = served.connect();
            let mut stream = served.connect();
            stream.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
            let mut got = Vec::new();
            let end = stream.read_to_end(&mut got).map_err(|error| error.kind());
            assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset), "{call}, {error}");
            let line = served.child.wait_for_line(|line| line.contains("was cut"), PATIENCE);
            let line = line.unwrap();
            assert!(line.contains("it cannot be read"), "{call}, {error}: {line}");
            common::exchange(&mut bystander, "/small", 5);
            corpus::verify(SEED, 0, &served.get("/large").content).unwrap();
        }
    }
}

#[test]
fn a_file_that_cannot_be_opened_is_an_error_of_its_own_request() {
    require!(Need::Program("strace"));
    for (error, status) in
        [("EIO", 500), ("ESTALE", 500), ("EMFILE", 503), ("ENFILE", 503), ("ENOMEM", 503)]
    {
        let tree = Tree::new().unwrap().text("page", b"page").unwrap();
        // The third name that is resolved, after the two of the first answer.
        let mut served = failing(
            tree.path(),
            &["--precompressed", "none"],
            &format!("openat2:error={error}:when=3"),
        );
        assert_eq!(served.get("/page").status, 200);
        let refused = served.get("/other");
        assert_eq!(refused.status, status, "{error}");
        served.child.wait_for_line(|line| line.contains("`other`"), PATIENCE).unwrap();
        assert_eq!(served.get("/other").status, 404, "{error} passes");
        assert_eq!(served.get("/page").content, b"page");
    }
}

#[test]
fn a_process_without_descriptors_still_serves_what_it_has_and_recovers() {
    require!(Need::Program("prlimit"));
    let tree = Tree::new().unwrap().text("warm", b"warm").unwrap();
    let tree = tree.text("cold", b"cold").unwrap();
    let mut command = Command::new(find_program("prlimit").unwrap());
    command.args(["--nofile=40:40", PROGRAM, "serve"]).arg(tree.path());
    command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
    let mut served = Served::by(command);
    let mut stream = served.connect();
    common::exchange(&mut stream, "/warm", 4);
    // Until it has no descriptor left; those beyond are turned away.
    let crowd: Vec<_> = (0..60).map(|_| served.connect()).collect();
    served.child.wait_for_line(|line| line.contains("cannot serve a new"), PATIENCE).unwrap();
    // Also when it would have to be looked at anew, which it cannot be.
    std::thread::sleep(Duration::from_millis(700));
    common::exchange(&mut stream, "/warm", 4);
    stream.write_all(b"GET /cold HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut start = [0; 12];
    stream.read_exact(&mut start).unwrap();
    assert_eq!(start.escape_ascii().to_string(), "HTTP/1.1 503");
    drop(crowd);
    let deadline = std::time::Instant::now() + PATIENCE;
    while served.get("/cold").content != b"cold" {
        assert!(std::time::Instant::now() < deadline, "it does not recover");
        std::thread::sleep(Duration::from_millis(20));
    }
}
