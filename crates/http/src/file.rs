//! A file as the answer to any request for it.

mod metadata;
mod multipart;

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use sluicegate::file::{Kind, Stamp, stamp};
use sluicegate::{FileRange, Segment};

use crate::response::{Body, Fields};
use crate::{
    ContentRange, EntityTag, Precondition, Prepared, RangeSet, RequestHead, Response, Validators,
    evaluate, if_range_holds,
};

pub use metadata::FileMetadata;

/// Where the bytes of the representation are.
#[derive(Debug)]
enum Content {
    /// In memory, with the head before them: the most common answer is one
    /// piece.
    Prepared(Arc<Prepared>),
    /// In an open file; the head of the whole in memory.
    File { head: Arc<Prepared>, file: Arc<File>, version: Arc<Stamp>, copied: bool },
}

/// One version of a file, ready to answer GET and HEAD: with its validators,
/// conditions (RFC 9110 section 13) and byte ranges (section 14), one or
/// several ([`crate::range`] has the bounds).
///
/// A file that is changed while it is sent, as far as its stamp tells, cuts the
/// connection, with [`sluicegate::FileFault::Changed`].
#[derive(Debug)]
pub struct FileResponse {
    content: Content,
    content_type: Option<String>,
    validators: Validators,
    /// Fields of 200 and 206, but for Content-Type and Content-Range.
    partial: Fields,
    /// Fields of 200.
    full: Fields,
    /// Fields of 304: RFC 9110 section 15.4.5.
    unchanged: Fields,
}

impl FileResponse {
    /// Opens `path` and answers from it, in the version that is there now.
    ///
    /// # Errors
    /// As `open(2)`; `InvalidInput` for what is no regular file. Waits for the
    /// writer of a fifo: where names come from clients, open by
    /// [`sluicegate::file::Root`].
    pub fn open(path: impl AsRef<Path>, metadata: impl Into<FileMetadata>) -> io::Result<Self> {
        let file = File::open(path)?;
        let stamp = stamp(file.as_fd())?;
        if stamp.kind != Kind::Regular {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is no regular file"));
        }
        Ok(Self::from_file(Arc::new(file), &stamp, &metadata.into()))
    }

    /// Answers from an open file in the version `stamp`. Its bytes are sent
    /// without being read into memory, unless `metadata` asks for copies.
    #[must_use]
    pub fn from_file(file: Arc<File>, stamp: &Stamp, metadata: &FileMetadata) -> Self {
        let version = Arc::new(*stamp);
        let copied = metadata.in_place_edits;
        Self::new(stamp, metadata, |full| {
            let head = Arc::new(Prepared::head(200, full, stamp.len));
            Content::File { head, file, version, copied }
        })
    }

    /// Answers from memory: `bytes` are all of the file in the version `stamp`.
    #[must_use]
    pub fn from_memory(bytes: &[u8], stamp: &Stamp, metadata: &FileMetadata) -> Self {
        Self::new(stamp, metadata, |full| {
            Content::Prepared(Arc::new(Prepared::new(200, full, bytes)))
        })
    }

    fn new(
        stamp: &Stamp,
        metadata: &FileMetadata,
        content: impl FnOnce(&Fields) -> Content,
    ) -> Self {
        let validators = metadata.told(validators(stamp));
        let unchanged = metadata.unchanged(&validators);
        let partial = metadata.partial(&unchanged);
        // One that does not fit a header is left out: a client may then guess.
        let content_type = metadata.rules.content_type(metadata.content_type.clone());
        let content_type = content_type.filter(|of| Fields::default().add("A", of).is_ok());
        let mut full = Fields::default();
        if let Some(content_type) = &content_type {
            // It was just found to fit.
            let _ = full.add("Content-Type", content_type);
        }
        full.append(&partial);
        let content = content(&full);
        FileResponse { content, content_type, validators, partial, full, unchanged }
    }

    /// Bytes of memory that it holds besides its fields.
    #[must_use]
    pub fn memory(&self) -> usize {
        match &self.content {
            Content::Prepared(prepared) => prepared.size(),
            Content::File { head, .. } => head.size(),
        }
    }

    /// The open file; `None` for one that is in memory.
    #[must_use]
    pub fn file(&self) -> Option<&File> {
        match &self.content {
            Content::Prepared(_) => None,
            Content::File { file, .. } => Some(file),
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
            RangeSet::Ignored => self.whole(),
            // RFC 9110 section 13.2.2 step 5: a range of another version is
            // of no use; send the whole.
            _ if !if_range_holds(head, &self.validators, SystemTime::now()) => self.whole(),
            RangeSet::Single(range) => self.part(range, length),
            RangeSet::Multiple(ranges) => self.parts(ranges, length),
            RangeSet::Unsatisfiable => {
                let mut response = Response::status_page(416);
                let unsatisfied = ContentRange::Unsatisfied { length }.to_string();
                // Digits and a slash: a valid value.
                let _ = response.add("Content-Range", unsatisfied);
                response
            }
        }
    }

    /// `response` with the file in place of its own content, such as an
    /// operator's page for an error. It keeps its status and its other fields;
    /// the file's validators and caching are not its own.
    #[must_use]
    pub fn in_place_of(&self, response: Response) -> Response {
        response.with_content(self.content_type.as_deref(), Body::Segment(self.all()))
    }

    fn length(&self) -> u64 {
        match &self.content {
            Content::Prepared(prepared) => prepared.announced(),
            Content::File { version, .. } => version.len,
        }
    }

    /// The bytes `range` of the content.
    fn cut(&self, range: Range<u64>) -> Segment {
        match &self.content {
            Content::Prepared(prepared) => Segment::Memory(cut(&prepared.parts().1, range)),
            Content::File { file, version, copied, .. } => {
                let range = FileRange::new(Arc::clone(file), range).in_version(Arc::clone(version));
                Segment::File(if *copied { range.copied() } else { range })
            }
        }
    }

    fn all(&self) -> Segment {
        self.cut(0..self.length())
    }

    fn whole(&self) -> Response {
        match &self.content {
            Content::Prepared(prepared) => Response::prepared(Arc::clone(prepared)),
            Content::File { head, .. } => Response::prepared_with(Arc::clone(head), self.all()),
        }
    }

    fn part(&self, range: Range<u64>, length: u64) -> Response {
        let mut fields = self.full.clone();
        let content_range = ContentRange::Satisfied { range: range.clone(), length }.to_string();
        // Digits and a slash: a valid value.
        let _ = fields.add("Content-Range", content_range);
        Response::new(206).with_fields(fields).with_body(Body::Segment(self.cut(range)))
    }

    /// RFC 9110 section 15.3.7.2: each range with its type and place, and no
    /// Content-Range in the head.
    fn parts(&self, ranges: Vec<Range<u64>>, length: u64) -> Response {
        let boundary = multipart::boundary();
        let mut fields = Fields::default();
        // Letters and digits: a valid value.
        let _ = fields.add("Content-Type", multipart::content_type(&boundary));
        fields.append(&self.partial);
        let mut body = Vec::with_capacity(2 * ranges.len() + 1);
        for range in ranges {
            let content_range = ContentRange::Satisfied { range: range.clone(), length };
            let head = multipart::part_head(
                &boundary,
                body.is_empty(),
                self.content_type.as_deref(),
                &content_range,
            );
            body.push(Segment::given(head));
            body.push(self.cut(range));
        }
        body.push(Segment::given(multipart::end(&boundary)));
        Response::new(206).with_fields(fields).with_body(Body::Segments(body))
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

#[cfg(test)]
mod tests;
