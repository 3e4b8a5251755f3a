//! Images that are larger than the memory in which they are made:
//! `ring_images [ADDRESS]`, then `curl http://127.0.0.1:8080/7 > image.ppm`.
//!
//! Pixels are rendered into a partition of the connection's ring and sent from
//! there. Later ones are rendered over them when there is proof that they may
//! be: a client on this host has a copy, one elsewhere has acknowledged them.

use std::{error::Error, sync::Arc, time::Duration};

use sluicegate::{Listener, Pool, Registration, Ring, Segment, Socket, Worker, listen};

const WIDTH: usize = 1024;
const HEIGHT: usize = 768;
const ROW: usize = 3 * WIDTH;
const RINGS: usize = 16; // Of 1 MiB, mapped at start.
type Client = Socket<Registration>;

fn render(number: u16, y: usize, row: &mut [u8]) {
    for (x, pixel) in row.chunks_exact_mut(3).enumerate() {
        pixel.copy_from_slice(&[x + usize::from(number), y, x ^ y].map(|c| (c % 256) as u8));
    }
}

async fn answer(client: &mut Client, ring: &Ring, number: u16) -> Result<(), Box<dyn Error>> {
    let start = format!("P6 {WIDTH} {HEIGHT} 255\n");
    let len = start.len() + HEIGHT * ROW;
    // The head asks where the client is. Until that is known the rest is copied.
    client.expect_region();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {len}\r\n\r\n{start}");
    client.queue(Segment::given(head))?;
    let mut y = 0;
    while y < HEIGHT {
        // Sends what is queued while there is none to be had.
        let mut lease = client.acquire(ring).await?;
        let rows = (lease.len() / ROW).min(HEIGHT - y);
        for row in lease.chunks_exact_mut(ROW).take(rows) {
            render(number, y, row);
            y += 1;
        }
        client.queue(lease.publish(rows * ROW))?;
    }
    Ok(client.flush().await?)
}

async fn serve(mut client: Client, ring: &Ring) -> Result<(), Box<dyn Error>> {
    let mut asked = Vec::with_capacity(8192); // A longer request fails.
    while client.receive(&mut asked).await? > 0 {
        while let Some(end) = asked.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let request = String::from_utf8(asked.drain(..end + 4).collect())?;
            let number = request.strip_prefix("GET /").and_then(|rest| rest.split(' ').next());
            answer(&mut client, ring, number.ok_or("not a GET")?.parse()?).await?;
        }
    }
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let (worker, pool) = (Worker::new()?, Pool::new(RINGS, &Ring::builder())?);
    let address = std::env::args().nth(1).unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, worker.reactor().clone())?;
    println!("http://{}", listener.local_address()?.ok_or("no address")?);
    let (context, spawner) = (Arc::default(), worker.spawner().clone());
    worker.run(async move {
        loop {
            let ring = pool.take().await; // Waits while all are in use.
            let Ok((fd, _)) = listener.accept().await else {
                listener.source().sleep(Duration::from_millis(100)).await;
                continue; // Out of descriptors: the connection waits in the queue.
            };
            let client = Socket::with_context(fd, listener.source(), Arc::clone(&context));
            let Ok(client) = client else { continue }; // Gone already.
            let task = async move {
                let served = serve(client, &ring).await;
                println!("a client: {served:?}; the ring: {:?}", ring.counters());
            };
            spawner.spawn(task).detach();
        }
    })?
}
