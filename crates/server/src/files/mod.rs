//! Answers requests with the files of a directory.

mod cache;
mod counters;
mod directory;
mod listing;
mod lookup;
mod media_type;
mod options;
mod redirect;
mod settled;

use std::cell::RefCell;
use std::rc::Rc;

use sluicegate::file::Kind;
use sluicegate_http::{
    AcceptedCodings, Coding, Method, Normal, PathError, Precondition, RequestHead, Response,
    Validators, evaluate,
};

use self::lookup::{Entry, Found, Refusal};
use crate::log::tell;

pub(crate) use self::cache::{Budget, Cache};
pub(crate) use self::counters::{Counters, Totals};
pub(crate) use self::directory::{Directories, Directory, readable};
pub(crate) use self::listing::{Name, Utc, grouped};
pub(crate) use self::options::{CacheControl, Options};
pub(crate) use self::redirect::push_encoded;

/// Methods that files have. RFC 9110 section 10.2.1.
const ALLOW: &str = "GET, HEAD, OPTIONS";

/// Where a request leads.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    /// Its path.
    pub(crate) asked: Normal<'a>,
    /// What of it is looked for beneath the root: a normal form, too.
    pub(crate) beneath: &'a [u8],
}

/// A directory of files, with what a worker keeps of all of them.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Files<'a> {
    pub(crate) directory: &'a Directory,
    pub(crate) cache: &'a RefCell<Cache>,
}

impl Files<'_> {
    /// Answers a request whose path leads to `place`, or has no normal form.
    pub(crate) fn answer(
        &self,
        place: Result<Place<'_>, PathError>,
        head: &RequestHead,
    ) -> Response {
        let response = match head.method() {
            Method::Get | Method::Head => match place {
                Ok(place) => return self.give(&place, head),
                Err(error) => Response::status_page(error.status()),
            },
            Method::Options => allow(Response::new(204)),
            // RFC 9110 section 9.1: unknown methods 501, known ones that are
            // not allowed here 405 with Allow.
            Method::Other => Response::status_page(501),
            _ => allow(Response::status_page(405)),
        };
        self.with_own_page(response)
    }

    /// Answers with what is at `place`, whatever the method.
    pub(crate) fn give(&self, place: &Place<'_>, head: &RequestHead) -> Response {
        self.with_own_page(self.find(place, head))
    }

    /// A page with `status`.
    pub(crate) fn refuse(&self, status: u16) -> Response {
        self.with_own_page(Response::status_page(status))
    }

    /// An operator's page in place of ours.
    fn with_own_page(&self, response: Response) -> Response {
        if self.directory.options.error_pages.is_empty() {
            return response;
        }
        let Some(page) = self.directory.options.error_page(response.status()) else {
            return response;
        };
        match self.kept(page, Coding::Identity) {
            Ok(Found::File(page)) => page.response.in_place_of(response),
            Ok(Found::Directory) | Err(_) => response,
        }
    }

    fn kept(&self, path: &[u8], coding: Coding) -> Result<Found, Refusal> {
        self.cache.borrow_mut().find(self.directory, path, coding)
    }

    fn find(&self, place: &Place<'_>, head: &RequestHead) -> Response {
        match self.find_path(place, head) {
            Ok(response) => response,
            Err(Refusal::Missing) => self.fallback(head),
            Err(refusal) => Self::refused(place.beneath, &refusal),
        }
    }

    fn find_path(&self, place: &Place<'_>, head: &RequestHead) -> Result<Response, Refusal> {
        let Place { asked, beneath } = place;
        let options = &self.directory.options;
        // Names that begin with a dot are not for the public, but for the one
        // that RFC 8615 defines. They are answered as if they were not there.
        if !options.dotfiles && beneath.split(|&byte| byte == b'/').any(is_hidden) {
            return Err(Refusal::Missing);
        }
        if !asked.ends_with_slash() {
            return Ok(match self.kept(beneath, Coding::Identity)? {
                Found::File(file) => self.respond(beneath, &file, head),
                Found::Directory => redirect::into(asked.as_bytes(), head.query()),
            });
        }
        for index in &options.index {
            let mut index_path = beneath.to_vec();
            if !index_path.is_empty() {
                index_path.push(b'/');
            }
            index_path.extend_from_slice(index.as_bytes());
            match self.kept(&index_path, Coding::Identity) {
                Ok(Found::File(file)) => return Ok(self.respond(&index_path, &file, head)),
                Ok(Found::Directory) | Err(Refusal::Missing) => {}
                Err(refusal) => {
                    return Ok(Self::refused(&index_path, &refusal));
                }
            }
        }
        self.without_index(place, head)
    }

    /// Answers with a file in the coding that the client likes best.
    fn respond(&self, path: &[u8], file: &Rc<Entry>, head: &RequestHead) -> Response {
        if file.neighbours != 0 {
            let coding = AcceptedCodings::of(head).best(file.codings(self.directory));
            if coding != Coding::Identity {
                // Gone since it was last seen, or not to be read: the file itself is there.
                if let Ok(Found::File(coded)) = self.kept(path, coding) {
                    return coded.response.respond(head);
                }
            }
        }
        file.response.respond(head)
    }

    /// A directory without an index is there, and shows what is in it or
    /// nothing; a file is no directory.
    fn without_index(&self, place: &Place<'_>, head: &RequestHead) -> Result<Response, Refusal> {
        let Directory { root, options, .. } = self.directory;
        if lookup::look(root, place.beneath)?.kind != Kind::Directory {
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
            let shown = place.asked.as_bytes();
            return listing::answer(root, place.beneath, shown, head.query(), options.dotfiles);
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
        match self.kept(path, Coding::Identity) {
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
