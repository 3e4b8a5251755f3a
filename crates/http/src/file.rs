//! A file as the answer to any request for it.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sluicegate::Segment;
use sluicegate::file::Stamp;

use crate::response::{Body, Fields};
use crate::{
    ContentRange, EntityTag, Precondition, Prepared, RangeSet, RequestHead, Response, Validators,
    evaluate, if_range_holds,
};

/// Where the bytes of the representation are.
#[derive(Debug)]
enum Content {
    /// In memory, with the head before them: the most common answer is one
    /// piece.
    Prepared(Arc<Prepared>),
    /// In an open file.
    File { file: Arc<File>, length: u64 },
}

/// One version of a file, ready to answer GET and HEAD: with its validators,
/// conditions (RFC 9110 section 13) and byte ranges (section 14).
///
/// A request for several ranges is answered with the whole, as section 14.2
/// allows.
#[derive(Debug)]
pub struct FileResponse {
    content: Content,
    validators: Validators,
    /// Fields of 200 and 206.
    full: Fields,
    /// Fields of 304: RFC 9110 section 15.4.5.
    unchanged: Fields,
}

impl FileResponse {
    /// Answers from an open file in the version `stamp`. Its bytes are sent
    /// without being read into memory.
    #[must_use]
    pub fn from_file(file: Arc<File>, stamp: &Stamp, content_type: Option<&str>) -> Self {
        let validators = validators(stamp);
        let (full, unchanged) = fields(&validators, content_type);
        let content = Content::File { file, length: stamp.len };
        FileResponse { content, validators, full, unchanged }
    }

    /// Answers from memory: `bytes` are all of the file in the version `stamp`.
    #[must_use]
    pub fn from_memory(bytes: &[u8], stamp: &Stamp, content_type: Option<&str>) -> Self {
        let validators = validators(stamp);
        let (full, unchanged) = fields(&validators, content_type);
        let content = Content::Prepared(Arc::new(Prepared::new(200, &full, bytes)));
        FileResponse { content, validators, full, unchanged }
    }

    /// Bytes of memory that it holds besides its fields.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.content {
            Content::Prepared(prepared) => prepared.size(),
            Content::File { .. } => 0,
        }
    }

    /// Answers a GET or HEAD.
    #[must_use]
    pub fn respond(&self, head: &RequestHead) -> Response {
        match evaluate(head, &self.validators) {
            Precondition::Proceed => {}
            Precondition::NotModified => {
                return Response::new(304).with_fields(self.unchanged.clone());
            }
            Precondition::Failed => return Response::status_page(412),
        }
        let length = self.length();
        match RangeSet::of(head, length) {
            RangeSet::Ignored | RangeSet::Multiple(_) => self.whole(),
            // RFC 9110 section 13.2.2 step 5: a range of another version is
            // of no use; send the whole.
            _ if !if_range_holds(head, &self.validators, SystemTime::now()) => self.whole(),
            RangeSet::Single(range) => self.part(range, length),
            RangeSet::Unsatisfiable => {
                let mut response = Response::status_page(416);
                let unsatisfied = ContentRange::Unsatisfied { length }.to_string();
                // Digits and a slash: a valid value.
                let _ = response.add("Content-Range", unsatisfied);
                response
            }
        }
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Prepared(prepared) => prepared.content_len() as u64,
            Content::File { length, .. } => *length,
        }
    }

    fn whole(&self) -> Response {
        match &self.content {
            Content::Prepared(prepared) => Response::prepared(Arc::clone(prepared)),
            Content::File { file, length } => Response::new(200)
                .with_fields(self.full.clone())
                .with_body(Body::Segment(Segment::file(file, 0..*length))),
        }
    }

    fn part(&self, range: Range<u64>, length: u64) -> Response {
        let mut fields = self.full.clone();
        let content_range = ContentRange::Satisfied { range: range.clone(), length }.to_string();
        // Digits and a slash: a valid value.
        let _ = fields.add("Content-Range", content_range);
        let body = match &self.content {
            Content::File { file, .. } => Segment::file(file, range),
            Content::Prepared(prepared) => Segment::Memory(cut(&prepared.parts().1, range)),
        };
        Response::new(206).with_fields(fields).with_body(Body::Segment(body))
    }
}

/// The bytes `range` of `content`, within which it lies.
fn cut(content: &Bytes, range: Range<u64>) -> Bytes {
    let clamp = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(content.len());
    let (start, end) = (clamp(range.start), clamp(range.end));
    content.slice(start.min(end)..end)
}

fn validators(stamp: &Stamp) -> Validators {
    let (seconds, nanos) = stamp.modified;
    let nanoseconds = i128::from(seconds) * 1_000_000_000 + i128::from(nanos);
    let etag = EntityTag::of_file(stamp.len, nanoseconds, stamp.inode.1);
    // RFC 9110 section 8.8.2.1: Last-Modified must not be later than Date. A
    // time in the future tells nothing, so it is left out.
    let modified = u64::try_from(seconds)
        .ok()
        .filter(|&seconds| seconds <= sluicegate::unix_seconds())
        .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    Validators::new(Some(etag), modified)
}

/// Fields of the full answer, and of 304.
fn fields(validators: &Validators, content_type: Option<&str>) -> (Fields, Fields) {
    let mut unchanged = Fields::default();
    if let Some(modified) = validators.last_modified() {
        // An HTTP date has no byte that a field may not have.
        let _ = unchanged.add("Last-Modified", httpdate::fmt_http_date(modified));
    }
    if let Some(etag) = validators.etag() {
        // An entity tag neither.
        let _ = unchanged.add("ETag", etag.as_str());
    }
    let mut full = Fields::default();
    if let Some(content_type) = content_type {
        // One that does not fit a header is left out: a client may then guess.
        let _ = full.add("Content-Type", content_type);
    }
    full.append(&unchanged);
    let _ = full.add("Accept-Ranges", "bytes");
    (full, unchanged)
}

#[cfg(test)]
mod tests;
