//! What a proxy asks for, as far as an upstream of measurements needs to know.

/// A request of which the head is there. None has a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) path: String,
    /// Whether the connection is to be closed behind the answer.
    pub(super) is_last: bool,
}

/// Longer heads are no proxy's.
pub(super) const LIMIT: usize = 16 << 10;

impl Request {
    /// The first request in `received`, and how long its head is; `None` while that is not whole.
    pub(super) fn parse(received: &[u8]) -> Option<(Self, usize)> {
        let end = memchr::memmem::find(received, b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&received[..end]);
        let mut words = head.lines().next().unwrap_or_default().split(' ').skip(1);
        let path = words.next().unwrap_or_default().to_owned();
        let is_old = words.next() == Some("HTTP/1.0");
        let closes = head.lines().any(|line| {
            let (name, value) = line.split_once(':').unwrap_or_default();
            name.eq_ignore_ascii_case("connection") && value.trim().eq_ignore_ascii_case("close")
        });
        Some((Self { path, is_last: is_old || closes }, end))
    }
}

/// The head of an answer, of the size that a server's usually has.
pub(super) fn head(length: u64, is_last: bool) -> Vec<u8> {
    let close = if is_last { "Connection: close\r\n" } else { "" };
    format!(
        "HTTP/1.1 200 OK\r\n\
         Server: upstream/1.0\r\n\
         Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
         Content-Type: application/octet-stream\r\n\
         Content-Length: {length}\r\n\
         {close}\
         Last-Modified: Sat, 21 Nov 2026 20:58:03 GMT\r\n\
         ETag: \"6a0f3c2b-{length:x}\"\r\n\r\n"
    )
    .into_bytes()
}

/// The head of an answer of which nobody knows the length before its end: that of its connection.
pub(super) fn endless_head() -> Vec<u8> {
    b"HTTP/1.1 200 OK\r\n\
      Server: upstream/1.0\r\n\
      Date: Sun, 22 Nov 2026 12:00:00 GMT\r\n\
      Content-Type: application/octet-stream\r\n\
      Connection: close\r\n\r\n"
        .to_vec()
}

/// What is answered where there is nothing of that name.
pub(super) fn not_found() -> Vec<u8> {
    b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_there_when_its_head_is_and_tells_whether_it_is_the_last() {
        let text = b"GET /a.bin HTTP/1.1\r\nHost: x\r\n\r\nGET";
        assert_eq!(Request::parse(&text[..20]), None);
        let (request, length) = Request::parse(text).unwrap();
        assert_eq!((request.path.as_str(), request.is_last, length), ("/a.bin", false, 32));
        let last = |text: &str| Request::parse(text.as_bytes()).unwrap().0.is_last;
        assert!(last("GET / HTTP/1.0\r\n\r\n"));
        assert!(last("GET / HTTP/1.1\r\nconnection: Close\r\n\r\n"));
        assert!(!last("GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"));
    }
}
