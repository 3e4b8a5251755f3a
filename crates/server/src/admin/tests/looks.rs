//! Pictures of the status page, for people to look at: what it is like after a
//! busy minute, without waiting for one.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use sluicegate::WayBytes;
use sluicegate_testkit::browser::{self, Scheme};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use super::Shown;
use crate::admin::answer::{Status, Windows};
use crate::admin::figures::{self, Figures};
use crate::admin::history::{History, Sample};
use crate::admin::{page, upstreams};

#[path = "../../../tests/common/status_page.rs"]
mod status_page;

const NOW: u64 = 1_795_340_000;

fn server(address: &str, up: bool, ejected: bool) -> upstreams::Server {
    upstreams::Server {
        address: address.into(),
        up,
        ejected,
        active: 17,
        requests: 1_234_567,
        failures: 321,
        connects: 2_345,
        reuses: 1_232_222,
    }
}

/// A minute of a program that is asked for more and more, with a break.
fn busy() -> Status {
    let start = Instant::now();
    let mut history = History::default();
    let (mut requests, mut bytes, mut accepted, mut cpu) = (3_000_000_u64, 1_u64 << 40, 90_000, 0);
    for second in 0..=60_u64 {
        let wave = (second as f64 / 7.0).sin() * 2_000.0 + (second as f64 / 1.3).cos() * 700.0;
        let now = if (30..36).contains(&second) { 300 } else { (9_000.0 + wave) as u64 };
        requests += now;
        bytes += now * 23_000;
        accepted += now / 150 + second % 3;
        cpu += now * 21;
        history.push(Sample {
            at: start + Duration::from_secs(second),
            requests,
            bytes,
            accepted,
            open: 1_800 + now / 12,
            cpu: Duration::from_micros(cpu),
        });
    }
    let over = |seconds| history.rates(Duration::from_secs(seconds));
    let (large, total) = (bytes / 100, bytes);
    let ended = [("offence", 41), ("unread", 3), ("gone", 212), ("network", 5_120)];
    let figures = Figures {
        version: env!("CARGO_PKG_VERSION"),
        started_seconds: NOW - 273_725,
        uptime_seconds: 273_725,
        listen: vec!["127.0.0.1:8080".parse().unwrap(), "[::1]:8080".parse().unwrap()],
        connections: figures::Connections { accepted, open: 2_462 },
        workers: vec![
            figures::Worker { connections_open: 1_232, responses: requests / 2 + 7_000 },
            figures::Worker { connections_open: 1_230, responses: requests / 2 - 7_000 },
        ],
        responses: figures::Responses {
            total: requests,
            successful: requests - requests / 8 - 3_021,
            redirected: requests / 8,
            refused: 3_004,
            failed: 17,
            ..Default::default()
        },
        sent: figures::Sent {
            total_bytes: total,
            copied_bytes: 9 * large,
            sendfile_bytes: 24 * large,
            spliced_bytes: total - 37 * large,
            zerocopy_bytes: 4 * large,
            zerocopy_copied_bytes: large / 40,
        },
        ended_early: BTreeMap::from(ended),
        file_cache: figures::FileCache {
            found_in_memory: requests / 10 * 8,
            found_open: requests / 10,
            opened: 41_233,
            changed: 104,
            hit_share: Some(0.987),
            files_in_memory: 3_210,
            memory_bytes: 98_123_456,
            files_open: 512,
        },
        pools: vec![upstreams::Pool {
            name: "app".into(),
            servers: vec![
                server("127.0.0.1:9001", true, false),
                server("app-with-a-long-name.internal.example.test:9002", true, true),
                server("unix:/run/app/workers/gunicorn-production.sock", false, false),
            ],
            queue: upstreams::Queue { waiting: 3, queued: 1_204, refused: 12, timed_out: 5 },
        }],
        relayed: upstreams::Relays {
            spliced_bytes: total / 3,
            ring_bytes: total / 40,
            disk_bytes: total / 90,
            copied_bytes: total / 9,
            upstream_held: upstreams::Held { count: 4_000, sum_ms: 91_000, within_ms: vec![] },
            troubles: BTreeMap::from([("connect", 12), ("head_timeout", 3), ("busy", 0)]),
            ..Default::default()
        },
        spool: upstreams::Spool {
            held_bytes: 1_234_567_890,
            disk_bytes: 345_678_901,
            budget_bytes: 4 << 30,
        },
        configuration: Some(figures::Configuration {
            file: "/etc/sluicegate/sluicegate.toml".into(),
            generation: 4,
            loaded_seconds: NOW - 7_322,
            refused: Some(figures::Refused {
                at_seconds: NOW - 65,
                why: "/etc/sluicegate/sluicegate.toml:12:3: unknown key `rot`; is `root` meant?"
                    .into(),
            }),
        }),
        reloads: figures::Reloads { done: 3, refused: 1 },
        process: figures::Taken {
            resident_bytes: Some(143_000_000),
            descriptors_open: Some(3_021),
            descriptors_max: Some(524_288),
            cpu_seconds: 8_123.0,
            ..Default::default()
        },
        pipes: figures::Pipes { in_use: 26, made: 30, max: 32 },
        lingering: figures::Lingering { sockets: 2, bytes: 3_400_000, quarantined_bytes: 0 },
        ..Default::default()
    };
    Status {
        figures,
        rates: Windows { second: over(1), ten: over(10), minute: over(60) },
        history: history.points(start + Duration::from_millis(60_300)),
        now: NOW,
    }
}

#[test]
fn pictures_of_the_page_are_made_for_people_to_look_at() {
    require!(Need::Program(browser::PROGRAM));
    let pages = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| {
        let path = pages.path().join(name);
        std::fs::write(&path, text).unwrap();
        format!("file://{}", path.display())
    };
    // The script would ask who is not there.
    let still = |status: &Status| page::render(status, "n").replace("setTimeout(renew, 1000);", "");
    let url = write("status.html", still(&busy()));
    // Windows are never as narrow as a phone: a frame is.
    let frame = "<!DOCTYPE html><body style='margin:0;background:gray'>\
        <iframe src='status.html' width=390 height=3000 style='border:0'></iframe>";
    let narrow = write("narrow.html", frame.to_owned());
    let target = target();
    for (url, size, scheme, name) in [
        (&url, (1280, 1150), Scheme::Light, "status-1280-light.png"),
        (&url, (1280, 1150), Scheme::Dark, "status-1280-dark.png"),
        (&narrow, (500, 3000), Scheme::Dark, "status-390-dark.png"),
        (&narrow, (500, 3000), Scheme::Light, "status-390-light.png"),
    ] {
        let png = target.join(name);
        let _ = std::fs::remove_file(&png);
        let console = browser::look(url, size, scheme, &png).unwrap();
        assert_eq!(console, Vec::<String>::new(), "{name}");
        assert!(is_picture(&png), "{name}");
    }
}

fn is_picture(path: &Path) -> bool {
    let png = std::fs::read(path).unwrap();
    // One colour all over is a few kilobytes at most.
    png.starts_with(b"\x89PNG\r\n\x1a\n") && png.len() > 20_000
}

/// Where tests leave pictures: CARGO_TARGET_TMPDIR is for integration tests alone.
fn target() -> PathBuf {
    let program = std::env::current_exe().unwrap();
    let target = program.ancestors().nth(3).unwrap().join("tmp");
    std::fs::create_dir_all(&target).unwrap();
    target
}

#[test]
fn the_page_is_alive_in_a_browser() {
    require!(Need::Program(browser::PROGRAM));
    let shown = Shown::with(2, || None);
    let (stats, ends) = (Arc::clone(&shown.stats), Arc::new(AtomicBool::new(false)));
    let is_over = Arc::clone(&ends);
    let load = std::thread::spawn(move || {
        while !is_over.load(Ordering::Relaxed) {
            for worker in stats.workers() {
                worker.accepted();
                worker.answered(200);
                worker.closed();
            }
            stats.context.counters.add(WayBytes { copied: 1_234, ..WayBytes::default() });
            std::thread::sleep(Duration::from_millis(1));
        }
    });
    // In both cases the load ends.
    let seen = std::panic::catch_unwind(AssertUnwindSafe(|| {
        status_page::visit(shown.address, true);
        status_page::pictures(shown.address, &target());
    }));
    ends.store(true, Ordering::Relaxed);
    load.join().unwrap();
    if let Err(panic) = seen {
        std::panic::resume_unwind(panic);
    }
}
