//! What an upstream can do wrong, one named variant each.

use crate::Offence;

macro_rules! offences {
    ($($(#[$doc:meta])* $variant:ident = $name:literal : $message:literal;)*) => {
        /// An offence of an upstream against HTTP/1.1 or against our [`Limits`](crate::Limits).
        ///
        /// The response cannot be trusted, nor can what follows it on its connection: the client
        /// is answered 502 where nothing was sent to it yet, and the connection is closed.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
        #[non_exhaustive]
        pub enum ResponseOffence {
            $($(#[$doc])* #[error($message)] $variant,)*
            /// What a client can do wrong as well: a malformed field, chunk or trailer, a limit.
            #[error(transparent)]
            Message(#[from] Offence),
        }

        impl ResponseOffence {
            /// Every offence of upstreams alone; those of [`Offence::ALL`] come besides.
            pub const OWN: &'static [Self] = &[$(Self::$variant,)*];

            /// A stable snake_case name for logs and metrics.
            #[must_use]
            pub fn name(self) -> &'static str {
                match self {
                    $(Self::$variant => $name,)*
                    Self::Message(offence) => offence.name(),
                }
            }
        }
    };
}

offences! {
    /// The first line is no status line: what begins here is no answer to our request, or the rest
    /// of another. RFC 9112 section 4.
    BadStatusLine = "bad_status_line": "the status line is malformed";
    /// A status line over [`Limits::request_line`](crate::Limits::request_line).
    StatusLineTooLong = "status_line_too_long": "the status line is too long";
    /// Transfer-Encoding in an HTTP/1.0 response. RFC 9112 section 6.1.
    CodingInHttp10 = "coding_in_http10_response": "Transfer-Encoding in an HTTP/1.0 response";
    /// 101 that we did not ask for, or to another protocol than was asked. RFC 9110 section 7.8.
    UnaskedUpgrade = "unasked_upgrade": "an upgrade that was not asked for";
    /// More than [`INTERIM`](super::INTERIM) interim responses before one response.
    TooManyInterim = "too_many_interim": "too many interim responses";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_snake_case_beside_those_of_clients() {
        let mut names: HashSet<_> = Offence::ALL.iter().map(|offence| offence.name()).collect();
        for offence in ResponseOffence::OWN {
            let name = offence.name();
            assert!(names.insert(name), "{offence:?} shares its name");
            assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_'), "{name}");
        }
        let shared = ResponseOffence::from(Offence::BareLf);
        assert_eq!((shared.name(), shared.to_string()), ("bare_lf", Offence::BareLf.to_string()));
    }
}
