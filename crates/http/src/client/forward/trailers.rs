//! Trailer sections, as they go on. RFC 9110 section 6.5.
//!
//! The decoder has refused what frames, routes or authenticates a request. What else may not go on
//! is left out here, so that the two lists cannot be played against each other.

use bytes::Bytes;

use super::{request, response};
use crate::chunked::forbidden;
use crate::client::ResponseHead;
use crate::response::Fields;
use crate::{ChunkedDecoder, Known, RequestHead};

/// What goes on of a request's trailer section, if its head names nothing of it.
#[must_use]
pub fn trailers(fields: &[(String, Bytes)]) -> Fields {
    Nominated::default().trailers(fields)
}

/// What goes on of the trailer section that `decoder` has read, if the head before it names
/// nothing of it.
#[must_use]
pub fn trailers_of(decoder: &ChunkedDecoder) -> Fields {
    Nominated::default().trailers_of(decoder)
}

/// Fields that the Connection field of a message names. RFC 9110 section 7.6.1: they are removed
/// from its trailer section too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Nominated(Vec<Box<[u8]>>);

impl Nominated {
    /// By a request.
    #[must_use]
    pub fn by_request(head: &RequestHead) -> Self {
        let options = head.tokens(Known::Connection);
        Nominated(options.filter(|option| request::nominates(option)).map(Box::from).collect())
    }

    /// By a response.
    #[must_use]
    pub fn by_response(head: &ResponseHead) -> Self {
        let options = head.connection_options();
        Nominated(options.filter(|option| response::nominates(option)).map(Box::from).collect())
    }

    /// As [`trailers`], for who has looked at the head.
    #[must_use]
    pub fn trailers(&self, fields: &[(String, Bytes)]) -> Fields {
        self.passed(fields.iter().map(|(name, value)| (name.as_str(), value.as_ref())))
    }

    /// As [`trailers_of`], for who has looked at the head.
    #[must_use]
    pub fn trailers_of(&self, decoder: &ChunkedDecoder) -> Fields {
        self.passed(decoder.trailers())
    }

    fn passed<'a>(&self, section: impl Iterator<Item = (&'a str, &'a [u8])>) -> Fields {
        let mut fields = Fields::default();
        for (name, value) in section {
            if may_go_on(name) && !self.has(name) {
                // What the engine writes itself is no trailer.
                let _ = fields.add(name, value);
            }
        }
        fields
    }

    fn has(&self, name: &str) -> bool {
        self.0.iter().any(|nominated| nominated.eq_ignore_ascii_case(name.as_bytes()))
    }
}

fn may_go_on(name: &str) -> bool {
    // Of a response: what a client would take for a part of the head, if it merged the two.
    const HEADS: [&str; 6] =
        ["location", "set-cookie", "vary", "www-authenticate", "age", "expires"];
    let is_merged = HEADS.iter().any(|head| head.eq_ignore_ascii_case(name))
        || matches!(Known::from_name(name.as_bytes()), Some(Known::Via));
    !forbidden(name.as_bytes())
        && !is_merged
        && !name.contains('_')
        && !super::forwarded::is_one_of_them(name.as_bytes())
}
