//! Every framing of an upstream's, to clients of both versions, fast ones and slow ones, by each
//! way that a spool may take.

use crate::proxied::answers::catalogue;
use crate::proxied::client::{Client, Expected};
use crate::proxied::incoming::{Framing, Pace};
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

/// Around what fits into one receive, one pipe's slot, and one partition; and one of some MiB.
const LENGTHS: [u64; 6] = [0, 1, 1_000, 65_536, 300_001, 3_000_000];

/// What is more than sockets and windows take by themselves.
const SLOW_LENGTH: u64 = 3_000_000;

/// Bytes of an answer's content, by all ways together.
fn spooled(line: &serde_json::Value) -> u64 {
    let ways = ["spool_spliced", "spool_ring", "spool_disk", "spool_copied"];
    ways.iter().filter_map(|way| line[way].as_u64()).sum()
}

fn matrix(spool: &str) {
    let upstream = Upstream::new(catalogue);
    let directory = tempfile::tempdir().unwrap();
    let spool = spool.replace("DIRECTORY", &format!("{:?}", directory.path()));
    let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(&format!("spool = {{ {spool} }}")));
    let mut seed = 0;
    for kind in ["sized", "chunked", "close"] {
        for length in LENGTHS {
            let mut kept = proxied.client();
            for version in ["HTTP/1.1", "HTTP/1.0"] {
                for is_slow in [false, true] {
                    if is_slow && length != SLOW_LENGTH {
                        continue;
                    }
                    seed += 1;
                    let target = format!("/{kind}/{seed}/{length}?of={version}");
                    let mut other;
                    let client = if is_slow || version == "HTTP/1.0" {
                        other = if is_slow {
                            Client::narrow(proxied.address).paced(Pace::slow(64 << 10))
                        } else {
                            proxied.client()
                        };
                        &mut other
                    } else {
                        &mut kept
                    };
                    client.ask(&format!("GET {target} {version}"), &[]);
                    let reply = client.reply("GET", Expected::Corpus(seed, 0)).whole(200);
                    assert_eq!(reply.length, length, "{target}");
                    let expected = match (kind, version) {
                        ("sized", _) => Framing::Sized(length),
                        (_, "HTTP/1.1") => Framing::Chunked,
                        _ => Framing::Close,
                    };
                    // What was small may have been there as a whole when the answer began.
                    if reply.framing != Some(Framing::Sized(length)) {
                        assert_eq!(reply.framing, Some(expected), "{target}: {}", reply.head.raw);
                    }
                    if version == "HTTP/1.1" && !is_slow {
                        client.assert_usable("/after");
                    } else if version == "HTTP/1.0" {
                        client.assert_ended();
                    }
                    let line = proxied.logged(&target);
                    // With what frames it.
                    let bytes = line["bytes"].as_u64().unwrap();
                    let is_framed = reply.framing == Some(Framing::Chunked);
                    assert!(bytes == length || bytes > length && is_framed, "{line}");
                    assert_eq!(spooled(&line), length, "{line}");
                    assert_eq!(line["status"], 200, "{line}");
                    assert_eq!(line["upstream_status"], 200, "{line}");
                    assert_eq!(line["upstream_tries"], 1, "{line}");
                    assert_eq!(line["upstream"], *upstream.name, "{line}");
                }
            }
        }
    }
    assert!(upstream.repeated().iter().all(|(target, _)| target == "/after"));
    proxied.stop();
}

#[test]
fn bodies_are_whole_by_the_default_spool() {
    matrix("memory = \"64MiB\"");
}

#[test]
fn bodies_are_whole_by_one_pipe() {
    matrix("memory = \"0\"");
}

#[test]
fn bodies_are_whole_by_a_few_pipes() {
    matrix("memory = \"200KB\"");
}

#[test]
fn bodies_are_whole_by_a_ring_of_memory() {
    matrix("memory = \"1MiB\", pipes = false, memory_ring = true");
}

#[test]
fn bodies_are_whole_by_a_ring_of_two_small_partitions() {
    matrix("memory = \"16KiB\", pipes = false, memory_ring = true, unit = \"8KiB\"");
}

#[test]
fn bodies_are_whole_by_copies() {
    matrix("memory = \"256KiB\", pipes = false, memory_ring = false");
}

#[test]
fn bodies_are_whole_by_pipes_and_a_disk() {
    matrix("memory = \"128KiB\", disk = \"1MiB\", directory = DIRECTORY");
}

#[test]
fn bodies_are_whole_by_a_disk_alone() {
    matrix(
        "memory = \"0\", disk = \"64KiB\", directory = DIRECTORY, pipes = false, unit = \"16KiB\"",
    );
}

#[test]
fn bodies_are_whole_by_all_tiers() {
    matrix(
        "memory = \"256KiB\", disk = \"256KiB\", directory = DIRECTORY, pipes = false, memory_ring = true, unit = \"32KiB\"",
    );
}

/// Where little room was left once, for what ends a partition, little was received at a time
/// from then on: 8 bytes, and a chunk for them.
#[test]
fn little_room_at_one_time_is_no_measure_for_later() {
    let upstream = Upstream::new(catalogue);
    let directory = tempfile::tempdir().unwrap();
    for spool in [
        "memory = \"0\", pipes = false, disk = \"1MiB\", unit = \"64KiB\"",
        "memory = \"256KiB\", disk = \"32MiB\"",
        "memory = \"100KiB\", pipes = false",
    ] {
        let spool = format!("spool = {{ {spool}, directory = {:?} }}", directory.path());
        let proxied = Proxied::start(&Setup::to(&[&upstream]).proxy(&spool));
        let mut client = Client::narrow(proxied.address);
        client.ask("GET /chunked/7/12000000?chunk=60000 HTTP/1.1", &[]);
        // Everything is full.
        std::thread::sleep(std::time::Duration::from_millis(200));
        let reply = client.reply("GET", Expected::Corpus(7, 0)).whole(200);
        assert_eq!(reply.length, 12_000_000);
        let line = proxied.logged("/chunked/7/12000000?chunk=60000");
        let framing = line["bytes"].as_u64().unwrap() - 12_000_000;
        // Pieces of 1 KiB would have so much.
        assert!(framing < 100_000, "{spool}: {framing} bytes of chunks' heads: {line}");
        // The next request is received with room, too.
        proxied.client().get("/sized/8/100000").whole(200);
    }
}
