//! Answers requests with the files of a directory.

mod cache;
mod lookup;
mod media_type;

use std::cell::RefCell;
use std::fmt::Write;
use std::io;
use std::path::Path;

use sluicegate::file::Root;
use sluicegate_http::{Failure, Handler, Method, Request, RequestHead, Response, normalise};

use self::cache::Cache;
use self::lookup::{Found, Refusal};
use crate::log::tell;

/// What a directory answers with when it is asked for by its name and a slash.
const INDEX: &[u8] = b"index.html";

/// A directory of files, as one worker serves it.
#[derive(Debug)]
pub(crate) struct Files {
    root: Root,
    cache: RefCell<Cache>,
    /// Room for paths that are not in normal form as they come.
    path: RefCell<Vec<u8>>,
}

impl Files {
    /// Serves the files beneath `root`.
    ///
    /// # Errors
    /// When it cannot be opened, or is no directory.
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        Ok(Files { root: Root::open(root)?, cache: RefCell::default(), path: RefCell::default() })
    }

    fn answer(&self, head: &RequestHead) -> Response {
        match head.method() {
            Method::Get | Method::Head => {}
            // RFC 9110 section 9.1: unknown methods 501, known ones that are
            // not allowed here 405 with Allow.
            Method::Other => return Response::status_page(501),
            _ => {
                let mut response = Response::status_page(405);
                // Both are valid.
                let _ = response.add("Allow", "GET, HEAD");
                return response;
            }
        }
        let mut room = self.path.borrow_mut();
        let path = match normalise(head.path(), &mut room) {
            Ok(path) => path,
            Err(error) => return Response::status_page(error.status()),
        };
        // Names that begin with a dot are not for the public, but for the one
        // that RFC 8615 defines. They are answered as if they were not there.
        let hidden = |segment: &[u8]| segment.starts_with(b".") && segment != b".well-known";
        if path.segments().any(hidden) {
            return Response::status_page(404);
        }
        let mut cache = self.cache.borrow_mut();
        if !path.ends_with_slash() {
            return match cache.find(&self.root, path.as_bytes()) {
                Ok(Found::File(file)) => file.response.respond(head),
                Ok(Found::Directory) => redirect_into(path.as_bytes(), head.query()),
                Err(refusal) => Self::refuse(path.as_bytes(), &refusal),
            };
        }
        let mut index = path.as_bytes().to_vec();
        if !index.is_empty() {
            index.push(b'/');
        }
        index.extend_from_slice(INDEX);
        match cache.find(&self.root, &index) {
            Ok(Found::File(file)) => file.response.respond(head),
            Ok(Found::Directory) => Response::status_page(403),
            Err(Refusal::Missing) => Self::without_index(&self.root, path.as_bytes()),
            Err(refusal) => Self::refuse(&index, &refusal),
        }
    }

    /// A directory without an index is there, and shows nothing; a file is no
    /// directory, and what is not there is not there.
    fn without_index(root: &Root, path: &[u8]) -> Response {
        match lookup::look(root, path) {
            Ok(stamp) if stamp.kind == sluicegate::file::Kind::Directory => Response::text(
                403,
                "403 Forbidden\n\nThis directory has no index.html, and is not listed.\n",
            ),
            Ok(_) => Response::status_page(404),
            Err(refusal) => Self::refuse(path, &refusal),
        }
    }

    fn refuse(path: &[u8], refusal: &Refusal) -> Response {
        if let Refusal::Failed(error) | Refusal::Exhausted(error) = refusal {
            tell(format_args!("`{}`: {error}", path.escape_ascii()));
        }
        Response::status_page(refusal.status())
    }
}

impl Handler for Files {
    async fn handle(&self, request: &mut Request) -> Response {
        self.answer(&request.head)
    }

    fn failed(&self, failure: &Failure) {
        // What clients and networks do wrong is daily business; a file that
        // ended early or could not be read is for the operator.
        match failure {
            Failure::Send(sluicegate::SendError::Connection(_))
            | Failure::Offence(_)
            | Failure::Unread
            | Failure::Gone
            | Failure::Receive(_) => {}
            ours => tell(format_args!("a response was cut: {ours}")),
        }
    }
}

/// Sends the client to the same directory with a slash at the end, from where
/// its relative links lead to the right place.
///
/// The target is written from the normal form: a raw `//host` would lead to
/// another server.
fn redirect_into(path: &[u8], query: Option<&str>) -> Response {
    let mut location = String::from("/");
    for &byte in path {
        // RFC 3986 section 2.3: what needs no escaping anywhere; and the slash.
        if byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte) {
            location.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(location, "%{byte:02X}");
        }
    }
    location.push('/');
    if let Some(query) = query {
        location.push('?');
        location.push_str(query);
    }
    let mut response = Response::status_page(301);
    match response.add("Location", location) {
        Ok(()) => response,
        Err(_) => Response::status_page(404),
    }
}
