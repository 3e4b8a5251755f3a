//! Servers that fail, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::sleep;
use std::time::Duration;

use crate::proxied::answers::{head, text};
use crate::proxied::client::Expected;
use crate::proxied::eventually;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::{Next, Upstream};

fn good() -> Upstream {
    Upstream::new(|exchange| text(exchange, "good"))
}

/// One that closes without an answer, while it is told to.
fn moody() -> (Upstream, Arc<AtomicBool>) {
    let fails = Arc::new(AtomicBool::new(true));
    let told = Arc::clone(&fails);
    let upstream = Upstream::new(move |exchange| {
        if told.load(Ordering::SeqCst) {
            return Ok(Next::Close);
        }
        text(exchange, "moody")
    });
    (upstream, fails)
}

#[test]
fn who_fails_real_requests_is_left_alone_by_all_workers_and_asked_again_later() {
    let (good, (moody, fails)) = (good(), moody());
    let setup = Setup::to(&[&good, &moody])
        .pool("ejection = { failures = 3, pause = \"1s\", slow_start = \"100ms\" }");
    let proxied = Proxied::start(&setup.workers(2));
    // GETs are tried elsewhere: no client notices.
    for number in 0..40 {
        assert_eq!(proxied.client().get(&format!("/{number}")).whole(200).text(), "good");
    }
    let asked = moody.asked().len();
    assert!((3..=12).contains(&asked), "{asked} requests in all, of two workers");
    fails.store(false, Ordering::SeqCst);
    let mut number = 1_000;
    eventually("it is asked again", || {
        number += 1;
        sleep(Duration::from_millis(20));
        proxied.client().get(&format!("/{number}")).whole(200).text() == "moody"
    });
    let metrics = proxied.metrics();
    assert!(metrics.sum("upstream_failures_total") >= 3);
}

#[test]
fn a_post_to_a_server_that_is_left_alone_is_never_lost() {
    let (good, (moody, _)) = (good(), moody());
    let setup = Setup::to(&[&good, &moody]).pool("ejection = { failures = 2, pause = \"60s\" }");
    let proxied = Proxied::start(&setup);
    let mut failed = 0;
    for number in 0..40 {
        let mut client = proxied.client();
        client.ask(&format!("POST /{number} HTTP/1.1"), &["Content-Length: 2"]);
        client.send("hi");
        match client.reply("POST", Expected::Any).status {
            200 => {}
            502 => failed += 1,
            status => panic!("{status}"),
        }
    }
    assert!((1..=10).contains(&failed), "{failed} of 40 failed");
    assert!(moody.repeated().is_empty() && good.repeated().is_empty());
}

#[test]
fn who_fails_checks_is_asked_nothing_else() {
    let (good, lives) = (good(), Arc::new(AtomicBool::new(false)));
    let told = Arc::clone(&lives);
    let sick = Upstream::new(move |exchange| {
        if exchange.asked.target() == "/health" {
            assert_eq!(exchange.asked.head.field("Host"), Some("check.test"));
            let status = if told.load(Ordering::SeqCst) { "204 Fine" } else { "500 Sick" };
            let line = if status.starts_with('2') { vec![] } else { vec!["Content-Length: 0"] };
            exchange.send(head(status, &line))?;
            return Ok(Next::Keep);
        }
        text(exchange, "sick")
    });
    let setup = Setup::to(&[&good, &sick]).pool(
        "health = { path = \"/health\", host = \"check.test\", interval = \"100ms\", timeout = \"5s\", \
         status = \"200-299\", fails = 2, passes = 2 }",
    );
    let proxied = Proxied::start(&setup);
    let checks = || sick.count(|asked| asked.target() == "/health");
    eventually("it is checked", || checks() >= 4);
    let before = sick.asked().len() - checks();
    for number in 0..30 {
        assert_eq!(proxied.client().get(&format!("/{number}")).whole(200).text(), "good");
    }
    assert_eq!(sick.asked().len() - checks(), before, "it is asked nothing else");
    lives.store(true, Ordering::SeqCst);
    let mut number = 1_000;
    eventually("it is asked again", || {
        number += 1;
        proxied.client().get(&format!("/{number}")).whole(200).text() == "sick"
    });
    lives.store(false, Ordering::SeqCst);
    eventually("it is left alone again", || {
        (0..6).all(|_| {
            number += 1;
            proxied.client().get(&format!("/{number}")).whole(200).text() == "good"
        })
    });
    // A check is no request of a client's: the log has none of them.
    assert!(proxied.log().iter().all(|line| line["target"] != "/health"));
}

#[test]
fn without_any_server_the_answer_is_that_there_is_none() {
    let (moody, _) = moody();
    let setup = Setup::to(&[&moody])
        .pool("health = { path = \"/\", interval = \"100ms\", fails = 1 }\nejection = false");
    let proxied = Proxied::start(&setup.proxy("retries = 0"));
    let mut number = 0;
    eventually("it is left alone", || {
        number += 1;
        sleep(Duration::from_millis(20));
        proxied.client().get(&format!("/{number}")).status == 503
    });
    assert_eq!(proxied.logged(&format!("/{number}"))["trouble"], "no_server");
}
