//! The example `image_server`, run as a reader would run it.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::env;
use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use sluicegate_testkit::process::Child;

const SOON: Duration = Duration::from_secs(20);
const HEAD: &[u8] = b"P6 800 600 255\n";
const IMAGE: usize = HEAD.len() + 800 * 600 * 3;
const IMAGES: usize = 7;

/// Where cargo puts the examples that it builds for `cargo test`.
fn example(name: &str) -> PathBuf {
    let test = env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// What the server is to make of a pixel.
fn pixel(number: usize, at: usize) -> [u8; 3] {
    let (x, y) = (at % 800, at / 800);
    [x + number, y, x ^ y].map(|colour| (colour % 256) as u8)
}

#[test]
fn every_client_gets_its_images_and_every_buffer_comes_back() {
    let mut command = Command::new(example("image_server"));
    command.arg("127.0.0.1:0");
    let mut server = Child::spawn(command).unwrap();
    let line = server.wait_for_line(|line| line.starts_with("listening on "), SOON).unwrap();
    let address = line.trim().trim_start_matches("listening on ").to_owned();
    let client = || {
        let mut stream = TcpStream::connect(&address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        // One by one, and then several at once.
        for ask in [1, 1, IMAGES - 2] {
            stream.write_all(&vec![b'?'; ask]).unwrap();
            if ask > 1 {
                stream.shutdown(Shutdown::Write).unwrap();
                return stream;
            }
            thread::sleep(Duration::from_millis(20));
        }
        stream
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut stream = client();
                let mut image = vec![0; IMAGE];
                for number in 0..IMAGES {
                    stream.read_exact(&mut image).unwrap();
                    let (head, pixels) = image.split_at(HEAD.len());
                    assert_eq!(head, HEAD);
                    let mut pixels = pixels.chunks(3).enumerate();
                    let wrong = pixels.find(|(at, rgb)| *rgb != pixel(number, *at));
                    assert_eq!(wrong, None, "image {number}");
                }
                assert_eq!(stream.read(&mut image).unwrap(), 0, "and nothing else");
            });
        }
    });
    // A buffer that was not the same one would have ended its connection.
    for _ in 0..3 {
        server.wait_for_line(|line| line.starts_with("7 images"), SOON).unwrap();
    }
    // Who goes away in the middle harms nobody.
    let mut gone = TcpStream::connect(&address).unwrap();
    gone.write_all(b"???").unwrap();
    gone.read_exact(&mut [0; 100]).unwrap();
    drop(gone);
    server.wait_for_line(|line| line.starts_with("a client: "), SOON).unwrap();
    client().read_exact(&mut vec![0; IMAGES * IMAGE]).unwrap();
}

#[test]
fn the_example_is_under_80_lines() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/image_server.rs");
    let lines = fs::read_to_string(source).unwrap().lines().count();
    assert!(lines < 80, "{lines} lines");
}
