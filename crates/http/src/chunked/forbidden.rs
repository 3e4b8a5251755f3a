//! What may be no trailer.

use crate::Known;

/// RFC 9110 section 6.5.1: a sender MUST NOT generate trailer fields that frame, route, modify or
/// authenticate a request, or say how its content is to be processed. A recipient may drop them; no
/// honest client sends one, and an upstream that merges trailers would obey it, so the message is
/// refused.
pub(crate) fn forbidden(name: &[u8]) -> bool {
    use Known::{
        Authorization, CacheControl, Connection, ContentEncoding, ContentLength, ContentRange,
        ContentType, Cookie, Expect, Forwarded, Host, IfMatch, IfModifiedSince, IfNoneMatch,
        IfRange, IfUnmodifiedSince, KeepAlive, MaxForwards, Proxy, ProxyAuthorization,
        ProxyConnection, Range, Te, Trailer, TransferEncoding, Upgrade, XForwardedFor,
        XForwardedHost, XForwardedProto,
    };
    matches!(
        Known::from_name(name),
        Some(
            Authorization
                | CacheControl
                | Connection
                | ContentEncoding
                | ContentLength
                | ContentRange
                | ContentType
                | Cookie
                | Expect
                | Forwarded
                | Host
                | IfMatch
                | IfModifiedSince
                | IfNoneMatch
                | IfRange
                | IfUnmodifiedSince
                | KeepAlive
                | MaxForwards
                | Proxy
                | ProxyAuthorization
                | ProxyConnection
                | Range
                | Te
                | Trailer
                | TransferEncoding
                | Upgrade
                | XForwardedFor
                | XForwardedHost
                | XForwardedProto
        )
    )
}
