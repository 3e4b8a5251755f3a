//! Plays a model in all the orders that loom finds.

use std::any::type_name_of_val;
use std::env;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Plays `model`, with at most so many preemptions if a bound is given, and
/// shows how many executions that were (`-- --nocapture`).
pub(crate) fn holds(preemptions: Option<usize>, model: impl Fn() + Send + Sync + 'static) {
    let executions = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&executions);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(move || {
        count.fetch_add(1, Ordering::Relaxed);
        model();
    });
    println!("{} executions", executions.load(Ordering::Relaxed));
}

/// Set in the process that plays what fails.
const PLAYS: &str = "PLAYS_WHAT_FAILS";

/// Plays `model`, which must fail and say `expected`. In a process of its own,
/// this very test again: where a model fails, loom cannot take its threads down,
/// and ends all.
pub(crate) fn fails(expected: &str, model: impl Fn() + Send + Sync + 'static) {
    if env::var_os(PLAYS).is_some() {
        return holds(Some(3), model);
    }
    // partitions::broken::a_test::{{closure}}
    let name = type_name_of_val(&model);
    let name = name.trim_end_matches("::{{closure}}").split_once("::").unwrap().1;
    let mut test = Command::new(env::current_exe().unwrap());
    test.args(["--exact", name, "--nocapture"]).env(PLAYS, "1").env("RUST_BACKTRACE", "0");
    let played = test.output().unwrap();
    let said = String::from_utf8_lossy(&played.stderr);
    let ran = String::from_utf8_lossy(&played.stdout);
    assert!(ran.contains("running 1 test"), "{name}: {ran}");
    assert!(!played.status.success(), "{name}: every order holds\n{ran}");
    assert!(said.contains(expected), "{name}: {said}");
}
