//! Handlers that are really called, in threads that are really busy.

use std::io::{ErrorKind, Read, Write};
use std::mem::MaybeUninit;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::time::{Duration, Instant};

use super::watched::{Progress, Told, look, progress_of, rescan, sent, unwatch, watch};
use super::*;

mod numbers;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (ours, listener.accept().unwrap().0)
}

/// What the handlers found, by the socket's number.
static GROWN: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
/// How often they were called for it.
static CALLS: [AtomicU64; 1024] = [const { AtomicU64::new(0) }; 1024];
static OVERFLOWS: AtomicU64 = AtomicU64::new(0);

fn note(progress: Progress) {
    if let Some(grown) = usize::try_from(progress.fd).ok().and_then(|at| GROWN.get(at)) {
        grown.fetch_add(progress.grown, SeqCst);
    }
}

extern "C" fn handler(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    // SAFETY: `info` is what the kernel handed to this handler.
    let signalled = unsafe { Signalled::from_raw(info) };
    match progress_of(signalled) {
        Told::Progress(progress) => note(progress),
        Told::Overflow => {
            OVERFLOWS.fetch_add(1, SeqCst);
            rescan(note);
        }
        Told::Nothing => {}
    }
    if let Signalled::Socket { fd, .. } = signalled
        && let Some(calls) = usize::try_from(fd).ok().and_then(|at| CALLS.get(at))
    {
        calls.fetch_add(1, SeqCst);
    }
}

fn install(number: libc::c_int) {
    // SAFETY: sigaction is a C struct of integers and a pointer, for which all
    // zeroes is valid.
    let mut action: libc::sigaction = unsafe { MaybeUninit::zeroed().assume_init() };
    action.sa_sigaction = handler as *const () as usize;
    action.sa_flags = libc::SA_SIGINFO | libc::SA_RESTART;
    // SAFETY: the action is initialised, the handler has the signature that
    // SA_SIGINFO asks for, does what is async-signal-safe only, and is never
    // unloaded; the old action may be null.
    let result = unsafe { libc::sigaction(number, &raw const action, std::ptr::null_mut()) };
    assert_eq!(result, 0);
}

/// SIGRTMIN+`offset`, handled; each test has its own.
fn handled(offset: u8) -> RealTimeSignal {
    let signal = RealTimeSignal::new(offset).unwrap();
    install(signal.number());
    install(libc::SIGIO);
    signal
}

fn grown(socket: &TcpStream) -> &'static AtomicU64 {
    &GROWN[usize::try_from(socket.as_raw_fd()).unwrap()]
}

fn calls(socket: &TcpStream) -> u64 {
    CALLS[usize::try_from(socket.as_raw_fd()).unwrap()].load(SeqCst)
}

/// Spins, as a program that is busy does, until `done` or five seconds.
fn busy_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !done() {
        assert!(Instant::now() < deadline, "{what}");
        std::hint::spin_loop();
    }
}

#[test]
fn the_numbers_of_real_time_signals_are_bounded() {
    assert_eq!(RealTimeSignal::new(0).unwrap().number(), libc::SIGRTMIN());
    let last = u8::try_from(libc::SIGRTMAX() - libc::SIGRTMIN()).unwrap();
    assert!(RealTimeSignal::new(last).is_some());
    assert!(RealTimeSignal::new(last + 1).is_none());
    assert!(RealTimeSignal::new(u8::MAX).is_none());
}

#[test]
fn a_handler_counts_every_byte_once_while_the_thread_is_busy_sending() {
    const PIECE: usize = 10_000;
    const PIECES: u64 = 2_000;
    let signal = handled(0);
    let sockets: Vec<_> = (0..3).map(|_| pair()).collect();
    let readers: Vec<_> = sockets
        .iter()
        .map(|(_, theirs)| {
            let mut theirs = theirs.try_clone().unwrap();
            std::thread::spawn(move || io::copy(&mut theirs, &mut io::sink()).unwrap())
        })
        .collect();
    let watched: Vec<_> = sockets
        .iter()
        .map(|(ours, _)| {
            grown(ours).store(0, SeqCst);
            watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap().0
        })
        .collect();
    let before = calls(&sockets[0].0);
    let piece = vec![1; PIECE];
    let mut noted = [0; 3];
    for _ in 0..PIECES {
        for (at, (ours, _)) in sockets.iter().enumerate() {
            (&*ours).write_all(&piece).unwrap();
            let progress = sent(watched[at], PIECE as u64).unwrap();
            noted[at] += progress.grown;
            assert!(progress.acked <= PIECE as u64 * PIECES);
        }
    }
    for (at, (ours, _)) in sockets.iter().enumerate() {
        let all = PIECES * PIECE as u64;
        busy_until("all is told", || grown(ours).load(SeqCst) + noted[at] >= all);
        assert_eq!(grown(ours).load(SeqCst) + noted[at], all);
        assert_eq!(look(watched[at]).unwrap().acked, all);
        assert!(unwatch(watched[at]).is_some());
        ours.shutdown(Shutdown::Both).unwrap();
    }
    assert!(calls(&sockets[0].0) > before, "no handler ran");
    assert!(grown(&sockets[0].0).load(SeqCst) > 0, "the handler found nothing");
    for reader in readers {
        assert_eq!(reader.join().unwrap(), PIECES * PIECE as u64);
    }
}

#[test]
fn what_is_acknowledged_before_it_is_noted_is_told_by_the_note() {
    let signal = handled(1);
    let (mut ours, mut theirs) = pair();
    grown(&ours).store(0, SeqCst);
    let (watched, acked) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    assert_eq!(acked, 0);
    let before = calls(&ours);
    ours.write_all(b"hello").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
    // The handler runs between the call and its note, and may tell nothing.
    busy_until("the handler ran", || calls(&ours) > before);
    busy_until("acknowledged", || crate::outq::unacknowledged(ours.as_fd()).unwrap() == 0);
    assert_eq!(grown(&ours).load(SeqCst), 0, "bytes that nobody noted were told");
    let progress = sent(watched, 5).unwrap();
    assert_eq!((progress.grown, progress.acked, progress.ended), (5, 5, false));
    assert!(unwatch(watched).is_some());
}

#[test]
fn a_handler_leaves_errno_as_it_was() {
    let signal = handled(2);
    let (ours, _theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    let signalled = Signalled::Socket { fd: ours.as_raw_fd(), band: 0 };
    // SAFETY: the C library's pointer to this thread's errno.
    unsafe { *libc::__errno_location() = 77 };
    // Its recvmsg fails with EAGAIN.
    assert_eq!(progress_of(signalled), Told::Nothing);
    rescan(note);
    // SAFETY: as above.
    assert_eq!(unsafe { *libc::__errno_location() }, 77);
    assert!(unwatch(watched).is_some());
}

/// From now on the socket does not see what its peer sends, so that nothing is
/// acknowledged any more.
fn deafen(socket: &impl AsFd) {
    let mut drop_all = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut drop_all };
    // SAFETY: the kernel reads one sock_fprog and the one instruction that it
    // leads to; both outlive the call.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_ATTACH_FILTER,
            (&raw const program).cast(),
            size_of::<libc::sock_fprog>() as libc::socklen_t,
        )
    };
    assert_eq!(result, 0);
}

#[test]
fn a_fin_under_way_keeps_no_byte_back() {
    let signal = handled(3);
    let (mut ours, mut theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    ours.write_all(b"hello").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
    let unacked = || crate::outq::unacknowledged(ours.as_fd()).unwrap();
    busy_until("acknowledged", || unacked() == 0);
    deafen(&theirs);
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(unacked(), 1, "the FIN is under way");
    assert_eq!(sent(watched, 5).unwrap().acked, 5);
    assert!(unwatch(watched).is_some());
}

#[test]
fn the_last_byte_is_not_taken_for_a_fin() {
    let signal = handled(4);
    let (mut ours, theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    deafen(&theirs);
    ours.write_all(b"x").unwrap();
    assert_eq!(sent(watched, 1).unwrap().acked, 0);
    ours.shutdown(Shutdown::Write).unwrap();
    assert_eq!(look(watched).unwrap().acked, 0);
    assert!(unwatch(watched).is_some());
}

#[test]
fn the_end_of_a_connection_is_told_once_and_credits_nothing() {
    let signal = RealTimeSignal::new(7).unwrap();
    let blocked = Blocked::new(signal).unwrap();
    let (mut ours, theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    // More than the peer has room for, and it goes without reading: a reset.
    ours.set_nonblocking(true).unwrap();
    let mut total = 0;
    while let Ok(count) = ours.write(&[3; 65_536]) {
        total += count as u64;
        let _ = sent(watched, count as u64).unwrap();
    }
    drop(theirs);
    let mut ends = 0;
    while let Some(signalled) = blocked.wait(Duration::from_millis(200)).unwrap() {
        if let Told::Progress(progress) = progress_of(signalled) {
            ends += u32::from(progress.ended);
        }
    }
    assert_eq!(ends, 1);
    let last = look(watched).unwrap();
    assert!(last.acked < total && !last.ended, "{last:?} of {total}");
    assert!(unwatch(watched).is_some());
}

#[test]
fn a_full_queue_of_signals_is_made_up_for_by_a_rescan() {
    // The limit is the whole process's, so in one of its own.
    const CHILD: &str = "SLUICEGATE_TEST_FULL_QUEUE";
    if std::env::var_os(CHILD).is_none() {
        let this = "io_signal::tests::a_full_queue_of_signals_is_made_up_for_by_a_rescan";
        let status = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", this])
            .env(CHILD, "1")
            .status()
            .unwrap();
        assert!(status.success());
        return;
    }
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let signal = handled(0);
    let limit = Rlimit { current: Some(0), ..getrlimit(Resource::Sigpending) };
    setrlimit(Resource::Sigpending, limit).unwrap();
    let (mut ours, mut theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    let mut noted = 0;
    for _ in 0..100 {
        ours.write_all(&[0; 1000]).unwrap();
        noted += sent(watched, 1000).unwrap().grown;
        theirs.read_exact(&mut [0; 1000]).unwrap();
    }
    busy_until("all is told", || noted + grown(&ours).load(SeqCst) == 100_000);
    assert!(OVERFLOWS.load(SeqCst) > 0, "nothing overflowed");
    assert!(grown(&ours).load(SeqCst) > 0, "no rescan found anything");
    assert_eq!(calls(&ours), 0, "with a limit of 0 no signal queues");
}

#[test]
fn bytes_that_are_sent_during_a_look_are_not_taken_for_acknowledged() {
    let signal = handled(4);
    let (mut ours, theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    deafen(&theirs);
    let done = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                assert_eq!(look(watched).unwrap().acked, 0);
            }
        });
        for _ in 0..30_000 {
            ours.write_all(b"x").unwrap();
            let acked = sent(watched, 1).unwrap().acked;
            if acked != 0 {
                done.store(true, SeqCst);
            }
            assert_eq!(acked, 0);
        }
        done.store(true, SeqCst);
    });
    assert!(unwatch(watched).is_some());
}

#[test]
fn blocked_signals_wait_to_be_fetched_and_an_overflow_comes_first() {
    let signal = RealTimeSignal::new(6).unwrap();
    let blocked = Blocked::new(signal).unwrap();
    assert_eq!(blocked.wait(Duration::ZERO).unwrap(), None);
    // SAFETY: no memory is passed. The signal is blocked in this thread, to
    // which alone it goes.
    unsafe { libc::pthread_kill(libc::pthread_self(), signal.number()) };
    // SAFETY: as above; SIGIO is blocked too.
    unsafe { libc::pthread_kill(libc::pthread_self(), libc::SIGIO) };
    let second = Duration::from_secs(1);
    assert_eq!(blocked.wait(second).unwrap(), Some(Signalled::Overflow));
    assert_eq!(blocked.wait(second).unwrap(), Some(Signalled::Stranger));
    let (mut ours, mut theirs) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    ours.write_all(b"hello").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
    let Some(Signalled::Socket { fd, band }) = blocked.wait(second).unwrap() else {
        panic!("no signal came");
    };
    assert_eq!(fd, ours.as_raw_fd());
    assert_ne!(band & i64::from(libc::POLLERR), 0);
    assert!(unwatch(watched).is_some());
    while blocked.wait(Duration::ZERO).unwrap().is_some() {}
    // Quiet after the watch, and as a new socket is.
    ours.write_all(b"hello").unwrap();
    theirs.read_exact(&mut [0; 5]).unwrap();
    theirs.write_all(b"answer").unwrap();
    assert_eq!(blocked.wait(Duration::from_millis(60)).unwrap(), None);
}
