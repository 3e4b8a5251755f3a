//! Response heads.

use crate::date::Date;

/// How the body that follows a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// The status has no body and no length (204, 304).
    Absent,
    /// Content-Length.
    Sized(u64),
    /// Transfer-Encoding: chunked.
    Chunked,
    /// The end of the connection is the end of the body.
    Close,
}

/// What Connection says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Persistence {
    /// Nothing: an HTTP/1.1 client goes on.
    Implied,
    /// `keep-alive`: an HTTP/1.0 client asked for it.
    KeepAlive,
    /// `close`.
    Close,
}

/// Writes the status line, Server and Date. Returns where the date's text is.
pub(crate) fn start(out: &mut Vec<u8>, status: u16, date: &Date) -> usize {
    // Nearly all are this one.
    if status == 200 {
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\nServer: sluicegate\r\nDate: ");
    } else {
        out.extend_from_slice(b"HTTP/1.1 ");
        push_number(out, u64::from(status));
        out.push(b' ');
        out.extend_from_slice(reason(status).as_bytes());
        out.extend_from_slice(b"\r\nServer: sluicegate\r\nDate: ");
    }
    let at = out.len();
    out.extend_from_slice(&date.text);
    out.extend_from_slice(b"\r\n");
    at
}

/// Writes the framing.
pub(crate) fn framing(out: &mut Vec<u8>, framing: Framing) {
    match framing {
        // RFC 9110 section 8.6: no Content-Length in 204; in 304 it may be left out.
        Framing::Absent | Framing::Close => {}
        Framing::Sized(length) => {
            out.extend_from_slice(b"Content-Length: ");
            push_number(out, length);
            out.extend_from_slice(b"\r\n");
        }
        Framing::Chunked => out.extend_from_slice(b"Transfer-Encoding: chunked\r\n"),
    }
}

/// Writes Connection and the empty line.
pub(crate) fn finish(out: &mut Vec<u8>, persistence: Persistence) {
    out.extend_from_slice(match persistence {
        Persistence::Implied => b"\r\n",
        Persistence::KeepAlive => b"Connection: keep-alive\r\n\r\n",
        Persistence::Close => b"Connection: close\r\n\r\n",
    });
}

/// A whole head.
pub(crate) fn head(
    out: &mut Vec<u8>,
    status: u16,
    date: &Date,
    fields: &[u8],
    how: Framing,
    persistence: Persistence,
) {
    start(out, status, date);
    out.extend_from_slice(fields);
    framing(out, how);
    finish(out, persistence);
}

/// The head of an answer that gives the connection away. RFC 9110 section 7.8.
pub(crate) fn upgrade(out: &mut Vec<u8>, date: &Date, fields: &[u8], protocol: &[u8]) {
    start(out, 101, date);
    out.extend_from_slice(fields);
    out.extend_from_slice(b"Connection: upgrade\r\nUpgrade: ");
    out.extend_from_slice(protocol);
    out.extend_from_slice(b"\r\n\r\n");
}

/// An interim answer. RFC 9110 section 15.2.
pub(crate) fn interim(out: &mut Vec<u8>, status: u16, fields: &[u8]) {
    out.extend_from_slice(b"HTTP/1.1 ");
    push_number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason(status).as_bytes());
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(fields);
    out.extend_from_slice(b"\r\n");
}

pub(crate) fn push_number(out: &mut Vec<u8>, mut number: u64) {
    // Status codes and the octets of addresses.
    if number < 1000 {
        let [hundreds, tens, ones] =
            [number / 100, number / 10 % 10, number % 10].map(|digit| b'0' + digit as u8);
        match number {
            0..10 => out.push(ones),
            10..100 => out.extend_from_slice(&[tens, ones]),
            _ => out.extend_from_slice(&[hundreds, tens, ones]),
        }
        return;
    }
    // u64::MAX has 20 digits.
    let mut digits = [0; 20];
    let mut at = digits.len();
    // Two at a time: a division takes longer than all the rest.
    while number >= 10 {
        let pair = (number % 100) as u8;
        number /= 100;
        at -= 2;
        (digits[at], digits[at + 1]) = (b'0' + pair / 10, b'0' + pair % 10);
    }
    if number > 0 {
        at -= 1;
        digits[at] = b'0' + number as u8;
    }
    out.extend_from_slice(&digits[at..]);
}

/// Whether an answer with this status never has content. RFC 9112 section 6.3.
pub(crate) fn has_no_content(status: u16) -> bool {
    status == 204 || status == 304
}

/// The reason phrase of RFC 9110 section 15, RFC 6585, RFC 5789, RFC 2518, RFC 8297; empty for
/// what they do not name.
pub(crate) fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        101 => "Switching Protocols",
        102 => "Processing",
        103 => "Early Hints",
        200 => "OK",
        201 => "Created",
        202 => "Accepted",
        203 => "Non-Authoritative Information",
        204 => "No Content",
        205 => "Reset Content",
        206 => "Partial Content",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Found",
        303 => "See Other",
        304 => "Not Modified",
        307 => "Temporary Redirect",
        308 => "Permanent Redirect",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        409 => "Conflict",
        410 => "Gone",
        411 => "Length Required",
        412 => "Precondition Failed",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Range Not Satisfiable",
        417 => "Expectation Failed",
        421 => "Misdirected Request",
        422 => "Unprocessable Content",
        426 => "Upgrade Required",
        428 => "Precondition Required",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        505 => "HTTP Version Not Supported",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::date;

    #[test]
    fn numbers_are_written_whole() {
        for number in (0..11_000).chain([99_999, 100_000, 1_234_567, u64::MAX / 10, u64::MAX]) {
            let mut out = Vec::new();
            push_number(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
        }
    }

    #[test]
    fn every_offence_has_a_reason_phrase() {
        for offence in crate::Offence::ALL {
            assert_ne!(reason(offence.status()), "", "{offence:?}");
        }
    }

    #[test]
    fn an_encoded_head_is_read_back_by_another_parser() {
        let mut out = Vec::new();
        head(&mut out, 206, &date::now(), b"A: b\r\n", Framing::Sized(10), Persistence::Close);
        let mut fields = [httparse::EMPTY_HEADER; 8];
        let mut response = httparse::Response::new(&mut fields);
        let parsed = response.parse(&out).unwrap();
        assert_eq!(parsed.unwrap(), out.len());
        assert_eq!((response.code, response.reason), (Some(206), Some("Partial Content")));
        let names: Vec<_> = response.headers.iter().map(|field| field.name).collect();
        assert_eq!(names, ["Server", "Date", "A", "Content-Length", "Connection"]);
    }
}
