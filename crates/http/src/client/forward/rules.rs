//! What an operator wants of requests on their way to an upstream.

use crate::Known;
use crate::response::Fields;

/// What an upstream is told of the client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Forwarded {
    /// X-Forwarded-For, -Host and -Proto from us. What the client sent under `X-Forwarded-…`,
    /// `X-Real-IP` and `Forwarded` is dropped: anybody can write it.
    #[default]
    Replace,
    /// X-Forwarded-For: what came, and the address that it came from behind it. X-Forwarded-Host and
    /// -Proto as they came, or from us where none came. For who has a proxy of his own in front.
    Append,
    /// Forwarded (RFC 7239) in place of all of them.
    Rfc7239,
    /// Nothing is added, and what came goes on.
    Off,
}

/// What Host says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub enum HostOf {
    /// Whom the client has asked; the upstream's authority where it named nobody.
    #[default]
    Client,
    /// The upstream's authority.
    Upstream,
    /// This: `host [":" port]`.
    Fixed(String),
}

impl HostOf {
    /// A fixed host that can be sent.
    ///
    /// # Errors
    /// [`Offence::BadHost`](crate::Offence::BadHost) for what is not `host [":" port]`.
    pub fn fixed(host: &str) -> Result<Self, crate::Offence> {
        crate::target::check_host(host.as_bytes())?;
        Ok(Self::Fixed(host.to_owned()))
    }
}

/// What is changed of requests on their way to an upstream. Made once for a route.
#[derive(Clone, Debug, Default)]
pub struct RequestRules {
    pub(super) host: HostOf,
    pub(super) forwarded: Forwarded,
    /// Segments of the normal form that are taken off the path.
    pub(super) strip: Vec<u8>,
    pub(super) upgrade: bool,
    /// Via is ours to add.
    pub(super) via: bool,
    /// Names, in lower case, that do not go on.
    pub(super) gone: Vec<Box<[u8]>>,
    /// Lines that are added.
    pub(super) set: Vec<u8>,
}

impl RequestRules {
    /// `host` and `forwarded` as they say; `strip` is a normal form that is taken off paths which
    /// begin with it; `upgrade` passes upgrades on (WebSocket).
    #[must_use]
    pub fn new(host: HostOf, forwarded: Forwarded, strip: &[u8], upgrade: bool) -> Self {
        let strip = strip.to_vec();
        Self { host, forwarded, strip, upgrade, via: true, ..Self::default() }
    }

    /// Fields of these names do not go on, and those of `set` take the place of what the client
    /// sent under their names.
    ///
    /// What frames the message and what belongs to a connection is ours to write, and in `set` has
    /// no effect; Host is [`HostOf`]'s, and what we tell of the client [`Forwarded`]'s, except that
    /// a field of `set` takes its place. Via in `remove` keeps us from adding ours.
    #[must_use]
    pub fn with_fields(mut self, set: &Fields, remove: &[String]) -> Self {
        self.gone = remove.iter().map(|name| lower(name)).collect();
        self.via = !self.gone.iter().any(|name| **name == *b"via");
        for (name, line) in set.lines() {
            if Known::from_name(name.as_bytes()).is_some_and(is_ours) {
                continue;
            }
            self.set.extend_from_slice(line);
            let name = lower(name);
            if !self.gone.contains(&name) {
                self.gone.push(name);
            }
        }
        self
    }

    /// Whether they are what they are where nobody has said otherwise.
    pub(super) fn are_usual(&self) -> bool {
        self.host == HostOf::Client
            && self.forwarded == Forwarded::Replace
            && self.strip.is_empty()
            && self.gone.is_empty()
            && self.set.is_empty()
            && self.via
    }

    /// Whether a field of that name, in any case, does not go on as it came.
    pub(super) fn takes(&self, name: &[u8]) -> bool {
        self.gone.iter().any(|gone| gone.eq_ignore_ascii_case(name))
    }
}

/// What the proxy writes itself, or never.
fn is_ours(known: Known) -> bool {
    matches!(
        known,
        Known::Connection
            | Known::ContentLength
            | Known::Expect
            | Known::Host
            | Known::KeepAlive
            | Known::ProxyConnection
            | Known::Te
            | Known::Trailer
            | Known::TransferEncoding
            | Known::Upgrade
    )
}

fn lower(name: &str) -> Box<[u8]> {
    name.to_ascii_lowercase().into_bytes().into_boxed_slice()
}
