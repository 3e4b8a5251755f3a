//! What a configuration says of upstreams: pools of servers, and what is relayed
//! from them.

use std::fmt::{self, Display, Formatter};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use sluicegate::SpoolOptions;
use sluicegate_http::Fields;

/// Bytes of one body that may wait in memory, where nothing else is said: as much
/// as lets most answers free their upstream at once.
pub(crate) const SPOOL_MEMORY: u64 = 64 << 20;

/// Hundredths of the memory that all spools may have together.
pub(crate) const SPOOL_SHARE: u64 = 25;

/// Bytes of a partition: a call moves so many, and less costs more calls.
pub(crate) const SPOOL_UNIT: usize = 64 << 10;

/// Where rings on disk are: in contrast to `/tmp`, a disk on all systems.
pub(crate) const SPOOL_DIRECTORY: &str = "/var/tmp";

/// Bytes of a request body: no upload that anybody means is longer, and none of
/// it is kept here. An endless one ends.
pub(crate) const BODY_LIMIT: u64 = 1 << 30;

/// Bytes of a request body that is received before its upstream is asked.
pub(crate) const BUFFER: u64 = 64 << 10;

/// Servers that answer the same requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Pool {
    pub(crate) name: String,
    /// At least one.
    pub(crate) servers: Vec<Server>,
    pub(crate) balance: Balance,
    /// Idle connections that a worker keeps to one server; 0: none.
    pub(crate) keep_alive: usize,
    /// How long an idle one is kept.
    pub(crate) idle: Duration,
    /// Requests that one connection gets; after that it is closed.
    pub(crate) requests_per_connection: u32,
    /// How long a connection may take to be made.
    pub(crate) connect: Duration,
    /// How many requests may wait for a server below its limit, and how long.
    pub(crate) queue: usize,
    pub(crate) queue_timeout: Duration,
    pub(crate) health: Option<Health>,
    pub(crate) ejection: Ejection,
    /// What is sent first on each connection (HAProxy's PROXY protocol).
    pub(crate) proxy_protocol: Option<ProxyProtocol>,
    /// Where names are asked; `None`: as the system's resolv.conf has it.
    pub(crate) resolver: Option<SocketAddr>,
    /// Where it begins in the file, from 1.
    pub(crate) line: usize,
}

impl Pool {
    /// Of which nothing but its servers is said.
    pub(crate) fn new(name: String, servers: Vec<Server>) -> Self {
        Pool {
            name,
            servers,
            balance: Balance::default(),
            keep_alive: 32,
            // Node.js, uvicorn and Apache close after five seconds: who closes
            // first never sends a request to where nobody listens any more.
            idle: Duration::from_secs(4),
            requests_per_connection: 1000,
            connect: Duration::from_secs(5),
            queue: 1024,
            queue_timeout: Duration::from_secs(5),
            health: None,
            ejection: Ejection::default(),
            proxy_protocol: None,
            resolver: None,
            line: 0,
        }
    }
}

impl Server {
    /// Of which nothing but its address is said.
    pub(crate) fn new(address: Address) -> Self {
        Server { address, weight: 1, max_connections: None, backup: false }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Server {
    pub(crate) address: Address,
    /// 1 to 1000; by how much more than others it is asked.
    pub(crate) weight: u32,
    /// Requests at a time, of all workers together.
    pub(crate) max_connections: Option<u32>,
    /// Asked only when no other server can be.
    pub(crate) backup: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Address {
    Tcp(SocketAddr),
    /// To be resolved, again whenever its time to live is over.
    Name {
        host: String,
        port: u16,
    },
    Unix(PathBuf),
}

impl Display for Address {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Address::Tcp(address) => Display::fmt(address, f),
            Address::Name { host, port } => write!(f, "{host}:{port}"),
            Address::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    #[default]
    RoundRobin,
    LeastConnections,
    /// Consistent, by the client's address or by the path.
    HashClient,
    HashPath,
}

/// Requests of our own that tell whether a server lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Health {
    pub(crate) path: String,
    /// What Host says; `None`: the server's address.
    pub(crate) host: Option<String>,
    pub(crate) interval: Duration,
    pub(crate) timeout: Duration,
    /// Statuses of a server that lives, from and to.
    pub(crate) status: (u16, u16),
    /// So many in a row change what is thought of it.
    pub(crate) fails: u32,
    pub(crate) passes: u32,
}

impl Health {
    /// Checks of a path, as they are unless more is said.
    pub(crate) fn new(path: String) -> Self {
        Health {
            path,
            host: None,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(2),
            status: (200, 399),
            fails: 3,
            passes: 2,
        }
    }
}

impl Default for Ejection {
    fn default() -> Self {
        Ejection {
            failures: 3,
            pause: Duration::from_secs(10),
            slow_start: Duration::from_secs(30),
        }
    }
}

/// When a server that fails real requests is left alone, and how it comes back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ejection {
    /// Failures in a row; 0: never.
    pub(crate) failures: u32,
    /// How long; doubled with each time in a row, up to ten minutes.
    pub(crate) pause: Duration,
    /// Over how long it gets its full share back.
    pub(crate) slow_start: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ProxyProtocol {
    V1,
    V2,
}

/// A route's answers come from a pool.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proxy {
    pub(crate) pool: String,
    /// A normal form, as `strip_prefix` of files; empty for nothing.
    pub(crate) strip_prefix: Vec<u8>,
    pub(crate) host: HostRule,
    /// In place of what the client sent under these names.
    pub(crate) set_headers: Fields,
    /// Names that are not passed on from the client.
    pub(crate) remove_headers: Vec<String>,
    pub(crate) forwarded: ForwardedRule,
    pub(crate) spool: Arc<SpoolOptions>,
    pub(crate) request_body: RequestBodyRule,
    /// Bytes of a request body at most; the largest number for no limit.
    pub(crate) body_limit: u64,
    /// From the request's end to the answer's head.
    pub(crate) head_timeout: Duration,
    /// Between two reads of the answer, or two writes of the request.
    pub(crate) read_timeout: Duration,
    /// Other servers that are tried where it is safe.
    pub(crate) retries: u32,
    /// `X-Accel-Redirect` of an answer makes us serve that path of the same site.
    pub(crate) accel: bool,
    /// Upgrades (WebSocket) are passed on.
    pub(crate) upgrade: bool,
}

impl Proxy {
    /// Of which nothing but its pool is said.
    pub(crate) fn new(pool: String, spool: Arc<SpoolOptions>) -> Self {
        Proxy {
            pool,
            strip_prefix: Vec::new(),
            host: HostRule::Preserve,
            set_headers: Fields::default(),
            remove_headers: Vec::new(),
            forwarded: ForwardedRule::default(),
            spool,
            request_body: RequestBodyRule::Streamed,
            body_limit: BODY_LIMIT,
            head_timeout: Duration::from_mins(1),
            read_timeout: Duration::from_mins(1),
            retries: 2,
            accel: false,
            upgrade: true,
        }
    }
}

/// A spool of which nothing is said.
pub(crate) fn spool() -> SpoolOptions {
    SpoolOptions {
        memory: SPOOL_MEMORY,
        disk: 0,
        directory: PathBuf::from(SPOOL_DIRECTORY),
        pipes: true,
        memory_ring: false,
        unit: SPOOL_UNIT,
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum HostRule {
    /// The client's.
    Preserve,
    /// The server's name or address.
    Upstream,
    Fixed(String),
}

/// What an upstream is told of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForwardedRule {
    /// X-Forwarded-For, -Host, -Proto: ours in place of the client's.
    #[default]
    Replace,
    /// X-Forwarded-For: what the client sent, and its address behind it.
    Append,
    /// Forwarded (RFC 7239), in place of all.
    Rfc7239,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RequestBodyRule {
    /// All of it is received before an upstream is asked, up to so many bytes in
    /// memory; longer ones are streamed.
    Buffered(u64),
    /// Passed on as it comes.
    Streamed,
}
