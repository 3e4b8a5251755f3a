//! Figures as Prometheus reads them: its text format, version 0.0.4
//! (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
//!
//! Our own few lines and no crate's: `prometheus-client` writes OpenMetrics
//! from counters that it owns, and ours are there already.

mod upstreams;

use std::fmt::{Display, Write};

use super::figures::Figures;

/// What `Content-Type` says of it.
pub(super) const TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
}

/// Names and values; none for the only sample of its family.
type Labels = Vec<(&'static str, String)>;

/// Writes families of metrics, one after another.
struct Exposition {
    out: String,
}

impl Exposition {
    /// A family: one line for each set of labels.
    fn family<V: Display>(
        &mut self,
        kind: Kind,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels, V)>,
    ) {
        let mut samples = samples.into_iter().peekable();
        // What is not known is left out, with its name.
        if samples.peek().is_none() {
            return;
        }
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
        };
        self.head(kind, name, help);
        for (labels, value) in samples {
            self.sample(name, &labels, value);
        }
    }

    fn head(&mut self, kind: &str, name: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.out, "# HELP {name} {}", escaped(help, false));
        let _ = writeln!(self.out, "# TYPE {name} {kind}");
    }

    fn sample(&mut self, name: &str, labels: &[(&'static str, String)], value: impl Display) {
        let labels: Vec<String> = labels
            .iter()
            .map(|(label, text)| format!("{label}=\"{}\"", escaped(text, true)))
            .collect();
        let _ = match labels.as_slice() {
            [] => writeln!(self.out, "{name} {value}"),
            labels => writeln!(self.out, "{name}{{{}}} {value}", labels.join(",")),
        };
    }

    /// How often something was at most each of some bounds, in their order; how
    /// often it was at all, and the sum of it.
    fn histogram(
        &mut self,
        name: &str,
        help: &str,
        within: impl IntoIterator<Item = (f64, u64)>,
        count: u64,
        sum: f64,
    ) {
        self.head("histogram", name, help);
        let bucket = format!("{name}_bucket");
        for (bound, count) in within {
            self.sample(&bucket, &[("le", bound.to_string())], count);
        }
        self.sample(&bucket, &[("le", "+Inf".to_owned())], count);
        self.sample(&format!("{name}_sum"), &[], sum);
        self.sample(&format!("{name}_count"), &[], count);
    }

    fn counter(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(Kind::Counter, name, help, [(Vec::new(), value)]);
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl Display) {
        self.family(Kind::Gauge, name, help, [(Vec::new(), value)]);
    }

    fn maybe(&mut self, name: &str, help: &str, value: Option<u64>) {
        self.family(Kind::Gauge, name, help, value.map(|value| (Vec::new(), value)));
    }

    fn counters<'a>(
        &mut self,
        name: &str,
        help: &str,
        label: &'static str,
        values: impl IntoIterator<Item = (&'a str, u64)>,
    ) {
        let values = values.into_iter();
        let labelled = values.map(|(text, value)| (vec![(label, text.to_owned())], value));
        self.family(Kind::Counter, name, help, labelled);
    }
}

/// A help text, or a label's value between its quotes.
fn escaped(text: &str, is_quoted: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '"' if is_quoted => out.push_str("\\\""),
            char => out.push(char),
        }
    }
    out
}

/// All metrics.
pub(super) fn render(figures: &Figures) -> String {
    let mut to = Exposition { out: String::with_capacity(8 * 1024) };
    program(&mut to, figures);
    connections(&mut to, figures);
    bytes(&mut to, figures);
    files(&mut to, figures);
    upstreams::write(&mut to, figures);
    host(&mut to, figures);
    to.out
}

fn program(to: &mut Exposition, figures: &Figures) {
    let version = vec![("version", figures.version.to_owned())];
    let help = "The program that runs; always 1.";
    to.family(Kind::Gauge, "sluicegate_build_info", help, [(version, 1)]);
    to.gauge(
        "sluicegate_draining",
        "Whether the program finishes open connections, to end.",
        u8::from(figures.draining),
    );
    to.gauge("sluicegate_workers", "Threads that serve connections.", figures.workers.len());
    to.counters(
        "sluicegate_config_reloads_total",
        "Reloads of the configuration.",
        "outcome",
        [("done", figures.reloads.done), ("refused", figures.reloads.refused)],
    );
    if let Some(configuration) = &figures.configuration {
        to.gauge(
            "sluicegate_config_last_reload_successful",
            "Whether the last reload took place; 1 before there was any.",
            u8::from(configuration.refused.is_none()),
        );
        to.gauge(
            "sluicegate_config_loaded_timestamp_seconds",
            "When the configuration that is in force was loaded, in Unix time.",
            configuration.loaded_seconds,
        );
        to.gauge(
            "sluicegate_config_generation",
            "Number of the configuration that is in force, from 1.",
            configuration.generation,
        );
    }
    to.counter(
        "sluicegate_log_lines_lost_total",
        "Lines of the access log that could not be written.",
        figures.log_lines_lost,
    );
}

fn connections(to: &mut Exposition, figures: &Figures) {
    to.counter(
        "sluicegate_connections_accepted_total",
        "Connections that were accepted.",
        figures.connections.accepted,
    );
    to.gauge("sluicegate_connections_open", "Open connections.", figures.connections.open);
    let workers = figures.workers.iter().enumerate();
    to.family(
        Kind::Gauge,
        "sluicegate_worker_connections_open",
        "Open connections of one worker.",
        workers.map(|(number, worker)| {
            (vec![("worker", number.to_string())], worker.connections_open)
        }),
    );
    to.counters(
        "sluicegate_connections_ended_early_total",
        "Connections that ended before their time, or were not served.",
        "reason",
        figures.ended_early.iter().map(|(&name, &count)| (name, count)),
    );
    to.counters(
        "sluicegate_responses_total",
        "Responses by the class of their status.",
        "class",
        figures.responses.classes(),
    );
}

fn bytes(to: &mut Exposition, figures: &Figures) {
    to.counters(
        "sluicegate_sent_bytes_total",
        "Bytes that sockets have accepted, by the way that they went.",
        "way",
        figures.sent.ways(),
    );
    to.counter(
        "sluicegate_zerocopy_copied_bytes_total",
        "Bytes sent by zerocopy that the kernel copied after all.",
        figures.sent.zerocopy_copied_bytes,
    );
    to.gauge(
        "sluicegate_pipes_in_use",
        "Pipes that bytes move through at this moment.",
        figures.pipes.in_use,
    );
    to.gauge("sluicegate_pipes_max", "Pipes that there may be.", figures.pipes.max);
    to.gauge(
        "sluicegate_lingering_sockets",
        "Closed connections whose memory the kernel may still read.",
        figures.lingering.sockets,
    );
    to.gauge("sluicegate_lingering_bytes", "Memory of these.", figures.lingering.bytes);
    to.gauge(
        "sluicegate_quarantined_bytes",
        "Memory that is never used again, since the kernel did not let go of it.",
        figures.lingering.quarantined_bytes,
    );
}

fn files(to: &mut Exposition, figures: &Figures) {
    let cache = &figures.file_cache;
    to.counters(
        "sluicegate_file_cache_lookups_total",
        "Files that were asked for, by where they were found; opened is a miss.",
        "outcome",
        [("memory", cache.found_in_memory), ("open", cache.found_open), ("opened", cache.opened)],
    );
    to.counter(
        "sluicegate_file_cache_changed_total",
        "Files that were opened since what was kept of them was not there any more.",
        cache.changed,
    );
    to.gauge(
        "sluicegate_file_cache_memory_files",
        "Files that are kept in memory.",
        cache.files_in_memory,
    );
    to.gauge("sluicegate_file_cache_memory_bytes", "Memory of these.", cache.memory_bytes);
    to.gauge(
        "sluicegate_file_cache_open_files",
        "Files whose descriptors are kept open.",
        cache.files_open,
    );
}

/// Under the names that all of Prometheus' own libraries have for them.
fn host(to: &mut Exposition, figures: &Figures) {
    let process = &figures.process;
    to.gauge(
        "process_start_time_seconds",
        "Start time of the process in Unix time.",
        figures.started_seconds,
    );
    to.counter(
        "process_cpu_seconds_total",
        "Processor time that the process has taken, in user and in system mode.",
        process.cpu_seconds,
    );
    to.maybe(
        "process_resident_memory_bytes",
        "Memory of the process that is resident.",
        process.resident_bytes,
    );
    to.maybe(
        "process_virtual_memory_bytes",
        "Address space of the process.",
        process.virtual_bytes,
    );
    to.maybe("process_open_fds", "Descriptors that are open.", process.descriptors_open);
    to.maybe("process_max_fds", "Descriptors that may be open.", process.descriptors_max);
    to.maybe("process_threads", "Threads of the process.", process.threads);
}
