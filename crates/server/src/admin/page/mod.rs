//! The status page: what people see.
//!
//! Complete as it is sent. Its script only puts a newer middle part in place
//! every second; without scripts the page loads itself anew.

mod cards;
mod chart;
mod text;
mod upstreams;

use std::fmt::{self, Write};

use super::answer::Status;
use super::history::{Point, Rates};
use crate::files::Name;

/// What `Content-Type` says of it.
pub(super) const TYPE: &str = "text/html; charset=utf-8";

const STYLE: &str = include_str!("style.css");
const SCRIPT: &str = include_str!("script.js");

/// A gate that is drawn up, and the water beneath it.
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' \
    viewBox='0 0 16 16'%3E%3Cpath d='M1 1h2v14H1zM13 1h2v14h-2zM4 2h8v5H4z' fill='%23718096'/%3E\
    %3Cpath d='M4 11q2-2 4 0t4 0v4H4z' fill='%230e8fb3'/%3E%3C/svg%3E";

/// The same, within the page.
const LOGO: &str = "<svg class=\"logo\" viewBox=\"0 0 16 16\" aria-hidden=\"true\">\
    <path d=\"M1 1h2v14H1zM13 1h2v14h-2zM4 2h8v5H4z\"/>\
    <path class=\"water\" d=\"M4 11q2-2 4 0t4 0v4H4z\"/></svg>";

/// The page. Style and script carry `nonce`, by which the policy allows them.
pub(super) fn render(status: &Status, nonce: &str) -> String {
    let mut out = String::with_capacity(STYLE.len() + SCRIPT.len() + 24 * 1024);
    // Writing to a String cannot fail.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n\
         <noscript><meta http-equiv=\"refresh\" content=\"5\"></noscript>\n\
         <title>Sluicegate status</title>\n<link rel=\"icon\" href=\"{ICON}\">\n\
         <style nonce=\"{nonce}\">\n{STYLE}</style>\n</head>\n<body>\n\
         <p id=\"lost\" role=\"status\">The server does not answer. What is shown is from its last \
         answer.</p>\n<main>\n"
    );
    let _ = write_part(&mut out, status);
    let _ = write!(
        out,
        "</main>\n<footer><a href=\"metrics\">Metrics for Prometheus</a>\
         <a href=\"status.json\">These figures as JSON</a><a href=\"healthz\">Health</a></footer>\n\
         <script nonce=\"{nonce}\">\n{SCRIPT}</script>\n</body>\n</html>\n"
    );
    out
}

/// The middle of it, which changes from second to second.
pub(super) fn part(status: &Status) -> String {
    let mut out = String::with_capacity(24 * 1024);
    let _ = write_part(&mut out, status);
    out
}

fn write_part(out: &mut String, status: &Status) -> fmt::Result {
    write_header(out, status)?;
    out.push_str("<div class=\"tiles\">\n");
    write_tiles(out, status)?;
    out.push_str("</div>\n<div class=\"cards\">\n");
    cards::write(out, status)?;
    out.push_str("</div>\n");
    Ok(())
}

fn write_header(out: &mut String, status: &Status) -> fmt::Result {
    let figures = &status.figures;
    let (class, state) =
        if figures.draining { ("draining", "Draining") } else { ("serving", "Serving") };
    write!(
        out,
        "<header><h1>{LOGO}Sluicegate <small>{}</small></h1><p class=\"state {class}\">{state}</p>\
         <p class=\"up\">up <b>{}</b></p><p class=\"listen\">",
        figures.version,
        text::span(figures.uptime_seconds)
    )?;
    // A thousand addresses are in the JSON.
    const SHOWN: usize = 4;
    for address in figures.listen.iter().take(SHOWN) {
        write!(out, "<code>{address}</code> ")?;
    }
    if let Some(more @ 1..) = figures.listen.len().checked_sub(SHOWN) {
        write!(out, "and {more} more")?;
    }
    out.push_str("</p></header>\n");
    Ok(())
}

/// One of the four large figures.
struct Tile<'a> {
    title: &'a str,
    /// Of the last second, with its unit behind a space.
    now: String,
    per: &'a str,
    /// Drawn, with what it is called where it is not seen.
    label: &'a str,
    points: Vec<(f64, f64)>,
    /// Names and values beneath it.
    more: Vec<(&'a str, String)>,
}

impl Tile<'_> {
    fn write(&self, out: &mut String) -> fmt::Result {
        let (number, unit) = text::split(&self.now);
        write!(
            out,
            "<section class=\"tile\"><h2>{}</h2><p class=\"now\">{number}<small>{}{unit}{}</small></p>",
            self.title,
            if unit.is_empty() { "" } else { " " },
            self.per
        )?;
        let label = format!("{} in the last minute; now {}{}", self.label, self.now, self.per);
        chart::sparkline(out, &label, &self.points);
        out.push_str("<dl>");
        for (name, value) in &self.more {
            write!(out, "<div><dt>{name}</dt><dd>{value}</dd></div>")?;
        }
        out.push_str("</dl></section>\n");
        Ok(())
    }
}

/// A rate's title, what is drawn of it, which one it is, how it is shown.
type Rate = (&'static str, &'static str, fn(&Rates) -> f64, fn(f64) -> String);

fn write_tiles(out: &mut String, status: &Status) -> fmt::Result {
    let figures = &status.figures;
    let total = [
        text::count(figures.responses.total),
        text::bytes(figures.sent.total_bytes),
        text::count(figures.connections.accepted),
    ];
    let kinds: [Rate; 3] = [
        ("Requests", "Requests a second", |rates| rates.requests_per_second, text::rate),
        ("Sent", "Bytes a second", |rates| rates.bytes_per_second, text::byte_rate),
        (
            "New connections",
            "New connections a second",
            |rates| rates.connections_per_second,
            text::rate,
        ),
    ];
    for ((title, label, of, shown), total) in kinds.into_iter().zip(total) {
        let rates = [status.rates.second, status.rates.ten, status.rates.minute];
        let [now, ten, minute] = rates.map(|rates| or_none(rates.as_ref().map(of), shown));
        let points = series(status, |point| of(&point.rates));
        let peak = or_none(points.iter().map(value).reduce(f64::max), shown);
        let more = vec![("10 s", ten), ("60 s", minute), ("peak", peak), ("total", total)];
        Tile { title, now, per: "/s", label, points, more }.write(out)?;
    }
    let open = series(status, |point| point.connections_open as f64);
    let busiest = figures.workers.iter().map(|worker| worker.connections_open).max();
    let counted = |number: f64| text::count(number as u64);
    let more = vec![
        ("peak", or_none(open.iter().map(value).reduce(f64::max), counted)),
        ("least", or_none(open.iter().map(value).reduce(f64::min), counted)),
        ("workers", text::count(figures.workers.len() as u64)),
        ("most on one", text::count(busiest.unwrap_or_default())),
    ];
    Tile {
        title: "Open connections",
        now: text::count(figures.connections.open),
        per: "",
        label: "Open connections",
        points: open,
        more,
    }
    .write(out)
}

/// What is drawn of the last minute.
fn series(status: &Status, of: impl Fn(&Point) -> f64) -> Vec<(f64, f64)> {
    status.history.iter().map(|point| (point.seconds_ago, of(point))).collect()
}

fn value(point: &(f64, f64)) -> f64 {
    point.1
}

/// What is not known yet is a dash.
fn or_none(number: Option<f64>, shown: impl Fn(f64) -> String) -> String {
    number.map_or_else(|| "–".to_owned(), shown)
}

/// Text that is not ours: names and messages.
fn foreign(text: &str) -> Name<'_> {
    Name::plain(text.as_bytes())
}
