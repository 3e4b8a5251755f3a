//! A server for one file, on a worker of our own: `hello_file FILE [ADDRESS]`.

use std::{rc::Rc, sync::Arc};

use sluicegate::{Listener, SendContext, Socket, Worker, listen};
use sluicegate_http::{FileResponse, Handler, Limits, Request, Response, Service, serve};

struct Hello(FileResponse);

impl Handler for Hello {
    async fn handle(&self, request: &mut Request) -> Response {
        self.0.respond(&request.head)
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which file?")?;
    let file = FileResponse::open(path, "text/plain")?;
    let hello = Hello(file);
    let service = Rc::new(Service::new(hello, Limits::default()));
    let worker = Worker::new()?;
    let address = args.next().unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, worker.reactor().clone())?;
    println!("http://{}", listener.local_address()?.ok_or("no address")?);
    let (context, reactor) = (Arc::new(SendContext::default()), worker.reactor().clone());
    let spawner = worker.spawner().clone();
    worker.run(async move {
        loop {
            let Ok((fd, _)) = listener.accept().await else {
                reactor.sleep(std::time::Duration::from_millis(100)).await;
                continue; // Out of descriptors: the connection waits in the queue.
            };
            if let Ok(socket) = Socket::with_context(fd, &reactor, Arc::clone(&context)) {
                spawner.start(serve(socket, Rc::clone(&service)));
            }
        }
    })?
}
