//! The admin server as those see it who look, over real connections.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime};

use sluicegate::{SendContext, SpoolBytes, WayBytes};

use super::server::Running;
use super::{Configuration, Refused, Sources, Spools, start};
use crate::files::Totals;
use crate::gateway::{PoolFigures, QueueFigures, ServerFigures};
use crate::observe::{Ended, Stats};
use crate::proxy::Told;

#[path = "../../tests/common/exposition.rs"]
mod exposition;
mod looks;

/// Longer than anything honest takes on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// An admin server over figures that a test changes.
struct Shown {
    stats: Arc<Stats>,
    draining: Arc<AtomicBool>,
    running: Running,
    address: SocketAddr,
}

impl Shown {
    fn new(workers: usize) -> Self {
        Self::with(workers, || Some(configuration()))
    }

    fn with(
        workers: usize,
        configuration: impl Fn() -> Option<Configuration> + Send + 'static,
    ) -> Self {
        let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
        Self::at(listener, workers, configuration)
    }

    fn at(
        listener: Arc<OwnedFd>,
        workers: usize,
        configuration: impl Fn() -> Option<Configuration> + Send + 'static,
    ) -> Self {
        let stats = Stats::new(workers, Arc::new(SendContext::default()));
        let draining = Arc::new(AtomicBool::new(false));
        let (is_draining, counted) = (Arc::clone(&draining), Arc::clone(&stats));
        let files = move || {
            // As if every answer were a file.
            let found = counted.answers(2);
            Totals {
                memory: found,
                open: found / 4,
                opened: 7,
                changed: 2,
                kept_bytes: 34_567,
                kept_files: 12,
                kept_open: 5,
            }
        };
        let sources = Sources {
            stats: Arc::clone(&stats),
            listen: Box::new(|| {
                ["127.0.0.1:8080", "[::1]:8080"].map(|a| a.parse().unwrap()).into()
            }),
            files: Box::new(files),
            pools: Box::new(pools),
            spools: Box::new(|| Spools { held: 1 << 20, on_disk: 4096, budget: 1 << 30 }),
            configuration: Box::new(configuration),
            draining: Box::new(move || is_draining.load(Ordering::Relaxed)),
        };
        let address = sluicegate::os::local_address(&listener).unwrap().unwrap();
        let running = start(listener, sources).unwrap();
        Shown { stats, draining, running, address }
    }

    fn ask(&self, method: &str, target: &str) -> Answer {
        ask(self.address, method, target)
    }

    fn json(&self) -> serde_json::Value {
        let answer = self.ask("GET", "/status.json");
        assert_eq!(answer.field("content-type"), Some("application/json"));
        serde_json::from_str(&answer.content).unwrap()
    }

    /// Some of everything.
    fn count_some(&self) {
        let workers = self.stats.workers();
        for (number, worker) in workers.iter().enumerate() {
            for _ in 0..10 {
                worker.accepted();
            }
            (0..number).for_each(|_| worker.closed());
            for status in [200, 200, 206, 304, 404, 500] {
                worker.answered(status);
            }
            worker.ended(Ended::Unread);
        }
        self.stats.context.counters.add(WayBytes {
            copied: 1000,
            sendfile: 2000,
            spliced: 3000,
            zerocopy: 4000,
            zerocopy_copied: 500,
        });
        self.stats.relays(0).add(&Told {
            spool: SpoolBytes { spliced: 5, ring: 6, disk: 7, copied: 8 },
            proofs: [1, 2, 3, 4],
            held_ms: Some(300),
            trouble: Some("truncated"),
            request_bytes: 9,
            lost_disk: true,
            ..Told::default()
        });
        self.stats.reloads.fetch_add(3, Ordering::Relaxed);
        self.stats.reloads_refused.fetch_add(1, Ordering::Relaxed);
        self.stats.log_lost.fetch_add(9, Ordering::Relaxed);
    }
}

/// One server that lives and one that does not, with names of somebody's.
fn pools() -> Vec<PoolFigures> {
    let server = ServerFigures {
        address: "127.0.0.1:9001".to_owned(),
        is_up: true,
        is_ejected: false,
        active: 2,
        requests: 100,
        failures: 3,
        connects: 10,
        reuses: 90,
    };
    let other = ServerFigures {
        address: "unix:/run/<i>\"a\".sock".to_owned(),
        is_up: false,
        is_ejected: true,
        ..server.clone()
    };
    let queue = QueueFigures { waiting: 5, queued: 60, refused: 7, timed_out: 8 };
    vec![PoolFigures { name: "app".to_owned(), servers: vec![server, other], queue }]
}

fn configuration() -> Configuration {
    Configuration {
        path: PathBuf::from("/etc/sluicegate/<b>\"&'.toml"),
        generation: 4,
        loaded: SystemTime::now() - Duration::from_secs(300),
        refused: Some(Refused {
            at: SystemTime::now() - Duration::from_secs(42),
            why: "line 3, column 1: unknown key `rot` </pre><script>1\n  did you mean `root`?"
                .into(),
        }),
    }
}

struct Answer {
    status: u16,
    head: String,
    content: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(address: SocketAddr, method: &str, target: &str) -> Answer {
    let mut stream = connect(address);
    let request = format!("{method} {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, content) = all.split_once("\r\n\r\n").expect("a whole head");
    let status = head[9..12].parse().unwrap();
    Answer { status, head: head.to_owned(), content: content.to_owned() }
}

const SERVER: &str = "{pool=\"app\",server=\"127.0.0.1:9001\"}";

#[test]
fn metrics_are_what_prometheus_reads() {
    let shown = Shown::new(2);
    shown.count_some();
    let answer = shown.ask("GET", "/metrics");
    let kind = answer.field("content-type");
    assert_eq!(kind, Some("text/plain; version=0.0.4; charset=utf-8"));
    let families = exposition::parse(&answer.content);
    let value = |name: &str, labels: &str| exposition::value(&families, name, labels);
    let pipes = shown.stats.context.pipes.pipes().limit as f64;
    for (name, labels, expected) in [
        ("sluicegate_workers", "", 2.0),
        ("sluicegate_draining", "", 0.0),
        ("sluicegate_connections_accepted_total", "", 20.0),
        ("sluicegate_connections_open", "", 19.0),
        ("sluicegate_worker_connections_open", "{worker=\"0\"}", 10.0),
        ("sluicegate_worker_connections_open", "{worker=\"1\"}", 9.0),
        ("sluicegate_responses_total", "{class=\"2xx\"}", 6.0),
        ("sluicegate_responses_total", "{class=\"3xx\"}", 2.0),
        ("sluicegate_responses_total", "{class=\"5xx\"}", 2.0),
        ("sluicegate_connections_ended_early_total", "{reason=\"unread\"}", 2.0),
        ("sluicegate_connections_ended_early_total", "{reason=\"exhausted\"}", 0.0),
        ("sluicegate_sent_bytes_total", "{way=\"copied\"}", 1000.0),
        ("sluicegate_sent_bytes_total", "{way=\"sendfile\"}", 2000.0),
        ("sluicegate_sent_bytes_total", "{way=\"spliced\"}", 3000.0),
        ("sluicegate_sent_bytes_total", "{way=\"zerocopy\"}", 4000.0),
        ("sluicegate_zerocopy_copied_bytes_total", "", 500.0),
        ("sluicegate_file_cache_lookups_total", "{outcome=\"memory\"}", 6.0),
        ("sluicegate_file_cache_lookups_total", "{outcome=\"open\"}", 1.0),
        ("sluicegate_file_cache_lookups_total", "{outcome=\"opened\"}", 7.0),
        ("sluicegate_file_cache_memory_bytes", "", 34_567.0),
        ("sluicegate_config_reloads_total", "{outcome=\"done\"}", 3.0),
        ("sluicegate_config_reloads_total", "{outcome=\"refused\"}", 1.0),
        ("sluicegate_config_last_reload_successful", "", 0.0),
        ("sluicegate_config_generation", "", 4.0),
        ("sluicegate_log_lines_lost_total", "", 9.0),
        ("sluicegate_pipes_in_use", "", 0.0),
        ("sluicegate_pipes_max", "", pipes),
        ("sluicegate_upstream_up", SERVER, 1.0),
        ("sluicegate_upstream_up", r#"{pool="app",server="unix:/run/<i>\"a\".sock"}"#, 0.0),
        ("sluicegate_upstream_ejected", SERVER, 0.0),
        ("sluicegate_upstream_active_requests", SERVER, 2.0),
        ("sluicegate_upstream_requests_total", SERVER, 100.0),
        ("sluicegate_upstream_failures_total", SERVER, 3.0),
        ("sluicegate_upstream_connects_total", SERVER, 10.0),
        ("sluicegate_upstream_reuses_total", SERVER, 90.0),
        ("sluicegate_upstream_queue_requests", "{pool=\"app\"}", 5.0),
        ("sluicegate_upstream_queue_requests_total", "{pool=\"app\"}", 60.0),
        ("sluicegate_upstream_queue_refused_total", "{pool=\"app\"}", 7.0),
        ("sluicegate_upstream_queue_timeouts_total", "{pool=\"app\"}", 8.0),
        ("sluicegate_relayed_requests_total", "", 1.0),
        ("sluicegate_relayed_request_bytes_total", "", 9.0),
        ("sluicegate_relayed_bytes_total", "{path=\"spliced\"}", 5.0),
        ("sluicegate_relayed_bytes_total", "{path=\"ring\"}", 6.0),
        ("sluicegate_relayed_bytes_total", "{path=\"disk\"}", 7.0),
        ("sluicegate_relayed_bytes_total", "{path=\"copied\"}", 8.0),
        ("sluicegate_relayed_partitions_total", "{proof=\"acked\"}", 3.0),
        ("sluicegate_relayed_partitions_total", "{proof=\"replaced\"}", 4.0),
        ("sluicegate_upstream_held_seconds", "_bucket{le=\"0.25\"}", 0.0),
        ("sluicegate_upstream_held_seconds", "_bucket{le=\"0.5\"}", 1.0),
        ("sluicegate_upstream_held_seconds", "_bucket{le=\"+Inf\"}", 1.0),
        ("sluicegate_upstream_held_seconds", "_sum", 0.3),
        ("sluicegate_upstream_held_seconds", "_count", 1.0),
        ("sluicegate_relay_troubles_total", "{trouble=\"truncated\"}", 1.0),
        ("sluicegate_relay_troubles_total", "{trouble=\"busy\"}", 0.0),
        ("sluicegate_spool_held_bytes", "", 1_048_576.0),
        ("sluicegate_spool_disk_bytes", "", 4096.0),
        ("sluicegate_spool_disk_failures_total", "", 1.0),
        ("sluicegate_spool_budget_bytes", "", 1_073_741_824.0),
        ("sluicegate_build_info", concat!("{version=\"", env!("CARGO_PKG_VERSION"), "\"}"), 1.0),
    ] {
        assert_eq!(value(name, labels), expected, "{name}{labels}");
    }
    assert!(value("process_resident_memory_bytes", "") > 100_000.0);
    assert!(value("process_open_fds", "") < value("process_max_fds", ""));
    let start = value("process_start_time_seconds", "");
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs_f64();
    assert!((now - 600.0..=now).contains(&start), "{start}");
}

#[test]
fn health_is_lost_when_the_drain_begins_and_everything_else_goes_on() {
    let shown = Shown::new(1);
    let answer = shown.ask("GET", "/healthz");
    assert_eq!((answer.status, answer.content.as_str()), (200, "ok\n"));
    shown.draining.store(true, Ordering::Relaxed);
    let answer = shown.ask("GET", "/healthz");
    assert_eq!((answer.status, answer.content.as_str()), (503, "draining\n"));
    let families = exposition::parse(&shown.ask("GET", "/metrics").content);
    assert_eq!(exposition::value(&families, "sluicegate_draining", ""), 1.0);
    assert_eq!(shown.json()["draining"], true);
    assert!(shown.ask("GET", "/status").content.contains(">Draining<"));
}

#[test]
fn pages_answer_get_and_head_and_nothing_else_is_there() {
    let shown = Shown::new(1);
    for page in ["/metrics", "/healthz", "/status", "/status?part", "/status.json", "/"] {
        let (get, head) = (shown.ask("GET", page), shown.ask("HEAD", page));
        assert_eq!(get.status, head.status, "{page}");
        assert_eq!(head.content, "", "{page}");
        assert_eq!(get.field("cache-control"), Some("no-store"), "{page}");
        assert_eq!(get.field("x-content-type-options"), Some("nosniff"), "{page}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "BREW"] {
            let answer = shown.ask(method, page);
            assert_eq!((answer.status, answer.field("allow")), (405, Some("GET, HEAD")), "{page}");
        }
    }
    let home = shown.ask("GET", "/");
    assert_eq!((home.status, home.field("location")), (302, Some("status")));
    for missing in ["/status/", "/Status", "/favicon.ico", "/../status", "/metrics%00"] {
        let answer = shown.ask("GET", missing);
        assert_eq!(answer.status, 404, "{missing}");
        for page in ["/status", "/metrics", "/healthz"] {
            assert!(answer.content.contains(page));
        }
    }
    drop(shown.running);
}

#[test]
fn the_same_figures_are_there_for_programs() {
    let shown = Shown::new(2);
    shown.count_some();
    let json = shown.json();
    let pipes = shown.stats.context.pipes.pipes().limit as u64;
    for (pointer, expected) in [
        ("/connections/open", 19),
        ("/workers/1/connections_open", 9),
        ("/responses/total", 12),
        ("/responses/4xx", 2),
        ("/sent/total_bytes", 10_000),
        ("/sent/zerocopy_copied_bytes", 500),
        ("/ended_early/unread", 2),
        ("/file_cache/memory_bytes", 34_567),
        ("/configuration/generation", 4),
        ("/reloads/refused", 1),
        ("/pipes/max", pipes),
        ("/pools/0/servers/0/reuses", 90),
        ("/pools/0/queue/waiting", 5),
        ("/pools/0/queue/timed_out", 8),
        ("/relayed/disk_bytes", 7),
        ("/relayed/upstream_held/sum_ms", 300),
        ("/relayed/upstream_held/within_ms/0/0", 1),
        ("/relayed/troubles/truncated", 1),
        ("/relayed/disk_failures", 1),
        ("/spool/budget_bytes", 1 << 30),
        ("/log_lines_lost", 9),
    ] {
        assert_eq!(json.pointer(pointer), Some(&expected.into()), "{pointer}");
    }
    assert_eq!(json["file_cache"]["hit_share"], 0.5);
    assert_eq!(json["listen"], serde_json::json!(["127.0.0.1:8080", "[::1]:8080"]));
}

/// Waits for what comes with the next samples.
fn within_patience<T>(mut look: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        assert!(Instant::now() < end, "not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn rates_come_with_the_samples_and_are_what_was_counted() {
    let shown = Shown::new(1);
    // What comes before the first sample is no rate.
    let before = within_patience(|| {
        let json = shown.json();
        json["rates"]["1s"].is_object().then_some(json)
    });
    assert_eq!(before["rates"]["60s"]["requests_per_second"], 0.0);
    (0..600).for_each(|_| shown.stats.worker(0).answered(200));
    let after = within_patience(|| {
        let json = shown.json();
        let minute = &json["rates"]["60s"];
        (minute["requests_per_second"] != 0.0).then(|| minute.clone())
    });
    let number = |name: &str| after[name].as_f64().unwrap();
    let counted = number("requests_per_second") * number("over_seconds");
    assert!((counted - 600.0).abs() < 1e-6, "{counted}");
    assert_eq!(number("bytes_per_second"), 0.0);
    let history = shown.json()["history"].as_array().unwrap().clone();
    let sum: f64 = history
        .iter()
        .map(|point| {
            let number = |name: &str| point[name].as_f64().unwrap();
            number("requests_per_second") * number("over_seconds")
        })
        .sum();
    assert!((sum - 600.0).abs() < 1e-6, "{sum}");
}

#[test]
fn a_program_that_did_nothing_yet_has_a_page() {
    let shown = Shown::with(1, || None);
    let page = shown.ask("GET", "/status").content;
    for wrong in ["NaN", "inf", "null"] {
        assert!(!page.contains(&format!(">{wrong}")), "{wrong} in {page}");
    }
    assert!(page.contains("the command line says it all"));
    let json = shown.json();
    assert_eq!(json["configuration"], serde_json::Value::Null);
    exposition::parse(&shown.ask("GET", "/metrics").content);
}

#[test]
fn what_is_not_ours_is_text_on_the_page() {
    let shown = Shown::new(1);
    let answer = shown.ask("GET", "/status");
    let page = &answer.content;
    assert!(page.contains("/etc/sluicegate/&lt;b&gt;&quot;&amp;&#39;.toml"));
    assert!(page.contains("unknown key `rot` &lt;/pre&gt;&lt;script&gt;1\n  did you mean `root`?"));
    assert_eq!(page.matches("<script").count(), 1, "its own");
    assert!(page.contains("unix:/run/&lt;i&gt;&quot;a&quot;.sock"));
    assert!(!page.contains("style=\"") && !page.contains("onload="));
    // Nothing is fetched from elsewhere.
    assert_eq!(page.matches("://").count(), 1, "the namespace of its icon");
    let policy = answer.field("content-security-policy").unwrap();
    let nonce = policy.split("'nonce-").nth(1).unwrap().split('\'').next().unwrap();
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")));
    let other = shown.ask("GET", "/status");
    assert!(!other.head.contains(nonce), "a nonce is used once");
}

#[test]
fn it_ends_when_it_is_told_to_with_connections_open() {
    let shown = Shown::new(1);
    let mut idle = connect(shown.address);
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut got = [0; 12];
    idle.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"HTTP/1.1 200");
    let silent = connect(shown.address);
    let address = shown.address;
    drop(shown.running);
    // Whatever was open is closed, and nobody listens.
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).unwrap();
    drop(silent);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn who_waits_in_its_queue_at_the_end_is_answered() {
    // As if another process listened as well, which keeps the queue.
    let listener = sluicegate::listen("127.0.0.1:0".parse().unwrap()).unwrap();
    let (release, released) = std::sync::mpsc::channel::<()>();
    let busy = move || {
        let _ = released.recv();
        Some(configuration())
    };
    let shown = Shown::at(Arc::clone(&listener), 1, busy);
    let request = |target: &str| {
        let mut stream = connect(shown.address);
        let head = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        stream
    };
    let mut waiting = vec![request("/status.json")];
    waiting.extend((0..20).map(|_| request("/healthz")));
    let running = shown.running;
    let ending = std::thread::spawn(move || drop(running));
    // Enough for it to have been told.
    std::thread::sleep(Duration::from_millis(100));
    drop(release);
    for stream in &mut waiting {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    ending.join().unwrap();
    drop(listener);
}
