//! Not a test: lists, at the end of `cargo test --workspace`, the tests that were skipped because
//! the machine lacks what they need. See `need.rs`.

use std::path::Path;
use std::process::ExitCode;
use std::{env, fs};

use sluicegate_testkit::need::SkippedTests;

fn main() -> ExitCode {
    // Test runners ask each binary for its tests. There are none here.
    if env::args().any(|argument| argument == "--list") {
        return ExitCode::SUCCESS;
    }
    let skipped = match SkippedTests::of_this_run() {
        Ok(skipped) => skipped,
        Err(error) => {
            eprintln!("cannot read which tests were skipped: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("\n{skipped}\n");
    if let Err(error) = skipped.forget() {
        eprintln!("cannot remove the record of skipped tests: {error}");
    }
    match later_target() {
        Some(target) => {
            eprintln!("{target} runs after this list is printed: give it an earlier name");
            ExitCode::FAILURE
        }
        None => ExitCode::SUCCESS,
    }
}

/// A test target that cargo runs after this one, whose skipped tests would not be listed: a crate
/// that sorts after this one, or a target of this crate that sorts after `skipped`.
fn later_target() -> Option<String> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let this_crate = here.file_name()?.to_str()?;
    let later = |directory: &Path, name: &str| {
        fs::read_dir(directory).ok()?.flatten().find_map(|entry| {
            let path = entry.path();
            let stem = path.file_stem()?.to_str()?.to_owned();
            (stem.as_str() > name).then_some(stem)
        })
    };
    later(&here.join("tests"), "skipped").or_else(|| later(here.parent()?, this_crate))
}
