//! Content codings and which of them a client takes. RFC 9110 sections 8.4.1 and 12.5.3.

use crate::head::field::trim;
use crate::{Known, RequestHead};

/// A content coding. RFC 9110 section 8.4.1, RFC 7932 (br), RFC 8878 (zstd).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Coding {
    /// No coding.
    Identity,
    /// Brotli.
    Brotli,
    /// Zstandard.
    Zstd,
    /// The format of gzip.
    Gzip,
}

/// A weight in thousandths. RFC 9110 section 12.4.2.
type Weight = u16;

const FULL: Weight = 1000;

impl Coding {
    /// Those that make content smaller; usually the first makes it smallest.
    pub const COMPRESSED: [Coding; 3] = [Coding::Brotli, Coding::Zstd, Coding::Gzip];

    /// Its name in Content-Encoding and Accept-Encoding.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Coding::Identity => "identity",
            Coding::Brotli => "br",
            Coding::Zstd => "zstd",
            Coding::Gzip => "gzip",
        }
    }

    /// What the names of files that are coded with it end in, with the dot;
    /// nothing for identity.
    #[must_use]
    pub const fn suffix(self) -> &'static str {
        match self {
            Coding::Identity => "",
            Coding::Brotli => ".br",
            Coding::Zstd => ".zst",
            Coding::Gzip => ".gz",
        }
    }
}

/// What Accept-Encoding says of each coding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AcceptedCodings {
    identity: Weight,
    brotli: Weight,
    zstd: Weight,
    gzip: Weight,
}

impl AcceptedCodings {
    /// Reads Accept-Encoding. Without it, nothing but identity is taken for
    /// acceptable: RFC 9110 section 12.5.3 would allow any, but who asks for
    /// none can often read none.
    ///
    /// A member that is malformed is passed over.
    #[must_use]
    pub fn of(head: &RequestHead) -> Self {
        let mut codings = [None; 4];
        let mut others = None;
        for member in head.tokens(Known::AcceptEncoding) {
            let mut parts = member.split(|&byte| byte == b';');
            let name = trim(parts.next().unwrap_or_default());
            let Some(weight) = weight(parts) else { continue };
            if name == b"*" {
                others = others.or(Some(weight));
            } else if let Some(index) = index(name) {
                // Said twice, the first counts.
                codings[index] = codings[index].or(Some(weight));
            }
        }
        let [identity, brotli, zstd, gzip] = codings;
        let rest = others.unwrap_or(0);
        AcceptedCodings {
            // Acceptable unless it is excluded; where nothing is said of it, it
            // is asked for no more than what is named.
            identity: identity.or(others).unwrap_or(1),
            brotli: brotli.unwrap_or(rest),
            zstd: zstd.unwrap_or(rest),
            gzip: gzip.unwrap_or(rest),
        }
    }

    /// The weight of a coding in thousandths; 0 for one that is refused.
    #[must_use]
    pub fn weight(&self, coding: Coding) -> u16 {
        match coding {
            Coding::Identity => self.identity,
            Coding::Brotli => self.brotli,
            Coding::Zstd => self.zstd,
            Coding::Gzip => self.gzip,
        }
    }

    /// The one of `available`, in the order in which the server likes them,
    /// that the client likes best; identity where it takes none of them.
    ///
    /// Also where it refuses identity: RFC 9110 section 12.5.3 allows a
    /// response without coding then, and 406 helps nobody.
    #[must_use]
    pub fn best(&self, available: impl IntoIterator<Item = Coding>) -> Coding {
        let mut best = (Coding::Identity, self.identity);
        for coding in available {
            let weight = self.weight(coding);
            // Of equal weight, what is compressed beats what is not.
            let wins = weight > best.1 || (best.0 == Coding::Identity && weight == best.1);
            if weight > 0 && wins {
                best = (coding, weight);
            }
        }
        best.0
    }
}

fn index(name: &[u8]) -> Option<usize> {
    let named = |known: &[u8]| name.eq_ignore_ascii_case(known);
    if named(b"identity") {
        Some(0)
    } else if named(b"br") {
        Some(1)
    } else if named(b"zstd") {
        Some(2)
    } else if named(b"gzip") || named(b"x-gzip") {
        // RFC 9110 section 8.4.1.3: x-gzip is equivalent to gzip.
        Some(3)
    } else {
        None
    }
}

/// The weight among the parameters of a member; full without one, `None` for a
/// malformed one. RFC 9110 section 12.4.2: `OWS ";" OWS "q=" qvalue`.
fn weight<'a>(parameters: impl Iterator<Item = &'a [u8]>) -> Option<Weight> {
    let mut weight = FULL;
    for parameter in parameters {
        let parameter = trim(parameter);
        if let [b'q' | b'Q', b'=', value @ ..] = parameter {
            weight = qvalue(value)?;
        }
    }
    Some(weight)
}

/// qvalue = ( "0" [ "." 0*3DIGIT ] ) / ( "1" [ "." 0*3("0") ] )
fn qvalue(value: &[u8]) -> Option<Weight> {
    let (whole, decimals) = match value {
        [whole] => (whole, &b""[..]),
        [whole, b'.', decimals @ ..] if decimals.len() <= 3 => (whole, decimals),
        _ => return None,
    };
    let mut weight = match whole {
        b'0' => 0,
        b'1' => FULL,
        _ => return None,
    };
    let mut place = FULL;
    for digit in decimals {
        place /= 10;
        weight += Weight::from(digit.is_ascii_digit().then(|| digit - b'0')?) * place;
    }
    (weight <= FULL).then_some(weight)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    fn accepted(lines: &[&str]) -> AcceptedCodings {
        let mut text = b"GET / HTTP/1.1\r\nHost: h\r\n".to_vec();
        for line in lines {
            text.extend_from_slice(format!("Accept-Encoding: {line}\r\n").as_bytes());
        }
        text.extend_from_slice(b"\r\n");
        let mut head = RequestHead::default();
        head.parse(&text, &Limits::default()).unwrap();
        AcceptedCodings::of(&head)
    }

    #[test]
    fn the_coding_that_the_client_likes_best_is_taken() {
        use Coding::{Brotli, Gzip, Identity, Zstd};
        for (line, expected) in [
            ("gzip, deflate, br, zstd", Brotli),
            ("gzip, deflate", Gzip),
            ("gzip;q=1.0, br;q=0.5, zstd; q=0.7", Gzip),
            ("br;q=0.5, zstd ; Q=0.501", Zstd),
            ("*", Brotli),
            ("*;q=0.5, br;q=0", Zstd),
            ("*;q=0.5, gzip;q=0.1, br;q=0.1, zstd;q=0.1", Identity),
            ("identity", Identity),
            ("identity, gzip", Gzip),
            ("identity;q=1, gzip;q=0.9", Identity),
            ("br;q=0, gzip;q=0, zstd;q=0", Identity),
            ("identity;q=0", Identity),
            ("identity;q=0, gzip;q=0.1", Gzip),
            ("*;q=0", Identity),
            ("GZIP", Gzip),
            ("x-gzip", Gzip),
            ("gzip;q=0.001", Gzip),
            ("gzip;q=2", Identity),
            ("gzip;q=1.001, br;q=0.1234", Identity),
            ("gzip;q=, br;q=.5, zstd;q=0.", Identity),
            ("gzip;level=9;q=0.5", Gzip),
            ("gzip;q=0, gzip", Identity),
            ("", Identity),
            (",, ,br", Brotli),
        ] {
            assert_eq!(accepted(&[line]).best(Coding::COMPRESSED), expected, "{line}");
        }
        assert_eq!(accepted(&[]).best(Coding::COMPRESSED), Identity);
        assert_eq!(accepted(&["gzip;q=0.5", "br"]).best(Coding::COMPRESSED), Brotli);
        assert_eq!(accepted(&["br, gzip"]).best([Gzip]), Gzip);
        assert_eq!(accepted(&["br"]).best([Gzip]), Identity);
    }

    #[test]
    fn the_server_says_which_of_equals_goes_first() {
        let any = accepted(&["gzip, br, zstd"]);
        assert_eq!(any.best([Coding::Gzip, Coding::Brotli]), Coding::Gzip);
        assert_eq!(any.best([Coding::Zstd, Coding::Gzip]), Coding::Zstd);
    }
}
