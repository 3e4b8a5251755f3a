//! Which socket a number leads to, and which sockets are taken at all.

use std::sync::atomic::AtomicBool;

use super::*;

#[test]
fn looks_in_other_threads_credit_no_socket_with_what_another_sent() {
    let signal = handled(4);
    let sockets = [pair(), pair()];
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = listener.as_raw_fd();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(SeqCst) {
                let _ = progress_of(Signalled::Socket { fd: number, band: 0 });
            }
        });
        // One number, over which two sockets take turns; the one's bytes are
        // many and acknowledged, the other has none.
        let mut most = Ok(());
        for turn in 0..3_000_u64 {
            let (ours, _) = &sockets[(turn % 2) as usize];
            let mut at = std::mem::ManuallyDrop::new(own_number(number));
            rustix::io::dup2(ours, &mut at).unwrap();
            let accepted = if turn % 2 == 0 { 1 << 40 } else { 0 };
            let (watched, _) = watch(at.as_fd(), accepted, signal, Owner::ThisThread).unwrap();
            let acked = unwatch(watched).unwrap().acked;
            if acked > accepted && most.is_ok() {
                most = Err(acked);
            }
        }
        done.store(true, SeqCst);
        assert_eq!(most, Ok(()));
    });
}

#[test]
fn a_number_that_leads_elsewhere_tells_nothing() {
    let signal = handled(4);
    let (ours, _theirs) = pair();
    let (mut other, _others) = pair();
    let (watched, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    assert_eq!(
        watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap_err().kind(),
        ErrorKind::AlreadyExists
    );
    // Closed against the rule, and its number given to another socket.
    rustix::io::dup2(&other, &mut std::mem::ManuallyDrop::new(own_number(ours.as_raw_fd())))
        .unwrap();
    let signalled = Signalled::Socket { fd: ours.as_raw_fd(), band: 0 };
    assert_eq!(sent(watched, 100).unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(progress_of(signalled), Told::Nothing);
    assert_eq!(look(watched), None);
    // The newcomer gets an account of its own, whatever was left in the slot.
    let (newcomer, _) = watch(ours.as_fd(), 0, signal, Owner::ThisThread).unwrap();
    assert_eq!(unwatch(watched), None);
    other.write_all(b"abc").unwrap();
    assert!(sent(newcomer, 3).unwrap().acked <= 3);
    assert!(sent(watched, 3).is_err());
    assert!(unwatch(newcomer).is_some());
    assert_eq!(progress_of(signalled), Told::Nothing);
}

/// An owner of the number, for a call that asks for one.
fn own_number(number: RawFd) -> std::os::fd::OwnedFd {
    use std::os::fd::FromRawFd;
    // SAFETY: the callers wrap it in ManuallyDrop, so that it closes nothing;
    // a socket of theirs owns the number throughout.
    unsafe { std::os::fd::OwnedFd::from_raw_fd(number) }
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let signal = RealTimeSignal::new(5).unwrap();
    let refused =
        |fd: BorrowedFd<'_>| watch(fd, 0, signal, Owner::ThisThread).map(|_| ()).unwrap_err();
    let file = tempfile::tempfile().unwrap();
    assert_eq!(refused(file.as_fd()).raw_os_error(), Some(libc::ENOTSOCK));
    let (unix, _peer) = std::os::unix::net::UnixStream::pair().unwrap();
    assert_eq!(refused(unix.as_fd()).raw_os_error(), Some(libc::EOPNOTSUPP));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    assert_eq!(refused(listener.as_fd()).raw_os_error(), Some(libc::EINVAL));
}

#[test]
fn data_sent_with_the_syn_is_not_taken_for_acknowledged() {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, connect, socket_with};
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    // It does not hear the SYN, so that the handshake goes on.
    deafen(&listener);
    let socket =
        socket_with(AddressFamily::INET, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
    let connecting = connect(&socket, &listener.local_addr().unwrap());
    assert_eq!(connecting, Err(rustix::io::Errno::INPROGRESS));
    let signal = RealTimeSignal::new(5).unwrap();
    let error = watch(socket.as_fd(), 10, signal, Owner::ThisThread).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotConnected);
}
