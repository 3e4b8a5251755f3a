//! The cards of the status page about upstreams.

use std::fmt::{self, Write};

use super::cards::{close, fill, line, open, parts};
use super::{foreign, text};
use crate::admin::figures::{Figures, share};
use crate::admin::upstreams::{Queue, Server};

/// Servers that are shown one by one.
const SERVERS: usize = 64;

/// Nothing where no upstream is configured.
pub(super) fn write(out: &mut String, figures: &Figures) -> fmt::Result {
    if figures.pools.is_empty() {
        return Ok(());
    }
    relayed(out, figures)?;
    spool(out, figures)?;
    queues(out, figures)?;
    troubles(out, figures)?;
    servers(out, figures)
}

fn relayed(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Relayed");
    let relayed = &figures.relayed;
    let [spliced, ring, disk, copied] = relayed.paths().map(|(_, bytes)| bytes);
    let named = [
        ("w3", "spliced", spliced),
        ("w4", "ring in memory", ring),
        ("w2", "ring on disk", disk),
        ("w1", "copied", copied),
    ];
    parts(out, spliced + ring + disk + copied, &named, text::bytes)?;
    close(out);
    Ok(())
}

fn spool(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Spool");
    out.push_str("<table class=\"lines\"><tbody>");
    let spool = &figures.spool;
    let shown = [spool.held_bytes, spool.budget_bytes].map(text::bytes).join(" of ");
    let part = share(spool.held_bytes, spool.budget_bytes).unwrap_or(0.0);
    fill(out, "In memory", &shown, part)?;
    line(out, "On disk", &text::bytes(spool.disk_bytes))?;
    if let failures @ 1.. = figures.relayed.disk_failures {
        line(out, "Disk failed", &format!("{} <small>answers</small>", text::count(failures)))?;
    }
    let held = &figures.relayed.upstream_held;
    let mean = held.sum_ms.checked_div(held.count);
    let mean = mean.map_or_else(|| "–".to_owned(), |mean| format!("{} ms", text::count(mean)));
    line(out, "Upstream held", &format!("{mean} <small>on average</small>"))?;
    out.push_str("</tbody></table>\n");
    close(out);
    Ok(())
}

fn queues(out: &mut String, figures: &Figures) -> fmt::Result {
    let sum = |of: fn(&Queue) -> u64| -> u64 {
        figures.pools.iter().map(|pool| of(&pool.queue)).fold(0, u64::saturating_add)
    };
    open(out, "Queued for upstreams");
    out.push_str("<table class=\"lines\"><tbody>");
    line(out, "Now", &text::count(sum(|queue| queue.waiting)))?;
    line(out, "So far", &text::count(sum(|queue| queue.queued)))?;
    line(out, "Too long", &text::count(sum(|queue| queue.timed_out)))?;
    line(out, "Queue full", &text::count(sum(|queue| queue.refused)))?;
    out.push_str("</tbody></table>\n");
    close(out);
    Ok(())
}

fn troubles(out: &mut String, figures: &Figures) -> fmt::Result {
    open(out, "Trouble with upstreams");
    let some: Vec<_> = figures.relayed.troubles.iter().filter(|(_, count)| **count > 0).collect();
    if some.is_empty() {
        out.push_str("<p>None so far.</p>\n");
    } else {
        out.push_str("<table class=\"lines\"><tbody>");
        for (name, count) in some {
            line(out, &name.replace('_', " "), &text::count(*count))?;
        }
        out.push_str("</tbody></table>\n");
    }
    close(out);
    Ok(())
}

/// How it is, worst first.
fn state(server: &Server) -> (&'static str, &'static str) {
    match server {
        Server { up: false, .. } => ("bad", "down"),
        Server { ejected: true, .. } => ("bad", "ejected"),
        _ => ("good", "up"),
    }
}

fn servers(out: &mut String, figures: &Figures) -> fmt::Result {
    out.push_str("<section class=\"card wide\"><h2>Upstreams</h2>\n");
    let mut all: Vec<_> = figures
        .pools
        .iter()
        .flat_map(|pool| pool.servers.iter().map(move |server| (pool, server)))
        .collect();
    let count = all.len();
    if count > SERVERS {
        // Those that need somebody must not be the ones that are left out.
        all.sort_by_key(|(_, server)| state(server).0 != "bad");
        all.truncate(SERVERS);
    }
    out.push_str(
        "<table class=\"lines servers\"><thead><tr><th scope=\"col\">Server</th>\
         <th scope=\"col\">State</th><th scope=\"col\">Requests</th><th scope=\"col\">Failed</th>\
         <th scope=\"col\">Active</th><th scope=\"col\">Connections</th>\
         <th scope=\"col\">Reused</th></tr></thead><tbody>",
    );
    for (pool, server) in all {
        let (class, word) = state(server);
        write!(
            out,
            "<tr><th scope=\"row\"><code>{}</code><small>{}</small></th>\
             <td><b class=\"{class}\">{word}</b></td>",
            foreign(&server.address),
            foreign(&pool.name)
        )?;
        let numbers = [
            server.requests,
            server.failures,
            u64::from(server.active),
            server.connects,
            server.reuses,
        ];
        for number in numbers {
            write!(out, "<td>{}</td>", text::count(number))?;
        }
        out.push_str("</tr>");
    }
    out.push_str("</tbody></table>\n");
    if let Some(more @ 1..) = count.checked_sub(SERVERS) {
        writeln!(out, "<p>and {more} more</p>")?;
    }
    close(out);
    Ok(())
}
