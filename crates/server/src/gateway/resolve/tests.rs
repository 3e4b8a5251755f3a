//! Names, asked of a DNS server of the test's own.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QTYPE, RCODE, ResourceRecord, TYPE};
use sluicegate::Worker;

use super::*;

/// What the server says of a name.
#[derive(Clone, Debug)]
pub(in crate::gateway) enum Says {
    Addresses(Vec<IpAddr>),
    Alias(&'static str, Vec<IpAddr>),
    Refused,
    /// So many that they fit into no datagram; the second kind of answer ends within a record.
    Many,
    Torn,
    /// There is no such name, as far as IPv4 goes; of IPv6 nothing is said.
    Half,
    Nothing,
}

/// A DNS server on the loopback.
pub(in crate::gateway) struct Dns {
    pub(in crate::gateway) address: SocketAddr,
    pub(in crate::gateway) says: Arc<Mutex<HashMap<&'static str, Says>>>,
    /// Questions that came.
    pub(in crate::gateway) asked: Arc<AtomicUsize>,
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Dns {
    pub(in crate::gateway) fn start(says: &[(&'static str, Says)]) -> Self {
        // TCP and UDP have ports of their own: the other may be taken.
        let (tcp, udp) = loop {
            let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
            if let Ok(udp) = UdpSocket::bind(tcp.local_addr().unwrap()) {
                break (tcp, udp);
            }
        };
        let address = tcp.local_addr().unwrap();
        let says = Arc::new(Mutex::new(says.iter().cloned().collect::<HashMap<_, _>>()));
        let asked = Arc::new(AtomicUsize::new(0));
        let is_over = Arc::new(AtomicBool::new(false));
        udp.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
        tcp.set_nonblocking(true).unwrap();
        let own = (Arc::clone(&says), Arc::clone(&asked), Arc::clone(&is_over));
        let by_udp = std::thread::spawn(move || {
            let (says, asked, is_over) = own;
            let mut buffer = [0; 512];
            while !is_over.load(Ordering::Relaxed) {
                let Ok((count, peer)) = udp.recv_from(&mut buffer) else { continue };
                asked.fetch_add(1, Ordering::Relaxed);
                let answer = answer(&buffer[..count], &says.lock().unwrap(), true);
                if let Some(answer) = answer {
                    // Somebody else's answer goes before the true one.
                    let mut foreign = answer.clone();
                    foreign[0] ^= 0xff;
                    udp.send_to(&foreign, peer).unwrap();
                    udp.send_to(&answer, peer).unwrap();
                }
            }
        });
        let own = (Arc::clone(&says), Arc::clone(&is_over));
        let by_tcp = std::thread::spawn(move || {
            let (says, is_over) = own;
            while !is_over.load(Ordering::Relaxed) {
                let Ok((mut stream, _)) = tcp.accept() else {
                    std::thread::sleep(Duration::from_millis(5));
                    continue;
                };
                stream.set_nonblocking(false).unwrap();
                let mut length = [0; 2];
                stream.read_exact(&mut length).unwrap();
                let mut question = vec![0; usize::from(u16::from_be_bytes(length))];
                stream.read_exact(&mut question).unwrap();
                let answer = answer(&question, &says.lock().unwrap(), false).unwrap();
                let length = u16::try_from(answer.len()).unwrap();
                stream.write_all(&length.to_be_bytes()).unwrap();
                stream.write_all(&answer).unwrap();
            }
        });
        Dns { address, says, asked, is_over, threads: vec![by_udp, by_tcp] }
    }

    pub(in crate::gateway) fn says(&self, name: &'static str, says: Says) {
        self.says.lock().unwrap().insert(name, says);
    }
}

impl Drop for Dns {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn answer(question: &[u8], says: &HashMap<&'static str, Says>, is_udp: bool) -> Option<Vec<u8>> {
    let packet = Packet::parse(question).unwrap();
    let asked = packet.questions[0].clone();
    let mut reply = Packet::new_reply(packet.id());
    reply.questions.push(asked.clone());
    let name = asked.qname.to_string();
    let mut add = |owner: &str, addresses: &[IpAddr]| {
        for address in addresses {
            let data = match address {
                IpAddr::V4(v4) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
                    RData::A(A { address: v4.to_bits() })
                }
                IpAddr::V6(v6) if asked.qtype == QTYPE::TYPE(TYPE::AAAA) => {
                    RData::AAAA(AAAA { address: v6.to_bits() })
                }
                _ => continue,
            };
            let owner = Name::new(owner).unwrap().into_owned();
            reply.answers.push(ResourceRecord::new(owner, CLASS::IN, 1, data));
        }
    };
    match says.get(name.as_str()) {
        None => *reply.rcode_mut() = RCODE::NameError,
        Some(Says::Nothing) => return None,
        Some(Says::Refused) => *reply.rcode_mut() = RCODE::ServerFailure,
        Some(Says::Addresses(addresses)) => add(&name.to_uppercase(), addresses),
        Some(Says::Alias(other, addresses)) => {
            add(other, addresses);
            let data = RData::CNAME(CNAME(Name::new(other).unwrap().into_owned()));
            let owner = asked.qname.clone().into_owned();
            reply.answers.push(ResourceRecord::new(owner, CLASS::IN, 60, data));
        }
        Some(Says::Half) if asked.qtype == QTYPE::TYPE(TYPE::A) => {
            *reply.rcode_mut() = RCODE::NameError;
        }
        Some(Says::Half) => return None,
        Some(Says::Torn) if is_udp => {
            add(&name, &ips(&["127.0.0.1", "::1"]));
            reply.set_flags(PacketFlag::TRUNCATION);
            let mut torn = reply.build_bytes_vec().unwrap();
            torn.truncate(torn.len() - 2);
            return Some(torn);
        }
        Some(Says::Many) if is_udp => reply.set_flags(PacketFlag::TRUNCATION),
        Some(Says::Many | Says::Torn) => {
            let many: Vec<IpAddr> = (1..=100).map(|last| IpAddr::from([127, 0, 0, last])).collect();
            add(&name, &many);
        }
    }
    Some(reply.build_bytes_vec().unwrap())
}

fn found(dns: &Dns, name: &str) -> Result<Found, ResolveError> {
    let worker = Worker::new().unwrap();
    let (reactor, address, name) = (worker.reactor().clone(), dns.address, name.to_owned());
    worker.run(async move { lookup(&reactor, &name, Some(address)).await }).unwrap()
}

/// As `found`, where names may be of these domains.
fn searched(dns: &Dns, name: &str, domains: &str) -> Result<Found, ResolveError> {
    let mut system = System::parse(String::new(), &format!("search {domains}\n"));
    system.servers = vec![dns.address];
    let worker = Worker::new().unwrap();
    let (reactor, name) = (worker.reactor().clone(), name.to_owned());
    worker.run(async move { lookup_by(&reactor, &system, &name).await }).unwrap()
}

fn ips(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn addresses_and_aliases_and_long_answers_are_found() {
    let dns = Dns::start(&[
        ("app.test", Says::Addresses(ips(&["127.0.0.3", "127.0.0.2", "127.0.0.3"]))),
        ("www.test", Says::Alias("app.test", ips(&["127.0.0.9"]))),
        ("many.test", Says::Many),
        ("torn.test", Says::Torn),
    ]);
    let second = Duration::from_secs(1);
    let expected = Found { addresses: ips(&["127.0.0.2", "127.0.0.3"]), holds: second };
    assert_eq!(found(&dns, "app.test").unwrap(), expected);
    assert_eq!(found(&dns, "APP.test.").unwrap_err(), ResolveError::NoName, "the server's case");
    assert_eq!(found(&dns, "www.test").unwrap().addresses, ips(&["127.0.0.9"]));
    assert_eq!(found(&dns, "many.test").unwrap().addresses.len(), 100);
    assert_eq!(found(&dns, "torn.test").unwrap().addresses.len(), 100);
}

#[test]
fn what_is_not_found_says_why() {
    let dns = Dns::start(&[
        ("empty.test", Says::Addresses(Vec::new())),
        ("refused.test", Says::Refused),
        ("silent.test", Says::Nothing),
    ]);
    let error = |name: &str| found(&dns, name).unwrap_err();
    assert_eq!(error("gone.test"), ResolveError::NoName);
    assert_eq!(error("empty.test"), ResolveError::NoAddress);
    let refused = error("refused.test").to_string();
    assert_eq!(refused, format!("the DNS server {} says ServerFailure", dns.address));
    assert_eq!(error("silent.test"), ResolveError::Silent(dns.address));
    assert_eq!(error(&"x".repeat(64)), ResolveError::NotAName);
}

#[test]
fn this_host_is_known_without_asking() {
    let dns = Dns::start(&[]);
    assert!(found(&dns, "localhost").unwrap().addresses.contains(&ips(&["127.0.0.1"])[0]));
    assert_eq!(dns.asked.load(Ordering::Relaxed), 0);
}

#[test]
fn a_domain_that_fails_is_not_the_last_that_is_searched() {
    let dns = Dns::start(&[
        ("app", Says::Addresses(ips(&["127.0.0.4"]))),
        ("app.bad.test", Says::Refused),
        ("gone.bad.test", Says::Refused),
        ("app.half.test", Says::Half),
        ("silent.mute.test", Says::Nothing),
        ("silent", Says::Addresses(ips(&["127.0.0.4"]))),
    ]);
    let app = ips(&["127.0.0.4"]);
    assert_eq!(searched(&dns, "app", "bad.test none.test").unwrap().addresses, app);
    assert_eq!(searched(&dns, "app", "half.test").unwrap().addresses, app);
    // That it failed is why, where nobody else knows.
    let refused = searched(&dns, "gone", "bad.test none.test").unwrap_err();
    assert!(matches!(refused, ResolveError::Refused { .. }), "{refused}");
    // A server that says nothing says nothing of the next, either.
    let silent = searched(&dns, "silent", "mute.test").unwrap_err();
    assert_eq!(silent, ResolveError::Silent(dns.address));
    // An absolute name is what it is.
    assert_eq!(searched(&dns, "app.", "bad.test").unwrap().addresses, app);
}
