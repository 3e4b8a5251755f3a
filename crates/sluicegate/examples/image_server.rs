//! Images made in memory, sent without a copy where that is possible, from one
//! buffer for each connection: `image_server [ADDRESS]` (seeds/002).
//!
//! Each byte that a client sends asks for the next image, a PPM. The buffer of
//! an image is lent to the socket, and comes back when the kernel refers to it
//! no more: then, and no sooner, the next one is rendered into it.

use std::{error::Error, io::Write, sync::Arc};

use sluicegate::{Listener, Registration, Segment, SendContext, Socket, Worker, listen};

const WIDTH: usize = 800;
const HEIGHT: usize = 600;

/// Renders image `number` over what was in `image`, and allocates nothing when
/// that was an image too.
fn render(number: usize, image: &mut Vec<u8>) -> std::io::Result<()> {
    image.clear();
    writeln!(image, "P6 {WIDTH} {HEIGHT} 255")?;
    let pixels = (0..HEIGHT).flat_map(|y| (0..WIDTH).map(move |x| (x, y)));
    for (x, y) in pixels {
        image.extend([x + number, y, x ^ y].map(|colour| (colour % 256) as u8));
    }
    Ok(())
}

async fn serve(mut socket: Socket<Registration>) -> Result<usize, Box<dyn Error>> {
    let (mut image, mut number) = (Vec::new(), 0);
    let mut asked = Vec::with_capacity(100);
    while socket.receive(&mut asked).await? > 0 {
        for _ in asked.drain(..) {
            render(number, &mut image)?;
            let memory = image.as_ptr();
            // At once, however slow the client is.
            let end = socket.queue(Segment::memory(image))?;
            // Sends it, and waits for the proof that the buffer may be reused:
            // it was copied (a client on this host), or it went by reference
            // and the kernel says that it let it go (a client elsewhere).
            image = Vec::from(socket.released(end).await?);
            assert_eq!(memory, image.as_ptr(), "the same memory, not a copy of it");
            number += 1;
        }
    }
    // If this function ends sooner, by an error or because its task is dropped,
    // nothing is freed that the kernel may still read: see `lingering`.
    Ok(number)
}

fn main() -> Result<(), Box<dyn Error>> {
    let worker = Worker::new()?;
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, worker.reactor().clone())?;
    println!("listening on {}", listener.local_address()?.ok_or("no address")?);
    let (context, reactor) = (Arc::new(SendContext::default()), worker.reactor().clone());
    let spawner = worker.spawner().clone();
    worker.run(async move {
        loop {
            let Ok((fd, _)) = listener.accept().await else {
                reactor.sleep(std::time::Duration::from_millis(100)).await;
                continue; // Out of descriptors: the connection waits in the queue.
            };
            let Ok(socket) = Socket::with_context(fd, &reactor, Arc::clone(&context)) else {
                continue; // Gone already.
            };
            let context = Arc::clone(&context);
            let client = async move {
                match serve(socket).await {
                    Ok(images) => println!("{images} images; all: {:?}", context.counters.ways()),
                    Err(error) => eprintln!("a client: {error}"),
                }
            };
            spawner.spawn(client).detach();
        }
    })?
}
