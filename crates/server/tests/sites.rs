//! Sites as clients of the program find them.
#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

mod common;

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU16, Ordering};

use common::{PATIENCE, PROGRAM, Served};
use sluicegate_testkit::process::Signal;

/// A tree of files with a configuration in it.
struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    /// With these files, whose contents are their names.
    fn new(files: &[&str]) -> Self {
        let place = Place { directory: tempfile::tempdir().unwrap() };
        for file in files {
            place.write(file, file);
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn write(&self, name: &str, content: &str) {
        let path = self.path(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    fn run(&self, config: &str) -> Served {
        self.write("test.toml", config);
        let mut command = Command::new(PROGRAM);
        command.arg("run").arg(self.path("test.toml"));
        Served::by(command)
    }

    fn reload(&self, served: &mut Served, config: &str) {
        self.write("test.toml", config);
        served.child.signal(Signal::HUP).unwrap();
        served.child.wait_for_line(|line| line.contains(": reloaded: "), PATIENCE).unwrap();
    }
}

/// Head and content of the answer to a whole request that ends its connection.
fn ask(address: SocketAddr, request: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut all = String::new();
    stream.read_to_string(&mut all).unwrap();
    let (head, content) = all.split_once("\r\n\r\n").expect("a whole head");
    (head.to_owned(), content.to_owned())
}

fn get(address: SocketAddr, host: &str, target: &str) -> (String, String) {
    let line = format!("GET {target} HTTP/1.1");
    ask(address, &format!("{line}\r\nHost: {host}\r\nConnection: close\r\n\r\n"))
}

/// A port below those that connections are given (`ip_local_port_range`), so that none takes it
/// before it is used; to each test another.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 15_000 + (std::process::id() % 15_000) as u16;
    let is_free = |port: &u16| TcpListener::bind(("0.0.0.0", *port)).is_ok();
    let ports = std::iter::repeat_with(|| first + NEXT.fetch_add(1, Ordering::Relaxed));
    ports.take(1000).find(is_free).unwrap()
}

/// Descriptors that a process has.
fn descriptors(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count()
}

#[test]
fn a_thousand_sites_by_name_and_a_thousand_by_address_are_told_apart() {
    let place = Place::new(&[]);
    let port = free_port();
    let mut config = format!("workers = 2\nlisten = [\"0.0.0.0:{port}\"]\n");
    let address =
        |number: usize| -> IpAddr { [127, 9, (number / 250) as u8, (number % 250) as u8].into() };
    for number in 0..1000 {
        let name = format!("by-name/{number}");
        let by_address = format!("by-address/{number}");
        for (root, reached) in [
            (&name, format!("hosts = [\"s{number}.test\"]")),
            (&by_address, format!("listen = [\"{}:{port}\"]", address(number))),
        ] {
            place.write(&format!("{root}/page"), root);
            writeln!(config, "[[site]]\n{reached}").unwrap();
            let files = format!("files = {{ root = \"{root}\" }}");
            writeln!(config, "[[site.route]]\npath = \"/\"\n{files}").unwrap();
        }
    }
    let served = place.run(&config);
    let local = |number| SocketAddr::new(address(number), port);
    for number in (0..1000).step_by(13).chain([999]) {
        // By name at any address; without one that a site has, by address.
        let (_, content) = get(local(7), &format!("S{number}.test:{port}"), "/page");
        assert_eq!(content, format!("by-name/{number}"));
        let (_, content) = get(local(number), &local(number).to_string(), "/page");
        assert_eq!(content, format!("by-address/{number}"));
        let (_, content) = ask(local(number), "GET /page HTTP/1.0\r\n\r\n");
        assert_eq!(content, format!("by-address/{number}"));
    }
    let elsewhere = SocketAddr::new([127, 0, 0, 1].into(), port);
    let (head, _) = get(elsewhere, "nobody.test", "/page");
    assert!(head.starts_with("HTTP/1.1 404 "), "{head}");
    served.stop();
}

#[test]
fn sites_that_share_a_root_share_a_descriptor() {
    let place = Place::new(&["www/page"]);
    let mut config = String::from("workers = 1\nlisten = [\"127.0.0.1:0\"]\n");
    let one = "[[site.route]]\npath = \"/\"\nfiles = { root = \"www\" }\n";
    writeln!(config, "[[site]]\n{one}").unwrap();
    let lone = place.run(&config);
    let few = descriptors(lone.child.pid());
    for number in 0..500 {
        let header = format!("add_headers = {{ X-Site = \"{number}\" }}");
        writeln!(config, "[[site]]\nhosts = [\"s{number}.test\"]\n{header}\n{one}").unwrap();
    }
    let served = place.run(&config);
    for number in [0, 250, 499] {
        let (head, content) = get(served.address, &format!("s{number}.test"), "/page");
        assert!(head.contains(&format!("X-Site: {number}\r\n")), "{head}");
        assert_eq!(content, "www/page");
    }
    let many = descriptors(served.child.pid());
    assert!(many <= few + 8, "{few} descriptors with one site, {many} with 501");
    lone.stop();
    served.stop();
}

#[test]
fn routes_act_as_the_configuration_says() {
    let place = Place::new(&["www/page", "www/404.html", "app/index.html", "php/x.php"]);
    let served = place.run(
        r#"
        listen = ["127.0.0.1:0"]
        [[site]]
        add_headers = { X-Site = "s" }
        [[site.route]]
        path = "/"
        files = { root = "www", error_pages = { 404 = "404.html" } }
        [[site.route]]
        path = "/app/"
        remove_headers = ["ETag", "Last-Modified"]
        files = { root = "app", strip_prefix = "/app" }
        [[site.route]]
        match = "*.php"
        allow = ["all"]
        files = { root = "php" }
        [[site.route]]
        path = "/old/"
        redirect = { to = "https://{host}{path}{query}", status = 301 }
        [[site.route]]
        path = "/ok"
        respond = { text = "fine" }
        [[site.route]]
        path = "/shut/"
        deny = ["127.0.0.0/8"]
        respond = { text = "secret" }
        "#,
    );
    for (target, status, content) in [
        ("/page", 200, "www/page"),
        ("/none", 404, "www/404.html"),
        ("/app/", 200, "app/index.html"),
        ("/x.php", 200, "php/x.php"),
        ("/ok", 200, "fine"),
        ("/shut/", 403, "403 Forbidden\n"),
        ("/a/../shut/x", 403, "403 Forbidden\n"),
    ] {
        let answer = served.get(target);
        let found = String::from_utf8(answer.content.clone()).unwrap();
        assert_eq!((answer.status, &*found), (status, content), "{target}");
        assert_eq!(answer.field("X-Site"), Some("s"), "{target}");
        let is_app = target.starts_with("/app");
        assert_eq!(answer.field("ETag").is_some(), status == 200 && !is_app && found != "fine");
    }
    let moved = served.get("/old/%0d%0aX-Evil:%20a?b=c");
    assert_eq!(moved.status, 301);
    assert_eq!(moved.field("Location"), Some("https://h/old/%0D%0AX-Evil%3A%20a?b=c"));
    assert_eq!(moved.field("X-Evil"), None);
    served.stop();
}

#[test]
fn pages_for_errors_keep_the_status() {
    let place = Place::new(&["www/page", "www/e/403", "www/e/404", "www/e/405", "www/e/416"]);
    let served = place.run(
        r#"
        listen = ["127.0.0.1:0"]
        [[site]]
        [[site.route]]
        path = "/"
        files = { root = "www", error_pages = { 403 = "e/403", 404 = "e/404", 405 = "e/405", 416 = "e/416" } }
        [[site.route]]
        path = "/shut/"
        deny = ["all"]
        files = { root = "www", error_pages = { 403 = "e/403" } }
        "#,
    );
    for (head, status) in [
        ("GET /none HTTP/1.1", 404),
        ("GET /none HTTP/1.1\r\nRange: bytes=0-1", 404),
        ("GET /none HTTP/1.1\r\nIf-None-Match: *", 404),
        ("DELETE /page HTTP/1.1", 405),
        ("GET /page HTTP/1.1\r\nRange: bytes=99-", 416),
        ("GET /shut/page HTTP/1.1", 403),
    ] {
        let answer = served.ask(head);
        let page = format!("www/e/{status}");
        assert_eq!((answer.status, &*answer.content), (status, page.as_bytes()), "{head}");
        assert_eq!(answer.field("ETag"), None, "{head}");
    }
    // As a file that is asked for, it is one like any other.
    let answer = served.get("/e/404");
    assert_eq!((answer.status, answer.field("ETag").is_some()), (200, true));
    served.stop();
}

#[test]
fn who_may_ask_for_a_route_is_not_who_may_ask_for_its_site() {
    let place = Place::new(&["www/page", "www/own/page", "www/open/page"]);
    let config = r#"
        listen = ["127.0.0.1:0"]
        [[site]]
        allow = ["127.0.0.0/8"]
        [[site.route]]
        path = "/"
        files = { root = "www" }
        [[site.route]]
        path = "/own/"
        allow = ["10.0.0.0/8"]
        files = { root = "www" }
        [[site.route]]
        path = "/open/"
        deny = ["10.0.0.0/8"]
        files = { root = "www" }
    "#;
    let served = place.run(config);
    for (target, status) in [("/page", 200), ("/own/page", 403), ("/open/page", 200)] {
        assert_eq!(served.get(target).status, status, "{target}");
    }
    served.stop();
}

#[test]
fn a_client_over_ipv6_is_found_by_its_literal_and_by_its_address() {
    if TcpListener::bind("[::1]:0").is_err() {
        return;
    }
    let place = Place::new(&["six/page", "four/page", "other/page"]);
    let port = free_port();
    let served = place.run(&format!(
        r#"
        listen = ["127.0.0.1:{port}", "[::1]:{port}"]
        [[site]]
        hosts = ["[::1]"]
        route = [{{ path = "/", files = {{ root = "six" }} }}]
        [[site]]
        listen = ["127.0.0.1:{port}"]
        route = [{{ path = "/", files = {{ root = "four" }} }}]
        [[site]]
        listen = ["[::1]:{port}"]
        route = [{{ path = "/", allow = ["::1"], files = {{ root = "other" }} }}]
        "#
    ));
    let six: SocketAddr = format!("[::1]:{port}").parse().unwrap();
    let four: SocketAddr = format!("127.0.0.1:{port}").parse().unwrap();
    for (address, host, content) in [
        (six, &*format!("[0:0:0::1]:{port}"), "six/page"),
        (four, "[::1]", "six/page"),
        (six, "localhost", "other/page"),
        (four, "localhost", "four/page"),
    ] {
        assert_eq!(get(address, host, "/page").1, content, "{host} at {address}");
    }
    served.stop();
}

#[test]
fn what_is_kept_in_memory_stays_over_a_reload() {
    let place = Place::new(&["a/page", "b/page"]);
    let site = |root: &str| {
        let route = format!("[[site.route]]\npath = \"/\"\nfiles = {{ root = \"{root}\" }}\n");
        format!("[[site]]\nhosts = [\"{root}.test\"]\n{route}")
    };
    let top = "workers = 1\nlisten = [\"127.0.0.1:0\"]\n";
    let mut served = place.run(&(top.to_owned() + &site("a") + &site("b")));
    let look = |served: &Served, host: &str| get(served.address, host, "/page").1;
    assert_eq!(
        (look(&served, "a.test"), look(&served, "b.test")),
        ("a/page".into(), "b/page".into())
    );
    place.reload(&mut served, &(top.to_owned() + &site("b")));
    assert_eq!(look(&served, "b.test"), "b/page");
    assert!(look(&served, "a.test").starts_with("404"));
    let sent = served.stop();
    assert_eq!((sent.opened, sent.memory), (2, 1), "{sent:?}");
}

#[test]
fn a_directory_that_is_missing_is_told_of_with_its_place() {
    let place = Place::new(&[]);
    place.write(
        "test.toml",
        "[[site]]\n[[site.route]]\npath = \"/\"\nfiles = { root = \"none\" }\n",
    );
    let run = |command: &str| {
        let path: &Path = &place.path("test.toml");
        let output = Command::new(PROGRAM).arg(command).arg(path).output().unwrap();
        assert!(!output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    for command in ["run", "check"] {
        let told = run(command);
        assert!(told.contains("test.toml:4:") && told.contains("none"), "{told}");
    }
}
