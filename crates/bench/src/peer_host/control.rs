//! The harness's end: gives orders to a peer, and looks at the accounts between them.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::protocol::{
    Download, Downloaded, GREETING, Hello, LONGEST, Lines, Order, PORT, Stall, Word,
};
use crate::harness::network::Side;

/// How long a connection may take to be made, and a peer to say who it is.
const CONNECT: Duration = Duration::from_secs(10);

/// What a peer may take beyond what it was asked for.
const GRACE: Duration = Duration::from_secs(30);

/// A peer that listens to us.
#[derive(Debug)]
pub(crate) struct Control {
    lines: Lines,
    hello: Hello,
    own: IpAddr,
}

impl Control {
    /// Connects to a peer by name, such as `bench2` or `192.0.2.7:7363`.
    pub(crate) fn to_host(name: &str) -> Result<Self> {
        let with_port = |name: &str| name.to_socket_addrs().ok()?.next();
        let address = with_port(name)
            .or_else(|| (name, PORT).to_socket_addrs().ok()?.next())
            .with_context(|| format!("there is no host {name}"))?;
        Self::connect(address, Side::Here)
    }

    /// Connects to a peer from a side of a network.
    pub(crate) fn connect(address: SocketAddr, from: Side<'_>) -> Result<Self> {
        let stream = from.enter(|| TcpStream::connect_timeout(&address, CONNECT))?;
        let stream = stream.with_context(|| format!("there is no peer at {address}"))?;
        let own = stream.local_addr()?.ip();
        let mut lines = Lines::new(stream)?;
        lines.write(GREETING)?;
        match Self::hear(&mut lines, CONNECT) {
            Ok(Word::Hello(hello)) => Ok(Self { lines, hello, own }),
            Ok(other) => bail!("what listens at {address} is no peer: it says {other:?}"),
            Err(error) => Err(error.context(format!("what listens at {address} is no peer"))),
        }
    }

    /// Who it is.
    pub(crate) fn hello(&self) -> &Hello {
        &self.hello
    }

    /// Our address as the peer reaches it.
    pub(crate) fn own_address(&self) -> IpAddr {
        self.own
    }

    /// Has the peer download; `look` is called right before and right after.
    pub(crate) fn download<T>(
        &mut self,
        order: &Download,
        mut look: impl FnMut() -> Result<T>,
    ) -> Result<(T, Downloaded, T)> {
        self.lines.say(&Order::Download(order.clone()))?;
        self.expect(|word| matches!(word, Word::Ready).then_some(()))?;
        let before = look()?;
        self.lines.say(&Order::Go)?;
        let done = self.expect(|word| match word {
            Word::Done(done) => Some(done),
            _ => None,
        })?;
        Ok((before, done, look()?))
    }

    /// Has the peer ask for something and not read it, until the server ends the connection.
    pub(crate) fn stall(&mut self, address: SocketAddr, path: &str, limit: Duration) -> Result<()> {
        let limit_ms = u64::try_from(limit.as_millis())?;
        self.lines.say(&Order::Stall(Stall { address, path: path.to_owned(), limit_ms }))?;
        self.expect(|word| matches!(word, Word::Stalled).then_some(()))
    }

    fn expect<T>(&mut self, wanted: impl FnOnce(Word) -> Option<T>) -> Result<T> {
        let word = Self::hear(&mut self.lines, LONGEST + GRACE)?;
        let said = format!("{word:?}");
        wanted(word).with_context(|| format!("the peer says {said}"))
    }

    fn hear(lines: &mut Lines, limit: Duration) -> Result<Word> {
        match lines.hear(limit)?.context("the peer has gone")? {
            Word::Failed(why) => bail!("the peer gave up: {why}"),
            word => Ok(word),
        }
    }
}
