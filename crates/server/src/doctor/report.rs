//! The report, for people and for programs.

use std::ffi::OsString;
use std::fmt::Write;

use serde::Serialize;

use super::check::{Check, Topic, Verdict};

/// Columns that lines of prose are broken at.
const WIDTH: usize = 96;

/// The number of the JSON report's form: names and fields are only ever added
/// within one.
const FORM: u32 = 1;

#[derive(Serialize)]
struct Report<'a> {
    form: u32,
    program: &'static str,
    can_run: bool,
    summary: serde_json::Map<String, serde_json::Value>,
    checks: &'a [Check],
}

pub(super) fn json(checks: &[Check]) -> serde_json::Result<String> {
    let mut summary = serde_json::Map::new();
    for verdict in Verdict::ALL {
        if let serde_json::Value::String(name) = serde_json::to_value(verdict)? {
            summary.insert(name, count(checks, verdict).into());
        }
    }
    let report = Report {
        form: FORM,
        program: env!("CARGO_PKG_VERSION"),
        can_run: !checks.iter().any(Check::is_fatal),
        summary,
        checks,
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

fn count(checks: &[Check], verdict: Verdict) -> usize {
    checks.iter().filter(|check| check.verdict == verdict).count()
}

/// Whether a terminal is to have colours (no-color.org; `TERM` of `term(7)`).
pub(super) fn wants_colours(variable: impl Fn(&str) -> Option<OsString>) -> bool {
    variable("NO_COLOR").is_none_or(|value| value.is_empty())
        && variable("TERM").is_some_and(|value| value != "dumb")
}

/// Lines of aligned text. What is good is one line, unless all is explained.
pub(super) fn text(checks: &[Check], explain: bool, colours: bool) -> String {
    let verdict_width = Verdict::ALL.iter().map(|v| v.words().len()).max().unwrap_or(0);
    let title_width = checks.iter().map(|check| title(check).chars().count()).max().unwrap_or(0);
    let indent = " ".repeat(2 + verdict_width + 2);
    let mut out = String::new();
    for topic in Topic::ALL {
        let mut of_topic = checks.iter().filter(|check| check.topic == topic).peekable();
        if of_topic.peek().is_none() {
            continue;
        }
        line(&mut out, &paint(topic.words(), "1", colours));
        for check in of_topic {
            let verdict = format!("{:verdict_width$}", check.verdict.words());
            let verdict = paint(&verdict, colour(check.verdict), colours);
            let title = format!("{:title_width$}", title(check));
            line(&mut out, &format!("  {verdict}  {title}  {}", check.value));
            let is_good = matches!(check.verdict, Verdict::Good | Verdict::Information);
            if explain || !is_good {
                wrap(&mut out, &indent, check.why);
            }
            if let Some(change) = check.change.as_ref().filter(|_| explain || !is_good) {
                wrap(&mut out, &indent, &format!("To change: {}", change.text));
                if let Some(command) = &change.command {
                    for part in command.lines() {
                        line(&mut out, &paint(&format!("{indent}    {part}"), "1", colours));
                    }
                }
            }
        }
        out.push('\n');
    }
    line(&mut out, &summary(checks));
    out
}

/// `eth0: scatter-gather`, or without anything before it.
fn title(check: &Check) -> String {
    match &check.subject {
        Some(subject) if check.topic == Topic::Interfaces => format!("{subject}: {}", check.title),
        _ => check.title.clone(),
    }
}

fn summary(checks: &[Check]) -> String {
    let mut line = format!("{} checks:", checks.len());
    for (at, verdict) in Verdict::ALL.into_iter().enumerate() {
        let comma = if at == 0 { "" } else { "," };
        let _ = write!(line, "{comma} {} {}", count(checks, verdict), verdict.words());
    }
    let end = if checks.iter().any(Check::is_fatal) {
        ". Sluicegate cannot run here."
    } else {
        ". Sluicegate can run here."
    };
    line + end
}

fn line(out: &mut String, line: &str) {
    out.push_str(line.trim_end());
    out.push('\n');
}

/// Breaks prose at spaces. A word that is longer than a line stays whole.
fn wrap(out: &mut String, indent: &str, prose: &str) {
    let mut current = String::new();
    for word in prose.split_whitespace() {
        let length = indent.len() + current.chars().count() + 1 + word.chars().count();
        if !current.is_empty() && length > WIDTH {
            line(out, &format!("{indent}{current}"));
            current.clear();
        }
        if !current.is_empty() {
            current.push(' ');
        }
        current.push_str(word);
    }
    if !current.is_empty() {
        line(out, &format!("{indent}{current}"));
    }
}

/// Codes of ECMA-48, SGR: green, yellow, red, and faint.
fn colour(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Good => "32",
        Verdict::CouldBeBetter => "33",
        Verdict::Missing => "31",
        Verdict::NotKnown => "35",
        Verdict::Information => "2",
    }
}

fn paint(text: &str, code: &str, colours: bool) -> String {
    if colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> Vec<Check> {
        let check = |name, verdict| {
            Check::new(Topic::Kernel, name, "a title", "Because of this and of that.")
                .found(verdict, "a value")
                .change("Do this:")
                .command("do --this")
        };
        vec![check("a.good", Verdict::Good), check("a.bad", Verdict::Missing)]
    }

    #[test]
    fn only_what_can_be_changed_is_explained_unless_asked_for() {
        let brief = text(&checks(), false, false);
        assert_eq!(brief.matches("Because").count(), 1, "{brief}");
        assert_eq!(brief.matches("do --this").count(), 1, "{brief}");
        assert!(!brief.contains('\x1b'), "{brief}");
        assert!(brief.ends_with("Sluicegate can run here.\n"), "{brief}");
        assert!(brief.contains("2 checks: 1 good, 0 could be better, 1 missing"), "{brief}");
        assert_eq!(text(&checks(), true, false).matches("Because").count(), 2);
        assert!(text(&checks(), false, true).contains("\x1b[31mmissing"));
    }

    #[test]
    fn what_is_required_and_missing_is_told() {
        let checks: Vec<Check> = checks().into_iter().map(Check::required).collect();
        assert!(text(&checks, false, false).contains("cannot run here"));
        let report: serde_json::Value = serde_json::from_str(&json(&checks).unwrap()).unwrap();
        assert_eq!(report["can_run"], false);
        assert_eq!(report["summary"]["missing"], 1);
        assert_eq!(report["checks"][1]["verdict"], "missing");
        assert_eq!(report["checks"][1]["change"]["command"], "do --this");
    }

    #[test]
    fn prose_is_broken_at_spaces_and_no_word_is_lost() {
        let prose = "word ".repeat(60) + &"x".repeat(200);
        let mut out = String::new();
        wrap(&mut out, "    ", &prose);
        assert!(out.lines().take(4).all(|line| line.len() <= WIDTH), "{out}");
        assert_eq!(out.split_whitespace().count(), 61);
    }

    #[test]
    fn colours_are_for_terminals_that_want_them() {
        let with = |pairs: &'static [(&str, &str)]| {
            wants_colours(move |name| {
                pairs.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into())
            })
        };
        assert!(with(&[("TERM", "xterm")]));
        assert!(with(&[("TERM", "xterm"), ("NO_COLOR", "")]));
        assert!(!with(&[("TERM", "xterm"), ("NO_COLOR", "1")]));
        assert!(!with(&[("TERM", "dumb")]));
        assert!(!with(&[]));
    }
}
