//! What a field of a response is to who passes it on, recognised while the head is parsed.

use crate::head::field::same_name;

/// What is done with a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// It goes on as it is.
    EndToEnd,
    Connection,
    ContentLength,
    TransferEncoding,
    Upgrade,
    /// It announces a trailer section.
    Trailer,
    /// It is of this connection alone. RFC 9110 section 7.6.1.
    HopByHop,
    /// The engine writes its own: Server and Date.
    Ours,
    /// Orders of an upstream to who is in front of it, in nginx's words.
    AccelRedirect,
    AccelBuffering,
    AccelOther,
}

macro_rules! kinds {
    ($($len:literal: $($name:literal $kind:ident),+;)*) => {
        /// The names by their lengths.
        #[cfg(test)]
        const KINDS: &[(usize, &[u8], Kind)] = &[$($(($len, $name, Kind::$kind),)+)*];

        /// For each length, a bit for each letter that a name of that length begins with.
        const LETTERS: [u32; MAX + 1] = {
            let mut letters = [0; MAX + 1];
            $($(letters[$len] |= 1 << ($name[0] & 0x1f);)+)*
            let mut len = ACCEL.len();
            while len <= MAX {
                letters[len] |= 1 << (ACCEL[0] & 0x1f);
                len += 1;
            }
            letters
        };

        /// The kind of a name that is known.
        fn known(name: &[u8]) -> Option<Kind> {
            match name.len() {
                $($len => {
                    $(if same_name($name, name) {
                        return Some(Kind::$kind);
                    })+
                    None
                })*
                _ => None,
            }
        }
    };
}

/// Longer than any of the names.
const MAX: usize = 31;

/// What all orders in nginx's words begin with.
const ACCEL: &[u8] = b"x-accel-";

kinds! {
    2: b"te" HopByHop;
    4: b"date" Ours;
    5: b"proxy" HopByHop;
    6: b"server" Ours;
    7: b"upgrade" Upgrade, b"trailer" Trailer;
    10: b"connection" Connection, b"keep-alive" HopByHop;
    14: b"content-length" ContentLength;
    16: b"x-accel-redirect" AccelRedirect, b"proxy-connection" HopByHop;
    17: b"transfer-encoding" TransferEncoding, b"x-accel-buffering" AccelBuffering;
    18: b"proxy-authenticate" HopByHop;
    25: b"proxy-authentication-info" HopByHop;
}

/// The first bytes of a line whose name is the one that is likeliest of all with its letters.
struct Guess {
    /// Name, colon and space in lower case; nothing behind.
    begin: u128,
    /// Where they are.
    mask: u128,
    /// The bit that upper and lower case differ in, where there is a letter.
    case: u128,
    len: usize,
    kind: Kind,
}

const GUESSES: [Guess; 64] = {
    let mut guesses =
        [const { Guess { begin: 1, mask: 0, case: 0, len: 0, kind: Kind::EndToEnd } }; 64];
    let mut number = 0;
    while number < GUESSED.len() {
        let (name, kind) = GUESSED[number];
        let (mut begin, mut mask, mut case, mut at) = (0u128, 0u128, 0u128, 0);
        while at < name.len() {
            begin |= (name[at] as u128) << (8 * at);
            mask |= 0xff << (8 * at);
            if name[at].is_ascii_lowercase() {
                case |= 0x20 << (8 * at);
            }
            at += 1;
        }
        let ninth = if name.len() > 8 { name[8] } else { 0 };
        guesses[guess_at(name[0], ninth)] = Guess { begin, mask, case, len: name.len() - 2, kind };
        number += 1;
    }
    guesses
};

/// What most responses have, one for each place.
const GUESSED: [(&[u8], Kind); 12] = [
    (b"accept-ranges: ", Kind::EndToEnd),
    (b"date: ", Kind::Ours),
    (b"etag: ", Kind::EndToEnd),
    (b"keep-alive: ", Kind::HopByHop),
    (b"last-modified: ", Kind::EndToEnd),
    (b"server: ", Kind::Ours),
    (b"vary: ", Kind::EndToEnd),
    (b"x-powered-by: ", Kind::EndToEnd),
    (b"connection: ", Kind::Connection),
    (b"content-length: ", Kind::ContentLength),
    (b"content-type: ", Kind::EndToEnd),
    (b"cache-control: ", Kind::EndToEnd),
];

/// The place of a name by its first letter; of the many with a C by the ninth, too.
#[inline(always)]
const fn guess_at(first: u8, ninth: u8) -> usize {
    let of_c = if first & 0x1f == b'c' & 0x1f { 32 } else { 0 };
    let letter = if of_c > 0 { ninth } else { first };
    of_c | (letter & 0x1f) as usize
}

/// How long the name of a line is, and its kind, if it is the one that its letters suggest, with a
/// colon and one space behind it: one comparison then tells what else takes a look at each byte.
#[inline(always)]
pub(super) fn guessed(line: &[u8]) -> Option<(usize, Kind)> {
    let begin = line.first_chunk::<16>()?;
    let guess = GUESSES.get(guess_at(begin[0], begin[8]))?;
    // Exact: only what is a letter in the name may differ, and in its case alone.
    let same = u128::from_le_bytes(*begin) & guess.mask | guess.case == guess.begin;
    same.then_some((guess.len, guess.kind))
}

impl Kind {
    /// Whether it is never passed on, and has nothing for who passes on what is beside it.
    pub(super) fn is_left_out(self) -> bool {
        match self {
            Self::Connection
            | Self::ContentLength
            | Self::TransferEncoding
            | Self::Upgrade
            | Self::HopByHop
            | Self::Ours
            | Self::AccelOther => true,
            Self::EndToEnd | Self::Trailer | Self::AccelRedirect | Self::AccelBuffering => false,
        }
    }

    /// The kind of the field of that name, a token in any case.
    #[inline]
    pub(super) fn of(name: &[u8]) -> Self {
        let Some(&first) = name.first() else { return Self::EndToEnd };
        // Length and first letter alone tell nearly all others.
        let letters = LETTERS.get(name.len().min(MAX)).copied().unwrap_or_default();
        if letters >> (first & 0x1f) & 1 == 0 {
            return Self::EndToEnd;
        }
        known(name).unwrap_or_else(|| {
            let start = name.get(..ACCEL.len()).unwrap_or_default();
            if same_name(ACCEL, start) { Self::AccelOther } else { Self::EndToEnd }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guess_is_what_the_general_rules_say_and_takes_nothing_for_another() {
        for (begin, kind) in GUESSED {
            let name = begin.strip_suffix(b": ").unwrap();
            assert_eq!(Kind::of(name), kind);
            let found = Some((name.len(), kind));
            for line in [begin.to_vec(), begin.to_ascii_uppercase()] {
                let line = [line.as_slice(), b"value of it"].concat();
                assert_eq!(guessed(&line), found, "{}", line.escape_ascii());
                assert_eq!(guessed(&line[..15]), None);
                for position in 0..begin.len() {
                    for byte in 0..=255u8 {
                        let mut other = line.clone();
                        other[position] = byte;
                        let same = byte.eq_ignore_ascii_case(&line[position]);
                        let expected = found.filter(|_| same);
                        assert_eq!(guessed(&other), expected, "{}", other.escape_ascii());
                    }
                }
            }
        }
        assert_eq!(guessed(&[0; 16]), None);
    }

    #[test]
    fn every_name_is_found_in_any_case_and_no_other() {
        for (len, name, kind) in KINDS {
            assert!(name.len() == *len && *len < MAX);
            assert_eq!(Kind::of(name), *kind);
            assert_eq!(Kind::of(&name.to_ascii_uppercase()), *kind);
            let other =
                if name.starts_with(b"x-accel-") { Kind::AccelOther } else { Kind::EndToEnd };
            assert_eq!(Kind::of(&[name, b"x".as_slice()].concat()), other);
            assert_eq!(Kind::of(&name[1..]), Kind::EndToEnd);
            for position in 0..name.len() {
                let mut other = name.to_vec();
                other[position] ^= 1;
                let is_accel = other.starts_with(ACCEL);
                let other_kind = if is_accel { Kind::AccelOther } else { Kind::EndToEnd };
                assert_eq!(Kind::of(&other), other_kind, "{}", other.escape_ascii());
            }
        }
        assert_eq!(Kind::of(b"X-Accel-Limit-Rate"), Kind::AccelOther);
        assert_eq!(Kind::of(&[ACCEL, &[b'x'; 300]].concat()), Kind::AccelOther);
        for name in ["", "set-cookie", "content_length", "location", "x-accel", &"x".repeat(300)] {
            assert_eq!(Kind::of(name.as_bytes()), Kind::EndToEnd, "{name}");
        }
    }
}
