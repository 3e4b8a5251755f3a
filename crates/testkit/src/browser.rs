//! A browser without a window, for what only a browser can tell: how a page looks, and whether
//! what it refers to works.
//!
//! A page tells a test what it found by reports: texts that its script sends to a [`Desk`] of the
//! test. Nothing is installed into the page or the browser, and no protocol for debugging is
//! spoken.
//!
//! ```ignore
//! let desk = Desk::open()?;
//! let page = format!("<script>{} tell(() => report(document.title))</script>", desk.script());
//! // … the page is served at `url` …
//! let reports = desk.visit(&url, (1280, 800))?;
//! ```

use std::ffi::OsStr;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::process::{Child, ProcessError, find_program};

/// Names under which systems have the browser.
pub const PROGRAMS: [&str; 2] = ["chromium", "google-chrome"];

/// The program that tests name as their need.
pub const PROGRAM: &str = PROGRAMS[0];

/// How long a page may take, from the browser's start to its last report.
const PATIENCE: Duration = Duration::from_secs(60);

/// A report of more bytes is not taken: it is a mistake of the page.
const REPORT_LIMIT: u64 = 4 << 20;

const POLL_INTERVAL: Duration = Duration::from_millis(5);

/// The last report of a page.
const DONE: &str = "done";

/// Nothing but addresses of this host is reached: every name, and every other address, is unknown
/// to the browser. The rest keeps it from trying, from asking its user, and from needing a GPU, a
/// sandbox that root cannot have, or more shared memory than containers give.
const FLAGS: [&str; 22] = [
    "--headless=new",
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-component-extensions-with-background-pages",
    "--disable-default-apps",
    "--disable-domain-reliability",
    "--disable-extensions",
    "--disable-features=DialMediaRouteProvider,MediaRouter,OptimizationHints,Translate",
    "--disable-quic",
    "--disable-sync",
    "--no-default-browser-check",
    "--no-first-run",
    "--no-pings",
    "--no-sandbox",
    "--disable-breakpad",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--autoplay-policy=no-user-gesture-required",
    "--hide-scrollbars",
    "--mute-audio",
];

/// What went wrong with a browser of a test.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BrowserError {
    /// The system has none.
    #[error("there is none of the programs {PROGRAMS:?}")]
    Missing,
    /// A directory for its profile, or the desk, could not be made.
    #[error("cannot prepare for a browser")]
    Prepare(#[from] io::Error),
    /// It could not be started, or did not end.
    #[error(transparent)]
    Process(#[from] ProcessError),
    /// It ended without having made the picture.
    #[error("no picture was made; the browser said:\n{output}")]
    NoPicture {
        /// The newest of what it wrote.
        output: String,
    },
    /// The page did not say that it was done.
    #[error(
        "the page is not done within {PATIENCE:?}; reports: {reports:?}; the browser said:\n{output}"
    )]
    NotDone {
        /// What came until then.
        reports: Vec<String>,
        /// The newest of what the browser wrote.
        output: String,
    },
}

/// A running browser with a profile of its own. Both are gone when it is dropped.
#[derive(Debug)]
struct Browser {
    // Before the profile, which is only removed for good when nobody writes to it.
    child: Child,
    _profile: TempDir,
}

impl Browser {
    /// Shows `url` in a window of so many CSS pixels. Windows are never narrower than 500: what is
    /// to be seen in less has to be put into a frame.
    fn open(url: &str, (width, height): (u32, u32), more: &[&OsStr]) -> Result<Self, BrowserError> {
        let program =
            PROGRAMS.iter().find_map(|name| find_program(name)).ok_or(BrowserError::Missing)?;
        let profile = tempfile::Builder::new().prefix("sluicegate-browser-").tempdir()?;
        let mut command = Command::new(program);
        command.args(FLAGS).args(more).arg(format!("--window-size={width},{height}"));
        let mut directory = OsStr::new("--user-data-dir=").to_owned();
        directory.push(profile.path());
        command.arg(directory).arg(url);
        // It keeps certificates, fonts and more beneath the home, whatever its profile is.
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_RUNTIME_DIR"] {
            command.env(variable, profile.path());
        }
        // A desktop's bus and keys are none of a test's.
        command.env("DBUS_SESSION_BUS_ADDRESS", "disabled:").env_remove("DISPLAY");
        Ok(Browser { child: Child::spawn(command)?, _profile: profile })
    }
}

/// Makes a picture of `url`, a PNG, in a window of so many CSS pixels (at least 500 wide).
///
/// # Errors
/// [`BrowserError`].
pub fn screenshot(url: &str, size: (u32, u32), png: &Path) -> Result<(), BrowserError> {
    let mut flag = OsStr::new("--screenshot=").to_owned();
    flag.push(png);
    let mut browser = Browser::open(url, size, &[&flag])?;
    browser.child.wait_timeout(PATIENCE)?;
    if png.is_file() {
        return Ok(());
    }
    Err(BrowserError::NoPicture { output: browser.child.output() })
}

/// What the operating system says that its user prefers (`prefers-color-scheme`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    /// Dark on light.
    Light,
    /// Light on dark.
    Dark,
}

/// Makes a picture as [`screenshot`] does, for somebody who prefers `scheme`. Returns what was
/// written to the page's console until then: errors of scripts, what could not be loaded, what a
/// policy has refused.
///
/// # Errors
/// [`BrowserError`].
pub fn look(
    url: &str,
    size: (u32, u32),
    scheme: Scheme,
    png: &Path,
) -> Result<Vec<String>, BrowserError> {
    let mut flag = OsStr::new("--screenshot=").to_owned();
    flag.push(png);
    let scheme = match scheme {
        Scheme::Dark => "--blink-settings=preferredColorScheme=0",
        Scheme::Light => "--blink-settings=preferredColorScheme=1",
    };
    let more = [&flag, OsStr::new(scheme), OsStr::new("--enable-logging=stderr")];
    let mut browser = Browser::open(url, size, &more)?;
    let mut console = Vec::new();
    let ended = browser.child.wait_for_line(
        |line| {
            if let Some((_, message)) = line.split_once(":CONSOLE") {
                console.push(message.to_owned());
            }
            false
        },
        PATIENCE,
    );
    match ended {
        Err(ProcessError::TimedOut { .. }) => ended.map(|_| Vec::new()).map_err(Into::into),
        _ if png.is_file() => Ok(console),
        _ => Err(BrowserError::NoPicture { output: browser.child.output() }),
    }
}

/// Where pages report to.
#[derive(Debug)]
pub struct Desk {
    listener: TcpListener,
    port: u16,
}

impl Desk {
    /// A desk on a free port of this host.
    ///
    /// # Errors
    /// What binding a socket says.
    pub fn open() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        listener.set_nonblocking(true)?;
        let port = listener.local_addr()?.port();
        Ok(Desk { listener, port })
    }

    /// The script by which a page reports here. It defines
    ///
    /// * `report(value)`: sends a report, and promises that it has arrived; values that are no
    ///   strings come as JSON.
    /// * `tell(work)`: does some work, which may be asynchronous, and ends the visit; an error in
    ///   it, or anywhere on the page, is reported as `error: …`.
    #[must_use]
    pub fn script(&self) -> String {
        format!(
            r#"
const report = value => fetch("http://127.0.0.1:{port}/report", {{
    method: "POST", mode: "no-cors",
    body: typeof value === "string" ? value : JSON.stringify(value),
}});
const tell = async work => {{
    try {{ await work(); }} catch (error) {{ await report("error: " + (error?.stack ?? error)); }}
    await report("{DONE}");
}};
addEventListener("error", event => event.message && report("error: " + event.message));
addEventListener("unhandledrejection", event => report("error: " + event.reason));
"#,
            port = self.port
        )
    }

    /// Opens `url` in a browser, in a window of so many CSS pixels (at least 500 wide), and
    /// returns what its page reported until it was done.
    ///
    /// # Errors
    /// [`BrowserError`].
    pub fn visit(&self, url: &str, size: (u32, u32)) -> Result<Vec<String>, BrowserError> {
        let deadline = Instant::now() + PATIENCE;
        let mut browser = Browser::open(url, size, &[])?;
        let (sender, received) = mpsc::channel();
        let mut reports = Vec::new();
        while Instant::now() < deadline && browser.child.try_wait()?.is_none() {
            match self.listener.accept() {
                // On a thread of its own, since browsers open connections in advance and leave
                // them unused for a while.
                Ok((stream, _)) => {
                    let sender = sender.clone();
                    thread::spawn(move || receive(stream, &sender));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    thread::sleep(POLL_INTERVAL);
                }
                Err(error) => return Err(error.into()),
            }
            for report in received.try_iter() {
                if report == DONE {
                    return Ok(reports);
                }
                reports.push(report);
            }
        }
        Err(BrowserError::NotDone { reports, output: browser.child.output() })
    }
}

/// Takes one request and answers it. A report is passed on before the page learns that it arrived:
/// so reports that a page awaits one by one come in their order.
fn receive(mut stream: TcpStream, reports: &mpsc::Sender<String>) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut reader = BufReader::new(&stream).take(REPORT_LIMIT);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let is_report = line.starts_with("POST /report ");
    let mut length = 0;
    loop {
        line.clear();
        // The empty line, or the end.
        if reader.read_line(&mut line)? <= 2 {
            break;
        }
        if let Some((name, value)) = line.split_once(':')
            && name.eq_ignore_ascii_case("Content-Length")
        {
            length = value.trim().parse().map_err(io::Error::other)?;
        }
    }
    let mut content = String::new();
    let read = reader.take(length).read_to_string(&mut content)?;
    if is_report && read as u64 == length {
        // When nobody waits for reports any more, the visit is over.
        let _ = reports.send(content);
    }
    stream.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n")
}
