//! `sendfile` called until everything is accepted: on a blocking socket by a few calls that wait
//! themselves, on a non-blocking one by many, with `poll` in between.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::ioctl_fionbio;
use sluicegate_sys::{outq, sendfile, socket};

use super::{Account, REQUEST, Request, answer, head};

/// Serves one connection after another.
pub(super) fn serve(listener: &OwnedFd, file: &File, is_blocking: bool) -> Result<()> {
    ioctl_fionbio(listener, false)?;
    let mut account = Account::new()?;
    loop {
        let (fd, _) = socket::accept(listener.as_fd()).context("cannot accept")?;
        socket::set_nodelay(fd.as_fd())?;
        // Requests are waited for; only `sendfile` is not, where it polls.
        ioctl_fionbio(&fd, false)?;
        if let Err(error) = connection(&fd.into(), file, is_blocking, &mut account) {
            eprintln!("{error:#}");
        }
    }
}

fn connection(
    mut stream: &TcpStream,
    file: &File,
    is_blocking: bool,
    account: &mut Account,
) -> Result<()> {
    let length = file.metadata()?.len();
    let mut request = [0; REQUEST];
    loop {
        let received = stream.read(&mut request)?;
        if received == 0 {
            return Ok(());
        }
        // A client asks again when it has everything, and so acknowledges it: the time between
        // two requests is that until all is acked.
        ensure!(outq::unacknowledged(stream.as_fd())? == 0, "asked before all was acknowledged");
        match Request::read(&request[..received])? {
            Request::File => hand_over(stream, file, length, is_blocking, account)?,
            Request::Report => stream.write_all(&answer(&account.report())?)?,
            Request::Calls | Request::Stuff => return Ok(()),
        }
    }
}

fn hand_over(
    stream: &TcpStream,
    file: &File,
    length: u64,
    is_blocking: bool,
    account: &mut Account,
) -> Result<()> {
    let head = head(length);
    ensure!(socket::send(stream.as_fd(), &head, true)? == head.len(), "no room for a head");
    ioctl_fionbio(stream, !is_blocking)?;
    let start = Instant::now();
    let (mut sent, mut calls, mut held) = (0, 0, Duration::ZERO);
    let mut now = start;
    while sent < length {
        let left = usize::try_from(length - sent).unwrap_or(usize::MAX);
        let result = sendfile::sendfile(stream.as_fd(), file.as_fd(), sent, left);
        let after = Instant::now();
        held += after - now;
        calls += 1;
        now = after;
        match result {
            Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
            Ok(accepted) => sent += accepted as u64,
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                await_room(stream.as_fd())?;
                now = Instant::now();
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error).context("cannot hand over"),
        }
    }
    account.add(stream.as_fd(), calls, held, start.elapsed())?;
    ioctl_fionbio(stream, false)?;
    Ok(())
}

fn await_room(socket: BorrowedFd<'_>) -> Result<()> {
    let mut fds = [PollFd::from_borrowed_fd(socket, PollFlags::OUT)];
    match poll(&mut fds, None) {
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error).context("cannot wait for room"),
    }
}
