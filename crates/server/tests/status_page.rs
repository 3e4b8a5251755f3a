//! The status page of a program that runs, in a browser.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;
#[path = "common/status_page.rs"]
mod status_page;

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use operated::{Place, connect, get};
use sluicegate_testkit::browser;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

#[test]
fn the_page_of_a_busy_program_is_alive_and_readable() {
    require!(Need::Program(browser::PROGRAM));
    let place = Place::new();
    place.write(&place.config(&["127.0.0.1:0"], "one", "admin = \"127.0.0.1:0\""));
    std::fs::write(place.path("one").join("medium"), vec![b'm'; 300_000]).unwrap();
    std::fs::write(place.path("one").join("large"), vec![b'l'; 3 << 20]).unwrap();
    let mut served = place.start();
    let admin = served.admin();
    let address = served.address;
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // A few hundred requests in a second: counts stay short enough to be exact.
        for client in 0..4_u32 {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut kept = connect(address);
                for turn in client.. {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    get(&mut kept, false).unwrap();
                    let target = ["/medium", "/none", "/large", "/page"][turn as usize % 4];
                    let mut other = connect(address);
                    let request =
                        format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                    other.write_all(request.as_bytes()).unwrap();
                    other.read_to_end(&mut Vec::new()).unwrap();
                    std::thread::sleep(Duration::from_millis(10 + u64::from(turn % 40)));
                }
            });
        }
        let seen = catch_unwind(AssertUnwindSafe(|| {
            status_page::visit(admin, false);
            status_page::pictures(admin, Path::new(env!("CARGO_TARGET_TMPDIR")));
        }));
        is_over.store(true, Ordering::Relaxed);
        if let Err(panic) = seen {
            resume_unwind(panic);
        }
    });
    let sent = served.stop();
    assert!(sent.copied > 0 && sent.total > 1 << 20);
}
