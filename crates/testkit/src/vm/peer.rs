//! A test in two halves that talk to each other: one in the guest, its peer on this host.

use std::io::{ErrorKind, Result};
use std::net::{TcpListener, TcpStream};
use std::time::{Duration, Instant};
use std::{env, panic, thread};

use super::{GUEST, HOST, Options, Vm};

/// How long either waits for the other's next word.
const SOON: Duration = Duration::from_secs(30);

/// Tells the guest where its host listens.
const PORT: &str = "SLUICEGATE_PORT";

/// Boots a guest, runs one test of this test binary there, as [`Vm::run_test`], and has `peer`
/// serve the first connection that this makes by [`connect`].
///
/// # Panics
/// As [`Vm::run_test`]; if the guest does not boot or connect, or if `peer` panics.
pub fn with_peer<T: Send>(half: &str, peer: impl FnOnce(TcpStream) -> T + Send) -> T {
    let vm = Vm::boot(&Options::new()).unwrap_or_else(|error| panic!("{error}"));
    let listener = vm.host().enter(|| TcpListener::bind((HOST, 0)));
    let listener = listener.unwrap_or_else(|error| panic!("{error}"));
    let listener = listener.unwrap_or_else(|error| panic!("the host cannot listen: {error}"));
    let port = listener.local_addr().map_or(0, |address| address.port()).to_string();
    thread::scope(|scope| {
        let peer = scope.spawn(move || match accept(&listener) {
            Ok(socket) => peer(socket),
            Err(error) => panic!("no connection from the guest: {error}"),
        });
        let output = vm.run_test(half, &[(PORT, &port)]);
        eprintln!("{}: {output}", vm.kernel());
        peer.join().unwrap_or_else(|payload| panic::resume_unwind(payload))
    })
}

/// The guest's end of a connection to the peer of [`with_peer`].
///
/// # Panics
/// If there is none.
#[must_use]
pub fn connect() -> TcpStream {
    let port = env::var(PORT).ok().and_then(|port| port.parse::<u16>().ok());
    let Some(port) = port else { panic!("{PORT} names no port") };
    let socket = TcpStream::connect_timeout(&(HOST, port).into(), SOON);
    socket.and_then(bounded).unwrap_or_else(|error| panic!("no connection to the host: {error}"))
}

/// The first connection. Should the guest fail before it has made one, nobody waits for ever.
fn accept(listener: &TcpListener) -> Result<TcpStream> {
    listener.set_nonblocking(true)?;
    let deadline = Instant::now() + 2 * SOON;
    loop {
        match listener.accept() {
            Ok((socket, address)) => {
                assert_eq!(address.ip(), GUEST, "somebody else connected");
                socket.set_nonblocking(false)?;
                return bounded(socket);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        if Instant::now() >= deadline {
            return Err(ErrorKind::TimedOut.into());
        }
        thread::sleep(Duration::from_millis(2));
    }
}

fn bounded(socket: TcpStream) -> Result<TcpStream> {
    socket.set_read_timeout(Some(SOON))?;
    socket.set_write_timeout(Some(SOON))?;
    Ok(socket)
}
