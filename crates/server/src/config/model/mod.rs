//! What a configuration says, once nothing in it is wrong.

mod upstream;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sluicegate::{LocalityRule, Strategy};
use sluicegate_http::{Fields, Limits};

use crate::files;

pub(crate) use self::upstream::{
    Address, Balance, Ejection, ForwardedRule, Health, HostRule, Pool, Proxy, ProxyProtocol,
    RequestBodyRule, Server, spool,
};
pub(super) use self::upstream::{BUFFER, SPOOL_MEMORY, SPOOL_SHARE};

/// A whole configuration.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// The file that it was read from.
    pub(crate) path: PathBuf,
    /// Addresses to listen on, those of the sites among them, each once.
    pub(crate) listen: Vec<SocketAddr>,
    /// Nobody has named one: it is the default.
    pub(crate) is_default_address: bool,
    /// Threads that serve connections.
    pub(crate) workers: usize,
    /// Who the process is after it has bound its addresses.
    pub(crate) user: Option<String>,
    /// Where operators look: metrics, status, health.
    pub(crate) admin: Option<SocketAddr>,
    pub(crate) access_log: Option<AccessLog>,
    /// How ways to send are chosen.
    pub(crate) strategy: Strategy,
    /// What is known of peers beforehand.
    pub(crate) locality: LocalityRule,
    /// What a connection may cost.
    pub(crate) limits: Limits,
    /// How long open connections may take to finish at the end.
    pub(crate) drain: Duration,
    /// Names are unique, and each that a route names is here.
    pub(crate) pools: Vec<Pool>,
    /// Bytes that all spools together may hold in memory.
    pub(crate) spool_budget: u64,
    /// Networks whose connections begin with a PROXY protocol header (v1 or v2),
    /// which tells who the client is. Empty: none.
    pub(crate) proxy_protocol_from: Vec<(IpAddr, u8)>,
    /// In the order of the file. At most one has no hosts, for each set of addresses.
    pub(crate) sites: Vec<Site>,
}

/// Where one line for each request goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AccessLog {
    pub(crate) to: LogTo,
    pub(crate) format: LogFormat,
    /// Whether a line waits until the client's TCP has acknowledged the answer,
    /// and tells how much of it was.
    pub(crate) acked: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LogTo {
    /// `-`.
    Stdout,
    File(PathBuf),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Json,
    /// As Apache and nginx have it.
    Combined,
}

/// A site: who is meant by its names, and what there is at its paths.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    /// None: the default.
    pub(crate) hosts: Vec<Host>,
    /// Addresses that it is reached at; empty: all that are listened on.
    pub(crate) listen: Vec<SocketAddr>,
    pub(crate) routes: Vec<Route>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Host {
    /// In lower case, without port and final dot.
    Name(String),
    /// `*.example.test` is `example.test` here: any name beneath it, not itself.
    Wildcard(String),
}

/// What is at a set of paths of a site.
#[derive(Clone, Debug)]
pub(crate) struct Route {
    pub(crate) matches: Match,
    pub(crate) headers: HeaderRules,
    pub(crate) access: Access,
    pub(crate) action: Action,
    /// Reached only by an upstream's `X-Accel-Redirect`; to clients it does not exist.
    pub(crate) internal: bool,
    /// Where it begins in the file, from 1.
    pub(crate) line: usize,
}

/// Paths, as the normal form (`sluicegate_http::normalise`) has them: without
/// the slash at the beginning, with one at the end only where it is said.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Match {
    /// `app/`: what is beneath `/app/`, and itself; `app`: `/app`, and what is
    /// beneath `/app/`, but not `/apple`. Empty: everything.
    Prefix(Vec<u8>),
    /// `*.php` is `.php` here.
    Suffix(Vec<u8>),
}

#[derive(Clone, Debug)]
pub(crate) enum Action {
    /// Files beneath a directory.
    Files {
        /// The directory.
        root: PathBuf,
        /// What is taken off the beginning of a path before it is looked for
        /// beneath `root`: a normal form, empty for nothing.
        strip_prefix: Vec<u8>,
        options: files::Options,
    },
    Redirect(Redirect),
    /// From a pool of upstreams.
    Proxy(Arc<Proxy>),
    /// The same answer for everybody.
    Respond {
        status: u16,
        content_type: String,
        content: Bytes,
    },
}

/// Another place: 301, 302, 303, 307 or 308.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Redirect {
    pub(crate) status: u16,
    /// With `{host}`, `{path}` (with its slash, percent-encoded) and `{query}`
    /// (with its question mark, or empty) in it.
    pub(crate) to: String,
}

/// What is done to the header fields of a route's answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct HeaderRules {
    /// Added to every answer, in place of a field of that name that we would send.
    pub(crate) add: Fields,
    /// Names whose fields are taken away first.
    pub(crate) remove: Vec<String>,
}

/// Who may ask: of the networks that hold the client's address the longest
/// prefix decides. In none: allowed, unless there is a list of who is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Access {
    pub(crate) allow: Vec<(IpAddr, u8)>,
    pub(crate) deny: Vec<(IpAddr, u8)>,
}
