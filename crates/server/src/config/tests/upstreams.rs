//! What pools, proxies and spools say, and what is so where they say nothing.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sluicegate::SpoolOptions;

use super::super::{
    Action, Address, Balance, Config, Ejection, ForwardedRule, Health, HostRule, Pool, Proxy,
    ProxyProtocol, RequestBodyRule, Server, spool_options,
};
use super::{ROUTE, directory, read};

fn config(text: &str) -> Config {
    read(text, directory().path()).unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn proxies(config: &Config) -> Vec<&Arc<Proxy>> {
    let routes = config.sites.iter().flat_map(|site| &site.routes);
    let proxies = routes.filter_map(|route| match &route.action {
        Action::Proxy(proxy) => Some(proxy),
        _ => None,
    });
    proxies.collect()
}

const ASKS: &str = "[[site]]\nroute = [{ path = \"/\", proxy = { pool = \"app\" } }]\n";

#[test]
fn a_pool_of_which_nothing_is_said_has_its_defaults() {
    let config = config(&format!("[pool.app]\nservers = [\"127.0.0.1:9001\"]\n{ASKS}"));
    let [pool] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
    let server = Server {
        address: Address::Tcp("127.0.0.1:9001".parse().unwrap()),
        weight: 1,
        max_connections: None,
        backup: false,
    };
    let expected = Pool {
        name: "app".to_owned(),
        servers: vec![server],
        balance: Balance::RoundRobin,
        keep_alive: 32,
        idle: Duration::from_secs(4),
        requests_per_connection: 1000,
        connect: Duration::from_secs(5),
        queue: 1024,
        queue_timeout: Duration::from_secs(5),
        health: None,
        ejection: Ejection {
            failures: 3,
            pause: Duration::from_secs(10),
            slow_start: Duration::from_secs(30),
        },
        proxy_protocol: None,
        resolver: None,
        line: 1,
    };
    assert_eq!(*pool, expected);
    let [proxy] = proxies(&config)[..] else { panic!() };
    let expected = Proxy {
        pool: "app".to_owned(),
        strip_prefix: Vec::new(),
        host: HostRule::Preserve,
        set_headers: sluicegate_http::Fields::default(),
        remove_headers: Vec::new(),
        forwarded: ForwardedRule::Replace,
        spool: Arc::new(SpoolOptions {
            memory: 64 << 20,
            disk: 0,
            directory: PathBuf::from("/var/tmp"),
            pipes: true,
            memory_ring: false,
            unit: 64 << 10,
        }),
        request_body: RequestBodyRule::Streamed,
        body_limit: 1 << 30,
        head_timeout: Duration::from_secs(60),
        read_timeout: Duration::from_secs(60),
        retries: 2,
        accel: false,
        upgrade: true,
    };
    assert_eq!(**proxy, expected);
    assert!(config.proxy_protocol_from.is_empty());
}

#[test]
fn a_pool_is_what_is_said_of_it() {
    let config = config(&format!(
        r#"
        [pool.app]
        servers = [
            "a.test:1",
            {{ address = "[::1]:2", weight = 9, max_connections = 5 }},
            {{ address = "unix:/run/a.sock", backup = true }},
        ]
        balance = "hash-path"
        keep_alive = 0
        idle = "1m"
        requests_per_connection = 7
        connect = "100ms"
        queue = 0
        queue_timeout = "0s"
        health = {{ path = "/up?x=%20", host = "B.test:81", interval = "1s", timeout = "2m", status = 204, fails = 1, passes = 9 }}
        ejection = false
        proxy_protocol = "v1"
        resolver = "10.0.0.2"
        {ASKS}"#
    ));
    let [pool] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
    let shown: Vec<String> = pool.servers.iter().map(|it| it.address.to_string()).collect();
    assert_eq!(shown, ["a.test:1", "[::1]:2", "unix:/run/a.sock"]);
    let of: Vec<_> =
        pool.servers.iter().map(|it| (it.weight, it.max_connections, it.backup)).collect();
    assert_eq!(of, [(1, None, false), (9, Some(5), false), (1, None, true)]);
    assert_eq!((pool.balance, pool.keep_alive, pool.queue), (Balance::HashPath, 0, 0));
    let seconds = Duration::from_secs;
    assert_eq!((pool.idle, pool.queue_timeout), (seconds(60), Duration::ZERO));
    assert_eq!((pool.connect, pool.requests_per_connection), (Duration::from_millis(100), 7));
    let health = Health {
        path: "/up?x=%20".to_owned(),
        host: Some("b.test:81".to_owned()),
        interval: seconds(1),
        timeout: seconds(120),
        status: (204, 204),
        fails: 1,
        passes: 9,
    };
    assert_eq!(pool.health, Some(health));
    assert_eq!(pool.ejection.failures, 0);
    assert_eq!(pool.proxy_protocol, Some(ProxyProtocol::V1));
    assert_eq!(pool.resolver, Some("10.0.0.2:53".parse().unwrap()));
}

#[test]
fn a_proxy_is_what_is_said_of_it() {
    let config = config(
        r#"
        proxy_protocol_from = ["10.0.0.0/8", "::1"]
        [[site]]
        [[site.route]]
        path = "/app/"
        [site.route.proxy]
        url = "http://unix:/run/a.sock"
        strip_prefix = "/app/"
        host = "upstream"
        set_headers = { X-A = "1", X-B = ["2", ""] }
        remove_headers = ["Cookie"]
        forwarded = "rfc7239"
        request_body = "buffered"
        body_limit = "none"
        head_timeout = "1s"
        read_timeout = "2s"
        retries = 0
        accel = true
        upgrade = false
        [[site.route]]
        path = "/b/"
        proxy = { url = "http://b.test", host = "C.test:80", request_body = "buffered", buffer = "1MiB", body_limit = 0 }
        "#,
    );
    let [first, second] = proxies(&config)[..] else { panic!() };
    assert_eq!(first.pool, "http://unix:/run/a.sock");
    assert_eq!(first.strip_prefix, b"app");
    assert_eq!(first.host, HostRule::Upstream);
    assert_eq!(first.set_headers.as_bytes(), b"X-A: 1\r\nX-B: 2\r\nX-B: \r\n");
    assert_eq!(first.remove_headers, ["Cookie"]);
    assert_eq!(first.forwarded, ForwardedRule::Rfc7239);
    assert_eq!(first.request_body, RequestBodyRule::Buffered(64 << 10));
    assert_eq!(first.body_limit, u64::MAX);
    let times = (Duration::from_secs(1), Duration::from_secs(2));
    assert_eq!((first.head_timeout, first.read_timeout), times);
    assert_eq!((first.retries, first.accel, first.upgrade), (0, true, false));
    assert_eq!(second.host, HostRule::Fixed("c.test:80".to_owned()));
    assert_eq!(second.request_body, RequestBodyRule::Buffered(1 << 20));
    assert_eq!(second.body_limit, 0);
    let networks = [("10.0.0.0".parse().unwrap(), 8), ("::1".parse().unwrap(), 128)];
    assert_eq!(config.proxy_protocol_from, networks);
}

#[test]
fn routes_with_one_url_share_a_pool_and_those_without_a_spool_share_one() {
    let config = config(
        r#"
        [spool]
        memory_budget = "1MiB"
        memory = "8MiB"
        pipes = false
        unit = "8KiB"
        [pool.app]
        servers = ["a.test:1"]
        [[site]]
        route = [
            { path = "/1", proxy = { url = "http://b.test" } },
            { path = "/2", proxy = { pool = "app" } },
            { path = "/3", proxy = { url = "http://B.test:80/", spool = { memory = "8MiB" } } },
            { path = "/4", proxy = { url = "http://c.test", spool = { memory = 0, pipes = true } } },
        ]
        "#,
    );
    let names: Vec<&str> = config.pools.iter().map(|pool| &*pool.name).collect();
    assert_eq!(names, ["app", "http://b.test:80", "http://c.test:80"]);
    assert_eq!(config.pools[1].line, 11);
    assert_eq!(config.spool_budget, 1 << 20);
    let proxies = proxies(&config);
    let base = &proxies[0].spool;
    let options = SpoolOptions { memory: 8 << 20, pipes: false, unit: 8 << 10, ..spool_options() };
    assert_eq!(**base, options);
    assert!(Arc::ptr_eq(base, &proxies[1].spool) && Arc::ptr_eq(base, &proxies[2].spool));
    let own = SpoolOptions { memory: 0, pipes: true, ..options };
    assert_eq!(*proxies[3].spool, own);
}

#[test]
fn budgets_are_shares_of_the_memory_or_sizes() {
    let budget = |said: &str| config(&format!("{said}\n[[site]]\n{ROUTE}")).spool_budget;
    let quarter = budget("");
    assert!(quarter > 16 << 20, "{quarter}");
    assert_eq!(budget("spool = { memory_budget = \"25%\" }"), quarter);
    let half = budget("spool = { memory_budget = \"50%\" }");
    assert!(half.abs_diff(2 * quarter) < 200, "{half} {quarter}");
    assert_eq!(budget("spool = { memory_budget = \"3GiB\" }"), 3 << 30);
    assert_eq!(budget("spool = { memory_budget = \"0\" }"), 0);
}

#[test]
fn a_ring_on_disk_is_where_it_is_said() {
    let place = directory();
    let text = r#"
        [spool]
        disk = "1GiB"
        directory = "www"
        [[site]]
        route = [
            { path = "/1", proxy = { url = "http://a.test", spool = { directory = "www/dir" } } },
            { path = "/2", proxy = { url = "http://a.test", spool = { disk = 0 } } },
        ]
    "#;
    let config = read(text, place.path()).unwrap_or_else(|error| panic!("{error}"));
    let of = |proxy: &Arc<Proxy>| (proxy.spool.disk, proxy.spool.directory.clone());
    let spools: Vec<(u64, PathBuf)> = proxies(&config).into_iter().map(of).collect();
    let path = |name: &str| place.path().join(Path::new(name));
    assert_eq!(spools, [(1 << 30, path("www/dir")), (0, path("www"))]);
}
