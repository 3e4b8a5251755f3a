//! Acknowledgements inside tokio: `tokio_acks FILE [ADDRESS]` sends the file to
//! everyone who connects (`nc 127.0.0.1 8080 > copy`) and tells how much of it
//! has arrived.

use std::error::Error;
use std::fs::File;
use std::net::SocketAddr;
use std::sync::Arc;

use sluicegate::{
    Listener, Position, Segment, SendContext, SharedReactor, SharedRegistration, Socket, listen,
};

/// How often progress is told, in bytes. Each time costs a report of the
/// kernel's; whoever waits for the end alone needs one.
const STEP: u64 = 1024 * 1024;

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let file = Arc::new(File::open(args.next().ok_or("which file?")?)?);

    // tokio watches the reactor, and the reactor watches the sockets.
    let address = args.next().unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, SharedReactor::new()?)?;
    println!("tcp://{}", listener.local_address()?.ok_or("no address")?);
    let context = Arc::new(SendContext::default());
    loop {
        let Ok((fd, Some(peer))) = listener.accept().await else {
            // Out of descriptors: the connection waits in the queue.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let socket = Socket::with_context(fd, listener.source(), Arc::clone(&context));
        // It is gone already.
        let Ok(socket) = socket else { continue };
        let file = Arc::clone(&file);
        tokio::spawn(async move {
            if let Err(error) = serve(socket, peer, &file).await {
                println!("{peer}: {error}");
            }
        });
    }
}

async fn serve(
    mut socket: Socket<SharedRegistration>,
    peer: SocketAddr,
    file: &Arc<File>,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let len = file.metadata()?.len();
    // Returns at once, whatever the size of the file.
    let end = socket.queue(Segment::file(file, 0..len))?;
    let mut acked = Position::START;
    while acked < end {
        acked = end.min(acked.advanced(STEP));
        // Sends what the socket takes until the peer has so much.
        socket.acked(acked).await?;
        println!("{peer}: {acked} of {end} bytes");
    }
    Ok(())
}
