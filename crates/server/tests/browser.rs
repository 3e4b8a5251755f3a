//! What a browser makes of what is served.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::Served;
use sluicegate_testkit::browser::{self, Desk};
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::find_program;
use sluicegate_testkit::require;

const BROWSER: Need = Need::Program(browser::PROGRAM);

/// A desktop's window, wide enough for any frame in it.
const WINDOW: (u32, u32) = (1400, 1000);

/// Where pictures are left, to be looked at.
fn picture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join(name)
}

/// A page that runs `script` with what a [`Desk`] defines.
fn page(desk: &Desk, body: &str, script: &str) -> String {
    format!(
        "<!DOCTYPE html><meta charset=utf-8><title>test</title>{body}\n\
         <script>{}\n{script}</script>\n",
        desk.script()
    )
}

/// Names that break pages, URLs or lines, and how they are shown.
fn odd_names() -> Vec<(Vec<u8>, String)> {
    let as_it_is = [
        "<script>parent.ran=true;",
        "<img src=x onerror=parent.ran=true>",
        "\"><svg onload=parent.ran=true>",
        "' onfocus='parent.ran=true' autofocus='",
        "javascript:parent.ran=true",
        "<!--",
        "&lt;b&gt;&amp;",
        "100%.txt",
        "%2e%2e",
        "%3Cb%3E",
        "a?b=c#d;e&f+g",
        "  spaces  all  round  ",
        "naïve – 日本語 – emoji 🚀.txt",
        "שלום עולם.txt",
        "no-extension",
        "dots... and a dot.",
    ];
    let mut names: Vec<_> =
        as_it_is.iter().map(|name| (name.as_bytes().to_vec(), (*name).to_owned())).collect();
    for (name, shown) in [
        (&b"line\nbreak\ttab\rreturn"[..], r"line\nbreak\ttab\rreturn"),
        (b"bell\x07 escape\x1b[31m", r"bell\u{7} escape\u{1b}[31m"),
        (b"not utf-8 \xff\xfe\xc0.bin", r"not utf-8 \xff\xfe\xc0.bin"),
        ("invoice \u{202e}fdp.exe".as_bytes(), r"invoice \u{202e}fdp.exe"),
        ("isolate \u{2066}x\u{200b}y".as_bytes(), r"isolate \u{2066}x\u{200b}y"),
    ] {
        names.push((name.to_vec(), shown.to_owned()));
    }
    let marks = format!("marks e{}", "\u{301}\u{323}".repeat(50));
    for long in ["W".repeat(255), "ab ".repeat(85), marks] {
        names.push((long.clone().into_bytes(), long));
    }
    names
}

/// A tree in which `files` has all odd names, each file with a content of its
/// own, and a directory.
fn odd_tree() -> Tree {
    let tree = Tree::new().unwrap().directory("files/sub directory").unwrap();
    for (number, (name, _)) in odd_names().iter().enumerate() {
        let path = tree.join("files").join(OsStr::from_bytes(name));
        std::fs::write(path, content(number)).unwrap();
    }
    tree.text("files/sub directory/leaf", "leaf").unwrap()
}

/// No two are of one size.
fn content(number: usize) -> String {
    format!("file {number} {}", "x".repeat(number * 100))
}

fn png_size(path: &Path) -> (u32, u32) {
    let png = std::fs::read(path).unwrap();
    assert!(png.starts_with(b"\x89PNG\r\n\x1a\n"));
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    (number(16), number(20))
}

#[test]
fn a_listing_is_safe_and_readable_on_a_phone_and_on_a_desktop() {
    require!(BROWSER);
    let desk = Desk::open().unwrap();
    let script = r#"
        const frame = document.querySelector("iframe");
        const load = act => new Promise(loaded => {
            frame.onload = () => loaded(frame.contentDocument);
            act();
        });
        const links = doc => [...doc.querySelectorAll("tbody tr:not(.up) a")];
        const tall = element => element.getBoundingClientRect().height >= 40;
        tell(async () => {
            let doc;
            for (const [width, height] of [[390, 844], [360, 640], [1280, 800]]) {
                [frame.width, frame.height] = [width, height];
                doc = await load(() => frame.src = "files/");
                const root = doc.documentElement;
                const rows = [...doc.querySelectorAll("tbody tr")];
                await report(`width ${root.clientWidth} fits ${root.scrollWidth <= root.clientWidth}`);
                await report(`rows ${rows.length} small ${rows.filter(row => !tall(row)).length}`);
                const others = [...doc.querySelectorAll("h1 a, th a")];
                await report(`others ${others.length} small ${others.filter(a => !tall(a)).length}`);
                const missed = rows.filter(row => {
                    row.scrollIntoView();
                    const { left, top, bottom } = row.getBoundingClientRect();
                    return [top + 3, bottom - 3].some(y =>
                        doc.elementFromPoint(left + 60, y)?.closest("a") !== row.querySelector("a"));
                });
                await report(`missed ${missed.length}`);
                const cut = [...doc.querySelectorAll("td, h1, a")].filter(box =>
                    box.scrollWidth > box.clientWidth && box.clientWidth);
                await report(`cut ${cut.length}`);
            }
            for (const a of links(doc)) {
                const content = a.href.endsWith("/") ? "" : await (await fetch(a.href)).text();
                await report(["file", a.textContent, a.getAttribute("href"), content]);
            }
            const own = doc.createElement("script");
            own.textContent = "parent.ran = true";
            doc.body.append(own);
            await report(`ran ${window.ran}`);
            await report(`foreign ${doc.querySelectorAll("img, svg, script:not(body > :last-child)").length}`);

            const sorted = doc => doc.querySelector("[aria-sort]");
            for (const key of ["size", "size", "time", "name", "name"]) {
                doc = await load(() => doc.querySelector(`th.${key} a`).click());
                const th = sorted(doc);
                await report(`${th.className} ${th.ariaSort} ${links(doc)[1].textContent}`);
            }
            doc = await load(() => links(doc)[0].click());
            await report(`inside ${doc.title}: ${links(doc).map(a => a.textContent)}`);
            doc = await load(() => doc.querySelector(".up a").click());
            await report(`outside ${doc.title}: ${links(doc).length}`);
            doc = await load(() => doc.querySelector("h1 a").click());
            await report(`home ${doc.title}`);
        });"#;
    let tree = odd_tree().text("test.html", page(&desk, "<iframe></iframe>", script)).unwrap();
    let served = Served::with(tree.path(), &["--listing", "--workers", "2"]);
    let reports = desk.visit(&served.url("/test.html"), WINDOW).unwrap();

    let names = odd_names();
    let rows = names.len() + 2;
    let mut expected = Vec::new();
    for width in [390, 360, 1280] {
        expected.push(format!("width {width} fits true"));
        expected.push(format!("rows {rows} small 0"));
        expected.push("others 4 small 0".to_owned());
        expected.push("missed 0".to_owned());
        expected.push("cut 0".to_owned());
    }
    let (measures, rest) = reports.split_at(expected.len().min(reports.len()));
    assert_eq!(measures, expected);

    let (files, rest) = rest.split_at((rows - 1).min(rest.len()));
    let mut files: Vec<&str> = files.iter().map(String::as_str).collect();
    files.sort_unstable();
    let mut expected: Vec<String> = names
        .iter()
        .enumerate()
        .map(|(number, (name, shown))| file_report(shown, name, "", &content(number)))
        .collect();
    expected.push(file_report("sub directory/", b"sub directory", "/", ""));
    expected.sort_unstable();
    assert_eq!(files, expected);

    let largest = &names.last().unwrap().1;
    let smallest = &names[0].1;
    assert_eq!(
        rest,
        [
            "ran undefined".to_owned(),
            "foreign 0".to_owned(),
            format!("size descending {largest}"),
            format!("size ascending {smallest}"),
            // All were made in the same moment or in this order.
            rest[4].clone(),
            "name ascending   spaces  all  round  ".to_owned(),
            "name descending שלום עולם.txt".to_owned(),
            "inside Index of /files/sub directory/: leaf".to_owned(),
            format!("outside Index of /files/: {}", rows - 1),
            "home Index of /".to_owned(),
        ]
    );
    assert!(rest[4].starts_with("time descending "), "{}", rest[4]);

    let sent = served.stop();
    assert_eq!((sent.copied, sent.sendfile, sent.spliced), (sent.total, 0, 0));
}

/// What the script reports of a line: JSON, as `JSON.stringify` writes it.
fn file_report(shown: &str, name: &[u8], slash: &str, content: &str) -> String {
    let mut href = "./".to_owned();
    for &byte in name {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            href.push(byte.into());
        } else {
            write!(href, "%{byte:02X}").unwrap();
        }
    }
    let shown = shown.replace('\\', r"\\").replace('"', "\\\"");
    format!(r#"["file","{shown}","{href}{slash}","{content}"]"#)
}

#[test]
fn pictures_of_a_listing_are_made_for_people_to_look_at() {
    require!(BROWSER);
    let frame = |path: &str, height| {
        format!(
            "<!DOCTYPE html><body style='margin:0;background:gray'>\
             <iframe src='{path}' width=390 height={height} style='border:0'></iframe>"
        )
    };
    let tree = odd_tree()
        .text("odd.html", frame("files/", 2400))
        .unwrap()
        .text("usual.html", frame("usual/guide/", 844))
        .unwrap()
        .directory("usual/guide/pictures")
        .unwrap()
        .file("usual/guide/01-introduction.md", 1, 3_210)
        .unwrap()
        .file("usual/guide/02-a-chapter-with-a-rather-long-name-as-they-are.md", 1, 48_111)
        .unwrap()
        .file("usual/guide/10-index.md", 1, 0)
        .unwrap()
        .file("usual/guide/Film.mp4", 1, 7_654_321)
        .unwrap()
        .directory("usual/guide/archive 2025")
        .unwrap();
    let served = Served::with(tree.path(), &["--listing", "--workers", "1"]);
    for (path, size, name) in [
        ("/odd.html", (500, 2400), "listing-odd-390.png"),
        ("/files/", (1280, 2000), "listing-odd-1280.png"),
        ("/usual.html", (500, 1000), "listing-usual-390.png"),
        ("/usual/guide/", (1280, 800), "listing-usual-1280.png"),
    ] {
        let png = picture(name);
        let _ = std::fs::remove_file(&png);
        browser::screenshot(&served.url(path), size, &png).unwrap();
        assert_eq!(png_size(&png), size, "{name}");
    }
}

const PICTURES: usize = 40;
const SCRIPTS: usize = 25;
const SHEETS: usize = 25;
const DATA: usize = 10;

/// An uncompressed picture, as wide as its number and a bit.
fn bitmap(width: usize) -> Vec<u8> {
    let row = (width * 3).next_multiple_of(4);
    let mut out = b"BM".to_vec();
    let mut push = |number: usize| out.extend_from_slice(&(number as u32).to_le_bytes());
    for number in [54 + row, 0, 54, 40, width, 1, 1 | 24 << 16, 0, row, 2835, 2835, 0, 0] {
        push(number);
    }
    out.resize(54 + row, 0x7f);
    out
}

/// A page, and a hundred small files that it is made of.
fn site(desk: &Desk) -> Tree {
    let mut tree = Tree::new().unwrap();
    let (mut head, mut body) = (String::new(), String::new());
    for number in 0..PICTURES {
        let width = 10 + number;
        let (name, bytes) = if number % 2 == 0 {
            let svg = format!(
                "<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='10'>\
                 <rect width='{width}' height='10' fill='teal'/></svg>"
            );
            (format!("picture/{number}.svg"), svg.into_bytes())
        } else {
            (format!("picture/{number}.bmp"), bitmap(width))
        };
        write!(body, "<img src='{name}'>").unwrap();
        tree = tree.text(&name, bytes).unwrap();
    }
    for number in 0..SCRIPTS {
        write!(head, "<script src='script/{number}.js'></script>").unwrap();
        let script = format!("(window.order ??= []).push({number});");
        tree = tree.text(&format!("script/{number}.js"), script).unwrap();
    }
    for number in 0..SHEETS {
        write!(head, "<link rel=stylesheet href='style/{number}.css'>").unwrap();
        write!(body, "<p id=p{number}></p>").unwrap();
        let sheet = format!("#p{number} {{ width: {}px }}", 100 + number);
        tree = tree.text(&format!("style/{number}.css"), sheet).unwrap();
    }
    for number in 0..DATA {
        let data = format!("{{\"number\": {number}}}");
        tree = tree.text(&format!("data/{number}.json"), data).unwrap();
    }
    let script = r#"
        addEventListener("load", () => tell(async () => {
            const pictures = [...document.images].map(image => image.complete && image.naturalWidth);
            await report(pictures.join());
            await report(window.order.join());
            await report([...document.querySelectorAll("p")].map(p => getComputedStyle(p).width).join());
            const numbers = [];
            for (let n = 0; n < 10; n++) {
                numbers.push((await (await fetch(`data/${n}.json`)).json()).number);
            }
            await report(numbers.join());
            const loaded = performance.getEntriesByType("resource")
                .filter(entry => entry.name.startsWith(location.origin));
            const good = loaded.filter(entry => entry.responseStatus === 200 && entry.encodedBodySize);
            await report(`${good.length} of ${loaded.length}`);
            const again = await Promise.all(loaded.map(async entry => {
                const answer = await fetch(entry.name, { cache: "reload" });
                return (await answer.arrayBuffer()).byteLength === entry.encodedBodySize;
            }));
            await report(`${again.filter(same => same).length} again`);
        }));"#;
    let html = page(desk, &format!("<link rel=icon href='data:,'>{head}{body}"), script);
    tree.text("index.html", html).unwrap()
}

#[test]
fn a_page_of_a_hundred_small_files_loads_completely() {
    require!(BROWSER);
    let desk = Desk::open().unwrap();
    let tree = site(&desk);
    let served = Served::with(tree.path(), &["--workers", "2"]);
    let reports = desk.visit(&served.url("/"), WINDOW).unwrap();
    let join = |numbers: Vec<String>| numbers.join(",");
    assert_eq!(
        reports,
        [
            join((0..PICTURES).map(|number| (10 + number).to_string()).collect()),
            join((0..SCRIPTS).map(|number| number.to_string()).collect()),
            join((0..SHEETS).map(|number| format!("{}px", 100 + number)).collect()),
            join((0..DATA).map(|number| number.to_string()).collect()),
            "100 of 100".to_owned(),
            "100 again".to_owned(),
        ]
    );
    let sent = served.stop();
    // Small files are copied, whatever they are; each worker opens one once.
    assert_eq!((sent.copied, sent.sendfile, sent.spliced), (sent.total, 0, 0));
    assert!((101..=202).contains(&sent.opened), "{sent:?}");
    assert_eq!((sent.opened + sent.memory, sent.open, sent.changed), (201, 0, 0), "{sent:?}");
}

/// A film of 20 seconds, of which no two frames are alike, in a format that
/// every build of the browser plays. Its index is at the end, so that playing
/// begins with a jump.
fn film(path: &Path) {
    let ffmpeg = Command::new(find_program("ffmpeg").unwrap())
        .args(["-loglevel", "error", "-f", "lavfi", "-i"])
        .arg("testsrc2=size=640x360:rate=25:duration=20,noise=alls=12:allf=t")
        .args(["-c:v", "libvpx", "-deadline", "realtime", "-cpu-used", "8", "-g", "25"])
        .args(["-b:v", "6M", "-minrate", "6M", "-maxrate", "6M", "-y"])
        .arg(path)
        .output()
        .unwrap();
    assert!(ffmpeg.status.success(), "{}", String::from_utf8_lossy(&ffmpeg.stderr));
}

/// FNV-1a in 32 bits.
fn digest(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, &byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

#[test]
fn a_film_plays_and_seeks_by_ranges() {
    require!(BROWSER, Need::Program("ffmpeg"));
    let desk = Desk::open().unwrap();
    let body = "<video muted preload=metadata width=640 height=360></video>";
    let script = r#"
        const video = document.querySelector("video");
        const digest = bytes => {
            let hash = 0x811c9dc5;
            for (const byte of bytes) hash = Math.imul(hash ^ byte, 0x01000193);
            return hash >>> 0;
        };
        const event = name => new Promise((done, failed) => {
            video.addEventListener(name, done, { once: true });
            video.addEventListener("error", () => failed(video.error.message), { once: true });
        });
        const drawn = () => {
            const canvas = new OffscreenCanvas(640, 360);
            const context = canvas.getContext("2d");
            context.drawImage(video, 0, 0);
            return digest(context.getImageData(0, 0, 640, 360).data);
        };
        const seek = async to => {
            const frame = new Promise(done => video.requestVideoFrameCallback((_, now) => done(now)));
            const seeked = event("seeked");
            video.currentTime = to;
            await seeked;
            const { mediaTime } = await frame;
            return [Math.abs(mediaTime - to) < 0.1, drawn()];
        };
        tell(async () => {
            const loaded = event("loadedmetadata");
            video.src = "film.webm";
            await loaded;
            await report(`${video.videoWidth}x${video.videoHeight}, ${Math.round(video.duration)} s`);
            const seekable = video.seekable;
            await report(`seekable ${seekable.length > 0 && seekable.end(0) > 19}`);
            await video.play();
            while (video.currentTime < 1) await event("timeupdate");
            video.pause();
            await report("played");
            const frames = [];
            for (const to of [15, 3, 18, 15]) frames.push([to, ...await seek(to)]);
            await report(`seeked ${frames.map(([to, near]) => `${to} ${near}`)}`);
            const [a, b, c, d] = frames.map(([, , pixels]) => pixels);
            await report(`three frames ${new Set([a, b, c]).size === 3}, one again ${a === d}`);

            const get = async range => {
                const headers = range ? { Range: range } : {};
                const answer = await fetch("film.webm", { headers, cache: "no-store" });
                return [answer, new Uint8Array(await answer.arrayBuffer())];
            };
            const [, whole] = await get();
            await report(`whole ${whole.length} ${digest(whole)}`);
            const size = whole.length, middle = size >> 1;
            for (const [range, start, end] of [
                ["bytes=0-", 0, size], ["bytes=0-99", 0, 100], [`bytes=${middle}-`, middle, size],
                [`bytes=${middle}-${middle + 999999}`, middle, middle + 1000000],
                ["bytes=-1234567", size - 1234567, size],
            ]) {
                const [answer, part] = await get(range);
                const told = answer.headers.get("Content-Range") === `bytes ${start}-${end - 1}/${size}`;
                const same = digest(part) === digest(whole.subarray(start, end));
                await report(`${answer.status} ${told} ${same}`);
            }
        });"#;
    let tree = Tree::new().unwrap().text("index.html", page(&desk, body, script)).unwrap();
    film(&tree.join("film.webm"));
    let bytes = std::fs::read(tree.join("film.webm")).unwrap();
    assert!(bytes.len() > 5_000_000, "{} bytes are too few to need ranges", bytes.len());
    let served = Served::with(tree.path(), &["--workers", "1"]);
    let reports = desk.visit(&served.url("/"), WINDOW).unwrap();
    let part = "206 true true";
    assert_eq!(
        reports,
        [
            "640x360, 20 s",
            "seekable true",
            "played",
            "seeked 15 true,3 true,18 true,15 true",
            "three frames true, one again true",
            &format!("whole {} {}", bytes.len(), digest(&bytes)),
            part,
            part,
            part,
            part,
            part,
        ]
    );
    let sent = served.stop();
    eprintln!("{} bytes, {sent:?}", bytes.len());
    assert!(sent.sendfile + sent.spliced > bytes.len() as u64, "{sent:?}");
    // The film's requests beside the six that the script made: its start, its
    // index, and a place for seeking at least.
    assert_eq!((sent.opened, sent.changed), (2, 0), "{sent:?}");
    assert!(sent.open >= 6 + 2, "{sent:?}");
}
