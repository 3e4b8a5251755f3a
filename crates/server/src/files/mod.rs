//! Answers requests with the files of a directory.

mod cache;
mod counters;
mod listing;
mod lookup;
mod media_type;
mod options;
mod redirect;
mod settled;

use std::cell::RefCell;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use sluicegate::file::{Access, Kind, Root};
use sluicegate::os::raise_descriptors;
use sluicegate_http::{
    AcceptedCodings, Coding, Failure, Handler, Method, Normal, Precondition, Request, RequestHead,
    Response, Validators, evaluate, normalise,
};

use self::cache::{Budget, Cache};
use self::counters::Counters;
use self::lookup::{Entry, Found, Refusal};
use crate::log::tell;

pub(crate) use self::options::{CacheControl, Options};

/// Methods that files have. RFC 9110 section 10.2.1.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// A directory of files, as all workers know it.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    root: Root,
    options: Options,
    counters: Counters,
    budget: Budget,
}

impl Directory {
    /// The files beneath `path`, for so many workers.
    ///
    /// # Errors
    /// When it cannot be opened, is no directory, or lacks a file that the
    /// options name.
    pub(crate) fn open(path: &Path, options: Options, workers: usize) -> io::Result<Self> {
        let root = Root::open(path, options.links)?;
        let pages = options.error_pages.iter().map(|(_, page)| page);
        for named in options.fallback.iter().chain(pages) {
            if let Err(reason) = readable(&root, named) {
                let message = format!("`{}` beneath it {reason}", named.escape_ascii());
                return Err(io::Error::other(message));
            }
        }
        // Where the limit cannot be told, it is the least that systems have.
        let limit = raise_descriptors().unwrap_or(1024);
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let budget = Budget::share(workers, limit);
        Ok(Directory { path, root, options, counters: Counters::default(), budget })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// How often files were found in the caches.
    pub(crate) fn counters(&self) -> &Counters {
        &self.counters
    }

    /// The handler of one worker.
    pub(crate) fn worker(self: &Arc<Self>) -> Files {
        let cache = RefCell::new(Cache::new(self.budget));
        Files { directory: Arc::clone(self), cache, path: RefCell::default() }
    }
}

/// Looks whether the path `named`, a normal form, is a file that can be read.
///
/// # Errors
/// Why it is none, in words that follow its name.
pub(crate) fn readable(root: &Root, named: &[u8]) -> Result<(), String> {
    match lookup::look(root, named) {
        Ok(stamp) if stamp.kind != Kind::Regular => Err("is no regular file".to_owned()),
        // It must be there to be read, too.
        Ok(_) => match lookup::open_beneath(root, named, Access::Read) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.to_string()),
        },
        Err(refusal) => Err(refusal.to_string()),
    }
}

/// A directory of files, as one worker serves it.
#[derive(Debug)]
pub(crate) struct Files {
    directory: Arc<Directory>,
    cache: RefCell<Cache>,
    /// Room for paths that are not in normal form as they come.
    path: RefCell<Vec<u8>>,
}

impl Files {
    fn answer(&self, head: &RequestHead) -> Response {
        let response = match head.method() {
            Method::Get | Method::Head => self.find(head),
            Method::Options => allow(Response::new(204)),
            // RFC 9110 section 9.1: unknown methods 501, known ones that are
            // not allowed here 405 with Allow.
            Method::Other => Response::status_page(501),
            _ => allow(Response::status_page(405)),
        };
        self.with_own_page(response)
    }

    /// An operator's page in place of ours.
    fn with_own_page(&self, response: Response) -> Response {
        let Some(page) = self.directory.options.error_page(response.status()) else {
            return response;
        };
        match self.cache.borrow_mut().find(&self.directory, page) {
            Ok(Found::File(page)) => page.response.in_place_of(response),
            Ok(Found::Directory) | Err(_) => response,
        }
    }

    fn find(&self, head: &RequestHead) -> Response {
        let mut room = self.path.borrow_mut();
        let path = match normalise(head.path(), &mut room) {
            Ok(path) => path,
            Err(error) => return Response::status_page(error.status()),
        };
        match self.find_path(&path, head) {
            Ok(response) => response,
            Err(Refusal::Missing) => self.fallback(head),
            Err(refusal) => Self::refused(path.as_bytes(), &refusal),
        }
    }

    fn find_path(&self, path: &Normal<'_>, head: &RequestHead) -> Result<Response, Refusal> {
        let directory = &*self.directory;
        // Names that begin with a dot are not for the public, but for the one
        // that RFC 8615 defines. They are answered as if they were not there.
        if !directory.options.dotfiles && path.segments().any(is_hidden) {
            return Err(Refusal::Missing);
        }
        if !path.ends_with_slash() {
            let found = self.cache.borrow_mut().find(directory, path.as_bytes())?;
            return Ok(match found {
                Found::File(file) => self.respond(path.as_bytes(), &file, head),
                Found::Directory => redirect::into(path.as_bytes(), head.query()),
            });
        }
        for index in &directory.options.index {
            let mut index_path = path.as_bytes().to_vec();
            if !index_path.is_empty() {
                index_path.push(b'/');
            }
            index_path.extend_from_slice(index.as_bytes());
            let found = self.cache.borrow_mut().find(directory, &index_path);
            match found {
                Ok(Found::File(file)) => return Ok(self.respond(&index_path, &file, head)),
                Ok(Found::Directory) | Err(Refusal::Missing) => {}
                Err(refusal) => {
                    return Ok(Self::refused(&index_path, &refusal));
                }
            }
        }
        self.without_index(path.as_bytes(), head)
    }

    /// Answers with a file in the coding that the client likes best.
    fn respond(&self, path: &[u8], file: &Rc<Entry>, head: &RequestHead) -> Response {
        if file.neighbours != 0 {
            let coding = AcceptedCodings::of(head).best(file.codings(&self.directory));
            if coding != Coding::Identity {
                let found = self.cache.borrow_mut().find_coded(&self.directory, path, coding);
                // Gone since it was last seen, or not to be read: the file itself is there.
                if let Ok(Found::File(coded)) = found {
                    return coded.response.respond(head);
                }
            }
        }
        file.response.respond(head)
    }

    /// A directory without an index is there, and shows what is in it or
    /// nothing; a file is no directory.
    fn without_index(&self, path: &[u8], head: &RequestHead) -> Result<Response, Refusal> {
        let Directory { root, options, .. } = &*self.directory;
        if lookup::look(root, path)?.kind != Kind::Directory {
            return Err(Refusal::Missing);
        }
        if options.listing {
            // A listing has no validators: RFC 9110 section 13.1 still has an
            // answer to each condition.
            match evaluate(head, &Validators::default()) {
                Precondition::Proceed => {}
                Precondition::NotModified => return Ok(Response::new(304)),
                Precondition::Failed => return Ok(Response::status_page(412)),
            }
            return listing::answer(root, path, head.query(), options.dotfiles);
        }
        Ok(Response::text(
            403,
            "403 Forbidden\n\nThis directory has no page of its own, and is not listed.\n",
        ))
    }

    /// The page of a single-page application, in which every path is a place.
    fn fallback(&self, head: &RequestHead) -> Response {
        let Some(path) = &self.directory.options.fallback else {
            return Response::status_page(404);
        };
        let found = self.cache.borrow_mut().find(&self.directory, path);
        match found {
            Ok(Found::File(file)) => self.respond(path, &file, head),
            Ok(Found::Directory) => Response::status_page(404),
            Err(refusal) => Self::refused(path, &refusal),
        }
    }

    fn refused(path: &[u8], refusal: &Refusal) -> Response {
        if let Refusal::Failed(error) | Refusal::Exhausted(error) = refusal {
            tell(format_args!("`{}`: {error}", path.escape_ascii()));
        }
        Response::status_page(refusal.status())
    }
}

fn is_hidden(segment: &[u8]) -> bool {
    segment.starts_with(b".") && segment != b".well-known"
}

fn allow(mut response: Response) -> Response {
    // Both are valid.
    let _ = response.add("Allow", ALLOW);
    response
}

impl Handler for Files {
    async fn handle(&self, request: &mut Request) -> Response {
        self.answer(&request.head)
    }

    fn refuse(&self, status: u16) -> Response {
        self.with_own_page(Response::status_page(status))
    }

    fn tend(&self) {
        self.cache.borrow_mut().sweep();
    }

    fn failed(&self, failure: &Failure) {
        // What clients and networks do wrong is daily business; a file that
        // was changed or could not be read is for the operator.
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
