//! Method and version: the two words of a request line that are not the target.

/// A request method. RFC 9110 section 9; PATCH is RFC 5789.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "each variant is the method of its name")]
pub enum Method {
    #[default]
    Get,
    Head,
    Options,
    Post,
    Put,
    Delete,
    Connect,
    Trace,
    Patch,
    /// Any other token: [`RequestHead::method_str`](crate::RequestHead::method_str) has it. RFC
    /// 9110 section 9.1: unknown methods are answered with 501 and known ones that a resource lacks
    /// with 405, which handlers know.
    Other,
}

impl Method {
    /// Methods are case-sensitive (RFC 9110 section 9.1): `get` is `Other`.
    pub(super) fn from_token(token: &[u8]) -> Self {
        match token {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"OPTIONS" => Self::Options,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }
}

/// The version of a request. A higher minor version of HTTP/1 counts as 1.1 (RFC 9110 section 2.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1, or any HTTP/1.x above it.
    #[default]
    Http11,
}
