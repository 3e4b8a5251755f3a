//! The status page in a browser, wherever the admin server is.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // Not every test uses all.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use sluicegate_testkit::browser::{self, Desk, Scheme};

/// A desktop's window, wide enough for any frame in it.
const WINDOW: (u32, u32) = (1400, 1000);

/// What a page does to the page in its frame. Windows of browsers are never as
/// narrow as a phone, frames are.
const SCRIPT: &str = r#"
const frame = document.querySelector("iframe");
const load = () => new Promise(loaded => {
    frame.onload = () => loaded(frame.contentDocument);
    frame.src = "status";
});
const sleep = millis => new Promise(done => setTimeout(done, millis));
// Something may take long on a loaded machine, but it comes.
const comes = async look => {
    for (;;) {
        const seen = look();
        if (seen) return seen;
        await sleep(50);
    }
};
const text = (doc, selector) => [...doc.querySelectorAll(selector)].map(found => found.textContent);
const total = doc => {
    const found = [...doc.querySelectorAll(".tile:first-child dl div")]
        .find(div => div.querySelector("dt").textContent === "total");
    return Number(found.querySelector("dd").textContent.replaceAll(",", ""));
};
tell(async () => {
    let doc;
    for (const [width, height] of [[360, 640], [390, 844], [768, 1024], [1280, 800]]) {
        [frame.width, frame.height] = [width, height];
        doc = await load();
        const root = doc.documentElement;
        const cut = [...doc.querySelectorAll("main *")].filter(box =>
            box.clientWidth && box.scrollWidth > box.clientWidth + 1 && !box.closest("svg"));
        const seen = box => box.getClientRects().length > 0;
        const words = [...doc.querySelectorAll("main :is(th, td, dt, dd, p, code, b)")].filter(seen);
        const out = words.filter(box => {
            const [inner, outer] = [box, box.closest("section, header, body")]
                .map(some => some.getBoundingClientRect());
            return inner.right > outer.right + 1 || inner.left < outer.left - 1;
        });
        await report(`${width}: fits ${root.scrollWidth <= root.clientWidth}, ` +
            `cut ${cut.map(box => box.outerHTML)}, out ${out.map(box => box.outerHTML)}`);
    }
    let violations = [];
    doc.addEventListener("securitypolicyviolation", event => violations.push(event.blockedURI));
    await report(`titles: ${text(doc, "h2")}`);
    await report(`state: ${text(doc, ".state")}`);
    const before = total(doc);
    // The page renews itself, and its figures move.
    await comes(() => total(doc) > before);
    await comes(() => doc.querySelectorAll(".tile .spark .line").length === 4);
    await comes(() => !text(doc, ".now").some(now => now.includes("–")));
    const rate = await comes(() => {
        const now = parseFloat(text(doc, ".now")[0].replaceAll(",", ""));
        return now > 0 && now;
    });
    await report(`moves: ${rate > 0}, odd: ${text(doc, ".now").filter(now => !/^[\d.,]+( ?[kMGT]| ?([KMG]i)?B)?(\/s)?$/.test(now))}`);
    await report(`drawn: ${[...doc.querySelectorAll(".tile path.line")].every(line => line.getTotalLength() > 1)}`);
    // What somebody has marked stays marked.
    const selection = frame.contentWindow.getSelection();
    selection.selectAllChildren(doc.querySelector("h1"));
    const marked = total(doc);
    await sleep(2500);
    await report(`marked: ${!selection.isCollapsed && total(doc) === marked}`);
    selection.removeAllRanges();
    await comes(() => total(doc) > marked);
    // Nobody is told old figures for new ones.
    const lost = () => frame.contentWindow.getComputedStyle(doc.getElementById('lost')).display !== "none";
    await report(`lost: ${lost()}`);
    await fetch("away");
    await comes(lost);
    await report(`lost: ${lost()}`);
    await fetch("back");
    await comes(() => !lost());
    const foreign = frame.contentWindow.performance.getEntriesByType("resource")
        .filter(entry => !entry.name.startsWith(location.origin) && !entry.name.startsWith("data:"));
    await report(`foreign: ${foreign.map(entry => entry.name)}, refused: ${violations}`);
});
"#;

/// Visits the page, whose requests must be counting up meanwhile, in several
/// widths, and looks at whether it fits, moves, and tells when it cannot.
/// `upstreams`: whether some are configured, so that they have cards.
pub fn visit(admin: SocketAddr, upstreams: bool) {
    let desk = Desk::open().unwrap();
    let page = format!(
        "<!DOCTYPE html><meta charset=utf-8><link rel=icon href='data:,'><iframe></iframe>\n\
         <script>{}\n{SCRIPT}</script>\n",
        desk.script()
    );
    let relay = Relay::start(admin, page);
    let reports = desk.visit(&format!("http://{}/frame", relay.address), WINDOW).unwrap();
    let cards = if upstreams {
        "Relayed,Spool,Queued for upstreams,Trouble with upstreams,Upstreams,"
    } else {
        ""
    };
    let titles = format!(
        "titles: Requests,Sent,New connections,Open connections,Bytes by path,Responses,\
         File cache,{cards}Limits and resources,Connections ended early,Workers,Configuration"
    );
    assert_eq!(
        reports,
        [
            "360: fits true, cut , out ",
            "390: fits true, cut , out ",
            "768: fits true, cut , out ",
            "1280: fits true, cut , out ",
            &*titles,
            "state: Serving",
            "moves: true, odd: ",
            "drawn: true",
            "marked: true",
            "lost: false",
            "lost: true",
            "foreign: , refused: ",
        ]
    );
}

/// Makes pictures of the page in `directory`, for people to look at. Nothing
/// may come to the browser's console.
pub fn pictures(admin: SocketAddr, directory: &Path) {
    for (scheme, name) in [(Scheme::Light, "light"), (Scheme::Dark, "dark")] {
        let png = directory.join(format!("status-live-{name}.png"));
        let _ = std::fs::remove_file(&png);
        let url = format!("http://{admin}/status");
        let console = browser::look(&url, (1280, 1000), scheme, &png).unwrap();
        assert_eq!(console, Vec::<String>::new());
        let picture = std::fs::read(&png).unwrap();
        // One colour all over is a few kilobytes at most.
        assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.len() > 20_000);
    }
}

/// One origin for the page with the frame and for the admin server, as that
/// page's policy asks.
struct Relay {
    address: SocketAddr,
}

impl Relay {
    fn start(admin: SocketAddr, page: String) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let (page, away) = (Arc::<str>::from(page), Arc::new(AtomicBool::new(false)));
        // Ends with the test's process.
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (page, away) = (Arc::clone(&page), Arc::clone(&away));
                thread::spawn(move || relay(&stream, admin, &page, &away));
            }
        });
        Relay { address }
    }
}

fn relay(
    mut stream: &TcpStream,
    admin: SocketAddr,
    page: &str,
    away: &AtomicBool,
) -> io::Result<()> {
    const PATIENCE: Duration = Duration::from_secs(60);
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let target = line.split(' ').nth(1).unwrap_or_default().to_owned();
    while line.len() > 2 {
        line.clear();
        reader.read_line(&mut line)?;
    }
    let own = match target.as_str() {
        "/frame" => page,
        "/away" | "/back" => {
            away.store(target == "/away", Ordering::Relaxed);
            ""
        }
        // As if the server were gone: the connection ends without an answer.
        _ if away.load(Ordering::Relaxed) => return Ok(()),
        _ => {
            let mut server = TcpStream::connect(admin)?;
            write!(server, "GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
            let mut answer = Vec::new();
            server.read_to_end(&mut answer)?;
            return stream.write_all(&answer);
        }
    };
    let length = own.len();
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {length}\r\n\
         Connection: close\r\n\r\n{own}"
    )
}
