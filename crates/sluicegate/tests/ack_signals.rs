//! Progress by signal, on the real kernel. Every signal goes to the thread of
//! its test, so the tests do not see each other's.

#![allow(clippy::unwrap_used)] // A test ends at the first surprise.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::process::Command;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sluicegate::{AckSignals, Position, RealTimeSignal, SignalProgress};
use sluicegate_testkit::need::Need;
use sluicegate_testkit::require;

const BOUND: Duration = Duration::from_secs(20);

fn signals() -> AckSignals {
    AckSignals::new(RealTimeSignal::new(0).unwrap()).unwrap()
}

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// Reads to the end, and tells how much there was.
fn discard(mut from: TcpStream) -> JoinHandle<u64> {
    std::thread::spawn(move || std::io::copy(&mut from, &mut std::io::sink()).unwrap())
}

/// What was told of one socket.
#[derive(Default)]
struct Account {
    grown: u64,
    acked: Position,
    ended: u32,
}

impl Account {
    fn add(&mut self, progress: SignalProgress) {
        self.grown += progress.grown;
        assert!(progress.acked >= self.acked, "moved back");
        self.acked = progress.acked;
        self.ended += u32::from(progress.ended);
    }
}

/// Waits until `total` of the one socket is acknowledged.
fn follow(signals: &mut AckSignals, account: &mut Account, total: u64) {
    let deadline = Instant::now() + BOUND;
    while account.acked.get() < total {
        assert!(Instant::now() < deadline, "{} of {total}", account.acked);
        if let Some(progress) = signals.wait(Duration::from_secs(1)).unwrap() {
            account.add(progress);
        }
    }
    assert_eq!(account.acked.get(), total);
    assert_eq!(account.grown, total);
}

#[test]
fn totals_of_several_sockets_are_right() {
    let mut signals = signals();
    let pieces = [1, 500, 16_384, 100_000];
    let sockets: Vec<_> = pieces.iter().map(|_| pair()).collect();
    let readers: Vec<_> = sockets.iter().map(|(_, t)| discard(t.try_clone().unwrap())).collect();
    let mut accounts: Vec<_> = pieces.iter().map(|_| Account::default()).collect();
    let at = |fd| sockets.iter().position(|(ours, _)| ours.as_raw_fd() == fd).unwrap();
    for (ours, _) in &sockets {
        assert_eq!(signals.watch(ours, Position::START).unwrap(), Position::START);
    }
    for _ in 0..200 {
        for ((ours, _), &piece) in sockets.iter().zip(&pieces) {
            (&*ours).write_all(&vec![7; piece]).unwrap();
            let progress = signals.sent(ours, piece as u64).unwrap();
            accounts[at(progress.fd)].add(progress);
        }
        while let Some(progress) = signals.wait(Duration::ZERO).unwrap() {
            accounts[at(progress.fd)].add(progress);
        }
    }
    let deadline = Instant::now() + BOUND;
    let is_done = |accounts: &[Account]| {
        accounts.iter().zip(&pieces).all(|(a, &piece)| a.acked.get() == 200 * piece as u64)
    };
    while !is_done(&accounts) {
        assert!(Instant::now() < deadline);
        if let Some(progress) = signals.wait(Duration::from_secs(1)).unwrap() {
            accounts[at(progress.fd)].add(progress);
        }
    }
    assert_eq!(signals.wait(Duration::from_millis(150)).unwrap(), None);
    for (account, piece) in accounts.iter().zip(pieces) {
        assert_eq!(account.grown, 200 * piece as u64);
    }
    assert_eq!(signals.overflows(), 0);
    for (ours, theirs) in sockets {
        let last = signals.unwatch(&ours).unwrap();
        assert_eq!(last.grown, 0);
        assert_eq!(signals.unwatch(&ours).unwrap_err().kind(), ErrorKind::NotFound);
        ours.shutdown(Shutdown::Both).unwrap();
        drop(theirs);
    }
    for (reader, piece) in readers.into_iter().zip(pieces) {
        assert_eq!(reader.join().unwrap(), 200 * piece as u64);
    }
}

/// Sends `total` bytes of a file, noting each call.
fn send_file(signals: &mut AckSignals, ours: &TcpStream, account: &mut Account, total: u64) {
    let file = tempfile::tempfile().unwrap();
    file.set_len(total).unwrap();
    let mut offset = 0;
    while offset < total {
        let left = usize::try_from(total - offset).unwrap();
        let count = sluicegate_sys::sendfile::sendfile(ours.as_fd(), file.as_fd(), offset, left);
        let count = count.unwrap() as u64;
        offset += count;
        account.add(signals.sent(ours, count).unwrap());
        assert!(account.acked.get() <= offset);
    }
}

#[test]
fn a_file_of_64_mib_is_followed_to_its_last_byte_and_past_a_shutdown() {
    const TOTAL: u64 = 64 << 20;
    let mut signals = signals();
    let (ours, theirs) = pair();
    let reader = discard(theirs);
    signals.watch(&ours, Position::START).unwrap();
    let mut account = Account::default();
    send_file(&mut signals, &ours, &mut account, TOTAL);
    ours.shutdown(Shutdown::Write).unwrap();
    follow(&mut signals, &mut account, TOTAL);
    assert_eq!(account.ended, 0, "everything was acknowledged");
    assert_eq!(reader.join().unwrap(), TOTAL);
    assert_eq!(signals.unwatch(&ours).unwrap().acked.get(), TOTAL);
}

#[test]
fn a_queue_of_signals_that_was_full_is_made_up_for() {
    // The limit is the whole process's, so in one of its own.
    const CHILD: &str = "SLUICEGATE_TEST_FULL_QUEUE";
    if std::env::var_os(CHILD).is_none() {
        require!(Need::Program("prlimit"));
        let output = Command::new("prlimit")
            .arg("--sigpending=3:3")
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "a_queue_of_signals_that_was_full_is_made_up_for"])
            .env(CHILD, "1")
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("ok. 1 passed"), "{text}");
        return;
    }
    let mut signals = signals();
    let mut sockets: Vec<_> = (0..4).map(|_| (pair(), Account::default())).collect();
    for ((ours, _), _) in &mut sockets {
        ours.set_nodelay(true).unwrap();
        signals.watch(ours, Position::START).unwrap();
    }
    for round in 1..=3 {
        // More than a peer takes that does not read, so that acknowledgements
        // are left for afterwards; and nobody waits meanwhile: a hundred
        // signals for a queue of three.
        for ((ours, _), account) in &mut sockets {
            for _ in 0..40 {
                ours.write_all(&[1; 10_000]).unwrap();
                account.add(signals.sent(ours, 10_000).unwrap());
            }
        }
        for ((ours, theirs), _) in &mut sockets {
            theirs.read_exact(&mut [0; 400_000]).unwrap();
            let deadline = Instant::now() + BOUND;
            while sluicegate_sys::outq::unacknowledged(ours.as_fd()).unwrap() > 0 {
                assert!(Instant::now() < deadline);
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        // Less than the time after which it looks by itself.
        while let Some(progress) = signals.wait(Duration::from_millis(20)).unwrap() {
            let find = |s: &&mut ((TcpStream, _), Account)| s.0.0.as_raw_fd() == progress.fd;
            sockets.iter_mut().find(find).unwrap().1.add(progress);
        }
        for (_, account) in &sockets {
            assert_eq!((account.acked.get(), account.grown), (400_000 * round, 400_000 * round));
        }
        assert!(signals.overflows() >= round, "{} overflows", signals.overflows());
    }
}

#[test]
fn a_reset_is_told_once_and_acknowledges_nothing() {
    let mut signals = signals();
    let (mut ours, theirs) = pair();
    ours.set_nonblocking(true).unwrap();
    signals.watch(&ours, Position::START).unwrap();
    let mut account = Account::default();
    let mut total = 0;
    while let Ok(count) = ours.write(&[1; 65_536]) {
        total += count as u64;
        account.add(signals.sent(&ours, count as u64).unwrap());
    }
    // Its receive buffer is full of what nobody reads: a reset.
    drop(theirs);
    while let Some(progress) = signals.wait(Duration::from_millis(300)).unwrap() {
        account.add(progress);
    }
    assert_eq!(account.ended, 1);
    assert!(account.acked.get() < total);
    assert_eq!(account.grown, account.acked.get());
    assert_eq!(signals.unwatch(&ours).unwrap().acked, account.acked);
}

#[test]
fn a_successor_of_a_number_is_not_mistaken_for_what_had_it() {
    let mut signals = signals();
    let (mut ours, mut theirs) = pair();
    signals.watch(&ours, Position::START).unwrap();
    ours.write_all(&[1; 1000]).unwrap();
    signals.sent(&ours, 900).unwrap();
    theirs.read_exact(&mut [0; 1000]).unwrap();
    let (stranger, mut theirs) = pair();
    // Closed without a word, with signals in the queue.
    let number = ours.as_raw_fd();
    drop(ours);
    // A copy gets the lowest free number. Another test may have been faster,
    // and gives it back when it ends.
    let deadline = Instant::now() + BOUND;
    let mut copies = Vec::new();
    let mut successor = loop {
        let copy = stranger.try_clone().unwrap();
        if copy.as_raw_fd() == number {
            break copy;
        }
        copies.push(copy);
        if copies.len() == 50 {
            assert!(Instant::now() < deadline, "the number never came back");
            copies.clear();
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    assert_eq!(signals.sent(&successor, 5).unwrap_err().kind(), ErrorKind::NotFound);
    successor.write_all(b"bytes").unwrap();
    assert_eq!(signals.wait(Duration::from_millis(250)).unwrap(), None);
    theirs.read_exact(&mut [0; 5]).unwrap();
    // Watched, it begins its own account.
    signals.watch(&successor, Position::START).unwrap();
    successor.write_all(&[2; 300]).unwrap();
    let mut account = Account::default();
    account.add(signals.sent(&successor, 300).unwrap());
    theirs.read_exact(&mut [0; 300]).unwrap();
    follow(&mut signals, &mut account, 300);
}

#[test]
fn after_the_watch_nothing_is_told_and_the_next_watch_begins_anew() {
    let mut signals = signals();
    let (mut ours, mut theirs) = pair();
    for _ in 0..3 {
        signals.watch(&ours, Position::START).unwrap();
        assert_eq!(
            signals.watch(&ours, Position::START).unwrap_err().kind(),
            ErrorKind::AlreadyExists
        );
        ours.write_all(&[1; 1000]).unwrap();
        let mut account = Account::default();
        account.add(signals.sent(&ours, 1000).unwrap());
        theirs.read_exact(&mut [0; 1000]).unwrap();
        follow(&mut signals, &mut account, 1000);
        // Signals of these are in the queue when the watch ends.
        ours.write_all(&[1; 1000]).unwrap();
        theirs.read_exact(&mut [0; 1000]).unwrap();
        assert!(signals.unwatch(&ours).unwrap().acked.get() <= 1000);
        theirs.write_all(b"an answer makes no signal either").unwrap();
        ours.read_exact(&mut [0; 32]).unwrap();
        assert_eq!(signals.wait(Duration::from_millis(150)).unwrap(), None);
    }
}

#[test]
fn a_socket_is_handed_to_another_thread_with_bytes_under_way() {
    let mut signals = signals();
    let (mut ours, mut theirs) = pair();
    signals.watch(&ours, Position::START).unwrap();
    // More than the receive buffer takes, so that some of it is under way.
    ours.set_nonblocking(true).unwrap();
    let mut total = 0;
    let mut account = Account::default();
    while let Ok(count) = ours.write(&[1; 65_536]) {
        total += count as u64;
        account.add(signals.sent(&ours, count as u64).unwrap());
    }
    account.add(signals.unwatch(&ours).unwrap());
    assert!(account.acked.get() < total);
    let known = account.acked;
    let other = std::thread::spawn(move || {
        let mut signals = self::signals();
        let acked = signals.watch(&ours, Position::new(total)).unwrap();
        assert!((known..Position::new(total)).contains(&acked), "{acked} of {total}");
        let mut account = Account { grown: acked.get(), acked, ended: 0 };
        ours.set_nonblocking(false).unwrap();
        let reader = std::thread::spawn(move || {
            let mut got = 0;
            let mut scratch = vec![0; 1 << 20];
            while got < total + 70_000 {
                got += theirs.read(&mut scratch).unwrap() as u64;
            }
            theirs
        });
        ours.write_all(&[2; 70_000]).unwrap();
        account.add(signals.sent(&ours, 70_000).unwrap());
        follow(&mut signals, &mut account, total + 70_000);
        drop(reader.join().unwrap());
    });
    other.join().unwrap();
    assert_eq!(signals.wait(Duration::from_millis(150)).unwrap(), None);
}

#[test]
fn without_signals_the_position_is_found_by_looking() {
    let mut signals = signals();
    let (mut ours, mut theirs) = pair();
    signals.watch(&ours, Position::START).unwrap();
    signals.ask(&ours, false).unwrap();
    // More than a peer takes that does not read, less than our own buffer.
    let total = 400_000;
    let mut account = Account::default();
    ours.write_all(&vec![1; 400_000]).unwrap();
    account.add(signals.sent(&ours, total).unwrap());
    assert!(account.acked.get() < total);
    let reader = std::thread::spawn(move || {
        let length = usize::try_from(total).unwrap();
        theirs.read_exact(&mut vec![0; length]).unwrap();
        theirs
    });
    follow(&mut signals, &mut account, total);
    drop(reader.join().unwrap());
}

#[test]
fn entries_that_found_no_room_cost_time_and_nothing_else() {
    let mut signals = signals();
    let (mut ours, theirs) = pair();
    ours.set_nodelay(true).unwrap();
    let reader = discard(theirs);
    signals.watch(&ours, Position::START).unwrap();
    let mut account = Account::default();
    // Far more entries than the receive buffer holds, and nobody reads them.
    for _ in 0..5_000 {
        ours.write_all(&[1; 100]).unwrap();
        account.add(signals.sent(&ours, 100).unwrap());
    }
    ours.shutdown(Shutdown::Write).unwrap();
    follow(&mut signals, &mut account, 500_000);
    assert_eq!(reader.join().unwrap(), 500_000);
}
