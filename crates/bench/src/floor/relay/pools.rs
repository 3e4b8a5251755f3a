//! Small messages between clients and pools of two servers: the number in Host says which pool, and
//! nothing else of a message is looked at. What is known of a connection fits a few words, so that
//! what it costs to have thousands of them is the kernel's.

use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use memchr::memmem;
use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::socket;

use super::connect;

/// Longer than any message.
const ROOM: usize = 4 << 10;

const LISTENER: u64 = u64::MAX;

/// A connection, by the number of its descriptor.
enum End {
    Client {
        socket: OwnedFd,
        /// Who answers it.
        asks: Option<usize>,
    },
    Upstream {
        socket: OwnedFd,
        server: usize,
        /// Whom it answers.
        asked_by: Option<usize>,
    },
}

struct Pools<'a> {
    epoll: Epoll,
    servers: &'a [SocketAddr],
    ends: Vec<Option<End>>,
    /// Connections without a request, the newest last, by server.
    idle: Vec<Vec<usize>>,
    /// Whose turn it is, by pool.
    turns: Vec<usize>,
    buffer: Box<[u8; ROOM]>,
}

/// `servers` of all pools, two of each.
pub(super) fn serve(listener: &OwnedFd, servers: &[SocketAddr]) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, Interest::SharedListener)?;
    let mut events = Events::with_capacity(256);
    let mut pools = Pools {
        epoll,
        servers,
        ends: Vec::new(),
        idle: vec![Vec::new(); servers.len()],
        turns: vec![0; servers.len() / 2],
        buffer: Box::new([0; ROOM]),
    };
    loop {
        match pools.epoll.wait(&mut events, None) {
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        let mut accepts = false;
        for (key, _) in events.iter() {
            match key {
                LISTENER => accepts = true,
                key => pools.turn(key as usize)?,
            }
        }
        // Behind the other events: those of a connection that was closed are not for a new one
        // with its number.
        while accepts && let Ok((client, _)) = socket::accept(listener.as_fd()) {
            socket::set_nodelay(client.as_fd())?;
            pools.insert(client, |socket| End::Client { socket, asks: None })?;
        }
    }
}

/// The number in the request's Host.
fn number(request: &[u8]) -> Option<usize> {
    let host = &request[memmem::find(request, b"\r\nHost: ")? + 8..];
    let digits = host.iter().skip_while(|byte| !byte.is_ascii_digit());
    let digits = digits.take_while(|byte| byte.is_ascii_digit());
    digits.map(|byte| usize::from(byte - b'0')).reduce(|number, digit| number * 10 + digit)
}

impl Pools<'_> {
    fn insert(&mut self, socket: OwnedFd, end: impl FnOnce(OwnedFd) -> End) -> io::Result<usize> {
        let key = socket.as_raw_fd() as usize;
        self.epoll.add(socket.as_fd(), key as u64, Interest::Both)?;
        if self.ends.len() <= key {
            self.ends.resize_with(key + 1, || None);
        }
        self.ends[key] = Some(end(socket));
        Ok(key)
    }

    /// Passes on what has come, if anything has.
    fn turn(&mut self, key: usize) -> io::Result<()> {
        let Some(Some(end)) = self.ends.get(key) else { return Ok(()) };
        let socket = match end {
            End::Client { socket, .. } | End::Upstream { socket, .. } => socket,
        };
        let received = match socket::receive_into(socket.as_fd(), &mut self.buffer[..]) {
            Ok(0) => return self.close(key),
            Ok(received) => received,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return self.close(key),
        };
        match *end {
            End::Client { .. } => self.ask(key, received),
            End::Upstream { server, asked_by, .. } => {
                let Some(client) = asked_by else { return self.close(key) };
                if let Some(Some(End::Upstream { asked_by, .. })) = self.ends.get_mut(key) {
                    *asked_by = None;
                }
                self.idle[server].push(key);
                let Some(Some(End::Client { socket, asks })) = self.ends.get_mut(client) else {
                    return Ok(());
                };
                *asks = None;
                whole(socket::send(socket.as_fd(), &self.buffer[..received], false), received)
            }
        }
    }

    /// Sends the client's request, of so many bytes, to a server of its pool.
    fn ask(&mut self, client: usize, received: usize) -> io::Result<()> {
        let request = &self.buffer[..received];
        let pool = number(request).filter(|&pool| pool < self.turns.len());
        let pool = pool.ok_or(ErrorKind::InvalidData)?;
        let server = 2 * pool + self.turns[pool] % 2;
        self.turns[pool] += 1;
        let key = match self.idle[server].pop() {
            Some(key) => key,
            None => {
                let socket = connect(self.servers[server])?;
                self.insert(socket, |socket| End::Upstream { socket, server, asked_by: None })?
            }
        };
        let Some(Some(End::Upstream { socket, asked_by, .. })) = self.ends.get_mut(key) else {
            return Err(ErrorKind::NotConnected.into());
        };
        *asked_by = Some(client);
        let sent = socket::send(socket.as_fd(), &self.buffer[..received], false);
        if let Some(Some(End::Client { asks, .. })) = self.ends.get_mut(client) {
            *asks = Some(key);
        }
        whole(sent, received)
    }

    /// Closes it, and a connection that would answer it.
    fn close(&mut self, key: usize) -> io::Result<()> {
        match self.ends[key].take() {
            Some(End::Client { asks: Some(upstream), .. }) => self.ends[upstream] = None,
            Some(End::Upstream { asked_by: Some(_), .. }) => {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            Some(End::Upstream { server, .. }) => self.idle[server].retain(|&idle| idle != key),
            _ => {}
        }
        Ok(())
    }
}

/// Messages are small, and leave in one piece; whoever goes meanwhile is noticed when it is read.
fn whole(sent: io::Result<usize>, len: usize) -> io::Result<()> {
    match sent {
        Ok(sent) if sent < len => Err(ErrorKind::WriteZero.into()),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Err(ErrorKind::WriteZero.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_of_a_pool_is_that_of_its_host() {
        let of = |host: &str| number(format!("GET /7 HTTP/1.1\r\nHost: {host}\r\n\r\n").as_bytes());
        assert_eq!(of("site-0.example.test"), Some(0));
        assert_eq!(of("site-999.example.test"), Some(999));
        assert_eq!(number(b"GET / HTTP/1.1\r\n\r\n"), None);
    }
}
