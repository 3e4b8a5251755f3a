//! A small backend of the old kind: a few workers, each of which answers one request at a time,
//! sends with blocking calls, and closes the connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::thread;

use anyhow::Result;

use super::account::Account;
use super::content::{Contents, Turn};
use super::request::{LIMIT, Request, head, not_found};
use super::{ACCOUNT, FORGET};

/// Serves until it is killed. What is asked for about the backend itself is answered `beside`, by a
/// worker of its own: the others may all be held.
pub(super) fn serve(
    listener: &OwnedFd,
    beside: &TcpListener,
    contents: &Contents,
    workers: usize,
) -> Result<()> {
    let listener = TcpListener::from(listener.try_clone()?);
    listener.set_nonblocking(false)?;
    let account = Mutex::new(Account::default());
    thread::scope(|scope| {
        for _ in 0..workers {
            let (listener, account, root) = (&listener, &account, contents.root());
            // Files and small answers are a worker's own, as a process's would be.
            scope.spawn(move || work(listener, &Contents::new(root.to_owned(), None), account));
        }
        scope.spawn(|| tell(beside, &account));
    });
    Ok(())
}

fn work(listener: &TcpListener, contents: &Contents, account: &Mutex<Account>) {
    loop {
        let Ok((stream, _)) = listener.accept() else { continue };
        lock(account).connections += 1;
        // Whoever is gone is the next one's chance.
        let _ = answer(&stream, contents, account);
    }
}

fn answer(
    mut stream: &TcpStream,
    contents: &Contents,
    account: &Mutex<Account>,
) -> std::io::Result<()> {
    let Some(request) = receive(stream)? else { return Ok(()) };
    let Some(mut answer) = contents.answer(&request.path, None, true)? else {
        return stream.write_all(&not_found());
    };
    let number = lock(account).begin(&request.path, answer.length);
    let outcome = loop {
        match answer.drive(stream.as_fd()) {
            Ok(Turn::Done) => break Ok(()),
            Ok(Turn::Again | Turn::Full) => {}
            Ok(Turn::Early) => thread::sleep(super::pace::TICK),
            Err(error) => break Err(error),
        }
    };
    lock(account).end(number, answer.sent, outcome.is_ok());
    outcome
}

fn receive(mut stream: &TcpStream) -> std::io::Result<Option<Request>> {
    let (mut received, mut piece) = (Vec::new(), [0; 4096]);
    loop {
        if let Some((request, _)) = Request::parse(&received) {
            return Ok(Some(request));
        }
        if received.len() >= LIMIT {
            return Err(ErrorKind::InvalidData.into());
        }
        match stream.read(&mut piece)? {
            0 => return Ok(None),
            count => received.extend_from_slice(&piece[..count]),
        }
    }
}

fn tell(listener: &TcpListener, account: &Mutex<Account>) {
    loop {
        let Ok((mut stream, _)) = listener.accept() else { continue };
        let Ok(Some(request)) = receive(&stream) else { continue };
        let text = {
            let mut account = lock(account);
            match request.path.as_str() {
                ACCOUNT => serde_json::to_vec(&*account).unwrap_or_default(),
                FORGET => {
                    account.forget();
                    b"{}".to_vec()
                }
                _ => Vec::new(),
            }
        };
        let mut answer = head(text.len() as u64, true);
        answer.extend_from_slice(&text);
        let _ = stream.write_all(&answer);
    }
}

fn lock(account: &Mutex<Account>) -> std::sync::MutexGuard<'_, Account> {
    account.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Contents {
    fn root(&self) -> &Path {
        &self.root
    }
}
