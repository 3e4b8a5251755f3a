//! Sites from a configuration's text to answers on a socket.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::rc::Rc;
use std::time::Duration;

use sluicegate::{Reactor, SendContext, Socket};
use sluicegate_http::{Endpoints, Limits, Service, serve_between};

use super::*;

/// Files that changed longer ago are not taken for changing now.
const SETTLED: Duration = Duration::from_millis(120);

/// A configuration in a directory of its own, and a worker that serves it.
struct Serving {
    tree: tempfile::TempDir,
    sites: Arc<Sites>,
    service: Rc<Service<Worker>>,
}

struct Answer {
    status: u16,
    head: String,
    content: String,
}

impl Answer {
    fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(": ")?;
            field.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

fn open(tree: &Path, text: &str, before: Option<&Sites>) -> Result<Arc<Sites>> {
    let path = tree.join("test.toml");
    std::fs::write(&path, text).unwrap();
    Sites::open(&config::load(&path)?, 1, before)
}

impl Serving {
    /// With these files, whose contents are their names unless they are given.
    fn new(files: &[&str], text: &str) -> Self {
        let tree = tempfile::tempdir().unwrap();
        for file in files {
            let path = tree.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, file).unwrap();
        }
        std::thread::sleep(SETTLED);
        let sites = open(tree.path(), text, None).unwrap();
        let upstreams = Upstreams::new(Reactor::new().unwrap(), Arc::default());
        let service =
            Rc::new(Service::new(sites.worker(upstreams, Arc::default()), Limits::default()));
        Serving { tree, sites, service }
    }

    fn reload(&mut self, text: &str) {
        self.sites = open(self.tree.path(), text, Some(&self.sites)).unwrap();
        let worker = self.service.handler().renewed(&self.sites);
        self.service = Rc::new(Service::new(worker, Limits::default()));
    }

    /// The answer to a whole request, of a client at `peer` to us at `local`.
    fn ask_at(&self, request: &str, peer: &str, local: &str) -> Answer {
        let address = |text: &str| -> Option<SocketAddr> { text.parse().ok() };
        let endpoints = Endpoints { peer: address(peer), local: address(local), balanced: None };
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        client.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        client.write_all(request.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let (accepted, _) = listener.accept().unwrap();
        accepted.set_nonblocking(true).unwrap();
        let worker = sluicegate::Worker::new().unwrap();
        let context = Arc::new(SendContext::default());
        let socket = Socket::with_context(accepted.into(), worker.reactor(), context).unwrap();
        worker.run(serve_between(socket, endpoints, Rc::clone(&self.service))).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let all = String::from_utf8(all).unwrap();
        let (head, content) = all.split_once("\r\n\r\n").expect("a whole head");
        let status = head[9..12].parse().unwrap();
        Answer { status, head: head.to_owned(), content: content.to_owned() }
    }

    fn ask(&self, host: &str, target: &str, fields: &str) -> Answer {
        let request = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n{fields}\r\n");
        self.ask_at(&request, "192.0.2.1:1000", "127.0.0.1:8080")
    }

    fn get(&self, host: &str, target: &str) -> Answer {
        self.ask(host, target, "")
    }
}

#[test]
fn each_site_has_its_own_files_and_a_name_that_nobody_has_none() {
    let serving = Serving::new(
        &["a/page", "b/page", "c/page"],
        r#"
        [[site]]
        hosts = ["a.test"]
        route = [{ path = "/", files = { root = "a" } }]
        [[site]]
        hosts = ["*.test", "[::1]"]
        route = [{ path = "/", files = { root = "b" } }]
        [[site]]
        listen = ["127.0.0.2:80"]
        route = [{ path = "/", files = { root = "c" } }]
        "#,
    );
    for (host, content) in [
        ("a.test", "a/page"),
        ("A.TEST.:80", "a/page"),
        ("x.test", "b/page"),
        ("[0::1]:8", "b/page"),
    ] {
        assert_eq!(serving.get(host, "/page").content, content, "{host}");
    }
    let nobody = serving.get("x.example", "/page");
    assert_eq!(nobody.status, 404);
    assert!(nobody.content.contains("No site of this server has this name"));
    assert_eq!(nobody.field("Content-Type"), Some("text/plain; charset=utf-8"));
    // By the address that it came to; and without Host.
    for request in ["GET /page HTTP/1.1\r\nHost: x.example\r\n\r\n", "GET /page HTTP/1.0\r\n\r\n"] {
        let there = serving.ask_at(request, "192.0.2.1:1", "[::ffff:127.0.0.2]:80");
        assert_eq!(there.content, "c/page");
        assert_eq!(serving.ask_at(request, "192.0.2.1:1", "127.0.0.1:80").status, 404);
    }
}

#[test]
fn routes_lead_to_their_directories() {
    let serving = Serving::new(
        &["www/page", "www/app/page", "app/page", "app/sub/index.html", "php/x.php", "www/.env"],
        r#"
        [[site]]
        [[site.route]]
        path = "/"
        files = { root = "www", listing = true }
        [[site.route]]
        path = "/app/"
        files = { root = "app", strip_prefix = "/app", listing = true }
        [[site.route]]
        path = "/old"
        files = { root = "app", strip_prefix = "/old" }
        [[site.route]]
        match = "*.php"
        files = { root = "php" }
        "#,
    );
    for (target, content) in [
        ("/page", "www/page"),
        ("/app/page", "app/page"),
        ("/app//./page", "app/page"),
        ("/%61pp/page", "app/page"),
        ("/app/sub/", "app/sub/index.html"),
        ("/old/page", "app/page"),
        ("/x.php", "php/x.php"),
        ("/x.ph%70", "php/x.php"),
    ] {
        let answer = serving.get("h", target);
        assert_eq!((answer.status, &*answer.content), (200, content), "{target}");
    }
    for (target, location) in
        [("/app/sub?a=b", "/app/sub/?a=b"), ("/old", "/old/"), ("/app", "/app/")]
    {
        let answer = serving.get("h", target);
        assert_eq!((answer.status, answer.field("Location")), (301, Some(location)), "{target}");
    }
    for (target, status) in
        [("/.env", 404), ("/app/../.env", 404), ("/none.php", 404), ("/a%2fb", 400), ("/../x", 400)]
    {
        assert_eq!(serving.get("h", target).status, status, "{target}");
    }
    // What is shown is where the client is, not where the files are.
    let listing = serving.get("h", "/app/").content;
    assert!(listing.contains("<title>Index of /app/</title>"), "{listing}");
    assert!(listing.contains("href=\"./page\"") && listing.contains("href=\"../\""), "{listing}");
}

#[test]
fn without_a_route_there_is_nothing() {
    let serving =
        Serving::new(&[], "[[site]]\nroute = [{ path = \"/a/\", respond = { text = \"a\" } }]");
    let statuses = ["/a/x", "/a/", "/a", "/", "/%"].map(|target| serving.get("h", target).status);
    assert_eq!(statuses, [200, 200, 404, 404, 400]);
}

#[test]
fn addresses_are_let_in_or_kept_out_with_the_routes_own_page() {
    let serving = Serving::new(
        &["www/page", "www/403.html"],
        r#"
        [[site]]
        add_headers = { X-Site = "s" }
        [[site.route]]
        path = "/"
        deny = ["192.0.2.0/24"]
        allow = ["192.0.2.7", "all"]
        files = { root = "www", error_pages = { 403 = "403.html" } }
        [[site.route]]
        path = "/to/"
        allow = ["2001:db8::/32"]
        redirect = { to = "/page" }
        "#,
    );
    let ask = |target: &str, peer: &str| {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        serving.ask_at(&request, peer, "127.0.0.1:80")
    };
    for (peer, content) in [
        ("192.0.2.1:1", "www/403.html"),
        ("[::ffff:192.0.2.1]:1", "www/403.html"),
        ("192.0.2.7:1", "www/page"),
        ("[::ffff:192.0.2.7]:1", "www/page"),
        ("198.51.100.1:1", "www/page"),
        ("[2001:db8::1]:1", "www/page"),
    ] {
        let answer = ask("/page", peer);
        let status = if content == "www/page" { 200 } else { 403 };
        assert_eq!((answer.status, &*answer.content), (status, content), "{peer}");
        assert_eq!(answer.field("X-Site"), Some("s"));
    }
    // A path in other words is no way around.
    assert_eq!(ask("/x/../%70age", "192.0.2.1:1").status, 403);
    assert_eq!(ask("/to/", "[2001:db8::1]:1").status, 308);
    let refused = ask("/to/", "192.0.2.7:1");
    assert_eq!((refused.status, refused.field("Location")), (403, None));
}

#[test]
fn redirects_and_fixed_answers_are_given_to_every_method() {
    let serving = Serving::new(
        &[],
        r#"
        [[site]]
        hosts = ["a.test", "*.a.test"]
        add_headers = { X-Site = "s" }
        [[site.route]]
        path = "/"
        redirect = { to = "https://{host}{path}{query}" }
        [[site.route]]
        path = "/text"
        remove_headers = ["Content-Type"]
        respond = { status = 418, text = "tea" }
        [[site.route]]
        path = "/empty"
        respond = { status = 204 }
        [[site.route]]
        path = "/typed"
        add_headers = { Content-Type = "a/b", Cache-Control = "no-store" }
        respond = { text = "x" }
        "#,
    );
    let moved = serving.get("B.a.test:81", "/a%20b/?c=d");
    assert_eq!(
        (moved.status, moved.field("Location"), moved.field("X-Site")),
        (308, Some("https://B.a.test/a%20b/?c=d"), Some("s"))
    );
    let split = serving.get("a.test", "/%0d%0aX-Evil:%20a?%0d%0aX-Evil:b");
    assert_eq!(
        split.field("Location"),
        Some("https://a.test/%0D%0AX-Evil%3A%20a?%0d%0aX-Evil:b"),
        "{}",
        split.head
    );
    let text = serving.get("a.test", "/text");
    assert_eq!((text.status, &*text.content, text.field("X-Site")), (418, "tea", Some("s")));
    assert_eq!(text.field("Content-Type"), None);
    let head = "HEAD /text HTTP/1.1\r\nHost: a.test\r\n\r\n";
    let head = serving.ask_at(head, "", "");
    assert_eq!((head.status, &*head.content, head.field("Content-Length")), (418, "", Some("3")));
    let post = "POST /text HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab";
    assert_eq!(serving.ask_at(post, "", "").content, "tea");
    let empty = serving.get("a.test", "/empty");
    assert_eq!((empty.status, empty.field("Content-Length")), (204, None));
    assert_eq!((empty.field("X-Site"), empty.field("Content-Type")), (Some("s"), None));
    let typed = serving.get("a.test", "/typed");
    assert_eq!(
        (typed.field("Content-Type"), typed.field("Cache-Control")),
        (Some("a/b"), Some("no-store"))
    );
    assert_eq!(typed.head.matches("Content-Type").count(), 1);
}

#[test]
fn header_rules_are_in_all_kinds_of_answers() {
    let serving = Serving::new(
        &["www/page.txt", "www/404.html", "www/dir/index.html", "www/list/x"],
        r#"
        [[site]]
        [[site.route]]
        path = "/"
        add_headers = { X-Route = "r", Cache-Control = "no-store" }
        remove_headers = ["ETag", "X-Content-Type-Options"]
        files = { root = "www", error_pages = { 404 = "404.html" }, cache_control = "max-age=9", listing = true }
        "#,
    );
    std::fs::write(serving.tree.path().join("www/large"), vec![b'l'; 100_000]).unwrap();
    let modified = serving.get("h", "/page.txt").field("Last-Modified").unwrap().to_owned();
    let since = format!("If-Modified-Since: {modified}\r\n");
    for (target, fields, status) in [
        ("/page.txt", "", 200),
        // Once more, from memory.
        ("/page.txt", "", 200),
        ("/page.txt", "Connection: close\r\n", 200),
        ("/large", "", 200),
        ("/dir/", "", 200),
        ("/list/", "", 200),
        ("/list/", "If-None-Match: *\r\n", 304),
        ("/page.txt", &since, 304),
        ("/page.txt", "If-None-Match: *\r\n", 304),
        ("/page.txt", "If-Match: \"a\"\r\n", 412),
        ("/page.txt", "Range: bytes=1-2\r\n", 206),
        ("/page.txt", "Range: bytes=1-2,4-5\r\n", 206),
        ("/page.txt", "Range: bytes=900-\r\n", 416),
        ("/dir", "", 301),
        ("/none", "", 404),
        ("/%", "", 400),
    ] {
        let Answer { status: found, head, .. } = serving.ask("h", target, fields);
        assert_eq!(found, status, "{target} {fields}{head}");
        for line in ["X-Route: r", "Cache-Control: no-store", "Cache-Control"] {
            assert_eq!(head.matches(line).count(), 1, "{target} {fields}{head}");
        }
        assert!(!head.contains("ETag") && !head.contains("nosniff"), "{target} {fields}{head}");
    }
    let missing = serving.get("h", "/none");
    assert_eq!((missing.status, &*missing.content), (404, "www/404.html"));
    for method in
        ["OPTIONS /page.txt", "OPTIONS *", "PUT /page.txt", "BREW /page.txt", "CONNECT h:1"]
    {
        let request = format!("{method} HTTP/1.1\r\nHost: h\r\n\r\n");
        let answer = serving.ask_at(&request, "", "");
        assert_eq!(answer.field("X-Route"), Some("r"), "{method}: {}", answer.head);
    }
    // Nobody can read it, but there is only one site whose it can be.
    let refused = serving.ask_at("GET / HTTP/1.1\r\nBad Name: x\r\n\r\n", "", "");
    assert_eq!((refused.status, refused.field("X-Route")), (400, Some("r")));
}

#[test]
fn what_is_kept_of_a_directory_stays_over_a_reload_where_nothing_changed() {
    let site = |root: &str, header: &str| {
        format!(
            "[[site]]\nhosts = [\"{root}.test\"]\nroute = [{{ path = \"/\", \
             add_headers = {{ X-A = \"{header}\" }}, files = {{ root = \"{root}\" }} }}]\n"
        )
    };
    let before = site("a", "1") + &site("b", "1") + &site("c", "1");
    let mut serving = Serving::new(&["a/page", "b/page", "c/page"], &before);
    for host in ["a.test", "b.test", "c.test"] {
        assert_eq!(serving.get(host, "/page").field("X-A"), Some("1"));
    }
    assert_eq!(serving.sites.counters().totals().opened, 3);
    serving.reload(&(site("b", "2") + &site("a", "1")));
    let totals = serving.sites.counters().totals();
    assert_eq!((totals.opened, totals.kept_files), (3, 1), "only what is still served is kept");
    assert!(totals.kept_bytes > 0);
    assert_eq!(serving.get("b.test", "/page").field("X-A"), Some("2"));
    assert_eq!(serving.get("a.test", "/page").content, "a/page");
    assert_eq!(serving.get("c.test", "/page").status, 404);
    let totals = serving.sites.counters().totals();
    assert_eq!((totals.opened, totals.memory), (4, 1));
}

#[test]
fn all_directories_that_cannot_be_opened_are_told_of() {
    let tree = tempfile::tempdir().unwrap();
    std::fs::create_dir(tree.path().join("www")).unwrap();
    let text = "[[site]]\nroute = [\n{ path = \"/\", files = { root = \"www\" } },\n\
                { path = \"/a\", files = { root = \"www\", listing = true } } ]";
    let path = tree.path().join("test.toml");
    std::fs::write(&path, text).unwrap();
    let config = config::load(&path).unwrap();
    std::fs::remove_dir(tree.path().join("www")).unwrap();
    let error = Sites::open(&config, 1, None).unwrap_err().to_string();
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 2, "{error}");
    assert!(
        lines[0].contains("test.toml:3: cannot serve") && lines[0].contains("/www`"),
        "{error}"
    );
}

#[test]
fn a_thousand_sites_by_name_and_a_thousand_by_address_answer_with_their_own() {
    use std::fmt::Write;
    let tree = tempfile::tempdir().unwrap();
    let mut text = String::new();
    for number in 0..1000 {
        let (high, low) = (number / 250, number % 250 + 1);
        for (root, reached) in [
            (format!("n{number}"), format!("hosts = [\"n{number}.test\", \"*.n{number}.test\"]")),
            (format!("a{number}"), format!("listen = [\"127.1.{high}.{low}:8080\"]")),
        ] {
            std::fs::create_dir(tree.path().join(&root)).unwrap();
            std::fs::write(tree.path().join(&root).join("page"), &root).unwrap();
            writeln!(text, "[[site]]\n{reached}").unwrap();
            writeln!(text, "route = [{{ path = \"/\", files = {{ root = \"{root}\" }} }}]")
                .unwrap();
        }
    }
    let sites = open(tree.path(), &text, None).unwrap();
    let again = open(tree.path(), &text, Some(&sites)).unwrap();
    assert_eq!(sites.numbers.len(), 2000);
    assert_eq!(sites.numbers, again.numbers);
    let upstreams = Upstreams::new(Reactor::new().unwrap(), Arc::default());
    let service = Rc::new(Service::new(sites.worker(upstreams, Arc::default()), Limits::default()));
    let serving = Serving { tree, sites, service };
    for number in (0..1000).step_by(37).chain([999]) {
        let content = serving.get(&format!("N{number}.test"), "/page").content;
        assert_eq!(content, format!("n{number}"));
        let content = serving.get(&format!("www.n{number}.test"), "/page").content;
        assert_eq!(content, format!("n{number}"));
        let local = format!("127.1.{}.{}:8080", number / 250, number % 250 + 1);
        let request = "GET /page HTTP/1.1\r\nHost: 127.1.0.1\r\n\r\n";
        let content = serving.ask_at(request, "192.0.2.1:1", &local).content;
        assert_eq!(content, format!("a{number}"));
    }
}
