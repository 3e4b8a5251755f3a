//! What is opened as root, and what as the user that the process becomes.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;
mod operated;

use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::Path;

use common::PATIENCE;
use operated::{Place, eventually, page};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::{Child, Signal};
use sluicegate_testkit::require;

/// `nobody`, by its number: every system has it.
const NOBODY: u32 = 65534;

fn with_log(place: &Place, log: &Path) -> String {
    let more = format!("{}\naccess_log = {{ path = {log:?} }}", user());
    place.config(&["127.0.0.1:0"], "one", &more)
}

fn owner(path: &Path) -> (u32, u32) {
    let metadata = fs::symlink_metadata(path).unwrap();
    (metadata.uid(), metadata.gid())
}

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

#[test]
fn a_spool_that_only_root_could_use_is_told_at_the_start() {
    require!(Need::Root);
    let place = Place::new();
    let spool = place.path("spool");
    fs::create_dir(&spool).unwrap();
    fs::set_permissions(&spool, Permissions::from_mode(0o700)).unwrap();
    let config = place.config(&["127.0.0.1:0"], "one", &user());
    let route = format!(
        "\n[[site.route]]\npath = \"/app/\"\nproxy = {{ url = \"http://127.0.0.1:9\", \
         spool = {{ disk = \"16MiB\", directory = {spool:?} }} }}\n"
    );
    place.write(&(config + &route));
    is_refused(&place, "may not be written: permission denied");
    fs::set_permissions(&spool, Permissions::from_mode(0o777)).unwrap();
    place.start().stop();
}

#[test]
fn a_log_that_is_a_link_gives_nothing_away() {
    require!(Need::Root);
    let place = Place::new();
    // Of the user, who may put there what it likes.
    let logs = place.path("logs");
    fs::create_dir(&logs).unwrap();
    chown(&logs, Some(NOBODY), Some(NOBODY)).unwrap();
    let (secret, missing) = (place.path("secret"), place.path("missing"));
    fs::write(&secret, "root's").unwrap();
    fs::set_permissions(&secret, Permissions::from_mode(0o600)).unwrap();
    symlink(&secret, logs.join("link")).unwrap();
    fs::hard_link(&secret, logs.join("hard")).unwrap();
    symlink(&missing, logs.join("dangling")).unwrap();
    for name in ["link", "hard", "dangling"] {
        place.write(&with_log(&place, &logs.join(name)));
        is_refused(&place, "the user that runs the server must be allowed to write it");
        assert_eq!(owner(&secret), (0, 0), "{name}");
        assert!(!missing.exists(), "{name}");
    }
    assert_eq!(fs::read(&secret).unwrap(), b"root's");
}

#[test]
fn a_log_in_a_directory_of_root_is_rotated_by_root() {
    require!(Need::Root);
    let place = Place::new();
    let (log, old) = (place.path("access.log"), place.path("access.log.1"));
    place.write(&with_log(&place, &log));
    let mut served = place.start();
    assert_eq!(owner(&log), (NOBODY, NOBODY));
    // As `create 0660 root nogroup` of logrotate has it.
    fs::rename(&log, &old).unwrap();
    fs::write(&log, "").unwrap();
    chown(&log, Some(0), Some(NOBODY)).unwrap();
    fs::set_permissions(&log, Permissions::from_mode(0o660)).unwrap();
    served.child.signal(Signal::USR1).unwrap();
    eventually("a line is in the new file", || {
        page(served.address);
        fs::metadata(&log).unwrap().len() > 0
    });
    assert_eq!(owner(&log), (0, NOBODY));
    assert!(!served.child.output().contains("cannot open"), "{}", served.child.output());
    served.stop();
}
