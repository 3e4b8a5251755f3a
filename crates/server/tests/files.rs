//! What an operator can choose about a directory of files, and what a client
//! gets of it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::os::unix::fs::symlink;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use common::{Answer, PROGRAM, Served};
use sluicegate_testkit::corpus::{self, Tree};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

/// Ends another thread's work, also when this one's ends by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn set_modified(path: &std::path::Path, time: SystemTime) {
    std::fs::File::options().write(true).open(path).unwrap().set_modified(time).unwrap();
}

#[test]
fn a_compressed_neighbour_is_served_to_those_who_take_it() {
    let tree = Tree::new().unwrap();
    let tree = tree.text("app.js", b"plain").unwrap().text("app.js.br", b"BR").unwrap();
    let tree = tree.text("app.js.zst", b"ZSTD").unwrap().text("app.js.gz", b"GZIP!").unwrap();
    let tree = tree.text("index.html", b"front").unwrap().text("index.html.gz", b"FRONT").unwrap();
    let tree = tree.text("lone.css", b"alone").unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let ask = |target: &str, accepted: &str| {
        served.ask(&format!("GET {target} HTTP/1.1\r\nAccept-Encoding: {accepted}"))
    };
    let mut tags = Vec::new();
    for (accepted, coding, content) in [
        ("gzip, deflate, br, zstd", Some("br"), "BR"),
        ("gzip;q=0.9, zstd;q=1.0, br;q=0.1", Some("zstd"), "ZSTD"),
        ("gzip", Some("gzip"), "GZIP!"),
        ("br;q=0", None, "plain"),
        ("identity", None, "plain"),
        ("", None, "plain"),
    ] {
        let answer = ask("/app.js", accepted);
        assert_eq!((answer.status, &answer.content[..]), (200, content.as_bytes()), "{accepted}");
        assert_eq!(answer.field("Content-Encoding"), coding, "{accepted}");
        assert_eq!(answer.field("Content-Type"), Some("text/javascript; charset=utf-8"));
        assert_eq!(answer.field("Vary"), Some("Accept-Encoding"), "{accepted}");
        tags.push((coding, answer.field("ETag").unwrap().to_owned()));
        // Validators and ranges are those of the bytes that were sent.
        let tag = answer.field("ETag").unwrap();
        let head = format!("GET /app.js HTTP/1.1\r\nAccept-Encoding: {accepted}\r\n");
        let unchanged = served.ask(&format!("{head}If-None-Match: {tag}"));
        assert_eq!((unchanged.status, unchanged.field("Vary")), (304, Some("Accept-Encoding")));
        assert_eq!(unchanged.field("ETag"), Some(tag));
        let part = served.ask(&format!("{head}Range: bytes=1-1\r\nIf-Range: {tag}"));
        assert_eq!((part.status, &part.content[..]), (206, &content.as_bytes()[1..2]));
        assert_eq!(part.field("Content-Encoding"), coding);
    }
    for (coding, tag) in &tags {
        let same = |(other, its): &(Option<&str>, String)| (other == coding) == (its == tag);
        assert!(tags.iter().all(same), "each coding has a tag of its own: {tags:?}");
    }
    assert_eq!(ask("/", "gzip").content, b"FRONT", "also for an index");
    assert_eq!(ask("/lone.css", "gzip").field("Vary"), None);
    let direct = ask("/app.js.gz", "gzip");
    assert_eq!((direct.field("Content-Encoding"), &direct.content[..]), (None, &b"GZIP!"[..]));
    assert_eq!(direct.field("Content-Type"), Some("application/gzip"));
}

#[test]
fn a_compressed_neighbour_of_another_version_is_not_served() {
    let tree = Tree::new().unwrap();
    let tree = tree.text("a.css", b"plain").unwrap().text("a.css.gz", b"old").unwrap();
    let before = SystemTime::now() - Duration::from_secs(60);
    set_modified(&tree.join("a.css.gz"), before);
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let ask = || served.ask("GET /a.css HTTP/1.1\r\nAccept-Encoding: gzip");
    assert_eq!((ask().content, ask().field("Vary")), (b"plain".to_vec(), None));
    // Made anew: found within a second.
    std::fs::write(tree.join("a.css.gz"), "new").unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ask().content, b"new");
    std::fs::remove_file(tree.join("a.css.gz")).unwrap();
    assert_eq!(ask().status, 200);
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(ask().content, b"plain");
    let off = Served::with(tree.path(), &["--precompressed", "none"]);
    std::fs::write(tree.join("a.css.gz"), "new").unwrap();
    let plain = off.ask("GET /a.css HTTP/1.1\r\nAccept-Encoding: gzip");
    assert_eq!((plain.field("Vary"), &plain.content[..]), (None, &b"plain"[..]));
}

#[test]
fn several_ranges_come_as_parts_of_one_answer() {
    let tree = Tree::new().unwrap().file("large.bin", 7, 3_000_000).unwrap();
    let tree = tree.file("small.bin", 8, 1000).unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    for (name, seed, ranges) in [
        ("small.bin", 8, vec![(0, 9), (500, 999), (20, 29)]),
        (
            "large.bin",
            7,
            vec![(0, 9), (1_000_000, 1_999_999), (20_000, 39_999), (2_999_999, 2_999_999)],
        ),
    ] {
        let asked: Vec<_> = ranges.iter().map(|(a, b)| format!("{a}-{b}")).collect();
        let head = format!("GET /{name} HTTP/1.1\r\nRange: bytes={}", asked.join(", "));
        let answer = served.ask(&head);
        assert_eq!((answer.status, answer.field("Content-Range")), (206, None));
        let length = answer.content.len().to_string();
        assert_eq!(answer.field("Content-Length"), Some(&length[..]));
        let content_type = answer.field("Content-Type").unwrap();
        let boundary = content_type.strip_prefix("multipart/byteranges; boundary=").unwrap();
        let mut rest = &answer.content[..];
        for (index, (first, last)) in ranges.iter().enumerate() {
            let start = if index == 0 { "" } else { "\r\n" };
            let expected = format!(
                "{start}--{boundary}\r\nContent-Type: application/octet-stream\r\n\
                 Content-Range: bytes {first}-{last}/{}\r\n\r\n",
                if name == "small.bin" { 1000 } else { 3_000_000 }
            );
            rest = rest.strip_prefix(expected.as_bytes()).unwrap();
            let (part, after) = rest.split_at(last - first + 1);
            corpus::verify(seed, *first as u64, part).unwrap();
            rest = after;
        }
        assert_eq!(rest, format!("\r\n--{boundary}--\r\n").as_bytes());
        let head = served.ask(&head.replace("GET", "HEAD"));
        assert_eq!((head.status, head.field("Content-Range")), (200, None), "GET alone has ranges");
    }
    // Too many, too often, too much: the whole, in one piece.
    for ranges in ["0-1,".repeat(17), "0-10,5-15,8-20".to_owned(), "0-,1-".to_owned()] {
        let answer = served.ask(&format!("GET /small.bin HTTP/1.1\r\nRange: bytes={ranges}"));
        assert_eq!((answer.status, answer.content.len()), (200, 1000), "{ranges}");
    }
}

#[test]
fn what_is_missing_is_answered_by_the_fallback_with_200() {
    let tree = Tree::new().unwrap().text("index.html", b"app").unwrap();
    let tree = tree.text(".env", b"secret").unwrap().directory("bare").unwrap();
    let served = Served::with(tree.path(), &["--fallback", "/index.html"]);
    for target in ["/", "/users/7", "/users/7/", "/index.html/x", "/.env"] {
        let answer = served.get(target);
        assert_eq!((answer.status, &answer.content[..]), (200, &b"app"[..]), "{target}");
    }
    assert_eq!(served.get("/bare/").status, 403);
    assert_eq!(served.get("/../x").status, 400);
    assert_eq!(served.ask("POST /users/7 HTTP/1.1").status, 405);
}

#[test]
fn errors_have_the_pages_of_the_operator() {
    let tree = Tree::new().unwrap().text("e/404.html", b"<h1>lost</h1>").unwrap();
    let tree = tree.text("e/405.txt", b"no").unwrap().text("page", b"0123").unwrap();
    let tree = tree.text("e/416", b"beyond").unwrap().text("e/400", b"unread").unwrap();
    let served = Served::with(
        tree.path(),
        &[
            "--error-page",
            "404=e/404.html",
            "--error-page",
            "405=/e/405.txt",
            "--error-page",
            "416=e/416",
            "--error-page",
            "400=e/400",
        ],
    );
    let lost = served.get("/nothing");
    assert_eq!((lost.status, &lost.content[..]), (404, &b"<h1>lost</h1>"[..]));
    assert_eq!(lost.field("Content-Type"), Some("text/html; charset=utf-8"));
    for field in ["ETag", "Last-Modified", "Accept-Ranges"] {
        assert_eq!(lost.field(field), None, "of the page, not of what is missing");
    }
    let part = served.ask("GET /nothing HTTP/1.1\r\nRange: bytes=0-1");
    assert_eq!((part.status, part.content.len()), (404, 13));
    let head = served.ask("HEAD /nothing HTTP/1.1");
    assert_eq!(
        (head.status, head.field("Content-Length"), head.content.len()),
        (404, Some("13"), 0)
    );
    let refused = served.ask("DELETE /page HTTP/1.1");
    assert_eq!((refused.status, refused.field("Allow")), (405, Some("GET, HEAD, OPTIONS")));
    assert_eq!(
        (refused.field("Content-Type"), &refused.content[..]),
        (Some("text/plain; charset=utf-8"), &b"no"[..])
    );
    let beyond = served.ask("GET /page HTTP/1.1\r\nRange: bytes=9-");
    assert_eq!((beyond.status, beyond.field("Content-Range")), (416, Some("bytes */4")));
    assert_eq!((beyond.field("Content-Type"), &beyond.content[..]), (None, &b"beyond"[..]));
    let unread = served.ask("GET /page HTTP/1.1\r\nContent-Length: x");
    assert_eq!((unread.status, &unread.content[..]), (400, &b"unread"[..]), "the engine's own too");
    assert_eq!(served.get("/e/404.html").status, 200);
    std::fs::remove_file(tree.join("e/404.html")).unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(served.get("/nothing").content, b"404 Not Found\n", "ours is always there");
}

#[test]
fn caches_are_told_by_prefix_how_long_a_file_may_be_kept() {
    let tree = Tree::new().unwrap().text("page", b"p").unwrap();
    let tree = tree.text("assets/a.js", b"a").unwrap().file("assets/big", 1, 100_000).unwrap();
    let rules = ["no-cache", "/assets/=public, max-age=31536000, immutable"];
    let served =
        Served::with(tree.path(), &["--cache-control", rules[0], "--cache-control", rules[1]]);
    let control = |answer: &Answer| answer.field("Cache-Control").map(str::to_owned);
    let long = Some("public, max-age=31536000, immutable".to_owned());
    assert_eq!(control(&served.get("/page")), Some("no-cache".to_owned()));
    for target in ["/assets/a.js", "/assets/big"] {
        let answer = served.get(target);
        assert_eq!(control(&answer), long);
        let tag = answer.field("ETag").unwrap();
        let unchanged = served.ask(&format!("GET {target} HTTP/1.1\r\nIf-None-Match: {tag}"));
        assert_eq!((unchanged.status, control(&unchanged)), (304, long.clone()));
    }
    assert_eq!(control(&served.get("/nothing")), None, "an error is not for keeping");
}

#[test]
fn links_are_followed_as_far_as_the_operator_wants() {
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "outside").unwrap();
    let tree = Tree::new().unwrap().text("real/page", b"inside").unwrap();
    symlink("real/page", tree.join("relative")).unwrap();
    symlink(tree.join("real/page"), tree.join("absolute")).unwrap();
    symlink(tree.join("real"), tree.join("directory")).unwrap();
    symlink(outside.path().join("file"), tree.join("out")).unwrap();
    symlink(outside.path(), tree.join("out-directory")).unwrap();
    symlink("/proc/self/fd/0", tree.join("magic")).unwrap();
    let inside = ["/relative", "/absolute", "/directory/page"];
    let beyond = ["/out", "/out-directory/file"];
    for (policy, in_status, out_status) in
        [("inside", 200, 403), ("never", 403, 403), ("anywhere", 200, 200)]
    {
        let served = Served::with(tree.path(), &["--symlinks", policy]);
        assert_eq!(served.get("/real/page").content, b"inside");
        for (targets, status) in [(&inside[..], in_status), (&beyond[..], out_status)] {
            for target in targets {
                assert_eq!(served.get(target).status, status, "{policy}: {target}");
            }
        }
        assert_eq!(served.get("/magic").status, 403, "{policy}");
    }
}

#[test]
fn names_with_a_dot_are_served_where_the_operator_asks_for_it() {
    let tree = Tree::new().unwrap().text(".hidden", b"h").unwrap();
    let tree = tree.text("a/.git/config", b"c").unwrap();
    for (flags, status) in [(&["--workers", "1"][..], 404), (&["--dotfiles"], 200)] {
        let served = Served::with(tree.path(), flags);
        for target in ["/.hidden", "/a/.git/config"] {
            assert_eq!(served.get(target).status, status, "{flags:?}: {target}");
        }
    }
}

#[test]
fn a_directory_shows_the_first_index_that_is_there() {
    let tree = Tree::new().unwrap().text("a/index.htm", b"htm").unwrap();
    let tree = tree.text("b/index.html", b"html").unwrap().text("b/index.htm", b"htm").unwrap();
    let tree = tree.directory("c/index.html").unwrap().text("c/index.htm", b"htm").unwrap();
    let served = Served::with(tree.path(), &["--index", "index.html", "--index", "index.htm"]);
    for (target, content) in [("/a/", "htm"), ("/b/", "html"), ("/c/", "htm")] {
        assert_eq!(served.get(target).content, content.as_bytes(), "{target}");
    }
}

#[test]
fn mistakes_on_the_command_line_are_told_before_anything_listens() {
    let tree = Tree::new().unwrap().text("page", b"p").unwrap().directory("d").unwrap();
    for (flags, told) in [
        (&["--fallback", "app.html"][..], "`app.html` beneath it is not there"),
        (&["--error-page", "404=d"], "`d` beneath it is no regular file"),
        (&["--error-page", "99=page"], "expected a status from 400 to 599"),
        (&["--precompressed", "none,br"], "none goes with no other coding"),
        (&["--in-memory", "much"], "expected a size, such as 16KiB or 0"),
        (&["--cache-control", "a\nb"], "control byte"),
    ] {
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(tree.path()).args(["--listen", "127.0.0.1:0"]).args(flags);
        let output = command.output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(told), "{flags:?}: {text}");
    }
}

#[test]
fn a_scan_leaves_the_files_that_are_asked_for_again_in_memory() {
    const COLD: u64 = 16_000;
    let mut tree = Tree::new().unwrap().text("hot", vec![b'h'; 1000]).unwrap();
    // More than all workers together keep.
    for number in 0..COLD {
        let name = format!("cold/{}/{number}", number / 500);
        tree = tree.text(&name, vec![b'c'; 16_000]).unwrap();
    }
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let mut stream = served.connect();
    let mut hot = 0;
    for number in 0..COLD {
        common::exchange(&mut stream, &format!("/cold/{}/{number}", number / 500), 16_000);
        if number % 10 == 0 {
            common::exchange(&mut stream, "/hot", 1000);
            hot += 1;
        }
    }
    drop(stream);
    let status = std::fs::read_to_string(format!("/proc/{}/status", served.child.pid())).unwrap();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    let resident: u64 = resident.trim().trim_end_matches(" kB").parse().unwrap();
    let sent = served.stop();
    // The hot one is read again until it is two seconds old.
    assert!((COLD + 1..COLD + 6).contains(&sent.opened), "{sent:?}");
    assert_eq!(sent.opened + sent.memory, COLD + hot, "{sent:?}");
    assert!(resident < 200 * 1024, "{resident} KiB for 244 MiB of files");
}

#[test]
fn a_device_is_refused_without_being_opened_for_reading() {
    require!(Need::Root, Need::Program("strace"), Need::Program("mknod"));
    let tree = Tree::new().unwrap().text("page", b"p").unwrap();
    // Reads of it never end.
    let made = Command::new("mknod").arg(tree.join("zero")).args(["c", "1", "5"]).status().unwrap();
    assert!(made.success());
    symlink("zero", tree.join("link")).unwrap();
    let trace = tree.join("trace");
    let mut command = Command::new(find_program("strace").unwrap());
    command.args(["-f", "-qq", "-e", "trace=openat2,openat,open", "-o"]).arg(&trace);
    command.arg(PROGRAM).arg("serve").arg(tree.path()).args(["--listen", "127.0.0.1:0"]);
    let served = Served::by(command);
    for (target, status) in [("/zero", 403), ("/link", 403), ("/page", 200)] {
        assert_eq!(served.get(target).status, status, "{target}");
    }
    drop(served);
    let trace = std::fs::read_to_string(trace).unwrap();
    let opened = |name: &str| trace.lines().filter(|line| line.contains(name)).collect::<Vec<_>>();
    for name in ["\"zero\"", "\"link\""] {
        let calls = opened(name);
        assert!(!calls.is_empty() && calls.iter().all(|call| call.contains("O_PATH")), "{calls:?}");
    }
    assert!(opened("\"page\"").iter().any(|call| call.contains("O_RDONLY")), "{trace}");
}

#[test]
fn names_that_no_file_can_have_are_answered_and_not_looked_up() {
    let tree = Tree::new().unwrap().text("page", b"p").unwrap();
    let longest = "x".repeat(255);
    let tree = tree.text(&longest, b"long").unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    for (target, status) in [
        (format!("/{longest}"), 200),
        (format!("/{longest}x"), 404),
        (format!("/{}", "%78".repeat(255)), 200),
        (format!("/{}", "ab/".repeat(1300)), 404),
        (format!("/{}", "abc/".repeat(1100)), 414),
        ("/page/".to_owned(), 404),
        ("/page/.".to_owned(), 404),
        ("/page\\".to_owned(), 400),
        ("/page%5c".to_owned(), 400),
        ("/page%00.html".to_owned(), 400),
        ("/%2e%2e/page".to_owned(), 400),
        ("/a/%2e%2e/page".to_owned(), 200),
        ("/page%".to_owned(), 400),
    ] {
        assert_eq!(served.get(&target).status, status, "{}", &target[..target.len().min(40)]);
    }
}

#[test]
fn a_small_file_that_is_replaced_all_the_time_is_served_in_one_version_or_another() {
    let tree = Tree::new().unwrap().text("page", vec![b'a'; 12_000]).unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let path = tree.join("page");
    let stop = AtomicBool::new(false);
    let mut versions = std::collections::BTreeSet::new();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let new = tree.join("new");
            for version in (b'a'..=b'z').cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                std::fs::write(&new, vec![version; 12_000]).unwrap();
                std::fs::rename(&new, &path).unwrap();
                std::thread::sleep(Duration::from_millis(1));
            }
        });
        let _stop = Stop(&stop);
        let end = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < end {
            let content = served.get("/page").content;
            assert_eq!(content.len(), 12_000);
            assert!(content.iter().all(|byte| *byte == content[0]));
            versions.insert(content[0]);
        }
    });
    assert!(versions.len() > 1, "{versions:?}");
}

#[test]
fn a_small_file_that_was_edited_in_place_is_whole_soon_after_and_what_was_sent_meanwhile_expires() {
    use std::os::unix::fs::FileExt;
    const LENGTH: usize = 20_000;
    let tree = Tree::new().unwrap().text("page", vec![b'a'; LENGTH]).unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let file = std::fs::File::options().write(true).open(tree.join("page")).unwrap();
    let stop = AtomicBool::new(false);
    let (mut asked, mut unvalidated) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            // In two writes: whoever reads between them sees a mix.
            for version in (b'a'..=b'z').cycle() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all_at(&vec![version; LENGTH / 2], 0).unwrap();
                file.write_all_at(&vec![version; LENGTH / 2], (LENGTH / 2) as u64).unwrap();
            }
        });
        let _stop = Stop(&stop);
        // What was read before the first edit is believed for half a second.
        let end = Instant::now() + Duration::from_millis(1500);
        while Instant::now() < end {
            asked += 1;
            let answer = served.get("/page");
            assert_eq!(answer.content.len(), LENGTH);
            // What may be a mix has nothing by which it could be confirmed later.
            unvalidated += usize::from(
                answer.field("ETag").is_none() && answer.field("Last-Modified").is_none(),
            );
        }
    });
    assert!(unvalidated > asked / 3, "{unvalidated} of {asked}");
    std::thread::sleep(Duration::from_secs(1));
    let answer = served.get("/page");
    assert_eq!(answer.content, std::fs::read(tree.join("page")).unwrap());
    assert!(answer.field("ETag").is_some());
}

#[test]
fn a_large_file_that_is_asked_for_all_the_time_has_validators_soon_after_a_change() {
    let tree = Tree::new().unwrap().text("other", b"o").unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let has_validators = || {
        let answer = served.get("/large");
        assert_eq!(answer.content.len(), 100_000);
        answer.field("ETag").is_some() && answer.field("Last-Modified").is_some()
    };
    let deadline = Instant::now() + common::PATIENCE;
    // Another file each time, which is a moment old unless this host is slow.
    loop {
        assert!(Instant::now() < deadline, "no file is asked for soon enough");
        let _ = std::fs::remove_file(tree.join("large"));
        // What was there before is believed for half a second.
        while served.get("/large").status != 404 {
            assert!(Instant::now() < deadline, "a file that was deleted is still there");
            std::thread::sleep(Duration::from_millis(20));
        }
        std::fs::write(tree.join("large"), vec![b'l'; 100_000]).unwrap();
        if !has_validators() {
            break;
        }
    }
    let deadline = Instant::now() + common::PATIENCE;
    while !has_validators() {
        assert!(Instant::now() < deadline, "it never has them again while it is in demand");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_deleted_file_is_let_go_of() {
    let tree = Tree::new().unwrap().file("large", 1, 1_000_000).unwrap();
    let served = Served::with(tree.path(), &["--workers", "1"]);
    assert_eq!(served.get("/large").status, 200);
    let is_open = || {
        let links = std::fs::read_dir(format!("/proc/{}/fd", served.child.pid())).unwrap();
        links
            .filter_map(|link| std::fs::read_link(link.ok()?.path()).ok())
            .any(|path| path.to_string_lossy().contains("large"))
    };
    assert!(is_open());
    std::fs::remove_file(tree.join("large")).unwrap();
    let deadline = Instant::now() + common::PATIENCE;
    while is_open() {
        assert!(Instant::now() < deadline, "its space is never freed");
        std::thread::sleep(Duration::from_millis(100));
    }
}
