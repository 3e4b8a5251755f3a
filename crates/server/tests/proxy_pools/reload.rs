//! Pools that change while they are asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, sleep};
use std::time::Duration;

use sluicegate_testkit::process::Signal;

use crate::proxied::answers::{head, text};
use crate::proxied::client::{Client, Expected};
use crate::proxied::gate::Gate;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;
use crate::proxied::{PATIENCE, eventually};

/// Has the program go on with `change` of what it was told.
fn reload(proxied: &mut Proxied, change: impl Fn(String) -> String) {
    let path = proxied.path("config.toml");
    let before = std::fs::read_to_string(&path).unwrap();
    let after = change(before.clone());
    assert_ne!(before, after);
    std::fs::write(&path, after).unwrap();
    proxied.child.signal(Signal::HUP).unwrap();
    let told = |line: &str| line.contains(": reloaded: ") || line.contains(": not reloaded");
    let said = proxied.child.wait_for_line(told, PATIENCE).unwrap();
    assert!(said.contains(": reloaded: "), "{said}");
}

#[test]
fn servers_that_come_and_go_cost_nobody_an_answer() {
    let upstream = || Upstream::new(|exchange| text(exchange, "done"));
    let (one, other) = (upstream(), upstream());
    let mut proxied = Proxied::start(&Setup::to(&[&one]).workers(2));
    let (address, is_over) = (proxied.address, AtomicBool::new(false));
    let answers = AtomicUsize::new(0);
    let [one_name, other_name] = [&one, &other].map(|upstream| format!("{:?}", upstream.name));
    let both = format!("{one_name}, {other_name}");
    thread::scope(|scope| {
        for client in 0..4 {
            let (is_over, answers) = (&is_over, &answers);
            scope.spawn(move || {
                let mut connection = Client::new(address);
                for number in 0.. {
                    if is_over.load(Ordering::SeqCst) {
                        break;
                    }
                    connection.get(&format!("/{client}/{number}")).whole(200);
                    answers.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
        let lists = [&one_name, &both, &other_name, &both];
        for at in 0..12 {
            let (from, to) = (lists[at % 4], lists[(at + 1) % 4]);
            let said = |list: &str| format!("servers = [{list}]");
            reload(&mut proxied, |text| text.replace(&said(from), &said(to)));
            let (before, of_other) = (answers.load(Ordering::SeqCst), other.asked().len());
            eventually("it goes on", || answers.load(Ordering::SeqCst) > before + 20);
            assert!(at % 4 == 3 || other.asked().len() > of_other, "nobody asks who is new");
        }
        is_over.store(true, Ordering::SeqCst);
    });
    assert!(one.repeated().is_empty() && other.repeated().is_empty());
    proxied.stop();
}

#[test]
fn a_check_that_is_taken_away_sets_nobody_down_again() {
    let (gate, is_sick) = (Gate::default(), Arc::new(AtomicBool::new(false)));
    let (own, sick) = (gate.clone(), Arc::clone(&is_sick));
    let upstream = Upstream::new(move |exchange| {
        match exchange.asked.target() {
            "/health" if sick.load(Ordering::SeqCst) => {
                exchange.send(head("503 Sick", &["Content-Length: 0"]))?;
                return Ok(crate::proxied::upstream::Next::Keep);
            }
            "/long" => own.pass(),
            _ => {}
        }
        text(exchange, "done")
    });
    let health = "health = { path = \"/health\", interval = \"100ms\", fails = 1, passes = 1 }\n";
    let setup = Setup::to(&[&upstream]).pool(health.trim_end()).pool("ejection = false");
    let mut proxied = Proxied::start(&setup);
    // A request that keeps the old pool.
    let mut long = proxied.client();
    long.ask("GET /long HTTP/1.1", &[]);
    eventually("it is under way", || gate.waiting() == 1);
    is_sick.store(true, Ordering::SeqCst);
    eventually("it is down", || proxied.client().get("/down").status == 503);
    reload(&mut proxied, |text| text.replace(health, ""));
    for number in 0..10 {
        proxied.client().get(&format!("/up/{number}")).whole(200);
        sleep(Duration::from_millis(50));
    }
    gate.open();
    long.reply("GET", Expected::Any).whole(200);
    proxied.client().get("/up").whole(200);
    proxied.stop();
}

#[test]
fn who_waits_across_a_change_is_served_and_keeps_nobody_else_waiting() {
    let gate = Gate::default();
    let own = gate.clone();
    let slow = Upstream::new(move |exchange| {
        own.pass();
        text(exchange, "slow")
    });
    let quick = Upstream::new(|exchange| text(exchange, "quick"));
    let server =
        |upstream: &Upstream| format!("{{ address = {:?}, max_connections = 1 }}", upstream.name);
    let mut setup = Setup::to(&[]).pool("queue = 1\nqueue_timeout = \"60s\"").workers(1);
    setup.servers = vec![server(&slow)];
    let mut proxied = Proxied::start(&setup);
    let mut asking = Vec::new();
    for number in 0..2 {
        let mut client = proxied.client();
        client.ask(&format!("GET /slow/{number} HTTP/1.1"), &[]);
        asking.push(client);
        eventually("the first is under way", || gate.waiting() == 1);
    }
    eventually("the second waits", || proxied.client().get("/full").status == 503);
    let (one, both) = (server(&slow), format!("{}, {}", server(&slow), server(&quick)));
    reload(&mut proxied, |text| text.replace(&one, &both));
    for number in 0..5 {
        assert_eq!(proxied.client().get(&format!("/quick/{number}")).whole(200).text(), "quick");
    }
    gate.open();
    for mut client in asking {
        assert_eq!(client.reply("GET", Expected::Any).whole(200).text(), "slow");
    }
    proxied.stop();
}
