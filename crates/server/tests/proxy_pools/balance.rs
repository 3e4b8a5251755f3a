//! Whose turn it is.

use crate::proxied::answers::text;
use crate::proxied::client::Expected;
use crate::proxied::eventually;
use crate::proxied::gate::Gate;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

fn named(name: &'static str) -> Upstream {
    Upstream::new(move |exchange| text(exchange, name))
}

fn count(upstream: &Upstream) -> usize {
    upstream.asked().len()
}

#[test]
fn turns_go_round_in_all_workers_together() {
    let upstreams = [named("a"), named("b"), named("c")];
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let proxied = Proxied::start(&Setup::to(&all).workers(2));
    for number in 0..60 {
        proxied.client().get(&format!("/{number}")).whole(200);
    }
    let counts: Vec<usize> = upstreams.iter().map(count).collect();
    assert!(counts.iter().all(|count| (15..=25).contains(count)), "{counts:?}");
}

#[test]
fn a_weight_is_a_share() {
    let (heavy, light) = (named("heavy"), named("light"));
    let mut setup = Setup::to(&[&light]);
    setup.servers.push(format!("{{ address = {:?}, weight = 3 }}", heavy.name));
    let proxied = Proxied::start(&setup);
    for number in 0..80 {
        proxied.client().get(&format!("/{number}")).whole(200);
    }
    assert!((50..=70).contains(&count(&heavy)), "{} of 80", count(&heavy));
}

#[test]
fn the_least_busy_server_is_asked() {
    let gates = [Gate::default(), Gate::default()];
    let upstreams = gates.clone().map(|gate| {
        Upstream::new(move |exchange| {
            if exchange.asked.query("wait").is_some() {
                gate.pass();
            }
            text(exchange, "")
        })
    });
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let setup = Setup::to(&all).pool("balance = \"least-connections\"");
    let proxied = Proxied::start(&setup);
    let begun = || upstreams.iter().map(count).sum::<usize>();
    let mut waiting = Vec::new();
    let mut wait = || {
        let (mut client, before) = (proxied.client(), begun());
        client.ask(&format!("GET /{before}?wait=1 HTTP/1.1"), &[]);
        eventually("it is asked", || begun() == before + 1);
        waiting.push(client);
    };
    eventually("nothing is under way", || proxied.metrics().sum("upstream_active_requests") == 0);
    // Whoever it is that has the first: the next ten go to the other, each by itself. By turns it
    // would be five.
    wait();
    eventually("it waits", || gates.iter().map(Gate::waiting).sum::<usize>() == 1);
    let busy = usize::from(gates[0].waiting() == 0);
    for number in 0..10 {
        proxied.client().get(&format!("/{number}")).whole(200);
        eventually("it is over", || proxied.metrics().sum("upstream_active_requests") == 1);
    }
    assert_eq!((count(&upstreams[busy]), count(&upstreams[1 - busy])), (1, 10));
    // Six that last are three each.
    for _ in 0..5 {
        wait();
    }
    eventually("they wait", || gates.iter().all(|gate| gate.waiting() == 3));
    gates.iter().for_each(Gate::open);
    for client in &mut waiting {
        client.reply("GET", Expected::Any).whole(200);
    }
}

#[test]
fn a_hash_is_the_same_server_again_and_again() {
    let upstreams = [named("a"), named("b"), named("c"), named("d")];
    let all: Vec<&Upstream> = upstreams.iter().collect();
    let proxied = Proxied::start(&Setup::to(&all).pool("balance = \"hash-path\""));
    let ask = |path: &str| proxied.client().get(path).whole(200).text().to_owned();
    let mut seen = std::collections::BTreeSet::new();
    for number in 0..40 {
        let path = format!("/{number}");
        let first = ask(&path);
        assert_eq!(ask(&path), first, "{path}");
        assert_eq!(ask(&format!("{path}?query=is-not-asked")), first, "{path}");
        seen.insert(first);
    }
    assert_eq!(seen.len(), 4, "{seen:?}");

    let proxied = Proxied::start(&Setup::to(&all).pool("balance = \"hash\""));
    let first = proxied.client().get("/").whole(200).text().to_owned();
    for number in 0..10 {
        assert_eq!(proxied.client().get(&format!("/{number}")).whole(200).text(), first);
    }
}

#[test]
fn a_backup_is_asked_when_no_other_can_be() {
    let (first, backup) = (named("first"), named("backup"));
    let mut setup = Setup::to(&[&first]).pool("ejection = { failures = 1, pause = \"60s\" }");
    setup.servers.push(format!("{{ address = {:?}, backup = true }}", backup.name));
    let proxied = Proxied::start(&setup);
    for number in 0..10 {
        assert_eq!(proxied.client().get(&format!("/{number}")).whole(200).text(), "first");
    }
    drop(first);
    for number in 0..10 {
        assert_eq!(proxied.client().get(&format!("/{number}")).whole(200).text(), "backup");
    }
}
