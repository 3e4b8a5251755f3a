//! The examples of rings, run as a reader would run them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod peers;

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use peers::{PATIENCE, pattern};
use sluicegate::os::raise_descriptors;
use sluicegate_testkit::process::Child;

/// For those who need the machine: a listener that is not run for a second is a laggard too.
static ALONE: Mutex<()> = Mutex::new(());

/// An example that runs, and the address that it serves.
struct Example {
    child: Child,
    address: String,
}

impl Example {
    /// Starts it. It is built by cargo for `cargo test`, and short.
    fn start(name: &str, arguments: &[&str]) -> Self {
        let source = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples").join(name);
        let lines = std::fs::read_to_string(source.with_extension("rs")).unwrap().lines().count();
        assert!(lines < 80, "{name}: {lines} lines");
        let test = std::env::current_exe().unwrap();
        let built = test.parent().unwrap().parent().unwrap().join("examples").join(name);
        let mut command = Command::new(built);
        command.args(arguments).arg("127.0.0.1:0");
        let mut child = Child::spawn(command).unwrap();
        let line = child.wait_for_line(|line| line.contains("://"), PATIENCE).unwrap();
        let address = line.trim().split_once("://").unwrap().1.to_owned();
        Example { child, address }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    fn line(&mut self, wanted: &str) -> String {
        self.child.wait_for_line(|line| line.contains(wanted), PATIENCE).unwrap()
    }
}

/// A count in a line that has a ring's counters.
fn count(line: &str, name: &str) -> u64 {
    let after = line.split_once(&format!(" {name}: ")).unwrap().1;
    after.split([',', ' ']).next().unwrap().parse().unwrap()
}

const PPM: &str = "P6 1024 768 255\n";
const PIXELS: usize = 1024 * 768;
/// What `ring_images` has of them.
const RINGS: usize = 16;

fn ask(stream: &mut TcpStream, number: usize) {
    write!(stream, "GET /{number} HTTP/1.1\r\nHost: images\r\n\r\n").unwrap();
}

/// Reads an answer. It has to be this image.
fn receive_image(stream: &mut TcpStream, number: usize) {
    let len = PPM.len() + 3 * PIXELS;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{PPM}");
    let mut got = vec![0; head.len()];
    stream.read_exact(&mut got).unwrap();
    assert_eq!(String::from_utf8_lossy(&got), head);
    let mut pixels = vec![0; 3 * PIXELS];
    stream.read_exact(&mut pixels).unwrap();
    let wrong = pixels.chunks(3).enumerate().find(|(at, rgb)| {
        let (x, y) = (at % 1024, at / 1024);
        **rgb != [x + number, y, x ^ y].map(|colour| (colour % 256) as u8)
    });
    assert_eq!(wrong, None, "image {number}");
}

#[test]
fn images_are_rendered_into_rings_that_are_smaller_than_they_are() {
    let mut server = Example::start("ring_images", &[]);
    let mut first = server.connect();
    ask(&mut first, 300);
    receive_image(&mut first, 300);
    drop(first);
    // 21 rows of 3 KiB in each of 37 partitions, of which there are 16.
    let line = server.line("a client: Ok(())");
    let counts = ["unsent", "copied", "acked", "replaced", "bytes_copied", "bytes_sendfile"];
    assert_eq!(counts.map(|name| count(&line, name)), [16, 21, 0, 0, 3 * PIXELS as u64, 0]);

    // Many at once, one image after the other and two in a row; every fourth is slow to read.
    thread::scope(|scope| {
        for client in 0..RINGS + 4 {
            let server = &server;
            scope.spawn(move || {
                let mut stream = server.connect();
                ask(&mut stream, client);
                if client % 4 == 0 {
                    thread::sleep(Duration::from_millis(50));
                }
                receive_image(&mut stream, client);
                ask(&mut stream, 2 * client);
                ask(&mut stream, 3 * client);
                stream.shutdown(Shutdown::Write).unwrap();
                receive_image(&mut stream, 2 * client);
                receive_image(&mut stream, 3 * client);
                assert_eq!(stream.read(&mut [0]).unwrap(), 0, "and nothing else");
            });
        }
    });
    for _ in 0..RINGS + 4 {
        server.line("a client: Ok(())");
    }
}

#[test]
fn who_finds_no_ring_is_served_when_one_comes_back() {
    let mut server = Example::start("ring_images", &[]);
    // What is no request ends its connection, and who goes away in the middle harms nobody.
    for wrong in ["POST / HTTP/1.1\r\n\r\n", "GET /x HTTP/1.1\r\n\r\n", "GET /65536 \r\n\r\n"] {
        let mut client = server.connect();
        client.write_all(wrong.as_bytes()).unwrap();
        assert_eq!(client.read(&mut [0]).unwrap(), 0);
        server.line("a client: Err(");
    }
    let mut gone = server.connect();
    ask(&mut gone, 1);
    gone.read_exact(&mut [0; 100]).unwrap();
    drop(gone);
    server.line("a client: Err(");

    let mut idle: Vec<TcpStream> = (0..RINGS).map(|_| server.connect()).collect();
    let mut late = server.connect();
    ask(&mut late, 5);
    late.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert_eq!(late.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    late.set_read_timeout(Some(PATIENCE)).unwrap();
    idle.pop();
    receive_image(&mut late, 5);
    for (number, client) in idle.iter_mut().enumerate() {
        ask(client, number);
        receive_image(client, number);
    }
}

#[test]
fn a_thousand_sockets_get_one_file_that_was_read_once() {
    const READERS: usize = 1000;
    const THREADS: usize = 8;
    const LATE: usize = 20;
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(raise_descriptors().unwrap() > READERS as u64 + 100);
    // 38 partitions and a byte.
    let content = pattern(3, 38 * 64 * 1024 + 1);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(&content).unwrap();
    let readers = (READERS + 1).to_string();
    let mut server = Example::start("broadcast", &[file.path().to_str().unwrap(), &readers]);
    let mut streams: Vec<TcpStream> = (0..READERS).map(|_| server.connect()).collect();
    // One that goes away in the middle does not concern the others.
    let mut gone = server.connect();
    gone.read_exact(&mut [0; 10]).unwrap();
    drop(gone);
    // Some read so late that what they are to get waits in queues while the ring goes round.
    let (late, prompt) = streams.split_at_mut(LATE);
    thread::scope(|scope| {
        let (content, late) = (&content, (late, Duration::from_millis(500)));
        let prompt = prompt.chunks_mut(READERS / THREADS);
        for (streams, wait) in prompt.map(|streams| (streams, Duration::ZERO)).chain([late]) {
            scope.spawn(move || {
                thread::sleep(wait);
                let mut got = vec![0; 64 * 1024];
                for piece in content.chunks(got.len()) {
                    for stream in &mut *streams {
                        let got = &mut got[..piece.len()];
                        stream.read_exact(got).unwrap();
                        assert!(got == piece);
                    }
                }
                for stream in streams {
                    assert_eq!(stream.read(&mut got).unwrap(), 0, "it is closed, and not reset");
                }
            });
        }
    });
    let line = server.line(" have all ");
    let told = format!("{READERS} of {readers} have all {} bytes; ", content.len());
    assert!(line.starts_with(&told), "{line}");
    // One more was leased when the file had ended.
    let counts = ["unsent", "replaced", "reverted"].map(|name| count(&line, name));
    assert_eq!(counts, [16, 39 + 1 - 16, 1], "{line}");
    // The first few get copies, of the first region.
    let total = (READERS * content.len()) as u64;
    assert!(count(&line, "bytes_sendfile") >= total - total / READERS as u64 * 16, "{line}");
    assert!(server.child.output().contains("a reader: "), "{}", server.child.output());
}

/// Bytes of a frame of `live_feed`.
const FRAME: usize = 64 * 1024;

/// What frame `number` is.
fn frame(number: u64) -> Vec<u8> {
    let mut frame = format!("frame {number}\n").into_bytes();
    frame.resize(FRAME, b'a' + (number % 26) as u8);
    frame
}

/// The number of the frame that begins so.
fn number_of(start: &[u8]) -> u64 {
    let line = start.strip_prefix(b"frame ").unwrap().split(|byte| *byte == b'\n').next();
    String::from_utf8_lossy(line.unwrap()).parse().unwrap()
}

#[test]
fn a_live_feed_waits_for_nobody_and_cuts_off_who_does_not_read() {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut server = Example::start("live_feed", &[]);
    let (last, limit) = (AtomicU64::new(u64::MAX), Instant::now() + 5 * PATIENCE);
    // Reads frames up to the last. None is missing, and each is what it was made.
    let listen = |mut stream: TcpStream, naps: bool| {
        let mut got = vec![0; FRAME];
        stream.read_exact(&mut got).unwrap();
        let mut number = number_of(&got);
        while number < last.load(Ordering::Relaxed) {
            assert!(got == frame(number), "frame {number}");
            assert!(Instant::now() < limit, "nobody ends it");
            if naps && number.is_multiple_of(50) {
                // Twice a turn of the ring. It waits for it in the kernel.
                thread::sleep(Duration::from_millis(300));
            }
            stream.read_exact(&mut got).unwrap();
            number += 1;
        }
    };
    let listeners = [(); 3].map(|()| server.connect());
    let mut laggard = server.connect();
    let name = laggard.local_addr().unwrap().to_string();
    let line = thread::scope(|scope| {
        let [prompt, other, slow] = listeners;
        let listeners = [(prompt, false), (other, false), (slow, true)]
            .map(|(stream, naps)| scope.spawn(move || listen(stream, naps)));
        // It has read nothing, and still it ends; the feed goes on.
        let is_cut = |line: &str| line.contains(&name) && line.contains("is cut off");
        server.child.wait_for_line(is_cut, 3 * PATIENCE).unwrap();
        server.line(" frames; ");
        let newcomer = server.connect();
        let newcomer = scope.spawn(|| listen(newcomer, false));
        let line = server.line(" frames; ");
        last.store(line.split(' ').next().unwrap().parse().unwrap(), Ordering::Relaxed);
        listeners.into_iter().chain([newcomer]).for_each(|thread| thread.join().unwrap());
        line
    });
    // What the laggard has is right, and it learns that it is not the whole.
    let mut got = Vec::new();
    let end = laggard.read_to_end(&mut got);
    assert_eq!(end.unwrap_err().kind(), ErrorKind::ConnectionReset);
    assert!(!got.is_empty());
    let first = number_of(&got);
    for (number, got) in (first..).zip(got.chunks(FRAME)) {
        assert!(frame(number).starts_with(got), "frame {number}");
    }
    assert!(count(&line, "replaced") > 0, "{line}");
    assert!(count(&line, "aborted") > 0, "{line}");
    // Copies are bounded; the others read on, and leave none.
    assert!((1..=1 << 20).contains(&count(&line, "bytes_copied_out")), "{line}");
    assert!(!server.child.output().contains("panicked"), "{}", server.child.output());
}
