//! What becomes of a test whose needs are not met.

use std::env;
use std::os::unix::process::parent_id;
use std::process::{Command, Output};

use sluicegate_testkit::need::{Need, SkippedTests, VARIABLE, met};
use sluicegate_testkit::{require, test_name};

/// Set in the copies of this test binary that the tests below start.
const INNER: &str = "SLUICEGATE_TESTKIT_INNER";

fn is_inner() -> bool {
    env::var_os(INNER).is_some()
}

/// Runs one test of this binary in a process of its own.
fn run_inner(test: &str, variable: &str) -> Output {
    Command::new(env::current_exe().expect("a test knows its binary"))
        .args(["--exact", test, "--test-threads=1"])
        .env(INNER, "1")
        .env(VARIABLE, variable)
        .output()
        .expect("a test binary can be run")
}

fn entries_of_inner_tests() -> Vec<String> {
    let skipped = SkippedTests::recorded_below(std::process::id()).expect("a readable record");
    skipped.entries().map(str::to_owned).collect()
}

#[test]
fn a_test_with_an_unmet_need_returns_and_is_listed_by_name() {
    if is_inner() {
        require!(Need::Program("sg-absent-program"), Need::Fact { what: "a moon", holds: false });
        panic!("went on without the program");
    }
    let test = "a_test_with_an_unmet_need_returns_and_is_listed_by_name";
    let inner = run_inner(test, "");
    assert!(inner.status.success(), "{inner:?}");

    let entry = format!(
        "sluicegate-testkit need::{test}: needs the program `sg-absent-program`, and a moon"
    );
    assert!(entries_of_inner_tests().contains(&entry), "{:?}", entries_of_inner_tests());

    let skipped = SkippedTests::recorded_below(std::process::id()).expect("a readable record");
    let list = skipped.to_string();
    assert!(list.starts_with("skipped tests: 1 (set SLUICEGATE_LAB=required"), "{list}");
    assert!(list.ends_with(&format!("\n  {entry}")), "{list}");

    skipped.forget().expect("a removable record");
    assert!(entries_of_inner_tests().is_empty());
}

#[test]
fn a_required_test_with_an_unmet_need_fails_and_says_why() {
    if is_inner() {
        require!(Need::Program("sg-absent-program"));
        return;
    }
    let test = "a_required_test_with_an_unmet_need_fails_and_says_why";
    let inner = run_inner(test, "required");
    assert!(!inner.status.success(), "{inner:?}");
    let output = String::from_utf8_lossy(&inner.stdout);
    assert!(output.contains("SLUICEGATE_LAB=required, but sluicegate-testkit need::"), "{output}");
    assert!(output.contains("needs the program `sg-absent-program`"), "{output}");
}

#[test]
fn a_test_whose_needs_are_met_goes_on() {
    assert!(met(
        &test_name!(),
        &[
            Need::Program("sh"),
            Need::Descriptors(64),
            Need::Kernel(2, 6),
            Need::Fact { what: "a parent", holds: parent_id() != 0 },
        ]
    ));
}
