//! A request head: parsed once, kept in its own bytes, asked many times.

use crate::{Limits, Offence, target};

pub(crate) mod field;
mod known;
mod line;
mod list;
mod method;

pub use crate::target::TargetForm;
pub use known::Known;
pub use list::ListMembers;
pub use method::{Method, Version};

/// Offsets into `RequestHead::bytes`; heads are below 4 GiB.
#[derive(Clone, Copy, Debug)]
struct Field {
    name: (u32, u32),
    value: (u32, u32),
    known: Option<Known>,
}

/// Where the occurrences of one known header are.
#[derive(Clone, Copy, Debug, Default)]
struct Occurrences {
    /// Index of the first field; meaningless while `count` is 0.
    first: u32,
    count: u32,
}

/// The head of a request: request line and header fields.
///
/// Owned and reusable: [`parse`](Self::parse) overwrites what an earlier request left and keeps its
/// allocations. Everything in it has passed RFC 9112's grammar, so that nobody downstream (a log,
/// FastCGI, an upstream) has to check for control bytes again.
#[derive(Clone, Debug)]
pub struct RequestHead {
    /// The whole head as received.
    bytes: Vec<u8>,
    /// Method, space and target: what is known to be ASCII is a `String` once, not on every access.
    line: String,
    /// Bytes of the method at the start of `line`; behind the space, the target is the rest.
    method_len: usize,
    method: Method,
    version: Version,
    /// Relative to the target.
    target: target::Target,
    fields: Vec<Field>,
    known: [Occurrences; Known::COUNT],
}

impl Default for RequestHead {
    fn default() -> Self {
        Self {
            bytes: Vec::new(),
            line: String::new(),
            method_len: 0,
            method: Method::default(),
            version: Version::default(),
            target: target::Target::default(),
            fields: Vec::new(),
            known: [Occurrences::default(); Known::COUNT],
        }
    }
}

impl RequestHead {
    /// An empty head: `GET` of an empty target, no fields.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets the request and keeps the allocations.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.line.clear();
        self.method_len = 0;
        self.method = Method::default();
        self.version = Version::default();
        self.target = target::Target::default();
        self.fields.clear();
        self.known = [Occurrences::default(); Known::COUNT];
    }

    /// Parses exactly one head: from the first byte of the request line to the end of the empty
    /// line.
    ///
    /// Copies `head`; allocates only where it is longer, or has more fields, than any head before.
    ///
    /// # Errors
    /// The first offence in byte order; then what only the whole head shows (target form, Host).
    /// Limits of lengths are the [`HeadScanner`](crate::HeadScanner)'s; here only fields are counted.
    /// After an error the head is empty.
    pub fn parse(&mut self, head: &[u8], limits: &Limits) -> Result<(), Offence> {
        self.clear();
        let parsed = match self.fill(head, limits) {
            Ok(length) if length == head.len() => Ok(()),
            Ok(_) => Err(Offence::NotOneHead),
            Err(offence) => Err(offence),
        };
        if parsed.is_err() {
            self.clear();
        }
        parsed
    }

    /// Reads the head at the start of `input`, if all of it is there, no empty line is in front of
    /// it, nothing is wrong with it, and no limit is near: returns how many bytes it has. Nearly
    /// every head is like that, and is then looked at once. Of others the
    /// [`HeadScanner`](crate::HeadScanner) and [`parse`](Self::parse) give the verdict; what is
    /// read here both would accept.
    pub(crate) fn parse_at_once(&mut self, input: &[u8], limits: &Limits) -> Option<usize> {
        let bounds = [limits.request_line, limits.header_line, limits.head];
        if input.is_empty() || bounds.iter().any(|bound| input.len() > *bound) {
            return None;
        }
        self.clear();
        let read = self.fill(input, limits);
        if read.is_err() {
            self.clear();
        }
        read.ok()
    }

    /// Reads the head at the start of `head`; returns how many bytes it has.
    fn fill(&mut self, head: &[u8], limits: &Limits) -> Result<usize, Offence> {
        // Spans are 32 bits wide, so that a field takes 20 bytes.
        u32::try_from(head.len()).map_err(|_| Offence::HeadTooLarge)?;
        let mut next = self.request_line(head)?;
        loop {
            match head.get(next) {
                Some(b'\r') => {
                    next = field::line_break(head, next)?;
                    break;
                }
                Some(b'\n') => return Err(Offence::BareLf),
                Some(_) if self.fields.len() >= limits.headers => {
                    return Err(Offence::TooManyHeaders);
                }
                Some(_) => next = self.field(head, next)?,
                None => return Err(Offence::NotOneHead),
            }
        }
        self.bytes.extend_from_slice(head.get(..next).unwrap_or_default());
        self.target = target::parse(self.method, self.target())?;
        self.check_host()?;
        Ok(next)
    }

    /// RFC 9112 section 3: request-line = method SP request-target SP HTTP-version.
    fn request_line(&mut self, head: &[u8]) -> Result<usize, Offence> {
        // Nearly all are this one.
        let method_len = if head.starts_with(b"GET ") { 3 } else { field::token_len(head) };
        if method_len == 0 || head.get(method_len) != Some(&b' ') {
            return Err(Offence::BadMethod);
        }
        let after_method = head.get(method_len + 1..).unwrap_or_default();
        let target_len = field::target_len(after_method);
        // RFC 9112 section 3.2: no whitespace is allowed in the request-target; a lenient parse on
        // white-space boundaries is allowed too, and is not what we do.
        if target_len == 0 || after_method.get(target_len) != Some(&b' ') {
            return Err(Offence::BadTarget);
        }
        let version_start = method_len + target_len + 2;
        // RFC 9112 section 2.3: HTTP-version = HTTP-name "/" DIGIT "." DIGIT, case-sensitive.
        let version = head
            .get(version_start..)
            .and_then(|rest| rest.first_chunk::<8>())
            .ok_or(Offence::BadVersion)?;
        let [b'H', b'T', b'T', b'P', b'/', major @ b'0'..=b'9', b'.', minor @ b'0'..=b'9'] =
            *version
        else {
            return Err(Offence::BadVersion);
        };
        let line_end = version_start + version.len();
        if head.get(line_end) != Some(&b'\r') {
            return Err(Offence::BadVersion);
        }
        let next = field::line_break(head, line_end)?;
        self.version = match (major, minor) {
            (b'1', b'0') => Version::Http10,
            // RFC 9110 section 2.5: a higher minor version within the same major is processed as
            // the highest that we conform to.
            (b'1', _) => Version::Http11,
            // RFC 9110 section 15.6.6: 505 for a major version that we refuse to support.
            _ => return Err(Offence::UnsupportedVersion),
        };
        let line = head.get(..method_len + 1 + target_len).unwrap_or_default();
        self.line.push_str(str::from_utf8(line).unwrap_or_default());
        self.method_len = method_len;
        self.method = Method::from_token(self.method_str().as_bytes());
        Ok(next)
    }

    fn field(&mut self, head: &[u8], start: usize) -> Result<usize, Offence> {
        let line = match field::plain_line(head, start) {
            Some(line) => line.general(start),
            None => field::field_line(head, start)?,
        };
        let known = Known::from_name(head.get(start..line.name_end).unwrap_or_default());
        if let Some(known) = known {
            let occurrences = &mut self.known[known as usize];
            if occurrences.count == 0 {
                occurrences.first = narrow(self.fields.len());
            }
            occurrences.count += 1;
        }
        self.fields.push(Field {
            name: (narrow(start), narrow(line.name_end)),
            value: (narrow(line.value_start), narrow(line.value_end)),
            known,
        });
        Ok(line.next)
    }

    /// RFC 9112 section 3.2: a server MUST answer 400 to a 1.1 request without Host, and to any
    /// request with more than one Host or with an invalid one.
    fn check_host(&self) -> Result<(), Offence> {
        match (self.count(Known::Host), self.known(Known::Host)) {
            (0, _) if self.version == Version::Http11 => Err(Offence::MissingHost),
            (2.., _) => Err(Offence::DoubledHost),
            (_, Some(host)) => target::check_host(host),
            _ => Ok(()),
        }
    }

    /// The method.
    #[must_use]
    pub fn method(&self) -> Method {
        self.method
    }

    /// The method as sent: a token.
    #[must_use]
    pub fn method_str(&self) -> &str {
        self.line.get(..self.method_len).unwrap_or_default()
    }

    /// The request target exactly as sent, in any of its four forms. Printable ASCII without `#`.
    #[must_use]
    pub fn target(&self) -> &str {
        self.line.get(self.method_len + 1..).unwrap_or_default()
    }

    /// Which of the four forms the target has.
    #[must_use]
    pub fn target_form(&self) -> TargetForm {
        self.target.form
    }

    /// The path as sent (not decoded: [`normalise`](crate::normalise) does that), without the
    /// query. Begins with `/`, except that the asterisk-form has `*` and the authority-form
    /// nothing.
    #[must_use]
    pub fn path(&self) -> &str {
        match self.target().get(self.target.path.clone()) {
            // RFC 9110 section 4.2.3: an empty path is equivalent to "/".
            Some("") | None if self.target.form == TargetForm::Absolute => "/",
            path => path.unwrap_or_default(),
        }
    }

    /// The query as sent, without its `?`; `Some("")` for a lone `?`.
    #[must_use]
    pub fn query(&self) -> Option<&str> {
        self.target().get(self.target.query.clone()?)
    }

    /// The version.
    #[must_use]
    pub fn version(&self) -> Version {
        self.version
    }

    /// Who is asked: `host [":" port]` of the target, or else of Host. `None` where neither names
    /// one.
    ///
    /// RFC 9112 section 3.2.2: with the absolute-form, the server MUST ignore Host and use the host
    /// of the target. Whoever forwards a request writes this and not the Host header that came.
    #[must_use]
    pub fn host(&self) -> Option<&str> {
        let host = match &self.target.authority {
            Some(authority) => self.target().get(authority.clone()),
            None => self.known(Known::Host).and_then(|host| str::from_utf8(host).ok()),
        };
        host.filter(|host| !host.is_empty())
    }

    /// [`host`](Self::host) without its port; an IPv6 address keeps its brackets. In the case it
    /// came in.
    #[must_use]
    pub fn host_name(&self) -> Option<&str> {
        let host = self.host()?;
        match host.rfind([':', ']']) {
            Some(at) if host.as_bytes().get(at) == Some(&b':') => host.get(..at),
            _ => Some(host),
        }
    }

    /// The first value of the header of that name, in any case. Looks at every field; for what is
    /// asked on each request, [`known`](Self::known) does not.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let mut fields = self.fields.iter();
        fields
            .find(|field| self.slice(field.name).eq_ignore_ascii_case(name.as_bytes()))
            .map(|field| self.slice(field.value))
    }

    /// All fields in the order and the case they came in. Values are trimmed, free of control bytes
    /// but HTAB, and may hold bytes above 0x7f.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.fields.iter().map(|field| {
            (str::from_utf8(self.slice(field.name)).unwrap_or_default(), self.slice(field.value))
        })
    }

    /// The first value of a known header. Constant time.
    #[must_use]
    pub fn known(&self, known: Known) -> Option<&[u8]> {
        let occurrences = self.known[known as usize];
        let field =
            self.fields.get(occurrences.first as usize).filter(|_| occurrences.count > 0)?;
        Some(self.slice(field.value))
    }

    /// How often a known header occurs. Constant time.
    #[must_use]
    pub fn count(&self, known: Known) -> usize {
        self.known[known as usize].count as usize
    }

    /// The values of all occurrences of a known header, in order.
    pub fn values(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let occurrences = self.known[known as usize];
        let start =
            if occurrences.count > 0 { occurrences.first as usize } else { self.fields.len() };
        let fields = self.fields.get(start..).unwrap_or_default().iter();
        fields
            .filter(move |field| field.known == Some(known))
            .map(|field| self.slice(field.value))
            .take(self.count(known))
    }

    /// The list members of all occurrences of a known header, without the empty ones.
    /// RFC 9110 sections 5.3 and 5.6.1: several lines are one list, and empty members are ignored.
    pub fn members(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        self.values(known).flat_map(ListMembers::new).filter(|member| !member.is_empty())
    }

    /// The members of all occurrences of a header that lists plain tokens, without the empty ones.
    ///
    /// As [`members`](Self::members), except that a quote is a byte like any other. Connection and
    /// its like have no quoted strings (RFC 9110 section 7.6.1), and a stray quote must not hide a
    /// `close`.
    pub fn tokens(&self, known: Known) -> impl Iterator<Item = &[u8]> {
        let pieces = self.values(known).flat_map(|value| value.split(|&byte| byte == b','));
        pieces.map(field::trim).filter(|token| !token.is_empty())
    }

    /// Whether a header that lists plain tokens has this one, in any case.
    #[must_use]
    pub fn has_token(&self, known: Known, token: &str) -> bool {
        self.tokens(known).any(|member| member.eq_ignore_ascii_case(token.as_bytes()))
    }

    /// The head as received, for logs and tests.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes
    }

    fn slice(&self, (start, end): (u32, u32)) -> &[u8] {
        self.bytes.get(start as usize..end as usize).unwrap_or_default()
    }
}

/// Offsets within a head, whose length `fill` has checked against `u32`.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
