//! `sluicegate proxy`, and what operators are told of what is relayed.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod proxied;

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};

use common::{PROGRAM, Served};
use proxied::answers::{Body, text};
use proxied::client::Client;
use proxied::eventually;
use proxied::program::Metrics;
use proxied::upstream::{Next, Upstream};
use sluicegate_testkit::process::Signal;

/// The program with these arguments, to its end.
fn run(arguments: &[&str]) -> Output {
    Command::new(PROGRAM).args(arguments).output().unwrap()
}

fn command(upstreams: &[String], flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("proxy").args(upstreams).args(["--listen", "127.0.0.1:0"]).args(flags);
    command
}

fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_command_relays_to_what_it_names() {
    let answer = |name: &'static str| Upstream::new(move |exchange| text(exchange, name));
    let (one, other) = (answer("one"), answer("other"));
    let place = tempfile::tempdir().unwrap();
    let log = place.path().join("log");
    let urls = [&one, &other].map(|upstream| format!("http://{}", upstream.address()));
    let flags = ["--workers", "1", "--access-log", log.to_str().unwrap(), "--spool-memory", "0"];
    let served = Served::by(command(&urls, &flags));
    let mut answers: Vec<String> = (0..4)
        .map(|turn| {
            let answer = Client::new(served.address).get(&format!("/a?{turn}")).whole(200);
            answer.text().to_owned()
        })
        .collect();
    answers.sort();
    assert_eq!(answers, ["one", "one", "other", "other"]);
    served.stop();
    let lines = lines(&log);
    assert_eq!(lines.len(), 4);
    let addresses = [&one, &other].map(|upstream| upstream.address().to_string());
    for line in lines {
        let upstream = line["upstream"].as_str().unwrap();
        assert!(addresses.iter().any(|address| address == upstream), "{line}");
        assert_eq!((&line["upstream_status"], &line["upstream_tries"]), (&200.into(), &1.into()));
        assert!(line["upstream_held_ms"].is_u64() && line["trouble"].is_null(), "{line}");
    }
}

#[test]
fn a_command_tells_what_is_wrong_with_it() {
    for (arguments, reason) in [
        (&["proxy"] as &[&str], "<URL>"),
        (&["proxy", "127.0.0.1:9001"], "did you mean `http://127.0.0.1:9001`?"),
        (&["proxy", "https://a.test"], "not in this version yet"),
        (&["proxy", "http://a.test/b"], "without a path"),
        (&["proxy", "http://127.0.0.1:8080"], "is this server itself"),
        (&["proxy", "http://a.test", "http://a.test:80"], "given twice"),
        (&["proxy", "http://a.test", "--spool-disk", "1"], "with its unit"),
        (
            &["proxy", "http://a.test", "--spool-disk=1MiB", "--spool-directory=/nonexistent"],
            "`/nonexistent` is missing",
        ),
    ] {
        let output = run(arguments);
        let told = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && told.contains(reason), "{arguments:?}: {told}");
    }
}

fn configured(place: &Path, upstream: SocketAddr, routes: &str) -> Served {
    let config = place.join("sluicegate.toml");
    let text = format!(
        "workers = 2\nlisten = [\"127.0.0.1:0\"]\nadmin = \"127.0.0.1:0\"\n\
         [pool.app]\nservers = [\"{upstream}\"]\nejection = false\n\
         [[site]]\n[[site.route]]\npath = \"/\"\nproxy = {{ pool = \"app\", retries = 0 }}\n\
         {routes}"
    );
    std::fs::write(&config, text).unwrap();
    let mut command = Command::new(PROGRAM);
    command.arg("run").arg(config);
    Served::by(command)
}

#[test]
fn what_is_relayed_is_counted_without_a_log() {
    const LENGTH: u64 = 3 << 20;
    const PART: u64 = 1 << 20;
    let upstream = Upstream::new(|exchange| match exchange.asked.target() {
        "/cut" => {
            let body = Body { until: Some(PART), ..Body::sized(1, LENGTH) };
            body.send(exchange).map(|_| Next::Close)
        }
        _ => Body::sized(7, LENGTH).send(exchange),
    });
    let place = tempfile::tempdir().unwrap();
    let nobody = sluicegate_testkit::process::free_port().unwrap();
    let gone = format!(
        "[[site.route]]\npath = \"/gone\"\nproxy = {{ url = \"http://127.0.0.1:{nobody}\" }}\n"
    );
    let mut served = configured(place.path(), upstream.address(), &gone);
    let admin = served.admin();
    let before = Metrics::of(admin);
    assert_eq!(before.sum("relayed_bytes_total"), 0);
    assert_eq!(before.sum("upstream_up"), 2);
    for _ in 0..3 {
        Client::new(served.address).get("/whole").whole(200);
    }
    Client::new(served.address).get("/cut").cut();
    // The last of what is told may come a moment after the last byte.
    eventually("all are counted", || Metrics::of(admin).sum("relayed_requests_total") == 4);
    let metrics = Metrics::of(admin);
    let bytes = metrics.sum("relayed_bytes_total");
    assert!((3 * LENGTH..=3 * LENGTH + PART).contains(&bytes), "{bytes}");
    assert_eq!(metrics.sum("upstream_requests_total"), 4);
    assert!((3..=4).contains(&metrics.sum("upstream_held_seconds_count")));
    assert_eq!(metrics.sum("relay_troubles_total"), 1);
    assert!(metrics.sum("spool_budget_bytes") > 1 << 20);
    eventually("nothing is held", || Metrics::of(admin).sum("spool_held_bytes") == 0);
    // Of a server that is not there, too.
    let answer = Client::new(served.address).get("/gone");
    assert_eq!(answer.status, 502);
    eventually("its trouble is counted", || Metrics::of(admin).sum("relay_troubles_total") == 2);
    served.stop();
}

#[test]
fn what_was_counted_of_a_server_goes_on_over_a_reload() {
    let upstream = Upstream::new(|exchange| text(exchange, "x"));
    let place = tempfile::tempdir().unwrap();
    let mut served = configured(place.path(), upstream.address(), "");
    let admin = served.admin();
    Client::new(served.address).get("/").whole(200);
    let config = place.path().join("sluicegate.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let other = "servers = [\"127.0.0.1:9\", ";
    std::fs::write(&config, text.replace("servers = [", other)).unwrap();
    served.child.signal(Signal::HUP).unwrap();
    eventually("both servers are shown", || Metrics::of(admin).sum("upstream_up") == 2);
    assert_eq!(Metrics::of(admin).sum("upstream_requests_total"), 1);
    // What is refused is not shown.
    std::fs::write(&config, "listen = 3\n").unwrap();
    served.child.signal(Signal::HUP).unwrap();
    eventually("it is refused", || Metrics::of(admin).sum("config_last_reload_successful") == 0);
    assert_eq!(Metrics::of(admin).sum("upstream_up"), 2);
    served.stop();
}
