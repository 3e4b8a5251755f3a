//! What the tests in a browser rely on.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};

use sluicegate_testkit::browser::{self, BrowserError, Desk, Scheme};
use sluicegate_testkit::corpus::Tree;
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

const WINDOW: (u32, u32) = (800, 600);

/// Visits a page that runs `script`, from the file system: no server is needed.
fn visit(script: &str) -> Result<Vec<String>, BrowserError> {
    let desk = Desk::open().unwrap();
    let page = format!("<!DOCTYPE html><script>{} {script}</script>", desk.script());
    let tree = Tree::new().unwrap().text("page.html", page).unwrap();
    desk.visit(&format!("file://{}", tree.join("page.html").display()), WINDOW)
}

#[test]
fn reports_come_whole_and_in_the_order_in_which_they_were_awaited() {
    require!(Need::Program(browser::PROGRAM));
    let script = r#"tell(async () => {
        for (let n = 0; n < 20; n++) await report(`${n} é`);
        await report({ width: innerWidth > 500, list: [1, "a\nb"] });
        await report("x".repeat(1e6));
    });"#;
    let mut expected: Vec<String> = (0..20).map(|n| format!("{n} é")).collect();
    expected.push(r#"{"width":true,"list":[1,"a\nb"]}"#.to_owned());
    expected.push("x".repeat(1_000_000));
    assert!(visit(script).unwrap() == expected);
}

#[test]
fn an_error_on_a_page_is_reported_and_ends_the_visit() {
    require!(Need::Program(browser::PROGRAM));
    let reports = visit("tell(async () => { await nothing(); });").unwrap();
    assert_eq!(reports.len(), 1);
    assert!(reports[0].starts_with("error: ReferenceError"), "{}", reports[0]);
}

#[test]
fn only_one_address_is_reached_whoever_listens_at_others() {
    require!(Need::Program(browser::PROGRAM));
    let other = TcpListener::bind((Ipv4Addr::new(127, 0, 0, 2), 0)).unwrap();
    other.set_nonblocking(true).unwrap();
    let address = other.local_addr().unwrap();
    let script = format!(
        r#"tell(async () => {{
            for (const host of ["{address}", "127.0.0.1.nip.test:{port}", "localhost:{port}"]) {{
                const signal = AbortSignal.timeout(5000);
                await fetch(`http://${{host}}/`, {{ mode: "no-cors", signal }})
                    .catch(error => report(error.name));
            }}
        }});"#,
        port = address.port()
    );
    // Unknown at once, and not waited for in vain.
    assert_eq!(visit(&script).unwrap(), ["TypeError"; 3]);
    assert_eq!(other.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
}

#[test]
fn a_picture_has_the_size_of_its_window() {
    require!(Need::Program(browser::PROGRAM));
    let tree = Tree::new().unwrap().text("page.html", "<!DOCTYPE html><p>text").unwrap();
    let path = tree.join("page.png");
    let url = format!("file://{}", tree.join("page.html").display());
    browser::screenshot(&url, WINDOW, &path).unwrap();
    let png = std::fs::read(path).unwrap();
    assert!(png.starts_with(b"\x89PNG"));
    let number = |at: usize| u32::from_be_bytes(png[at..at + 4].try_into().unwrap());
    assert_eq!((number(16), number(20)), WINDOW);
}

#[test]
fn a_look_tells_what_came_to_the_console_and_who_looks_has_a_scheme() {
    require!(Need::Program(browser::PROGRAM));
    let page = "<!DOCTYPE html><script>\
        console.log(matchMedia('(prefers-color-scheme: dark)').matches);\
        nothing();</script>";
    let tree = Tree::new().unwrap().text("page.html", page).unwrap();
    let url = format!("file://{}", tree.join("page.html").display());
    for (scheme, is_dark) in [(Scheme::Light, "\"false\""), (Scheme::Dark, "\"true\"")] {
        let console = browser::look(&url, WINDOW, scheme, &tree.join("page.png")).unwrap();
        let [preferred, error] = &console[..] else { panic!("{console:#?}") };
        assert!(preferred.contains(is_dark), "{preferred}");
        assert!(error.contains("nothing is not defined"), "{error}");
        assert!(std::fs::read(tree.join("page.png")).unwrap().starts_with(b"\x89PNG"));
    }
}
