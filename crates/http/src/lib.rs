//! The HTTP/1.1 engine of Sluicegate.
//!
//! Bytes come in, a [`RequestHead`] and a body come out; a response goes the other way. The
//! modules are declared in the order in which a request meets them. Those up to `coding` are
//! pure: no socket, no clock, no panic on any input, and the verdict on a message never depends on
//! how its bytes were split into reads.
//!
//! ```text
//! bytes ─ HeadScanner ─ RequestHead ─ RequestFraming ─ ChunkedDecoder ─ body
//!              │             ├ normalise (path)
//!           Offence          ├ conditional, etag, range
//!                            ├ coding
//!                            └ keep_alive, expects_continue
//! ```
//!
//! `client` is the other side, also pure: requests that we write, responses that we read, and what of
//! a message goes on from one party to another (`client::forward`), by rules that it is given.
//!
//! What this crate must not know: routes, sites, configuration, which upstream is asked. Rules are
//! RFC 9110 (semantics) and RFC 9112 (HTTP/1.1); the section stands above the branch that obeys it.
//! Where they let a recipient be lenient, it is strict: lenience is what request smuggling is made of.

#![forbid(unsafe_code)]

// Blank lines keep rustfmt from sorting what is in the order of the data.

pub mod limits;

pub mod offence;

pub mod scan;

pub mod head;

mod target;

pub mod path;

pub mod framing;

pub mod chunked;

pub mod etag;

pub mod conditional;

pub mod range;

pub mod coding;

mod date;

mod encode;

pub mod body;

mod interim;

pub mod request;

pub mod response;

pub mod relay;

pub mod client;

mod rules;

mod prepared;

pub mod file;

pub mod handler;

mod conn;

pub use body::{BodyError, Piece, RequestBody};
pub use chunked::{CRLF, ChunkHead, ChunkedDecoder, Event, LAST_CHUNK, Step, chunk_head};
pub use coding::{AcceptedCodings, Coding};
pub use conditional::{Precondition, Validators, evaluate, if_range_holds};
pub use conn::{Service, serve, serve_between};
pub use etag::EntityTag;
pub use file::{FileMetadata, FileResponse};
pub use framing::{RequestFraming, expects_continue, keep_alive};
pub use handler::{Answered, Failure, Handler, Observe};
pub use head::{Known, ListMembers, Method, RequestHead, TargetForm, Version};
pub use interim::Interim;
pub use limits::{Limits, Timeouts};
pub use offence::Offence;
pub use path::{Normal, PathError, normal_as_sent, normalise, normalise_onward};
pub use prepared::Prepared;
pub use range::{ContentRange, RangeSet};
pub use relay::{Downstream, Relay, RelayError};
pub use request::{Endpoints, Request};
pub use response::{BadField, Body, BodyFailure, BodySource, Copied, Fields, Frame, Response};
pub use rules::FieldRules;
pub use scan::{HeadScanner, Scan};
