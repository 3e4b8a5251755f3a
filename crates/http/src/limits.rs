//! What one peer may cost us: every bound on a request, each with its reason.

use std::time::Duration;

/// RFC 9112 section 3 asks for request lines of at least 8,000 octets; this is the next power of
/// two.
pub const REQUEST_LINE: usize = 8 << 10;
/// Browsers send every cookie of a site on one line and Kerberos tickets reach 12 KiB in base64.
pub const HEADER_LINE: usize = 16 << 10;
/// Four of the longest lines: what a connection may make us buffer before we know what it wants.
pub const HEAD: usize = 64 << 10;
/// A browser behind three proxies sends about forty; Apache has refused beyond one hundred for
/// decades.
pub const HEADERS: usize = 100;
/// Sixteen digits, CRLF, and room for the one extension in the wild (a signature of 82 bytes, AWS
/// SigV4).
pub const CHUNK_LINE: usize = 256;
/// Chunk lines beyond what their data explains (see [`Limits::chunk_overhead`]).
pub const CHUNK_OVERHEAD: usize = 16 << 10;
/// Trailers carry digests, signatures and a gRPC status: some hundred bytes.
pub const TRAILER: usize = 8 << 10;
/// The same, counted in fields.
pub const TRAILERS: usize = 32;
/// A handler that keeps bodies in memory is safe by default; a route that takes uploads raises it.
pub const BODY: u64 = 1 << 20;
/// Our connections hold nothing that grows with their age, so the bound is wide: it only sees to it that
/// clients that never pause are spread anew over the workers, every few minutes at full speed.
pub const REQUESTS_PER_CONNECTION: u32 = 1_000_000;

/// Bounds of one connection. All byte counts include the CRLF of the lines that they bound.
///
/// A bound is broken as soon as the byte beyond it exists, whatever follows, so that the verdict
/// on a message never depends on how its bytes were split into reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of the request line.
    pub request_line: usize,
    /// Bytes of one header or trailer line.
    pub header_line: usize,
    /// Bytes of the whole head, empty lines before it and the empty line after it included.
    /// A receive buffer needs room for one byte more, or the offence can never be seen.
    pub head: usize,
    /// Header fields of one head.
    pub headers: usize,
    /// Bytes of one chunk-size line with its extensions.
    pub chunk_line: usize,
    /// Bytes of chunk lines that the data does not explain, summed over a body: a line is free up
    /// to 16 bytes plus twice its chunk. Bounds bodies of one-byte chunks with long extensions
    /// (CVE-2023-39326 in Go's net/http) while a signature per 64 KiB costs nothing.
    pub chunk_overhead: usize,
    /// Bytes of the trailer section.
    pub trailer: usize,
    /// Fields of the trailer section.
    pub trailers: usize,
    /// Decoded bytes of a request body.
    pub body: u64,
    /// Requests that one connection may send.
    pub requests_per_connection: u32,
    /// How long a peer may take.
    pub timeouts: Timeouts,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            request_line: REQUEST_LINE,
            header_line: HEADER_LINE,
            head: HEAD,
            headers: HEADERS,
            chunk_line: CHUNK_LINE,
            chunk_overhead: CHUNK_OVERHEAD,
            trailer: TRAILER,
            trailers: TRAILERS,
            body: BODY,
            requests_per_connection: REQUESTS_PER_CONNECTION,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long a peer may take. The engine has no clock: whoever drives it applies these.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// From the first byte of a head to its last. Not restarted by a byte: a slow trickle of
    /// header bytes ("slowloris") must not hold a slot for ever.
    pub head: Duration,
    /// Between two reads of a body. A long upload over a slow line is honest; silence is not.
    pub body: Duration,
    /// Between two requests. Longer than the 60 s after which most load balancers let go, so that
    /// they close first and never send a request into a connection that we have just closed.
    pub idle: Duration,
    /// How long the client may accept nothing of a response.
    pub send: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            head: Duration::from_secs(20),
            body: Duration::from_secs(30),
            idle: Duration::from_secs(75),
            send: Duration::from_secs(60),
        }
    }
}
