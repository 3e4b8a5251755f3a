//! Descriptors that come through `execve(2)`, and those that go through one.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::sync::Arc;

use rustix::io::{FdFlags, fcntl_getfd, fcntl_setfd};
use rustix::net::sockopt;

/// Takes the descriptor of this number, which whoever started this process has
/// left open; it is closed on exec from now on.
///
/// # Errors
/// `EBADF` when no such descriptor is open; `InvalidInput` when it is closed on
/// exec, and so has been opened by this process or was taken before.
pub fn take(number: RawFd) -> io::Result<OwnedFd> {
    if number < 0 {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the number is not negative, and the borrow is used for two calls
    // of fcntl alone, which fail where no such descriptor is open.
    let borrowed = unsafe { BorrowedFd::borrow_raw(number) };
    let flags = fcntl_getfd(borrowed)?;
    if flags.contains(FdFlags::CLOEXEC) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    fcntl_setfd(borrowed, flags | FdFlags::CLOEXEC)?;
    // SAFETY: it is open, and nobody in this process owns it: the standard
    // library and this crate open everything closed on exec, and this one was
    // not, so it came through exec. From the call above on a second one for the
    // same number is refused, so there is one owner until the OwnedFd is dropped.
    Ok(unsafe { OwnedFd::from_raw_fd(number) })
}

/// Leaves `descriptors` open, by the same numbers, in the process that
/// `command` starts. They stay open here for as long as the command lives.
pub fn pass(command: &mut Command, descriptors: Vec<Arc<OwnedFd>>) {
    let keep = move || {
        for descriptor in &descriptors {
            fcntl_setfd(descriptor.as_fd(), FdFlags::empty())?;
        }
        Ok(())
    };
    // SAFETY: the closure runs in the child between fork and exec. It makes one
    // fcntl call for each descriptor, which is async-signal-safe, on numbers
    // that the Arcs keep open in this process until the command is dropped; it
    // allocates nothing, takes no lock, and touches the child's table alone.
    unsafe { command.pre_exec(keep) };
}

/// The number by which another process may [`take`] it.
#[must_use]
pub fn number(descriptor: &impl AsFd) -> RawFd {
    descriptor.as_fd().as_raw_fd()
}

/// Whether it is a TCP socket that listens.
#[must_use]
pub fn is_tcp_listener(socket: BorrowedFd<'_>) -> bool {
    use rustix::net::{SocketType, ipproto};
    sockopt::socket_acceptconn(socket).unwrap_or(false)
        && sockopt::socket_type(socket).is_ok_and(|kind| kind == SocketType::STREAM)
        && sockopt::socket_protocol(socket).is_ok_and(|protocol| protocol == Some(ipproto::TCP))
}

/// Whether a socket bound to an IPv6 address takes no IPv4 connections.
///
/// # Errors
/// `ENOPROTOOPT`, `EOPNOTSUPP` for a socket that is not IPv6.
pub fn is_ipv6_only(socket: BorrowedFd<'_>) -> io::Result<bool> {
    Ok(sockopt::ipv6_v6only(socket)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;
    use std::process::Stdio;

    #[test]
    fn what_is_passed_can_be_taken_once_and_nothing_else_can() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(is_tcp_listener(listener.as_fd()));
        // Ours: it is closed on exec.
        assert!(take(listener.as_raw_fd()).is_err());
        assert!(take(-1).is_err() && take(999_999).is_err());
        // As if it had come through exec.
        let inherited = listener.try_clone().unwrap();
        let raw = inherited.as_raw_fd();
        fcntl_setfd(&inherited, FdFlags::empty()).unwrap();
        std::mem::forget(inherited);
        let taken = take(raw).unwrap();
        assert!(take(raw).is_err());
        assert!(is_tcp_listener(taken.as_fd()));
    }

    #[test]
    fn a_started_process_has_what_it_is_passed() {
        let (reader, writer) = io::pipe().unwrap();
        let writer = Arc::new(OwnedFd::from(writer));
        let mut command = Command::new("/bin/sh");
        command.args(["-c", &format!("echo passed >&{}", number(&writer))]).stdin(Stdio::null());
        pass(&mut command, vec![Arc::clone(&writer)]);
        assert!(command.status().unwrap().success());
        drop((command, writer));
        assert_eq!(io::read_to_string(reader).unwrap(), "passed\n");
    }
}
