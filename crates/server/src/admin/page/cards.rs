//! The cards of the status page: where bytes, answers and connections went,
//! and what it takes.

use std::fmt::{self, Write};

use super::{chart, foreign, text, upstreams};
use crate::admin::answer::Status;
use crate::admin::figures::{Configuration, Figures, share};
use crate::files::{Utc, grouped};
use crate::observe::Ended;

/// Workers that are shown one by one.
const WORKERS: usize = 64;

pub(super) fn write(out: &mut String, status: &Status) -> fmt::Result {
    let figures = &status.figures;
    ways(out, figures)?;
    responses(out, figures)?;
    files(out, figures)?;
    upstreams::write(out, figures)?;
    limits(out, status)?;
    ended(out, figures)?;
    workers(out, figures)?;
    configuration(out, status)
}

pub(super) fn open(out: &mut String, title: &str) {
    // Writing to a String cannot fail.
    let _ = writeln!(out, "<section class=\"card\"><h2>{title}</h2>");
}

pub(super) fn close(out: &mut String) {
    out.push_str("</section>\n");
}

/// Parts of a whole: a bar, and a line for each.
pub(super) fn parts(
    out: &mut String,
    whole: u64,
    parts: &[(&str, &str, u64)],
    shown: fn(u64) -> String,
) -> fmt::Result {
    let bars = parts.iter().map(|&(class, _, part)| (class, share(part, whole).unwrap_or(0.0)));
    chart::bar(out, bars);
    out.push_str("<table class=\"parts\">");
    for &(class, name, part) in parts {
        let quiet = if part == 0 { " class=\"none\"" } else { "" };
        let percent = share(part, whole).map_or_else(|| "–".to_owned(), text::percent);
        write!(
            out,
            "<tr{quiet}><th scope=\"row\"><i class=\"{class}\"></i>{name}</th>\
             <td title=\"{}\">{}</td><td>{percent}</td></tr>",
            grouped(part),
            shown(part)
        )?;
    }
    out.push_str("</table>\n");
    Ok(())
}

fn ways(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Bytes by path");
    let sent = &figures.sent;
    let [copied, sendfile, spliced, zerocopy] = sent.ways().map(|(_, bytes)| bytes);
    let named = [
        ("w1", "copied", copied),
        ("w2", "sendfile", sendfile),
        ("w3", "spliced", spliced),
        ("w4", "zero-copy", zerocopy),
    ];
    parts(out, sent.total_bytes, &named, text::bytes)?;
    if sent.zerocopy_copied_bytes > 0 {
        writeln!(
            out,
            "<p>The kernel copied {} of the zero-copy bytes after all.</p>",
            text::bytes(sent.zerocopy_copied_bytes)
        )?;
    }
    close(out);
    Ok(())
}

fn responses(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Responses");
    let [_, successful, redirected, refused, failed] = figures.responses.classes();
    let named = [
        ("s2", "2xx success", successful.1),
        ("s3", "3xx redirection", redirected.1),
        ("s4", "4xx client error", refused.1),
        ("s5", "5xx server error", failed.1),
    ];
    parts(out, figures.responses.total, &named, text::count)?;
    close(out);
    Ok(())
}

fn files(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "File cache");
    let cache = &figures.file_cache;
    let lookups =
        cache.found_in_memory.saturating_add(cache.found_open).saturating_add(cache.opened);
    let named = [
        ("w2", "found in memory", cache.found_in_memory),
        ("w3", "found open", cache.found_open),
        ("w1", "had to be opened", cache.opened),
    ];
    parts(out, lookups, &named, text::count)?;
    let mut said = Vec::new();
    if let Some(hits) = cache.hit_share {
        said.push(format!("<b>{}</b> hits", text::percent(hits)));
    }
    let (files, bytes) = (text::plural(cache.files_in_memory, "file", "files"), cache.memory_bytes);
    said.push(format!("{files} in memory ({})", text::bytes(bytes)));
    said.push(format!("{} open", text::count(cache.files_open)));
    if cache.changed > 0 {
        said.push(format!("{} had changed", text::count(cache.changed)));
    }
    // A line ends between them, not within.
    writeln!(out, "<p><span>{}</span></p>", said.join(" ·</span> <span>"))?;
    close(out);
    Ok(())
}

fn workers(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Workers");
    let all: u64 = figures.workers.iter().map(|worker| worker.connections_open).sum();
    out.push_str(
        "<table class=\"lines\"><thead><tr><th scope=\"col\">Worker</th>\
         <th scope=\"col\">Connections</th><th scope=\"col\">Responses</th></tr></thead><tbody>",
    );
    for (number, worker) in figures.workers.iter().take(WORKERS).enumerate() {
        write!(out, "<tr><th scope=\"row\">{number}</th><td><span>")?;
        chart::bar(out, [("w2", share(worker.connections_open, all).unwrap_or(0.0))]);
        write!(
            out,
            "</span>{}</td><td>{}</td></tr>",
            text::count(worker.connections_open),
            text::count(worker.responses)
        )?;
    }
    out.push_str("</tbody></table>\n");
    if let Some(more @ 1..) = figures.workers.len().checked_sub(WORKERS) {
        writeln!(out, "<p>and {more} more</p>")?;
    }
    close(out);
    Ok(())
}

/// How much of what there may be is used.
fn meter(out: &mut String, name: &str, used: Option<u64>, most: Option<u64>) -> fmt::Result {
    let shown = used.map_or_else(|| "?".to_owned(), text::count);
    let limit = match most {
        None => "?".to_owned(),
        Some(u64::MAX) => "no limit".to_owned(),
        Some(number) => text::about(number),
    };
    let part = used.zip(most).and_then(|(used, most)| share(used, most));
    fill(out, name, &format!("{shown} of {limit}"), part.unwrap_or(0.0))
}

/// A bar, with what it means beside it.
pub(super) fn fill(out: &mut String, name: &str, value: &str, part: f64) -> fmt::Result {
    write!(out, "<tr><th scope=\"row\">{name}</th><td><span>")?;
    let class = match part {
        full if full >= 0.95 => "s5",
        high if high >= 0.8 => "s4",
        _ => "w2",
    };
    chart::bar(out, [(class, part)]);
    write!(out, "</span>{value}</td></tr>")
}

pub(super) fn line(out: &mut String, name: &str, value: &str) -> fmt::Result {
    write!(out, "<tr><th scope=\"row\">{name}</th><td>{value}</td></tr>")
}

fn limits(out: &mut String, status: &Status) -> fmt::Result {
    open(out, "Limits and resources");
    let Figures { process, pipes, lingering, .. } = &status.figures;
    out.push_str("<table class=\"lines\"><tbody>");
    meter(out, "Descriptors", process.descriptors_open, process.descriptors_max)?;
    meter(out, "Pipes in use", Some(pipes.in_use), Some(pipes.max))?;
    let memory = process.resident_bytes.map_or_else(|| "?".to_owned(), text::bytes);
    line(out, "Memory", &memory)?;
    // One of several processors, so it may be more than 100 %.
    let percent = |share: f64| format!("{:.0} %", share * 100.0);
    let of = [status.rates.second, status.rates.minute]
        .map(|rates| rates.map_or_else(|| "–".to_owned(), |rates| percent(rates.cpu)));
    let [now, minute] = of;
    line(out, "Processor", &format!("{now} <small>of one; 60 s: {minute}</small>"))?;
    if lingering.sockets > 0 {
        let closing = text::plural(lingering.sockets, "connection", "connections");
        line(out, "Closing", &format!("{closing}, {}", text::bytes(lingering.bytes)))?;
    }
    if lingering.quarantined_bytes > 0 {
        line(out, "Quarantined", &text::bytes(lingering.quarantined_bytes))?;
    }
    let lost = status.figures.log_lines_lost;
    if lost > 0 {
        line(out, "Log lines lost", &format!("<b class=\"bad\">{}</b>", text::count(lost)))?;
    }
    out.push_str("</tbody></table>\n");
    close(out);
    Ok(())
}

fn ended(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Connections ended early");
    let count = |how: Ended| figures.ended_early.get(how.name()).copied().unwrap_or(0);
    if Ended::ALL.iter().all(|&how| count(how) == 0) {
        out.push_str("<p>None so far.</p>\n");
    } else {
        out.push_str("<table class=\"lines\"><tbody>");
        for how in Ended::ALL.into_iter().filter(|&how| count(how) > 0) {
            let name = format!("{}<small>{}</small>", how.name(), how.meaning());
            line(out, &name, &text::count(count(how)))?;
        }
        out.push_str("</tbody></table>\n");
    }
    close(out);
    Ok(())
}

fn moment(out: &mut String, seconds: u64, now: u64) -> fmt::Result {
    let utc = Utc::of(i64::try_from(seconds).unwrap_or(i64::MAX));
    write!(
        out,
        "<time datetime=\"{}\" title=\"{} UTC\">{} ago</time>",
        utc.full(),
        utc.short(),
        text::span(now.saturating_sub(seconds))
    )
}

fn configuration(out: &mut String, status: &Status) -> fmt::Result {
    let figures = &status.figures;
    out.push_str("<section class=\"card wide\"><h2>Configuration</h2>\n<dl class=\"facts\">");
    let mut when = String::new();
    if let Some(Configuration { file, generation, loaded_seconds, .. }) = &figures.configuration {
        fact(out, "File", &format!("<code>{}</code>", foreign(file)))?;
        moment(&mut when, *loaded_seconds, status.now)?;
        fact(out, "Loaded", &format!("{when} <small>generation {generation}</small>"))?;
    } else {
        fact(out, "File", "none; the command line says it all")?;
    }
    let reloads = &figures.reloads;
    let refused = match reloads.refused {
        0 => String::new(),
        refused => format!(", {} refused", text::count(refused)),
    };
    fact(out, "Reloads", &format!("{} done{refused}", text::count(reloads.done)))?;
    when.clear();
    moment(&mut when, figures.started_seconds, status.now)?;
    fact(out, "Started", &when)?;
    out.push_str("</dl>\n");
    if let Some(refused) = figures.configuration.as_ref().and_then(|loaded| loaded.refused.as_ref())
    {
        out.push_str("<p class=\"bad\">The last reload was refused ");
        moment(out, refused.at_seconds, status.now)?;
        let why = lines(&refused.why);
        writeln!(out, "; the configuration before it is in force.</p><pre>{why}</pre>")?;
    }
    close(out);
    Ok(())
}

fn fact(out: &mut String, name: &str, value: &str) -> fmt::Result {
    write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")
}

/// A message as it was told, line by line.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(|line| foreign(line).to_string()).collect();
    lines.join("\n")
}
