//! Bodies beyond a gibibyte, where others have filled disks and cut downloads.

use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::proxied::answers::catalogue;
use crate::proxied::client::Expected;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

const GIBIBYTE: u64 = 1 << 30;

/// Bytes of deleted files that a process has open: those of its rings on disk.
fn on_disk(pid: u32) -> u64 {
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let entries = entries.filter(|entry| {
        let link = std::fs::read_link(entry.path()).unwrap_or_default();
        let link = link.to_string_lossy();
        link.ends_with(" (deleted)") && !link.starts_with("/memfd:")
    });
    let blocks = entries.filter_map(|entry| std::fs::metadata(entry.path()).ok());
    blocks.map(|file| file.blocks() * 512).sum()
}

fn large(kind: &str, spool: &str, disk: u64) {
    let upstream = Upstream::new(catalogue);
    let directory = tempfile::tempdir().unwrap();
    let spool = spool.replace("DIRECTORY", &format!("{:?}", directory.path()));
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}")));
    let length = GIBIBYTE + 12_345_678;
    let target = format!("/{kind}/9/{length}?chunk=1000000");
    let (most, is_done) = (AtomicU64::new(0), AtomicBool::new(false));
    let pid = proxied.child.pid();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_done.load(Ordering::SeqCst) {
                most.fetch_max(on_disk(pid), Ordering::SeqCst);
                std::thread::sleep(Duration::from_millis(5));
            }
        });
        let mut client = proxied.client();
        client.ask(&format!("GET {target} HTTP/1.1"), &[]);
        let reply = client.reply("GET", Expected::Corpus(9, 0));
        is_done.store(true, Ordering::SeqCst);
        assert_eq!(reply.whole(200).length, length);
    });
    let most = most.load(Ordering::SeqCst);
    assert!(most <= disk, "{most} bytes on disk, of {disk}");
    let line = proxied.logged(&target);
    assert!(line["bytes"].as_u64().unwrap() >= length, "{line}");
    if disk > 0 {
        assert!(line["spool_disk"].as_u64().unwrap() > length / 2, "{line}");
    }
    assert_eq!(on_disk(pid), 0);
    proxied.stop();
}

#[test]
fn more_than_a_gibibyte_is_whole_through_a_mebibyte() {
    large("sized", "memory = \"1MiB\"", 0);
}

#[test]
fn more_than_a_gibibyte_is_whole_through_a_small_disk() {
    large(
        "chunked",
        "memory = \"0\", disk = \"4MiB\", directory = DIRECTORY, pipes = false",
        4 << 20,
    );
}
