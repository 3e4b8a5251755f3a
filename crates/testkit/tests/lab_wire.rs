//! The true wire: it copies, it loses, delays and doubles what it is told to, the same way each
//! time, and nothing of it stays behind.
#![allow(clippy::unwrap_used)]

mod hosts;

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};
use std::{env, thread};

use hosts::{SOON, assert_gone, assert_no_devices, connection, files, files_of, transfer};
use sluicegate_sys::outq::unacknowledged;
use sluicegate_sys::sendfile::sendfile;
use sluicegate_testkit::corpus;
use sluicegate_testkit::lab::{Conditions, Direction, End, Lab, Wire};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Child;
use sluicegate_testkit::require;

/// Set in the copies of this test binary that the tests below start.
const INNER: &str = "SLUICEGATE_TESTKIT_INNER";

/// Fits into any receiver's first window.
const FILE: usize = 32 << 10;

/// Runs one test of this binary in a process of its own, where it is the only one.
fn inner(test: &str) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command.args(["--exact", test, "--test-threads=1", "--nocapture"]).env(INNER, "1");
    Child::spawn(command).unwrap()
}

fn is_inner() -> bool {
    env::var_os(INNER).is_some()
}

/// Sends the corpus of a seed in a thread, and checks what arrives.
fn transfer_corpus(mut sender: TcpStream, mut receiver: TcpStream, seed: u64, length: usize) {
    let mut sent = vec![0; length];
    corpus::fill(seed, 0, &mut sent);
    let mut received = vec![0; length];
    thread::scope(|scope| {
        scope.spawn(move || sender.write_all(&sent).unwrap());
        receiver.read_exact(&mut received).unwrap();
    });
    corpus::verify(seed, 0, &received).unwrap();
}

#[test]
fn bytes_arrive_whole_and_in_order_whatever_becomes_of_packets() {
    require!(Need::TrueWire);
    let conditions = Conditions {
        drop_one_in: 100,
        reorder_one_in: 50,
        duplicate_one_in: 50,
        ..Conditions::default()
    };
    let lab = Lab::wire(Wire { seed: 5, ..Wire::with(conditions) }).unwrap();
    let (server, client) = connection(&lab);
    let (back, forth) = (client.try_clone().unwrap(), server.try_clone().unwrap());
    transfer_corpus(server, client, 1, 4 << 20);
    transfer_corpus(back, forth, 2, 1 << 20);

    let control = lab.wire_control().unwrap();
    for direction in Direction::ALL {
        let counts = control.counts(direction);
        assert!(counts.dropped > 0, "{direction:?}: {counts:?}");
        assert!(counts.reordered > 0, "{direction:?}: {counts:?}");
        assert!(counts.duplicated > 0, "{direction:?}: {counts:?}");
    }
    assert!(control.counts(Direction::ToClient).bytes > 4 << 20);
}

#[test]
fn the_rate_holds_and_changes_while_the_wire_runs() {
    require!(Need::TrueWire);
    let slow = Conditions { rate: 1_000_000, ..Conditions::default() };
    let lab = Lab::wire(Wire { to_client: slow, ..Wire::default() }).unwrap();
    let (mut server, mut client) = connection(&lab);

    let began = Instant::now();
    transfer(&mut server, &mut client, 2_000_000);
    let taken = began.elapsed();
    assert!(taken > Duration::from_millis(1500), "{taken:?}");
    assert!(taken < Duration::from_secs(8), "{taken:?}");

    // The other direction has no limit; and now this one has none either.
    let control = lab.wire_control().unwrap();
    for free in [Direction::ToServer, Direction::ToClient] {
        control.set(free, Conditions::default());
        assert_eq!(control.conditions(free), Conditions::default());
        let (mut server, mut client) = connection(&lab);
        let began = Instant::now();
        match free {
            Direction::ToServer => transfer(&mut client, &mut server, 2_000_000),
            Direction::ToClient => transfer(&mut server, &mut client, 2_000_000),
        }
        assert!(began.elapsed() < taken / 2, "{free:?}: {:?} after {taken:?}", began.elapsed());
    }
}

#[test]
fn a_throttled_host_waits_and_loses_nothing() {
    require!(Need::TrueWire, Need::Throttle);
    let queue = 0;
    let lab = Lab::wire(Wire::with(Conditions { queue, ..Conditions::default() })).unwrap();
    lab.throttle(8_000_000).unwrap();
    let (mut server, mut client) = connection(&lab);
    let began = Instant::now();
    transfer(&mut server, &mut client, 1 << 20);
    assert!(began.elapsed() > Duration::from_millis(900), "{:?}", began.elapsed());
    let counts = lab.wire_control().unwrap().counts(Direction::ToClient);
    assert_eq!((counts.overflowed, counts.refused), (0, 0));
}

/// The shortest of some round trips of one byte.
fn round_trip(server: &mut TcpStream, client: &mut TcpStream) -> Duration {
    let trip = || {
        let began = Instant::now();
        client.write_all(b"?").unwrap();
        server.read_exact(&mut [0]).unwrap();
        server.write_all(b"!").unwrap();
        client.read_exact(&mut [0]).unwrap();
        began.elapsed()
    };
    std::iter::repeat_with(trip).take(5).min().unwrap()
}

#[test]
fn the_delay_is_seen_in_the_round_trip() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let (mut server, mut client) = connection(&lab);
    let near = round_trip(&mut server, &mut client);
    assert!(near < Duration::from_millis(60), "{near:?}");

    let control = lab.wire_control().unwrap();
    let delay = |milliseconds| Conditions {
        delay: Duration::from_millis(milliseconds),
        ..Conditions::default()
    };
    control.set(Direction::ToServer, delay(20));
    control.set(Direction::ToClient, delay(40));
    let far = round_trip(&mut server, &mut client);
    assert!(far >= Duration::from_millis(60), "{far:?}");
    assert!(far < Duration::from_secs(1), "{far:?}");
}

/// Which of 100 datagrams arrive, in their order.
fn fate(seed: u64) -> Vec<u8> {
    let conditions = Conditions {
        drop_one_in: 4,
        duplicate_one_in: 10,
        reorder_one_in: 10,
        ..Conditions::default()
    };
    let lab = Lab::wire(Wire { seed, ..Wire::with(conditions) }).unwrap();
    let receiver = lab.client().enter(|| UdpSocket::bind((lab.client().address(), 0)));
    let receiver = receiver.unwrap().unwrap();
    let sender = lab.server().enter(|| UdpSocket::bind((lab.server().address(), 0)));
    let sender = sender.unwrap().unwrap();
    sender.connect(receiver.local_addr().unwrap()).unwrap();
    for number in 0..100 {
        sender.send(&[number]).unwrap();
    }
    receiver.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut arrived = Vec::new();
    let mut number = [0];
    loop {
        match receiver.recv(&mut number) {
            Ok(_) => arrived.push(number[0]),
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return arrived;
            }
        }
    }
}

#[test]
fn the_same_seed_makes_the_same_decisions() {
    require!(Need::TrueWire);
    let [mut first, mut again, mut other] = [7, 7, 8].map(fate);
    assert!(!first.is_sorted());
    assert!((40..110).contains(&first.len()), "{first:?}");
    // In which order they come may differ at the end, where nothing overtakes any more, and
    // wherever the relay had to wait for more.
    for arrived in [&mut first, &mut again, &mut other] {
        arrived.sort_unstable();
    }
    assert_eq!(first, again);
    assert_ne!(first, other);
}

#[test]
fn a_capture_shows_each_packet_at_both_ends_of_the_wire() {
    require!(Need::TrueWire);
    let delay = Duration::from_millis(5);
    let conditions = Conditions { delay, ..Conditions::default() };
    let lab = Lab::wire(Wire { mtu: 1400, ..Wire::with(conditions) }).unwrap();
    let (mut server, mut client) = connection(&lab);
    let control = lab.wire_control().unwrap();

    control.capture(100_000);
    transfer(&mut server, &mut client, 100_000);
    let seen = control.take_captured();
    // A full packet: what the MTU allows, and no more.
    let longest = seen.iter().map(|seen| seen.packet.len()).max();
    assert_eq!(longest, Some(1400));

    let answers = seen.iter().filter(|seen| seen.direction == Direction::ToClient);
    let (near, far): (Vec<_>, Vec<_>) = answers.partition(|seen| seen.end == End::Near);
    assert!(far.len() > 100_000 / 1400);
    for (near, far) in near.iter().zip(&far) {
        assert_eq!(near.packet, far.packet);
        assert!(far.at.duration_since(near.at) >= delay);
    }
    assert!(seen.iter().any(|seen| seen.direction == Direction::ToServer), "acknowledgements");

    control.capture(3);
    transfer(&mut server, &mut client, 100_000);
    assert_eq!(control.take_captured().len(), 3);
}

/// What the client reads of a file of zeroes that was sent without a copy, and then overwritten
/// with ones: `after` says when.
fn overwritten(lab: &Lab, after: impl FnOnce(&TcpStream)) -> Vec<u8> {
    let (server, mut client) = connection(lab);
    let file: File = tempfile::tempfile().unwrap();
    file.write_all_at(&[0; FILE], 0).unwrap();
    let sent = sendfile(server.as_fd(), file.as_fd(), 0, FILE).unwrap();
    assert_eq!(sent, FILE);
    after(&server);
    file.write_all_at(&[1; FILE], 0).unwrap();
    let mut received = vec![2; FILE];
    client.read_exact(&mut received).unwrap();
    received
}

fn wait_until_acked(socket: &TcpStream) {
    let deadline = Instant::now() + SOON;
    while unacknowledged(socket.as_fd()).unwrap() > 0 {
        assert!(Instant::now() < deadline, "never acknowledged");
        thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn acked_bytes_can_be_overwritten_on_a_true_wire() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    assert_eq!(overwritten(&lab, wait_until_acked), [0; FILE]);
}

#[test]
fn acked_bytes_lie_in_the_receivers_queue_on_a_veth() {
    require!(Need::NetworkNamespaces);
    let lab = Lab::veth().unwrap();
    assert_eq!(overwritten(&lab, wait_until_acked), [1; FILE]);
}

#[test]
fn a_true_wire_copies_what_has_left_and_nothing_before() {
    require!(Need::TrueWire);
    // More than the first window: the rest waits for an acknowledgement, as references.
    let conditions = Conditions { delay: Duration::from_millis(100), ..Conditions::default() };
    let lab = Lab::wire(Wire::with(conditions)).unwrap();
    let received = overwritten(&lab, |_| {});
    assert_eq!(received.last(), Some(&1));
}

#[test]
fn one_processor_receives_for_a_host() {
    let steering = "/sys/class/net/lo/queues/rx-0/rps_cpus";
    let holds = fs::exists(steering).unwrap();
    require!(Need::TrueWire, Need::Fact { what: "receive packet steering", holds });
    let lab = Lab::wire(Wire::default()).unwrap();
    lab.client().receive_on(0).unwrap();
    let mut command = lab.client().command("cat");
    let output = command.arg("/sys/class/net/eth0/queues/rx-0/rps_cpus").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim_matches(['0', ',', '\n']), "1");
    let (mut server, mut client) = connection(&lab);
    transfer(&mut server, &mut client, 1 << 20);
}

/// Clock ticks (10 ms each) that the relay of this process has run for.
fn relay_ticks() -> u64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap().flatten().map(|task| task.path());
    let mut relays =
        tasks.filter(|task| fs::read_to_string(task.join("comm")).unwrap() == "wire\n");
    let relay = relays.next().expect("a wire has a relay");
    assert_eq!(relays.next(), None);
    let stat = fs::read_to_string(relay.join("stat")).unwrap();
    // utime and stime (`proc_pid_stat(5)`), counted from behind the name.
    let fields = stat.rsplit(") ").next().unwrap().split(' ');
    fields.skip(11).take(2).map(|ticks| ticks.parse::<u64>().unwrap()).sum()
}

#[test]
fn the_relay_sleeps_while_packets_are_under_way() {
    require!(Need::TrueWire);
    if !is_inner() {
        let mut inner = inner("the_relay_sleeps_while_packets_are_under_way");
        assert!(inner.wait_timeout(SOON).unwrap().success(), "{inner:?}");
        return;
    }
    let conditions = Conditions { delay: SOON, ..Conditions::default() };
    let lab = Lab::wire(Wire::with(conditions)).unwrap();
    let socket = lab.client().enter(|| UdpSocket::bind((lab.client().address(), 0)));
    socket.unwrap().unwrap().send_to(b"slow", (lab.server().address(), 9)).unwrap();
    thread::sleep(Duration::from_millis(500));
    assert!(relay_ticks() < 10, "{} of 50", relay_ticks());
}

#[test]
fn nothing_stays_when_a_wire_is_dropped_while_its_sockets_live() {
    require!(Need::TrueWire);
    let lab = Lab::wire(Wire::default()).unwrap();
    let files = files_of(&lab);
    let control = lab.wire_control().unwrap().clone();
    let _sockets = connection(&lab);
    drop(lab);
    assert_gone(&files);
    // It is of no use any more, but does no harm.
    control.set(Direction::ToClient, Conditions::default());
    assert!(control.counts(Direction::ToClient).packets > 0);
}

#[test]
fn nothing_of_a_wire_stays_when_a_test_panics() {
    require!(Need::TrueWire);
    let mut opened = None;
    let panic = catch_unwind(AssertUnwindSafe(|| {
        let lab = Lab::wire(Wire::default()).unwrap();
        opened = Some(files_of(&lab));
        panic!("as asked");
    }));
    assert!(panic.is_err());
    assert_gone(&opened.unwrap());
}

#[test]
fn nothing_of_a_wire_stays_when_its_test_is_killed() {
    require!(Need::TrueWire);
    if is_inner() {
        let lab = Lab::wire(Wire::default()).unwrap();
        let _sockets = connection(&lab);
        println!("{} {}", lab.server().path().display(), lab.client().path().display());
        thread::sleep(6 * SOON);
        return;
    }
    let mut inner = inner("nothing_of_a_wire_stays_when_its_test_is_killed");
    let line = inner.wait_for_line(|line| line.contains("/sg-"), SOON).unwrap();
    let paths: Vec<PathBuf> =
        line.split(' ').filter(|word| word.starts_with('/')).map(PathBuf::from).collect();
    let files = files(paths.try_into().unwrap());
    drop(inner);
    // The devices go with the process, the names with the next lab, here or elsewhere.
    for (_, namespace) in &files {
        assert_no_devices(namespace);
    }
    let _next = Lab::wire(Wire::default()).unwrap();
    let deadline = Instant::now() + SOON;
    while files.iter().any(|(path, _)| path.exists()) {
        assert!(Instant::now() < deadline, "{line} is still there");
        thread::sleep(Duration::from_millis(2));
    }
}
