//! A handler with an answer of every kind, for tests of a connection's life.
#![allow(clippy::unwrap_used, dead_code, unreachable_pub)] // As `common`.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use sluicegate::Segment;
use sluicegate_http::{
    Body, BodyFailure, BodySource, Fields, Frame, Handler, Limits, Prepared, Request, Response,
};

use crate::common::Served;

/// Answers by path.
pub struct Mixed {
    prepared: Arc<Prepared>,
    file: Arc<std::fs::File>,
    released: AtomicBool,
}

/// A source that keeps a request's body for longer than its handler ran.
struct Outliving(sluicegate_http::RequestBody);

impl BodySource for Outliving {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyFailure>>> {
        let chunk = std::pin::pin!(self.0.chunk()).poll(cx);
        chunk.map(|chunk| match chunk {
            Ok(None) => None,
            Ok(Some(bytes)) => Some(Ok(Frame::Data(Segment::Memory(bytes)))),
            Err(error) => Some(Err(error.into())),
        })
    }
}

/// A source that never has anything.
struct Silent;

impl BodySource for Silent {
    fn poll_frame(&mut self, _: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyFailure>>> {
        Poll::Pending
    }
}

impl Mixed {
    pub fn new() -> Self {
        let mut file = tempfile::tempfile().unwrap();
        file.write_all(&vec![b'f'; 3_000_000]).unwrap();
        let prepared = Arc::new(Prepared::new(200, &Fields::default(), b"prepared"));
        Mixed { prepared, file: Arc::new(file), released: AtomicBool::new(false) }
    }

    pub fn served(limits: Limits) -> Served {
        Served::new(limits, Mixed::new)
    }
}

impl Handler for Mixed {
    async fn handle(&self, request: &mut Request) -> Response {
        match request.head.path() {
            "/prepared" => Response::prepared(Arc::clone(&self.prepared)),
            "/file" => {
                Response::new(200).with_body(Body::Segment(Segment::file(&self.file, 0..3_000_000)))
            }
            "/small-file" => {
                Response::new(200).with_body(Body::Segment(Segment::file(&self.file, 0..20_000)))
            }
            "/missing-bytes" => {
                Response::new(200).with_body(Body::Segment(Segment::file(&self.file, 0..4_000_000)))
            }
            "/echo" => match request.body.collect(1 << 20).await {
                Ok(bytes) => {
                    let mut response =
                        Response::new(200).with_body(Body::Segment(Segment::Memory(bytes)));
                    for (name, value) in request.body.trailers() {
                        response.add(&format!("Was-{name}"), value).unwrap();
                    }
                    response
                }
                Err(error) => Response::text(500, error.to_string()),
            },
            "/unread" => Response::text(200, "unread"),
            "/stream" => Response::new(200).with_body(Body::Stream(Box::new(Counting::new(None)))),
            "/sized" => {
                Response::new(200).with_body(Body::Stream(Box::new(Counting::new(Some(12)))))
            }
            "/liar" => {
                Response::new(200).with_body(Body::Stream(Box::new(Counting::new(Some(99)))))
            }
            "/slow" => {
                // Until the client has sent something more, or for ever.
                std::future::poll_fn(|_| {
                    if self.released.load(Ordering::Acquire) {
                        Poll::Ready(())
                    } else {
                        Poll::Pending
                    }
                })
                .await;
                Response::text(200, "slow")
            }
            "/stream-echo" => {
                let body = std::mem::take(&mut request.body);
                Response::new(200).with_body(Body::Stream(Box::new(Outliving(body))))
            }
            "/silent" => Response::new(200).with_body(Body::Stream(Box::new(Silent))),
            "/nothing" => Response::new(204),
            path => Response::text(404, format!("no {path}")),
        }
    }
}

/// Three frames of four bytes and a trailer.
struct Counting {
    next: u8,
    length: Option<u64>,
}

impl Counting {
    fn new(length: Option<u64>) -> Self {
        Counting { next: 0, length }
    }
}

impl BodySource for Counting {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyFailure>>> {
        self.next += 1;
        match self.next {
            // A source that is not always ready.
            1 | 4 => {
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            2 | 3 | 5 => {
                let frame = Segment::given(vec![b'0' + self.next; 4]);
                Poll::Ready(Some(Ok(Frame::Data(frame))))
            }
            6 if self.length.is_none() => {
                let mut fields = Fields::default();
                fields.add("X-Sum", "12").unwrap();
                Poll::Ready(Some(Ok(Frame::Trailers(fields))))
            }
            _ => Poll::Ready(None),
        }
    }

    fn length(&self) -> Option<u64> {
        self.length
    }
}

pub fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nHost: h\r\n\r\n")
}
