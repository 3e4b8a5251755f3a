//! A test in two halves: one in a virtual machine, and its peer on this host.

use std::env;
use std::io::ErrorKind;
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use sluicegate_testkit::vm::{self, Options, Vm};

use crate::sending::SOON;

/// Tells the guest where its host listens.
const PORT: &str = "SLUICEGATE_PORT";

/// Boots a guest, runs one of the halves there, and has `peer` serve its first connection.
pub(crate) fn with_peer<T: Send>(half: &str, peer: impl FnOnce(TcpStream) -> T + Send) -> T {
    let vm = Vm::boot(&Options::new()).unwrap();
    let listener = vm.host().enter(|| TcpListener::bind((vm::HOST, 0))).unwrap().unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    thread::scope(|scope| {
        let peer = scope.spawn(move || {
            let socket = accept(&listener);
            socket.set_read_timeout(Some(SOON)).unwrap();
            peer(socket)
        });
        let output = vm.run_test(half, &[(PORT, &port)]);
        eprintln!("{}: {output}", vm.kernel());
        peer.join().unwrap()
    })
}

/// The first connection. Should the guest fail before it has made one, nobody waits for ever.
fn accept(listener: &TcpListener) -> TcpStream {
    listener.set_nonblocking(true).unwrap();
    let deadline = Instant::now() + 2 * SOON;
    loop {
        match listener.accept() {
            Ok((socket, _)) => {
                socket.set_nonblocking(false).unwrap();
                return socket;
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => panic!("{error}"),
        }
        assert!(Instant::now() < deadline, "the guest did not connect");
        thread::sleep(Duration::from_millis(2));
    }
}

/// The host that listens for the guest.
pub(crate) fn connect() -> TcpStream {
    let port: u16 = env::var(PORT).unwrap().parse().unwrap();
    TcpStream::connect_timeout(&(vm::HOST, port).into(), SOON).unwrap()
}
