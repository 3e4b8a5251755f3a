//! What a route says of requests on their way, in the words of the engine.

use sluicegate_http::client::forward::{Forwarded, HostOf, RequestRules};

use crate::config::{ForwardedRule, HostRule, Proxy};

/// Made once for a route: `sluicegate_http::client::forward::request_head` takes it.
pub(super) fn request_rules(rule: &Proxy) -> RequestRules {
    let host = match &rule.host {
        HostRule::Preserve => HostOf::Client,
        HostRule::Upstream => HostOf::Upstream,
        HostRule::Fixed(host) => HostOf::Fixed(host.clone()),
    };
    let forwarded = match rule.forwarded {
        ForwardedRule::Replace => Forwarded::Replace,
        ForwardedRule::Append => Forwarded::Append,
        ForwardedRule::Rfc7239 => Forwarded::Rfc7239,
        ForwardedRule::Off => Forwarded::Off,
    };
    RequestRules::new(host, forwarded, &rule.strip_prefix, rule.upgrade)
        .with_fields(&rule.set_headers, &rule.remove_headers)
}
