//! What is opened as root, and what as the user that the process becomes.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use common::PATIENCE;
use operated::{Place, eventually};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Child;
use sluicegate_testkit::require;

/// `nobody`, by its number: every system has it.
const NOBODY: u32 = 65534;

fn user() -> String {
    format!("user = \"{NOBODY}:{NOBODY}\"")
}

/// The program does not start, and says so, and who it was by then.
fn is_refused(place: &Place, says: &str) {
    let mut child = Child::spawn(place.command()).unwrap();
    let status = child.wait_timeout(PATIENCE).unwrap();
    assert_eq!(status.code(), Some(1), "{says}: {}", child.output());
    let said = || child.output().contains(says) && child.output().contains("as user `65534:65534`");
    eventually(&format!("{says}: {}", child.output()), said);
    assert!(!child.output().contains("Serving"), "{}", child.output());
}

#[test]
fn what_only_root_can_read_is_told_at_the_start() {
    require!(Need::Root);
    let place = Place::new();
    fs::create_dir_all(place.path("closed/root")).unwrap();
    fs::write(place.path("closed/root/page"), "x").unwrap();
    fs::write(place.path("one/404.html"), "x").unwrap();
    let close = |name: &str, mode| {
        fs::set_permissions(place.path(name), Permissions::from_mode(mode)).unwrap();
    };
    close("closed", 0o700);
    close("one/404.html", 0o600);
    let root = place.config(&["127.0.0.1:0"], "closed/root", &user());
    let page = place.config(&["127.0.0.1:0"], "one", &user());
    let page = |key: &str| page.replace(" }", &format!(", {key} }}"));
    for (config, says) in [
        (root, "cannot serve"),
        (page("error_pages = { 404 = \"404.html\" }"), "`404.html` beneath it"),
        (page("fallback = \"404.html\""), "`404.html` beneath it"),
    ] {
        place.write(&config);
        is_refused(&place, says);
    }
    place.write(&place.config(&["127.0.0.1:0"], "one", &user()));
    close("config.toml", 0o600);
    is_refused(&place, "cannot read `");
    close("config.toml", 0o644);
    place.start().stop();
}
