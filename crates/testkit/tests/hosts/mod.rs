//! What tests of the lab do with its hosts.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use sluicegate_testkit::lab::{Host, Lab};

pub(crate) const SOON: Duration = Duration::from_secs(10);

/// Two sockets, one on each host, connected over the wire.
pub(crate) fn connection(lab: &Lab) -> (TcpStream, TcpStream) {
    let listener = lab.server().enter(|| TcpListener::bind((lab.server().address(), 0)));
    let listener = listener.expect("the host is there").expect("all its ports are free");
    let address = listener.local_addr().expect("it is bound");
    let client = lab.client().enter(|| TcpStream::connect_timeout(&address, SOON));
    let client = client.expect("the host is there").expect("the wire carries");
    let (server, peer) = listener.accept().expect("the client has connected");
    assert_eq!(peer.ip(), lab.client().address());
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(SOON)).expect("a valid timeout");
        socket.set_write_timeout(Some(SOON)).expect("a valid timeout");
    }
    (server, client)
}

/// Sends so many bytes, and returns once the last one is read.
pub(crate) fn transfer(sender: &mut TcpStream, receiver: &mut TcpStream, length: usize) {
    thread::scope(|scope| {
        scope.spawn(move || {
            let sent = sender.write_all(&vec![7; length]);
            sent.expect("the receiver reads");
        });
        let received = receiver.read_exact(&mut vec![0; length]);
        received.expect("the sender sends");
    });
}

/// The devices of the namespace behind a file, except the loopback.
fn devices(namespace: &File) -> Vec<String> {
    thread::scope(|scope| {
        let table = scope.spawn(|| {
            let network = Some(LinkNameSpaceType::Network);
            move_into_link_name_space(namespace.as_fd(), network).expect("root may enter");
            fs::read_to_string("/proc/thread-self/net/dev").expect("every thread has it")
        });
        let table = table.join().expect("the thread does not panic");
        let names = table.lines().filter_map(|line| Some(line.split_once(':')?.0.trim()));
        // Tunnels that some kernels put into every namespace have nothing to do with a lab.
        names.filter(|name| name.starts_with("eth")).map(str::to_owned).collect()
    })
}

/// Files through which a namespace can be asked what is left in it: they keep the namespace
/// itself.
pub(crate) fn files(paths: [PathBuf; 2]) -> [(PathBuf, File); 2] {
    paths.map(|path| {
        let file = File::open(&path).expect("the namespace is there");
        assert_eq!(devices(&file), ["eth0"]);
        (path, file)
    })
}

/// The files of a lab's two namespaces.
pub(crate) fn files_of(lab: &Lab) -> [(PathBuf, File); 2] {
    files([lab.server(), lab.client()].map(Host::path))
}

/// Neither a name nor a device is left.
pub(crate) fn assert_gone(files: &[(PathBuf, File)]) {
    for (path, namespace) in files {
        assert!(!path.exists(), "{}", path.display());
        assert_no_devices(namespace);
    }
}

/// No device is left.
pub(crate) fn assert_no_devices(namespace: &File) {
    assert_eq!(devices(namespace), [""; 0]);
}
