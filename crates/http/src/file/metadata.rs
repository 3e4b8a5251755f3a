//! What is said of a file beside its bytes.

use std::sync::Arc;

use crate::response::{BadField, Fields};
use crate::{Coding, FieldRules, Validators};

/// What a response says of a file beside its bytes and its version: its
/// representation metadata (RFC 9110 section 8) and how it may be cached.
#[derive(Clone, Debug, Default)]
pub struct FileMetadata {
    pub(super) content_type: Option<String>,
    pub(super) in_place_edits: bool,
    coding: Option<Coding>,
    varies_by_coding: bool,
    cache_control: Option<String>,
    pub(super) without_validators: bool,
    pub(super) rules: Arc<FieldRules>,
}

impl FileMetadata {
    /// Nothing but what the file itself tells.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// With this Content-Type. One that does not fit a header is left out.
    #[must_use]
    pub fn content_type(mut self, value: impl Into<String>) -> Self {
        self.content_type = Some(value.into());
        self
    }

    /// The bytes are coded: sent with Content-Encoding (RFC 9110 section 8.4).
    /// Validators and ranges are those of the coded bytes, as they have to be.
    #[must_use]
    pub fn coding(mut self, coding: Coding) -> Self {
        self.coding = (coding != Coding::Identity).then_some(coding);
        self
    }

    /// The same resource has other codings too: sent with `Vary:
    /// Accept-Encoding`, so that a cache gives nobody what it cannot read
    /// (RFC 9110 section 12.5.5).
    #[must_use]
    pub fn varies_by_coding(mut self) -> Self {
        self.varies_by_coding = true;
        self
    }

    /// With this Cache-Control (RFC 9111 section 5.2).
    ///
    /// # Errors
    /// [`BadField`] when it does not fit a header.
    pub fn cache_control(mut self, value: impl Into<String>) -> Result<Self, BadField> {
        let value = value.into();
        Fields::default().add("Cache-Control", &value)?;
        self.cache_control = Some(value);
        Ok(self)
    }

    /// Somebody edits the file in place while it is served: it is sent from
    /// copies, so that no byte that the kernel has accepted changes.
    #[must_use]
    pub fn in_place_edits(mut self) -> Self {
        self.in_place_edits = true;
        self
    }

    /// Says nothing by which one version could be told from another, and so
    /// answers every condition as for a file that has no validators: for one
    /// that may be changing at this moment.
    #[must_use]
    pub fn without_validators(mut self) -> Self {
        self.without_validators = true;
        self
    }

    /// With these rules over all of it. A validator that is not sent, or not as
    /// it is, is no validator: no condition is answered by it.
    #[must_use]
    pub fn rules(mut self, rules: Arc<FieldRules>) -> Self {
        self.rules = rules;
        self
    }

    /// Those of `validators` that clients are told.
    pub(super) fn told(&self, validators: Validators) -> Validators {
        if self.without_validators {
            return Validators::default();
        }
        if !self.rules.touch("etag") && !self.rules.touch("last-modified") {
            return validators;
        }
        let etag = validators.etag().filter(|_| !self.rules.touch("etag")).copied();
        let modified = validators.last_modified().filter(|_| !self.rules.touch("last-modified"));
        Validators::new(etag, modified)
    }

    /// Fields of 304: what a 200 would tell a cache. RFC 9110 section 15.4.5.
    pub(super) fn unchanged(&self, validators: &Validators) -> Fields {
        let mut fields = Fields::default();
        let mut add = |name: &str, value: &str| {
            // A date, an entity tag, constants, and what was checked before.
            let _ = fields.add(name, value);
        };
        if let Some(modified) = validators.last_modified() {
            add("Last-Modified", &httpdate::fmt_http_date(modified));
        }
        if let Some(etag) = validators.etag() {
            add("ETag", etag.as_str());
        }
        if let Some(value) = &self.cache_control {
            add("Cache-Control", value);
        }
        if self.varies_by_coding {
            add("Vary", "Accept-Encoding");
        }
        self.rules.apply_but_type(&mut fields);
        fields
    }

    /// Fields of 200 and 206 but for the type: `unchanged` and more.
    pub(super) fn partial(&self, unchanged: &Fields) -> Fields {
        let mut fields = unchanged.clone();
        // Constants that are valid.
        if let Some(coding) = self.coding {
            let _ = fields.add("Content-Encoding", coding.name());
        }
        let _ = fields.add("Accept-Ranges", "bytes");
        self.rules.apply_but_type(&mut fields);
        fields
    }
}

/// A Content-Type, and nothing else to say.
impl From<&str> for FileMetadata {
    fn from(content_type: &str) -> Self {
        Self::new().content_type(content_type)
    }
}
