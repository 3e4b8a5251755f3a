//! A server for one file, inside tokio: `hello_file_tokio FILE [ADDRESS]`.

use std::sync::Arc;

use sluicegate::{Listener, SendContext, SharedReactor, Socket, listen};
use sluicegate_http::{FileResponse, Handler, Limits, Request, Response, Service, serve};

struct Hello(FileResponse);

impl Handler for Hello {
    async fn handle(&self, request: &mut Request) -> Response {
        self.0.respond(&request.head)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let path = args.next().ok_or("which file?")?;
    let file = FileResponse::open(path, "text/plain")?;
    let hello = Hello(file);
    let service = Arc::new(Service::new(hello, Limits::default()));

    let address = args.next().unwrap_or("127.0.0.1:8080".into()).parse()?;
    let listener = Listener::new(listen(address)?, SharedReactor::new()?)?;
    println!("http://{}", listener.local_address()?.ok_or("no address")?);
    let context = Arc::new(SendContext::default());
    loop {
        let Ok((fd, _)) = listener.accept().await else {
            // Out of descriptors: the connection waits in the queue.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if let Ok(socket) = Socket::with_context(fd, listener.source(), Arc::clone(&context)) {
            tokio::spawn(serve(socket, Arc::clone(&service)));
        }
    }
}
