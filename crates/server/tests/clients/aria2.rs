//! aria2: one file over many connections at a time.

use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

use crate::common::Served;
use crate::ways::way_of;
use crate::{assert_whole, program, succeed};

const SEED: u64 = 14;
const LENGTH: u64 = 256 << 20;

#[test]
fn sixteen_connections_fetch_one_file_together() {
    require!(Need::Program("aria2c"));
    let tree = Tree::new().unwrap().file("large", SEED, LENGTH).unwrap();
    let out = tempfile::tempdir().unwrap();
    let served = Served::with(tree.path(), &[]);
    let mut command = program("aria2c", out.path());
    command.args(["--no-conf", "--max-connection-per-server=16", "--split=16"]);
    command.args(["--min-split-size=1M", "--file-allocation=none", "--max-tries=1"]);
    command.args(["--summary-interval=0", "--console-log-level=warn"]);
    command.arg(served.url("/large"));
    succeed(command);
    assert_whole(&out.path().join("large"), SEED, LENGTH);
    assert!(!out.path().join("large.aria2").exists(), "aria2 knows that it has all");
    let sent = served.stop();
    let requests = sent.memory + sent.open + sent.opened;
    assert!((8..=32).contains(&requests), "{sent:?}");
    // The first request is for the whole, and cut when the others have their
    // parts: what is in the sockets' buffers then was sent for nothing.
    let content = way_of(LENGTH / 16, sent);
    assert!((LENGTH..LENGTH + LENGTH / 4).contains(&content), "{sent:?}");
    assert!(sent.copied < requests * 1000, "heads alone are copied: {sent:?}");
}
