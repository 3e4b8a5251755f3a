//! The paper's form: a small file that goes round, from which the kernel sends by reference, to
//! a client that is remote. Its partitions are written again when the client has acknowledged
//! what was in them, and by nothing else.

use std::time::Duration;

use sluicegate_testkit::lab::{Conditions, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::proxied::answers::catalogue;
use crate::proxied::client::{Client, Expected};
use crate::proxied::incoming::Pace;
use crate::proxied::program::{PROGRAM, Proxied, Setup};
use crate::proxied::upstream::Upstream;

/// No multiple of any partition, and 20 times the ring.
const LENGTH: u64 = 20 * (1 << 20) + 12_347;

/// Once such a transfer stood still; the client's own patience ends it then.
#[test]
fn a_ring_of_a_mebibyte_goes_round_by_acknowledgements_to_a_slow_client() {
    require!(Need::TrueWire);
    let conditions = Conditions { rate: 25_000_000, ..Conditions::default() };
    let lab = Lab::wire(Wire { seed: 9, ..Wire::with(conditions) }).unwrap();
    let listen = (lab.server().address(), 8080).into();
    let upstream = lab.server().enter(|| Upstream::new(catalogue)).unwrap();
    let directory = tempfile::tempdir().unwrap();
    // The default, the two of the paper, and one that leaves two partitions.
    for (turn, unit) in ["", ", unit = \"8KiB\"", ", unit = \"100KiB\"", ", unit = \"512KiB\""]
        .into_iter()
        .enumerate()
    {
        let spool = format!(
            "spool = {{ pipes = false, memory = \"0\", disk = \"1MiB\", directory = {:?}{unit} }}",
            directory.path()
        );
        // The wire copies, which the kernel tells of as if the client were here.
        let remote = "send = { locality = \"remote\" }";
        let setup = Setup::to(&[&upstream]).workers(1).top(remote).proxy(&spool);
        let server = lab.server();
        let proxied = Proxied::start_by(&setup, listen, |_| server.command(PROGRAM));
        let kind = ["sized", "chunked", "close", "sized"][turn];
        let ask = |number: u64, pace: Pace, is_narrow: bool| {
            let client = if is_narrow { Client::narrow(listen) } else { Client::new(listen) };
            let mut client = client.paced(pace);
            client.ask(&format!("GET /{kind}/{number}/{LENGTH} HTTP/1.1"), &[]);
            let reply = client.reply("GET", Expected::Corpus(number, 0)).whole(200);
            assert_eq!(reply.length, LENGTH, "{kind}{unit}");
        };
        let pauses = Pace { bytes: 200_000, pause: Duration::from_millis(10) };
        lab.client()
            .enter(|| {
                // One by itself, and two that share the wire.
                ask(1, pauses, false);
                std::thread::scope(|scope| {
                    scope.spawn(|| ask(2, Pace::FAST, true));
                    scope.spawn(|| ask(3, pauses, false));
                });
            })
            .unwrap();
        let (acked, others, disk) = server
            .enter(|| {
                let metrics = proxied.metrics();
                let proof =
                    |name: &str| metrics.labelled("relayed_partitions_total", "proof", name);
                let disk = metrics.labelled("relayed_bytes_total", "path", "disk");
                (proof("acked"), proof("released") + proof("replaced"), disk)
            })
            .unwrap();
        // But for what came with heads, of the answer and of chunks, and found no partition.
        assert!(disk > 3 * LENGTH / 10 * 8, "{kind}{unit}: {disk}");
        assert!(others == 0 && acked * (512 << 10) > 2 * LENGTH, "{kind}{unit}: {acked} {others}");
        proxied.stop();
    }
}
