//! A client that reads what it gets by the letter.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use sluicegate_testkit::corpus::Verifier;

use super::PATIENCE;
use super::incoming::{Broken, Framing, Head, Incoming, Pace};

/// How an answer is read.
#[derive(Clone, Copy, Debug)]
pub enum Expected {
    /// Its content is kept.
    Any,
    /// It is the corpus of this seed, from this offset on, and is verified as it comes.
    Corpus(u64, u64),
}

/// An answer, as far as it came.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: Head,
    /// Those before it, 100 to 199.
    pub interim: Vec<Head>,
    pub content: Vec<u8>,
    /// Bytes of content that came, kept or not.
    pub length: u64,
    pub framing: Option<Framing>,
    pub trailers: Vec<(String, String)>,
    /// Why it is not whole.
    pub broken: Option<Broken>,
}

impl Reply {
    pub fn field(&self, name: &str) -> Option<&str> {
        self.head.field(name)
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.content).unwrap()
    }

    /// The answer, which must be whole and of this status.
    #[track_caller]
    pub fn whole(self, status: u16) -> Self {
        assert!(
            self.broken.is_none(),
            "{:?} after {} bytes: {}",
            self.broken,
            self.length,
            self.head.raw
        );
        assert_eq!(
            self.status,
            status,
            "{}{:?}",
            self.head.raw,
            self.content.escape_ascii().to_string()
        );
        self
    }

    /// The answer, which must not be whole.
    #[track_caller]
    pub fn cut(self) -> Self {
        assert!(
            matches!(self.broken, Some(Broken::Truncated | Broken::Reset)),
            "{:?} after {} bytes as {:?}: {}",
            self.broken,
            self.length,
            self.framing,
            self.head.raw
        );
        self
    }
}

/// A connection of a client's.
pub struct Client {
    pub incoming: Incoming<TcpStream>,
}

impl Client {
    pub fn new(address: SocketAddr) -> Self {
        Self::of(TcpStream::connect(address).unwrap())
    }

    /// One that has room for few bytes that it has not read.
    pub fn narrow(address: SocketAddr) -> Self {
        // A program that is started meanwhile would keep the connection open when this is dropped.
        let flags = SocketFlags::CLOEXEC;
        let (family, kind) = (AddressFamily::INET, SocketType::STREAM);
        let socket = rustix::net::socket_with(family, kind, flags, None).unwrap();
        // The window is announced with the first packet, so before it.
        sockopt::set_socket_recv_buffer_size(&socket, 16 << 10).unwrap();
        rustix::net::connect(&socket, &address).unwrap();
        Self::of(socket.into())
    }

    pub fn of(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Client { incoming: Incoming::new(stream) }
    }

    pub fn paced(mut self, pace: Pace) -> Self {
        self.incoming.set_pace(pace);
        self
    }

    pub fn stream(&self) -> &TcpStream {
        &self.incoming.stream
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.incoming.stream.write_all(bytes.as_ref()).unwrap();
    }

    /// A request whose lines are these; the empty line is added, and Host, if it is none of them.
    #[track_caller]
    pub fn ask(&mut self, line: &str, fields: &[&str]) {
        let mut request = format!("{line}\r\n");
        if !fields.iter().any(|field| field.starts_with("Host:")) {
            request += "Host: site.test\r\n";
        }
        for field in fields {
            request += &format!("{field}\r\n");
        }
        self.send(request + "\r\n");
    }

    #[track_caller]
    pub fn get(&mut self, target: &str) -> Reply {
        self.ask(&format!("GET {target} HTTP/1.1"), &[]);
        self.reply("GET", Expected::Any)
    }

    /// Reads an answer to a request with this method.
    #[track_caller]
    pub fn reply(&mut self, method: &str, expected: Expected) -> Reply {
        self.try_reply(method, expected).expect("an answer's head")
    }

    /// The same where perhaps not even a head comes.
    #[track_caller]
    pub fn try_reply(&mut self, method: &str, expected: Expected) -> Result<Reply, Broken> {
        self.try_reply_of(method, |_| expected)
    }

    /// The same where it is the status that tells what the content is to be.
    #[track_caller]
    pub fn try_reply_of(
        &mut self,
        method: &str,
        expected: impl FnOnce(u16) -> Expected,
    ) -> Result<Reply, Broken> {
        let mut interim = Vec::new();
        let (head, status) = loop {
            let head = self.incoming.head()?.ok_or(Broken::Truncated)?;
            let status = status(&head);
            if status >= 200 || status == 101 {
                break (head, status);
            }
            assert_eq!(head.framing().unwrap(), None, "an interim answer has no content");
            interim.push(head);
        };
        let told = head.framing().unwrap();
        if status < 200 || status == 204 {
            // RFC 9110 section 8.6, RFC 9112 section 6.1.
            assert_eq!(told, None, "{status} has no content to tell of: {}", head.raw);
        }
        let has_none = method == "HEAD" || matches!(status, 101 | 204 | 304);
        let framing = if has_none { None } else { Some(told.unwrap_or(Framing::Close)) };
        let (content, trailers) = (Vec::new(), Vec::new());
        let (length, broken) = (0, None);
        let mut reply = Reply { status, head, interim, content, length, framing, trailers, broken };
        let Some(framing) = framing else { return Ok(reply) };
        let mut verifier = match expected(status) {
            Expected::Any => None,
            Expected::Corpus(seed, offset) => Some(Verifier::new(seed, offset)),
        };
        let mut wrong = None;
        let result = self.incoming.content(framing, &mut |piece| {
            reply.length += piece.len() as u64;
            match &mut verifier {
                Some(verifier) if wrong.is_none() => wrong = verifier.update(piece).err(),
                Some(_) => {}
                None => reply.content.extend_from_slice(piece),
            }
        });
        assert!(wrong.is_none(), "{}: {}", wrong.unwrap(), reply.head.raw);
        match result {
            Ok(trailers) => reply.trailers = trailers,
            Err(broken) => reply.broken = Some(broken),
        }
        Ok(reply)
    }

    /// It will send nothing more.
    pub fn finish(&self) {
        // It may be that nothing can be sent any more.
        let _ = self.stream().shutdown(Shutdown::Write);
    }

    /// Goes without a word.
    pub fn reset(self) {
        sockopt::set_socket_linger(self.stream(), Some(Duration::ZERO)).unwrap();
    }

    /// The other end has ended the connection, in order.
    #[track_caller]
    pub fn assert_ended(&mut self) {
        assert_eq!(self.incoming.buffered(), b"", "nothing behind the answer");
        let mut byte = [0];
        assert_eq!(self.incoming.stream.read(&mut byte).unwrap(), 0, "{}", byte[0]);
    }

    /// Another request is answered on it.
    #[track_caller]
    pub fn assert_usable(&mut self, target: &str) {
        assert_eq!(self.incoming.buffered(), b"", "nothing behind the answer");
        self.get(target).whole(200);
    }
}

#[track_caller]
fn status(head: &Head) -> u16 {
    let text = head.line.strip_prefix("HTTP/1.1 ").expect(&head.raw);
    let (code, _) = text.split_once(' ').expect("a blank behind the status");
    code.parse().unwrap()
}
