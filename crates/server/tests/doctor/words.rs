//! What people read.

use std::process::Command;

use serde_json::Value;

use super::common::PROGRAM;
use super::{Report, Run, doctor, run};

/// A verdict as people have it.
fn verdict_words(check: &Value) -> String {
    check["verdict"].as_str().unwrap().replace('_', " ")
}

#[test]
fn people_get_aligned_text_and_advice_for_what_is_not_good() {
    let Run { status, out, err } = doctor(&[]);
    assert!(status.success() && err.is_empty(), "{err}");
    assert!(!out.contains('\x1b'), "colours are for terminals");
    let report = Report::here(&[]);
    let lines: Vec<&str> = out.lines().collect();
    // Where the value of each check begins: what follows its title and at least two spaces.
    let columns: Vec<usize> = report
        .checks()
        .iter()
        .filter(|check| check["topic"] != "interfaces")
        .map(|check| {
            let (title, verdict) = (check["title"].as_str().unwrap(), verdict_words(check));
            let start = format!("  {verdict:15}  {title}  ");
            let line = lines.iter().find(|line| line.starts_with(&start));
            let line = line.unwrap_or_else(|| panic!("`{start}` in {out}"));
            line.len() - line[start.len()..].trim_start().len()
        })
        .collect();
    assert!(columns.iter().all(|column| *column == columns[0]), "{columns:?}: {out}");
    let last = lines.last().unwrap();
    assert!(last.starts_with(&format!("{} checks: ", report.checks().len())), "{last}");
    assert!(last.ends_with("Sluicegate can run here."), "{last}");
    let explained = doctor(&["--explain"]).out;
    assert!(explained.len() > out.len());
    for check in report.checks() {
        let title = check["title"].as_str().unwrap();
        assert!(out.contains(title), "{title}");
        let start: Vec<&str> = check["why"].as_str().unwrap().split(' ').take(3).collect();
        assert!(explained.contains(&start.join(" ")), "{start:?}");
    }
    // Who reads no further ends it without a word.
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{PROGRAM} doctor --explain | true")]);
    assert_eq!(run(shell).err, "");
}

#[test]
fn what_is_not_there_is_a_mistake() {
    for (arguments, word) in [
        (["--interface", "no-such-device"], "lo"),
        (["--directory", "/no/such/directory"], "/no/such/directory"),
        (["--peer", "nowhere"], "invalid"),
    ] {
        let run = doctor(&arguments);
        assert!(!run.status.success(), "{arguments:?}");
        assert!(run.err.contains(word), "{}", run.err);
        assert_eq!(run.out, "");
    }
}
