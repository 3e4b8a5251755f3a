//! Answers that make us send a file (`X-Accel-Redirect`).

use std::sync::Arc;

use sluicegate_http::client::ResponseHead;
use sluicegate_http::{FieldRules, Fields, Response};

use super::Elsewhere;
use super::note::Note;
use super::trouble::Trouble;

const TYPE: &str = "Content-Type";

/// What of the upstream's answer goes with the file, as nginx has it.
const KEPT: [&str; 7] = [
    "content-type",
    "content-disposition",
    "content-language",
    "accept-ranges",
    "set-cookie",
    "cache-control",
    "expires",
];

impl Elsewhere {
    /// Where `target` of an answer with `head` leads to.
    #[cold]
    #[inline(never)]
    pub(super) fn new(target: Vec<u8>, head: &ResponseHead, note: &Arc<Note>) -> Self {
        let mut fields = Fields::default();
        for (name, value) in head.fields() {
            let Ok(name) = str::from_utf8(name) else { continue };
            if KEPT.iter().any(|kept| name.eq_ignore_ascii_case(kept)) {
                // What cannot be sent was found when the head was read.
                let _ = fields.add(name, value);
            }
        }
        // One that is no text leads nowhere.
        let target = String::from_utf8(target).unwrap_or_default();
        Elsewhere { target, fields, note: Arc::clone(note) }
    }

    /// Its path, as it is encoded in a request.
    pub(crate) fn path(&self) -> &str {
        self.target.split('?').next().unwrap_or_default()
    }

    /// `response`, which is the file's, with what the upstream says of it.
    pub(crate) fn complete(&self, response: Response) -> Response {
        // What it says is said of the file, not of its absence.
        if !matches!(response.status(), 200..=299 | 304) {
            return response;
        }
        let mut response = response.unprepared();
        // Where nothing was known of the type, rules would leave it so.
        if response.status() != 304
            && response.field(TYPE).is_none()
            && let Some(value) = self.fields.value(TYPE)
        {
            // It was sent to us.
            let _ = response.add(TYPE, value);
        }
        response.apply(&FieldRules::new(&self.fields, &[]));
        response
    }

    /// No file is there.
    pub(crate) fn fail(&self) -> Response {
        self.note.fail(&Trouble::Accel);
        Response::status_page(Trouble::Accel.status())
    }
}
