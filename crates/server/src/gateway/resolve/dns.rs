//! One question to the DNS: RFC 1035 over UDP, and over TCP where the answer does
//! not fit. The messages themselves are `simple-dns`'s.

use std::future::poll_fn;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use simple_dns::rdata::RData;
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, Question, RCODE, TYPE};
use sluicegate::{Reactor, Readiness, SendContext, Source, Target};

use super::super::connect::{connect, within};
use super::super::hash;
use super::system::System;
use super::{Found, ResolveError};

/// Names that stand for one another in one answer.
const ALIASES: usize = 16;

/// The kind of address that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    V4,
    V6,
}

impl Kind {
    fn record(self) -> TYPE {
        match self {
            Kind::V4 => TYPE::A,
            Kind::V6 => TYPE::AAAA,
        }
    }
}

/// The addresses of an absolute name: of the first server that knows.
pub(super) async fn ask(
    reactor: &Reactor,
    system: &System,
    name: &str,
    kind: Kind,
) -> Result<Found, ResolveError> {
    let mut error = ResolveError::NoName;
    for _ in 0..system.attempts {
        for &server in &system.servers {
            let number = (hash::random() & 0xffff) as u16;
            let question = question(number, name, kind).ok_or(ResolveError::NotAName)?;
            let asked = exchange(reactor, server, &question, name, kind);
            let answered = within(reactor, system.timeout, asked).await;
            match answered.unwrap_or(Err(ResolveError::Silent(server))) {
                Ok(found) => return Ok(found),
                // It knows, and this is what it knows.
                Err(error @ (ResolveError::NoName | ResolveError::NoAddress)) => {
                    return Err(error);
                }
                Err(other) => error = other,
            }
        }
    }
    Err(error)
}

fn question(number: u16, name: &str, kind: Kind) -> Option<Vec<u8>> {
    let mut packet = Packet::new_query(number);
    packet.set_flags(PacketFlag::RECURSION_DESIRED);
    let name = Name::new(name).ok()?;
    packet.questions.push(Question::new(name, kind.record().into(), CLASS::IN.into(), false));
    packet.build_bytes_vec().ok()
}

/// What came back.
enum Reply {
    Found(Found),
    /// It did not fit.
    Cut,
    /// Of somebody else, or to another question.
    Foreign,
}

async fn exchange(
    reactor: &Reactor,
    server: SocketAddr,
    question: &[u8],
    name: &str,
    kind: Kind,
) -> Result<Found, ResolveError> {
    let network = |error: io::Error| ResolveError::Network { server, why: error.to_string() };
    let own: IpAddr = match server {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    // Connected, it takes what comes from that server alone; a port of its own for
    // each question makes that harder to forge (RFC 5452).
    let socket = UdpSocket::bind(SocketAddr::new(own, 0)).map_err(network)?;
    socket.set_nonblocking(true).map_err(network)?;
    socket.connect(server).map_err(network)?;
    let readiness = reactor.watch(socket.as_fd()).map_err(network)?;
    socket.send(question).map_err(network)?;
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let edge = poll_fn(|cx| readiness.poll_readable(cx)).await;
        match socket.recv(&mut buffer) {
            Ok(count) => match read(&buffer[..count], question, server, name, kind)? {
                Reply::Found(found) => return Ok(found),
                Reply::Cut => break,
                Reply::Foreign => {}
            },
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                readiness.clear_readable(edge);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(network(error)),
        }
    }
    let answer = over_tcp(reactor, server, question).await.map_err(network)?;
    match read(&answer, question, server, name, kind)? {
        Reply::Found(found) => Ok(found),
        Reply::Cut | Reply::Foreign => {
            Err(ResolveError::Refused { server, says: "something else".to_owned() })
        }
    }
}

/// RFC 1035 section 4.2.2: the same with its length in front.
async fn over_tcp(reactor: &Reactor, server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let context = Arc::new(SendContext::default());
    // The caller's patience is shorter.
    let patience = Duration::from_secs(60);
    let mut socket = connect(reactor, &context, &Target::Tcp(server), patience).await?;
    let length = u16::try_from(question.len()).map_err(io::Error::other)?;
    let message = [&length.to_be_bytes()[..], question].concat();
    socket.queue(message).map_err(io::Error::other)?;
    socket.flush().await.map_err(io::Error::other)?;
    let mut received = Vec::with_capacity(2 + 64 * 1024);
    loop {
        if let [high, low, rest @ ..] = &received[..] {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() >= length {
                return Ok(rest[..length].to_vec());
            }
        }
        if socket.receive(&mut received).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// Reads an answer to `question`.
fn read(
    answer: &[u8],
    question: &[u8],
    server: SocketAddr,
    name: &str,
    kind: Kind,
) -> Result<Reply, ResolveError> {
    // The number, which is all that a stranger would have to guess.
    if answer.len() < 12 || answer[..2] != question[..2] {
        return Ok(Reply::Foreign);
    }
    let Ok(packet) = Packet::parse(answer) else {
        // RFC 1035 section 4.1.1: QR and TC. What did not fit may end within a record.
        if answer.get(2).is_some_and(|flags| flags & 0x82 == 0x82) {
            return Ok(Reply::Cut);
        }
        let says = "something that is no DNS message".to_owned();
        return Err(ResolveError::Refused { server, says });
    };
    let is_asked = |asked: &Question<'_>| {
        asked.qtype == QTYPE::TYPE(kind.record()) && is_same(&asked.qname.to_string(), name)
    };
    if !packet.has_flags(PacketFlag::RESPONSE) || !packet.questions.iter().all(is_asked) {
        return Ok(Reply::Foreign);
    }
    match packet.rcode() {
        RCODE::NoError => {}
        RCODE::NameError => return Err(ResolveError::NoName),
        other => {
            return Err(ResolveError::Refused { server, says: format!("{other:?}") });
        }
    }
    if packet.has_flags(PacketFlag::TRUNCATION) {
        return Ok(Reply::Cut);
    }
    let mut owner = name.to_owned();
    let mut holds = u32::MAX;
    // Aliases may come in any order.
    for _ in 0..ALIASES {
        let of_owner =
            |record: &&simple_dns::ResourceRecord<'_>| is_same(&record.name.to_string(), &owner);
        let mut addresses = Vec::new();
        let mut alias = None;
        for record in packet.answers.iter().filter(of_owner) {
            match &record.rdata {
                RData::A(a) if kind == Kind::V4 => {
                    addresses.push(IpAddr::V4(Ipv4Addr::from_bits(a.address)));
                }
                RData::AAAA(aaaa) if kind == Kind::V6 => {
                    addresses.push(IpAddr::V6(Ipv6Addr::from_bits(aaaa.address)));
                }
                RData::CNAME(name) => alias = Some(name.0.to_string()),
                _ => continue,
            }
            holds = holds.min(record.ttl);
        }
        if !addresses.is_empty() {
            let holds = Duration::from_secs(holds.into());
            return Ok(Reply::Found(Found { addresses, holds }));
        }
        match alias {
            Some(name) => owner = name,
            None => break,
        }
    }
    Err(ResolveError::NoAddress)
}

/// RFC 4343: in any case.
fn is_same(one: &str, other: &str) -> bool {
    one.trim_end_matches('.').eq_ignore_ascii_case(other.trim_end_matches('.'))
}
