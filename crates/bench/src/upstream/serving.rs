//! The upstream's loop.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::thread;
use std::time::Duration;

use sluicegate_sys::epoll::{Epoll, Events, Interest};
use sluicegate_sys::socket;

use super::account::Account;
use super::content::{Answer, Contents, Turn};
use super::pace::TICK;
use super::request::{LIMIT, Request, not_found};
use super::{ACCOUNT, FORGET};

/// The key of the listener; connections have their descriptors' numbers.
const LISTENER: u64 = u64::MAX;

struct Connection {
    fd: OwnedFd,
    /// The address that was connected to.
    address: Option<SocketAddr>,
    received: Vec<u8>,
    answer: Option<(Answer, Option<u64>)>,
    is_last: bool,
}

/// What becomes of a connection after its turn.
#[derive(PartialEq, Eq)]
enum After {
    Waits,
    Again,
    Early,
    Gone,
}

struct Server {
    contents: Contents,
    account: Account,
    connections: Vec<Option<Connection>>,
    /// Connections that have more to send at once, and those that wait for time to pass.
    again: VecDeque<usize>,
    early: Vec<usize>,
}

pub(super) fn serve(listener: &OwnedFd, contents: Contents, spins: bool) -> io::Result<()> {
    let epoll = Epoll::new()?;
    epoll.add(listener.as_fd(), LISTENER, Interest::SharedListener)?;
    let mut events = Events::with_capacity(1024);
    let (account, connections, again, early) = Default::default();
    let mut server = Server { contents, account, connections, again, early };
    loop {
        let patience = if !server.again.is_empty() || spins {
            Some(Duration::ZERO)
        } else {
            (!server.early.is_empty()).then_some(TICK)
        };
        match epoll.wait(&mut events, patience) {
            Ok(0) if spins && server.again.is_empty() => thread::yield_now(),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        }
        for _ in 0..server.again.len() {
            if let Some(key) = server.again.pop_front() {
                server.turn(key);
            }
        }
        for key in std::mem::take(&mut server.early) {
            server.turn(key);
        }
        let mut is_called = false;
        for (key, ready) in events.iter() {
            if key == LISTENER {
                is_called = true;
                continue;
            }
            let key = key as usize;
            if ready.error() {
                server.close(key);
            } else if ready.readable() || ready.writable() || ready.hung_up() {
                server.turn(key);
            }
        }
        // Last: a new connection may have the number of one that was closed above, and
        // what is still to be read of these events would be taken for its own.
        if is_called {
            server.accept(listener, &epoll)?;
        }
    }
}

impl Server {
    fn accept(&mut self, listener: &OwnedFd, epoll: &Epoll) -> io::Result<()> {
        while let Ok((fd, _)) = socket::accept(listener.as_fd()) {
            socket::set_nodelay(fd.as_fd())?;
            let key = fd.as_raw_fd() as usize;
            let address = socket::local_address(fd.as_fd())?;
            epoll.add(fd.as_fd(), key as u64, Interest::Both)?;
            if self.connections.len() <= key {
                self.connections.resize_with(key + 1, || None);
            }
            self.account.connections += 1;
            let (received, answer) = (Vec::with_capacity(1 << 10), None);
            self.connections[key] =
                Some(Connection { fd, address, received, answer, is_last: false });
        }
        Ok(())
    }

    /// Goes on with a connection, if it is still there.
    fn turn(&mut self, key: usize) {
        let Some(Some(connection)) = self.connections.get_mut(key) else { return };
        match connection.turn(&self.contents, &mut self.account) {
            Ok(After::Waits) => {}
            Ok(After::Again) if self.again.contains(&key) => {}
            Ok(After::Again) => self.again.push_back(key),
            Ok(After::Early) if self.early.contains(&key) => {}
            Ok(After::Early) => self.early.push(key),
            Ok(After::Gone) | Err(_) => self.close(key),
        }
    }

    fn close(&mut self, key: usize) {
        let Some(connection) = self.connections.get_mut(key).and_then(Option::take) else { return };
        if let Some((answer, number)) = connection.answer {
            self.account.end(number, answer.sent, false);
        }
    }
}

impl Connection {
    fn turn(&mut self, contents: &Contents, account: &mut Account) -> io::Result<After> {
        loop {
            if let Some((answer, number)) = &mut self.answer {
                match answer.drive(self.fd.as_fd())? {
                    Turn::Done => {
                        account.end(*number, answer.sent, true);
                        self.answer = None;
                        if self.is_last {
                            return Ok(After::Gone);
                        }
                    }
                    Turn::Full if answer.is_paced() => return Ok(After::Early),
                    Turn::Full => return Ok(After::Waits),
                    Turn::Again => return Ok(After::Again),
                    Turn::Early => return Ok(After::Early),
                }
            }
            if !self.next(contents, account)? {
                return Ok(After::Waits);
            }
        }
    }

    /// Takes the next request, if there is one.
    fn next(&mut self, contents: &Contents, account: &mut Account) -> io::Result<bool> {
        let (request, length) = loop {
            if let Some(found) = Request::parse(&self.received) {
                break found;
            }
            if self.received.len() >= LIMIT {
                return Err(ErrorKind::InvalidData.into());
            }
            self.received.reserve(1 << 10);
            match socket::receive(self.fd.as_fd(), &mut self.received) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        };
        self.received.drain(..length);
        let Request { path, is_last } = request;
        match path.as_str() {
            ACCOUNT => self.say(&serde_json::to_vec(account)?)?,
            FORGET => {
                account.forget();
                self.say(b"{}")?;
            }
            _ => match contents.answer(&path, self.address, is_last)? {
                Some(answer) => {
                    self.is_last = is_last || answer.is_paced();
                    let number = account.begin(&path, answer.length);
                    self.answer = Some((answer, number));
                }
                None => self.send(&not_found())?,
            },
        }
        Ok(true)
    }

    /// A line of JSON, which always fits.
    fn say(&self, text: &[u8]) -> io::Result<()> {
        let mut answer = super::request::head(text.len() as u64, false);
        answer.extend_from_slice(text);
        self.send(&answer)
    }

    fn send(&self, mut answer: &[u8]) -> io::Result<()> {
        while !answer.is_empty() {
            match socket::send(self.fd.as_fd(), answer, false) {
                Ok(sent) => answer = &answer[sent..],
                // Nobody else waits for long while somebody asks for the account.
                Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(TICK),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}
