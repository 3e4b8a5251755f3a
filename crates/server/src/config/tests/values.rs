//! What a configuration without mistakes means.

use std::net::SocketAddr;
use std::time::Duration;

use sluicegate::file::Links;
use sluicegate::{Locality, Way};
use sluicegate_http::{Coding, Limits};

use super::super::{
    AccessLog, Action, Config, Host, LISTEN, LogFormat, LogTo, Match, Redirect, Route, limits,
};
use super::{ROUTE, directory, read};

fn config(text: &str) -> Config {
    let directory = directory();
    read(text, directory.path()).unwrap_or_else(|mistakes| panic!("{mistakes}"))
}

fn routes(text: &str) -> Vec<Route> {
    config(&format!("[[site]]\n{text}")).sites.remove(0).routes
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = config(&format!("[[site]]\n{ROUTE}"));
    assert_eq!(config.listen, [LISTEN.parse::<SocketAddr>().unwrap()]);
    assert!((1..=1024).contains(&config.workers));
    assert_eq!((config.user, config.admin, config.access_log), (None, None, None));
    assert_eq!(config.limits, limits());
    assert_eq!(config.limits.body, u64::MAX, "no body is too large to be told of its method");
    assert_eq!(config.drain, Duration::from_secs(30));
    assert_eq!(config.strategy.forced, None);
    let site = &config.sites[0];
    assert!(site.hosts.is_empty() && site.listen.is_empty());
    assert_eq!(site.routes[0].matches, Match::Prefix(Vec::new()));
    assert_eq!(site.routes[0].line, 2);
}

#[test]
fn the_top_level_is_understood() {
    let config = config(&format!(
        r#"
        workers = 3
        user = "www-data"
        admin = "[::1]:8081"
        access_log = {{ path = "access.log", format = "combined", acked = true }}
        [send]
        strategy = "splice"
        locality = "remote"
        trusted_remote = ["203.0.113.0/24", "2001:db8::1"]
        [timeouts]
        head = "1m30s"
        idle = "250ms"
        drain = "0s"
        [limits]
        head_size = "256KiB"
        headers = 7
        requests_per_connection = 100
        [[site]]
        {ROUTE}"#
    ));
    assert_eq!(config.workers, 3);
    assert_eq!(config.user.as_deref(), Some("www-data"));
    assert_eq!(config.admin, Some("[::1]:8081".parse().unwrap()));
    let Some(AccessLog { to: LogTo::File(path), format: LogFormat::Combined, acked: true }) =
        config.access_log
    else {
        panic!("{:?}", config.access_log);
    };
    assert!(path.is_absolute() && path.ends_with("access.log"));
    assert_eq!(config.strategy.forced, Some(Way::Splice));
    assert_eq!(config.locality.forced, Some(Locality::Remote));
    assert_eq!(config.locality.trusted_remote.len(), 2);
    assert_eq!(config.limits.timeouts.head, Duration::from_secs(90));
    assert_eq!(config.limits.timeouts.idle, Duration::from_millis(250));
    assert_eq!(config.limits.timeouts.send, Limits::default().timeouts.send);
    assert_eq!(config.drain, Duration::ZERO);
    assert_eq!((config.limits.head, config.limits.headers), (256 << 10, 7));
    assert_eq!(config.limits.header_line, 64 << 10);
    assert_eq!(config.limits.requests_per_connection, 100);
    let few = 4096;
    let lines = Limits { header_line: few, request_line: few, ..limits() };
    let small = Limits { head: few, ..lines };
    let text = format!("limits = {{ head_size = \"4KiB\" }}\n[[site]]\n{ROUTE}");
    assert_eq!(self::config(&text).limits, small);
}

#[test]
fn addresses_of_sites_are_listened_on_once() {
    let site = |listen: &str| format!("[[site]]\nlisten = {listen}\n{ROUTE}");
    let text = [
        "listen = [\"0.0.0.0:80\"]\n".to_owned(),
        site("[\"127.0.0.1:80\", \"[::1]:80\"]"),
        site("[\"127.0.0.2:81\"]"),
        site("[\"127.0.0.3:80\", \"127.0.0.3:81\"]"),
    ];
    let config = config(&text.concat());
    let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
    let expected = ["0.0.0.0:80", "[::1]:80", "127.0.0.2:81", "127.0.0.3:81"];
    assert_eq!(listen, expected);
    // A port of the kernel's choice is another one each time.
    let text = format!("listen = [\"127.0.0.1:0\", \"127.0.0.1:0\"]\n[[site]]\n{ROUTE}");
    assert_eq!(self::config(&text).listen.len(), 2);
    // Where sites name addresses, nothing else is listened on.
    let config = self::config(&site("[\"127.0.0.2:81\"]"));
    assert_eq!(config.listen, ["127.0.0.2:81".parse::<SocketAddr>().unwrap()]);
}

#[test]
fn one_host_may_be_another_site_at_another_address() {
    let site = |hosts: &str, listen: &str| {
        format!("[[site]]\n{hosts}\nlisten = [\"127.0.0.1:{listen}\"]\n{ROUTE}")
    };
    let hosts = "hosts = [\"A.test\", \"*.a.test\"]";
    let config =
        config(&[site(hosts, "1"), site(hosts, "2"), site("", "1"), site("", "2")].concat());
    assert_eq!(config.sites.len(), 4);
    let hosts = [Host::Name("a.test".to_owned()), Host::Wildcard("a.test".to_owned())];
    assert_eq!(config.sites[1].hosts, hosts);
}

#[test]
fn files_are_served_as_it_is_said() {
    let routes = routes(
        r#"
        [[site.route]]
        path = "/app/"
        [site.route.files]
        root = "www"
        strip_prefix = "/app/"
        listing = true
        dotfiles = true
        index = ["start.html", "index.html"]
        fallback = "/index.html"
        error_pages = { 404 = "404.html" }
        cache_control = { "/" = "no-cache", "/assets/" = "max-age=9" }
        symlinks = "never"
        precompressed = ["gzip", "br"]
        in_place_edits = ["/live/"]
        in_memory = "1MiB"
        [[site.route]]
        match = "*.php"
        files = { root = "www", index = "x", cache_control = "no-store", precompressed = [], in_place_edits = true, in_memory = "0" }
        "#,
    );
    let Action::Files { root, strip_prefix, options } = &routes[0].action else { panic!() };
    assert!(root.is_absolute() && root.ends_with("www"));
    assert_eq!(strip_prefix, b"app");
    assert!(options.listing && options.dotfiles);
    assert_eq!(options.index, ["start.html", "index.html"]);
    assert_eq!(options.fallback.as_deref(), Some(&b"index.html"[..]));
    assert_eq!(options.error_page(404), Some(&b"404.html"[..]));
    assert_eq!(options.cache_control(b"assets/x"), Some("max-age=9"));
    assert_eq!(options.cache_control(b"x"), Some("no-cache"));
    assert_eq!(options.links, Links::Never);
    assert_eq!(options.precompressed, [Coding::Gzip, Coding::Brotli]);
    assert!(options.is_edited_in_place(b"live/x") && !options.is_edited_in_place(b"x"));
    assert_eq!(options.in_memory, 1 << 20);
    assert_eq!(routes[1].matches, Match::Suffix(b".php".to_vec()));
    let Action::Files { strip_prefix, options, .. } = &routes[1].action else { panic!() };
    assert!(strip_prefix.is_empty() && options.precompressed.is_empty());
    assert!(options.is_edited_in_place(b"x") && options.in_memory == 0);
    assert_eq!(options.cache_control(b"x"), Some("no-store"));
}

#[test]
fn redirects_and_fixed_answers_are_as_it_is_said() {
    let routes = routes(
        r#"
        route = [
            { path = "/a", redirect = { to = "https://{host}{path}{query}" } },
            { path = "/b", redirect = { to = "/c", status = 301 } },
            { path = "/c", respond = { status = 410, text = "gone", type = "text/html" } },
            { path = "/d", respond = { status = 204 } },
        ]"#,
    );
    let redirect = |at: usize| match &routes[at].action {
        Action::Redirect(Redirect { status, to }) => (*status, to.as_str()),
        other => panic!("{other:?}"),
    };
    assert_eq!(redirect(0), (308, "https://{host}{path}{query}"));
    assert_eq!(redirect(1), (301, "/c"));
    let respond = |at: usize| match &routes[at].action {
        Action::Respond { status, content_type, content } => {
            (*status, content_type.as_str(), &content[..])
        }
        other => panic!("{other:?}"),
    };
    assert_eq!(respond(2), (410, "text/html", &b"gone"[..]));
    assert_eq!(respond(3), (204, "text/plain; charset=utf-8", &b""[..]));
}

#[test]
fn a_route_has_the_last_word_over_its_site() {
    let routes = routes(
        r#"
        add_headers = { "X-A" = "site", "X-B" = "site", "X-C" = "site" }
        remove_headers = ["ETag", "X-D"]
        allow = ["10.0.0.0/8", "192.0.2.0/24"]
        deny = ["all"]
        [[site.route]]
        path = "/"
        respond = { text = "x" }
        add_headers = { "x-a" = ["1", "2"], "X-D" = "route" }
        remove_headers = ["x-b"]
        allow = ["192.0.2.0/28"]
        deny = ["192.0.2.7"]
        [[site.route]]
        path = "/plain"
        respond = { text = "x" }
        "#,
    );
    let (own, plain) = (&routes[0], &routes[1]);
    let lines = |route: &Route| String::from_utf8(route.headers.add.as_bytes().to_vec()).unwrap();
    assert_eq!(lines(own), "X-C: site\r\nX-D: route\r\nx-a: 1\r\nx-a: 2\r\n");
    assert_eq!(own.headers.remove, ["ETag", "x-b"]);
    assert_eq!(lines(plain), "X-A: site\r\nX-B: site\r\nX-C: site\r\n");
    assert_eq!(plain.headers.remove, ["ETag", "X-D"]);
    let shown = |list: &[(std::net::IpAddr, u8)]| {
        let list: Vec<String> = list.iter().map(|(ip, length)| format!("{ip}/{length}")).collect();
        list.join(" ")
    };
    assert_eq!(shown(&own.access.allow), "192.0.2.0/28");
    assert_eq!(shown(&own.access.deny), "192.0.2.7/32");
    assert_eq!(shown(&plain.access.allow), "10.0.0.0/8 192.0.2.0/24");
    assert_eq!(shown(&plain.access.deny), "0.0.0.0/0 ::/0");
}
