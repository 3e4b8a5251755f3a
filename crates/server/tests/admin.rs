//! What operators are shown by a program that runs.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
#[path = "common/exposition.rs"]
mod exposition;
mod operated;

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use common::{PATIENCE, PROGRAM, Served};
use exposition::Family;
use operated::{Load, Place, connect, eventually, page, reload};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Signal, find_program};
use sluicegate_testkit::require;

type Metrics = BTreeMap<String, Family>;

/// A program with an admin server, and where that is.
fn start() -> (Place, Served, SocketAddr) {
    let place = Place::new();
    place.write(&config(&place, "one"));
    let mut served = place.start();
    let admin = served.admin();
    (place, served, admin)
}

fn config(place: &Place, version: &str) -> String {
    place.config(&["127.0.0.1:0"], version, "admin = \"127.0.0.1:0\"")
}

fn try_ask(address: SocketAddr, target: &str) -> std::io::Result<(u16, String)> {
    let mut stream = connect(address);
    let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut all = String::new();
    stream.read_to_string(&mut all)?;
    let (head, content) = all.split_once("\r\n\r\n").ok_or(std::io::ErrorKind::UnexpectedEof)?;
    Ok((head[9..12].parse().unwrap(), content.to_owned()))
}

fn ask(address: SocketAddr, target: &str) -> (u16, String) {
    try_ask(address, target).unwrap()
}

fn metrics(admin: SocketAddr) -> Metrics {
    let (status, text) = ask(admin, "/metrics");
    assert_eq!(status, 200);
    exposition::parse(&text)
}

fn json(admin: SocketAddr) -> serde_json::Value {
    serde_json::from_str(&ask(admin, "/status.json").1).unwrap()
}

#[test]
fn every_request_is_in_the_figures() {
    let (place, served, admin) = start();
    for _ in 0..20 {
        page(served.address);
    }
    assert_eq!(ask(served.address, "/none").0, 404);
    let value = |name: &str, labels: &str| exposition::value(&metrics(admin), name, labels);
    // A worker may still be about to count the last one.
    let closed = || value("sluicegate_connections_open", "") == 0.0;
    eventually("all are closed", closed);
    for (name, labels, expected) in [
        ("sluicegate_connections_accepted_total", "", 21.0),
        ("sluicegate_responses_total", "{class=\"2xx\"}", 20.0),
        ("sluicegate_responses_total", "{class=\"4xx\"}", 1.0),
        ("sluicegate_responses_total", "{class=\"5xx\"}", 0.0),
        ("sluicegate_workers", "", 2.0),
        ("sluicegate_draining", "", 0.0),
        ("sluicegate_config_generation", "", 1.0),
    ] {
        assert_eq!(value(name, labels), expected, "{name}{labels}");
    }
    let found: f64 = ["memory", "open", "opened"]
        .map(|outcome| {
            let labels = format!("{{outcome=\"{outcome}\"}}");
            value("sluicegate_file_cache_lookups_total", &labels)
        })
        .iter()
        .sum();
    assert_eq!(found, 20.0);
    let copied = value("sluicegate_sent_bytes_total", "{way=\"copied\"}");
    assert!(copied > 20.0 * 600.0, "{copied}");
    let json = json(admin);
    assert_eq!(json["responses"]["2xx"], 20);
    assert_eq!(json["listen"], serde_json::json!([served.address.to_string()]));
    let path = place.path("config.toml").canonicalize().unwrap();
    assert_eq!(json["configuration"]["file"].as_str().unwrap(), path.to_str().unwrap());
    served.stop();
}

#[test]
fn reloads_and_why_they_are_refused_are_shown() {
    let (place, mut served, admin) = start();
    place.write(&config(&place, "two"));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    eventually("counted", || json(admin)["reloads"]["done"] == 1);
    eventually("told", || json(admin)["configuration"]["generation"] == 2);
    assert_eq!(json(admin)["configuration"]["refused"], serde_json::Value::Null);

    place.write("listen = [\"127.0.0.1:0\"]\nworkrs = 2\n");
    assert!(reload(&mut served.child).contains(": not reloaded"));
    eventually("counted", || json(admin)["reloads"]["refused"] == 1);
    eventually("told", || json(admin)["configuration"]["refused"].is_object());
    let why = json(admin)["configuration"]["refused"]["why"].as_str().unwrap().to_owned();
    assert!(why.contains("workrs") && why.contains('2'), "{why}");
    let shown = ask(admin, "/status").1;
    assert!(shown.contains("The last reload was refused") && shown.contains("workrs"), "{shown}");
    let metrics = metrics(admin);
    let value = |name: &str, labels: &str| exposition::value(&metrics, name, labels);
    assert_eq!(value("sluicegate_config_last_reload_successful", ""), 0.0);
    assert_eq!(value("sluicegate_config_reloads_total", "{outcome=\"refused\"}"), 1.0);

    place.write(&config(&place, "one"));
    assert!(reload(&mut served.child).contains(": reloaded: "));
    eventually("forgotten", || json(admin)["configuration"]["refused"].is_null());
    served.stop();
}

#[test]
fn a_reload_during_an_upgrade_is_refused_as_others_are() {
    let place = Place::new();
    place.write(&config(&place, "one"));
    let program = place.program();
    let mut served = Served::by(place.command_of(&program));
    let admin = served.admin();
    // A new version that never serves.
    std::fs::remove_file(&program).unwrap();
    std::fs::write(&program, "#!/bin/sh\nexec sleep 1000\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    served.child.signal(Signal::USR2).unwrap();
    let told = |line: &str| line.contains("starting the program anew");
    served.child.wait_for_line(told, PATIENCE).unwrap();
    assert!(reload(&mut served.child).contains("an upgrade is under way"));
    eventually("counted", || json(admin)["reloads"]["refused"] == 1);
    let why = || json(admin)["configuration"]["refused"]["why"].to_string();
    eventually("told", || why().contains("an upgrade is under way"));
    served.stop();
}

#[test]
fn counts_only_grow_while_they_are_read() {
    let (_place, served, admin) = start();
    let load = Load::on(served.address);
    let mut before: Option<Metrics> = None;
    for _ in 0..30 {
        load.go_on();
        let now = metrics(admin);
        let value = |name: &str| exposition::value(&now, name, "");
        let (open, accepted) =
            (value("sluicegate_connections_open"), value("sluicegate_connections_accepted_total"));
        assert!((0.0..=accepted).contains(&open), "{open} of {accepted}");
        for (name, family) in before.iter().flatten().filter(|(_, one)| one.kind == "counter") {
            for (labels, was) in &family.samples {
                let is = exposition::value(&now, name, labels);
                assert!(is >= *was, "{name}{labels}: {was}, then {is}");
            }
        }
        before = Some(now);
    }
    load.finish();
    served.stop();
}

#[test]
fn who_asks_during_the_drain_is_answered() {
    let (place, mut served, admin) = start();
    // More than a socket takes, so that it is under way until it is read.
    std::fs::write(place.path("one").join("large"), vec![b'x'; 64 << 20]).unwrap();
    let mut slow = connect(served.address);
    slow.write_all(b"GET /large HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    slow.read_exact(&mut [0; 1000]).unwrap();
    assert_eq!(ask(admin, "/healthz"), (200, "ok\n".to_owned()));
    served.child.signal(Signal::TERM).unwrap();
    eventually("the drain begins", || ask(admin, "/healthz") == (503, "draining\n".to_owned()));
    let metrics = metrics(admin);
    assert_eq!(exposition::value(&metrics, "sluicegate_draining", ""), 1.0);
    assert_eq!(exposition::value(&metrics, "sluicegate_connections_open", ""), 1.0);
    assert!(ask(admin, "/status").1.contains(">Draining<"));
    // Its end lets the program end, whoever looks at it meanwhile.
    let mut looking = connect(admin);
    looking.write_all(b"GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    looking.read_exact(&mut [0; 100]).unwrap();
    let mut rest = Vec::new();
    slow.read_to_end(&mut rest).unwrap();
    assert!(rest.len() > 63 << 20);
    assert!(served.child.wait_timeout(PATIENCE).unwrap().success());
}

#[test]
fn figures_are_shown_when_no_descriptor_is_left() {
    require!(Need::Program("prlimit"));
    let place = Place::new();
    place.write(&config(&place, "one"));
    let mut command = Command::new(find_program("prlimit").unwrap());
    command.args(["--nofile=64:64", PROGRAM, "run"]).arg(place.path("config.toml"));
    let mut served = Served::by(command);
    let admin = served.admin();
    // Most are accepted and kept; the others are turned away.
    let mut open: Vec<TcpStream> = (0..80).map(|_| connect(served.address)).collect();
    let exhausted = || {
        let Ok((200, text)) = try_ask(admin, "/metrics") else { return false };
        let metrics = exposition::parse(&text);
        let labels = "{reason=\"exhausted\"}";
        let turned =
            exposition::value(&metrics, "sluicegate_connections_ended_early_total", labels);
        turned > 0.0
            && exposition::value(&metrics, "process_max_fds", "") == 64.0
            && exposition::value(&metrics, "process_open_fds", "") > 55.0
            && exposition::value(&metrics, "process_resident_memory_bytes", "") > 0.0
    };
    eventually("turned away, and told", exhausted);
    // Again and again: what a look has taken is given back.
    for _ in 0..50 {
        eventually("an answer", || matches!(try_ask(admin, "/healthz"), Ok((200, _))));
    }
    open.clear();
    eventually("served again", || ask(served.address, "/page").0 == 200);
    served.stop();
}
