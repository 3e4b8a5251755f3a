//! `sluicegate serve DIR` as its users meet it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::os::unix::net::UnixListener;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{PATIENCE, PROGRAM, Served};
use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Signal, find_program};
use sluicegate_testkit::require;

fn tree() -> Tree {
    Tree::new()
        .unwrap()
        .text("index.html", b"<h1>front</h1>")
        .unwrap()
        .text("style.css", b"h1 {}")
        .unwrap()
        .text("sub/index.html", b"sub")
        .unwrap()
        .text("sub/page", b"page")
        .unwrap()
        .text("empty", b"")
        .unwrap()
        .text("a b%c\u{e9}.txt", b"odd name")
        .unwrap()
        .directory("bare")
        .unwrap()
        .file("large.bin", 7, 9_000_000)
        .unwrap()
}

#[test]
fn files_of_every_size_come_back_as_they_are() {
    let mut tree = tree();
    let sizes = [1, 1023, 1024, 4096, 4097, 24_575, 24_576, 24_577, 65_536, 1_048_575, 1_048_577];
    for size in sizes {
        tree = tree.file(&format!("f{size}"), size, size).unwrap();
    }
    let served = Served::new(tree.path(), "2");
    for size in sizes {
        let answer = served.get(&format!("/f{size}"));
        assert_eq!((answer.status, answer.content.len() as u64), (200, size));
        corpus::verify(size, 0, &answer.content).unwrap();
        let length = size.to_string();
        assert_eq!(answer.field("Content-Length"), Some(length.as_str()));
        let head = served.ask(&format!("HEAD /f{size} HTTP/1.1"));
        assert_eq!(
            (head.field("Content-Length"), &head.content[..]),
            (Some(&length[..]), &b""[..])
        );
    }
    let empty = served.get("/empty");
    assert_eq!((empty.status, empty.field("Content-Length")), (200, Some("0")));
}

#[test]
fn names_lead_where_they_should() {
    let tree = tree();
    let served = Served::new(tree.path(), "1");
    for (target, status, content) in [
        ("/", 200, "<h1>front</h1>"),
        ("/index.html", 200, "<h1>front</h1>"),
        ("/style.css?version=3", 200, "h1 {}"),
        ("/sub/", 200, "sub"),
        ("/sub/page", 200, "page"),
        ("//sub///page", 200, "page"),
        ("/sub/../sub/./page", 200, "page"),
        ("/%73ub/page", 200, "page"),
        ("/a%20b%25c%C3%A9.txt", 200, "odd name"),
        ("http://h/sub/page", 200, "page"),
        ("/nothing", 404, "404 Not Found\n"),
        ("/sub/page/", 404, "404 Not Found\n"),
        ("/index.html/more", 404, "404 Not Found\n"),
        (
            "/bare/",
            403,
            "403 Forbidden\n\nThis directory has no page of its own, and is not listed.\n",
        ),
        ("/../secret", 400, "400 Bad Request\n"),
        ("/%00", 400, "400 Bad Request\n"),
        ("/%zz", 400, "400 Bad Request\n"),
        ("/sub%2fpage", 400, "400 Bad Request\n"),
    ] {
        let answer = served.get(target);
        assert_eq!((answer.status, &answer.content[..]), (status, content.as_bytes()), "{target}");
    }
    for (target, location) in
        [("/sub", "/sub/"), ("/sub?a=b", "/sub/?a=b"), ("//sub", "/sub/"), ("/bare", "/bare/")]
    {
        let answer = served.get(target);
        assert_eq!((answer.status, answer.field("Location")), (301, Some(location)), "{target}");
    }
}

#[test]
fn what_is_not_for_the_public_is_neither_served_nor_waited_for() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), "secret").unwrap();
    let tree = tree().text(".git/config", b"x").unwrap();
    let tree = tree.text(".well-known/security.txt", b"hello").unwrap();
    symlink(outside.path().join("secret"), tree.join("leak")).unwrap();
    symlink(outside.path(), tree.join("way-out")).unwrap();
    symlink("style.css", tree.join("inside.css")).unwrap();
    symlink("loop", tree.join("loop")).unwrap();
    let _socket = UnixListener::bind(tree.join("socket")).unwrap();
    let fifo = Command::new("mkfifo").arg(tree.join("fifo")).status().unwrap();
    assert!(fifo.success());
    let served = Served::new(tree.path(), "1");
    for (target, status) in [
        ("/leak", 403),
        ("/way-out/secret", 403),
        ("/loop", 403),
        ("/socket", 403),
        ("/fifo", 403),
        ("/.git/config", 404),
        ("/sub/%2egit", 404),
        ("/inside.css", 200),
        ("/.well-known/security.txt", 200),
    ] {
        assert_eq!(served.get(target).status, status, "{target}");
    }
}

#[test]
fn types_validators_ranges_and_conditions_are_told() {
    let tree = tree();
    let served = Served::new(tree.path(), "1");
    for (target, length) in [("/style.css", 5), ("/large.bin", 9_000_000_u64)] {
        let whole = served.get(target);
        let tag = whole.field("ETag").unwrap().to_owned();
        let modified = whole.field("Last-Modified").unwrap().to_owned();
        assert_eq!(whole.field("Accept-Ranges"), Some("bytes"));
        let ask = |field: &str| served.ask(&format!("GET {target} HTTP/1.1\r\n{field}"));
        assert_eq!(ask(&format!("If-None-Match: {tag}")).status, 304);
        assert_eq!(ask(&format!("If-Modified-Since: {modified}")).status, 304);
        assert_eq!(ask("If-None-Match: \"x\"").status, 200);
        assert_eq!(ask("If-Match: \"x\"").status, 412);
        let part = ask("Range: bytes=1-3");
        assert_eq!(part.status, 206);
        assert_eq!(part.field("Content-Range"), Some(&*format!("bytes 1-3/{length}")));
        assert_eq!(part.content, whole.content[1..4]);
        let tail = ask("Range: bytes=-2");
        assert_eq!(tail.content, whole.content[whole.content.len() - 2..]);
        let beyond = ask(&format!("Range: bytes={length}-"));
        assert_eq!(beyond.status, 416);
        assert_eq!(beyond.field("Content-Range"), Some(&*format!("bytes */{length}")));
        assert_eq!(ask("Range: bytes=1-3\r\nIf-Range: \"x\"").status, 200);
    }
    assert_eq!(served.get("/style.css").field("Content-Type"), Some("text/css; charset=utf-8"));
}

#[test]
fn methods_that_are_not_answered_say_so() {
    let tree = tree();
    let served = Served::new(tree.path(), "1");
    let allow = Some("GET, HEAD, OPTIONS");
    for method in ["POST", "PUT", "DELETE", "TRACE", "PATCH"] {
        let answer = served.ask(&format!("{method} /style.css HTTP/1.1"));
        assert_eq!((answer.status, answer.field("Allow")), (405, allow), "{method}");
    }
    for target in ["*", "/style.css", "/nothing"] {
        let answer = served.ask(&format!("OPTIONS {target} HTTP/1.1"));
        assert_eq!((answer.status, answer.field("Allow")), (204, allow), "{target}");
        assert_eq!((answer.field("Content-Length"), &answer.content[..]), (None, &b""[..]));
    }
    assert_eq!(served.ask("BREW /style.css HTTP/1.1").status, 501);
    // Also where a body comes that nobody would take.
    for length in ["3", "3000000", "18446744073709551615"] {
        let head = format!("PUT /style.css HTTP/1.1\r\nContent-Length: {length}");
        let answer = served.ask(&head);
        assert_eq!((answer.status, answer.field("Allow")), (405, allow), "{length}");
    }
}

#[test]
fn a_changed_file_is_served_new_within_a_second_however_it_changed() {
    let tree = tree();
    let served = Served::new(tree.path(), "1");
    let mut stream = served.connect();
    for round in 0..3_u8 {
        for (name, length) in [("page", 100), ("big", 200_000)] {
            let content = vec![b'a' + round; length];
            if round == 1 {
                // Replaced, as editors and deployments do it.
                std::fs::write(tree.join("new"), &content).unwrap();
                std::fs::rename(tree.join("new"), tree.join(name)).unwrap();
            } else {
                std::fs::write(tree.join(name), &content).unwrap();
            }
            let start = Instant::now();
            loop {
                common::exchange(&mut stream, &format!("/{name}"), length);
                if served.get(&format!("/{name}")).content == content {
                    break;
                }
                assert!(start.elapsed() < Duration::from_secs(1), "{name}, round {round}");
                std::thread::sleep(Duration::from_millis(5));
            }
        }
    }
    std::fs::remove_file(tree.join("page")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(served.get("/page").status, 404);
}

#[test]
fn more_files_than_descriptors_are_kept_open_are_all_served() {
    require!(Need::Program("prlimit"));
    let mut tree = Tree::new().unwrap();
    for number in 0..300 {
        tree = tree.file(&format!("f{number}"), number, 30_000).unwrap();
    }
    let mut command = Command::new(find_program("prlimit").unwrap());
    command.args(["--nofile=400:400", PROGRAM, "serve"]).arg(tree.path());
    command.args(["--listen", "127.0.0.1:0", "--workers", "1"]);
    let served = Served::by(command);
    for _ in 0..2 {
        for number in 0..300 {
            let answer = served.get(&format!("/f{number}"));
            corpus::verify(number, 0, &answer.content).unwrap();
        }
    }
    let open = std::fs::read_dir(format!("/proc/{}/fd", served.child.pid())).unwrap().count();
    assert!((40..100).contains(&open), "{open} descriptors are open, 50 of files expected");
}

#[test]
fn connections_that_come_one_by_one_are_spread_over_the_workers() {
    let tree = tree();
    let served = Served::new(tree.path(), "2");
    let mut streams = Vec::new();
    for _ in 0..60 {
        let mut stream = served.connect();
        common::exchange(&mut stream, "/style.css", 5);
        streams.push(stream);
    }
    // Each worker's epoll set, as the kernel shows it: one line for each watch.
    let fds = format!("/proc/{}/fdinfo", served.child.pid());
    let mut watches: Vec<usize> = std::fs::read_dir(fds)
        .unwrap()
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path()).ok())
        .map(|info| info.lines().filter(|line| line.starts_with("tfd:")).count())
        .filter(|&count| count > 0)
        .collect();
    watches.sort_unstable();
    // A listener and a doorbell each, and half of the connections.
    assert_eq!(watches, [32, 32]);
    for stream in &mut streams {
        common::exchange(stream, "/style.css", 5);
    }
}

#[test]
fn sigterm_lets_a_download_finish_and_takes_no_new_one() {
    let tree = tree();
    let mut served = Served::new(tree.path(), "2");
    let mut idle = served.connect();
    common::exchange(&mut idle, "/style.css", 5);
    let mut slow = served.connect();
    slow.write_all(b"GET /large.bin HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    // Once a part has come the request is being answered; the rest is more
    // than the socket holds.
    let mut got = vec![0; 100_000];
    slow.read_exact(&mut got).unwrap();
    served.child.terminate().unwrap();
    served
        .child
        .wait_for_line(|line| line.contains("finishing open connections"), PATIENCE)
        .unwrap();
    assert_eq!(idle.read(&mut [0; 10]).unwrap(), 0, "an idle connection is closed");
    let refused = (0..200).any(|_| {
        std::thread::sleep(Duration::from_millis(10));
        TcpStream::connect(served.address).is_err()
    });
    assert!(refused, "new connections are refused");
    slow.read_to_end(&mut got).unwrap();
    let end = got.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
    assert_eq!(got.len() - end - 4, 9_000_000);
    corpus::verify(7, 0, &got[end + 4..]).unwrap();
    let status = served.child.wait_timeout(PATIENCE).unwrap();
    assert!(status.success(), "{status}");
}

#[test]
fn sigterm_answers_the_requests_that_were_queued_before_it() {
    let tree = tree();
    for _ in 0..3 {
        let mut served = Served::new(tree.path(), "1");
        served.child.signal(Signal::STOP).unwrap();
        let mut streams: Vec<_> = (0..40)
            .map(|_| {
                let mut stream = served.connect();
                stream.write_all(b"GET /style.css HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
                stream
            })
            .collect();
        served.child.terminate().unwrap();
        served.child.signal(Signal::CONT).unwrap();
        for stream in &mut streams {
            let mut answer = Vec::new();
            stream.read_to_end(&mut answer).unwrap();
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
        }
        assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
    }
}

#[test]
fn a_standard_error_that_nobody_reads_stops_nothing() {
    let tree = tree();
    let mut command = Command::new("sh");
    // The reader of the pipe ends at once; the program's output goes on.
    let line = format!(
        "exec 3>&1; {{ {PROGRAM} serve {} --listen 127.0.0.1:0 2>&1 >&3; echo $? >&3; }} | true",
        tree.path().display()
    );
    command.args(["-c", &line]);
    let mut served = Served::by(command);
    assert_eq!(served.get("/style.css").status, 200);
    let group = served.child.pid();
    let server = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| entry.unwrap().file_name().to_str()?.parse::<i32>().ok())
        .find(|pid| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or("").split(' ').collect();
            stat.contains("(sluicegate)") && fields.get(2) == Some(&group.to_string().as_str())
        });
    let server = rustix::process::Pid::from_raw(server.expect("the server runs")).unwrap();
    rustix::process::kill_process(server, Signal::TERM).unwrap();
    // Its last line is told to nobody, and its end is a success all the same.
    served.child.wait_for_line(|line| line.trim() == "0", PATIENCE).unwrap();
}

#[test]
fn mistakes_are_told_and_fail() {
    let tree = tree();
    let served = Served::new(tree.path(), "1");
    let taken = served.address.to_string();
    let file = tree.join("style.css").display().to_string();
    for (args, expected) in [
        (&["serve", "/no/such/directory"][..], "cannot serve `/no/such/directory`: No such file"),
        (&["serve", &file], "Not a directory"),
        (&["serve", ".", "--listen", &taken], "Address already in use"),
        (&["serve", ".", "--listen", "8080"], "such as 127.0.0.1:8080"),
        (&["serve", ".", "--listen", "203.0.113.1:80"], "no interface of this host"),
        (&["serve", ".", "--workers", "0"], "0 is not in 1..=1024"),
        (&["serve", ".", "--wrokers", "2"], "--workers"),
        (&["sevre"], "serve"),
    ] {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        let text = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success(), "{args:?}");
        assert!(text.contains(expected), "{args:?}: {text}");
        assert!(output.stdout.is_empty());
    }
}

#[test]
fn curl_downloads_resumes_and_asks_by_validators() {
    require!(Need::Program("curl"));
    let tree = tree();
    let served = Served::new(tree.path(), "2");
    let out = tempfile::tempdir().unwrap();
    let target = out.path().join("large.bin");
    let curl = |args: &[&str]| {
        let output = Command::new(find_program("curl").unwrap())
            .args(["--silent", "--show-error", "--max-time", "20", "--output"])
            .arg(&target)
            .args(["--write-out", "%{http_code} %{size_download}"])
            .args(args)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let url = served.url("/large.bin");
    assert_eq!(curl(&[&url]), "200 9000000");
    corpus::verify(7, 0, &std::fs::read(&target).unwrap()).unwrap();
    std::fs::File::options().write(true).open(&target).unwrap().set_len(1_234_567).unwrap();
    assert_eq!(curl(&["--continue-at", "-", &url]), "206 7765433");
    corpus::verify(7, 0, &std::fs::read(&target).unwrap()).unwrap();
    assert_eq!(curl(&["--http1.0", &url]), "200 9000000");
    let stored = out.path().join("tag").display().to_string();
    assert_eq!(curl(&["--etag-save", &stored, &url]), "200 9000000");
    assert_eq!(curl(&["--etag-compare", &stored, &url]), "304 0");
}
