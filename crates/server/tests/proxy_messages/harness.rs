//! That what an upstream's handler finds to be wrong is what its test fails with.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crate::proxied::answers::text;
use crate::proxied::client::Expected;
use crate::proxied::program::{Proxied, Setup};
use crate::proxied::upstream::Upstream;

fn picky() -> Upstream {
    Upstream::new(|exchange| {
        assert_eq!(exchange.asked.target(), "/right", "this is what was wrong");
        text(exchange, "right")
    })
}

fn why(work: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(work)).expect_err("it should have failed");
    panic.downcast_ref::<String>().expect("its message").clone()
}

#[test]
fn what_a_handler_finds_wrong_fails_its_test_at_once() {
    let upstream = picky();
    let proxied = Proxied::start(&Setup::to(&[&upstream]).pool("ejection = false"));
    let begin = Instant::now();
    let mut client = proxied.client();
    client.ask("POST /wrong HTTP/1.1", &["Content-Length: 0"]);
    // Its client is not left waiting.
    client.reply("POST", Expected::Any).whole(502);
    // Neither who waits for the upstream, nor who looks at nothing more.
    let waits = why(|| upstream.eventually("what never comes", || false));
    assert!(waits.contains("this is what was wrong"), "{waits}");
    let dropped = why(|| drop(upstream));
    assert!(dropped.contains("this is what was wrong"), "{dropped}");
    assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", begin.elapsed());
}
