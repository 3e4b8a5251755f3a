//! An entry of the error queue means one thing. Messages that are built here are read as what they
//! were built from, whole and cut off; raw bytes are read as by a second reading, which goes by
//! offsets where the decoder takes slices apart.
//!
//! Input: one line with the length that is left of the built messages (nothing: all of it), then
//! bytes, which are taken twice: as control messages, and as records to build such messages from.

#![no_main]
#![forbid(unsafe_code)]

use std::time::SystemTime;

use libfuzzer_sys::fuzz_target;
use sluicegate_fuzz::first_line;
use sluicegate_sys::errqueue::{Entry, decode, decode_time};

/// What is told by nothing that is known.
const NOTHING: Entry = Entry::Other { origin: 0, errno: 0 };

/// `struct cmsghdr`: a length, a level, a type. `CMSG_ALIGN` is to the size of the length.
const LENGTH: usize = size_of::<usize>();
const HEADER: usize = LENGTH + 8;

/// Level and type, from the headers of the kernel: SOL_IP and IP_RECVERR, SOL_IPV6 and
/// IPV6_RECVERR, which tell of an entry; and some that do not, among them the two mixed up.
const IPV4: (i32, i32) = (0, 11);
const IPV6: (i32, i32) = (41, 25);
const OTHERS: [(i32, i32); 5] = [(1, 37), (0, 25), (41, 11), (1, 11), (-1, 25)];

fuzz_target!(|input: &[u8]| {
    let (line, bytes) = first_line(input);
    assert_eq!(decode(bytes), by_offsets(bytes), "raw");
    if let Some(time) = decode_time(bytes) {
        assert!(time >= SystemTime::UNIX_EPOCH, "no clock of a kernel says that: {time:?}");
    }

    let (built, meanings) = build(bytes);
    let cut = str::from_utf8(line).ok().and_then(|line| line.trim().parse().ok());
    let cut = cut.unwrap_or(built.len()).min(built.len());
    // The first that is there to its last byte.
    let expected = meanings.iter().find(|(end, _)| *end <= cut).map(|&(_, entry)| entry);
    assert_eq!(decode(&built[..cut]), expected.unwrap_or(NOTHING), "built, cut at {cut}");
    // What follows an entry does not count.
    if let Some(&(_, entry)) = meanings.first() {
        let followed = [built, bytes.to_vec()].concat();
        assert_eq!(decode(&followed), entry, "something follows");
    }
});

/// Control messages, and where those that say something end, with what they say.
fn build(mut records: &[u8]) -> (Vec<u8>, Vec<(usize, Entry)>) {
    let (mut built, mut meanings) = (Vec::new(), Vec::new());
    while let Some((&kind, rest)) = records.split_first() {
        let taken;
        let ((level, name), data, meaning) = match kind % 8 {
            // The peer acknowledged: timestamping, SCM_TSTAMP_ACK, index.
            0 | 1 => {
                taken = rest.len().min(4);
                let index = word(&rest[..taken]);
                let data = extended_error(0, 4, 0, 2, index);
                (family(kind), data, Some(Entry::Acked { index }))
            }
            // Buffers were let go of: zerocopy, from, to.
            2 | 3 => {
                taken = rest.len().min(9);
                let field = |at: usize| word(rest[..taken].get(at..).unwrap_or_default());
                let (first, last) = (field(0), field(4));
                let code = rest[..taken].get(8).copied().unwrap_or(0);
                let released = Entry::Released { first, last, copied: code % 2 == 1 };
                (family(kind), extended_error(0, 5, code, first, last), Some(released))
            }
            // Of another origin, or a time stamp of another kind.
            4 | 5 => {
                taken = rest.len().min(6);
                let errno = word(&rest[..taken]);
                let origin = rest[..taken].get(4).copied().unwrap_or(1);
                let info = u32::from(rest[..taken].get(5).copied().unwrap_or(0));
                let origin = if origin == 5 || (origin == 4 && info == 2) { 2 } else { origin };
                let other = Entry::Other { origin, errno };
                (family(kind), extended_error(errno, origin, 0, info, 9), Some(other))
            }
            // Too short for an entry.
            6 => {
                taken = rest.len().min(15);
                (family(kind), rest[..taken].to_vec(), None)
            }
            // No entry at all, whatever is in it.
            _ => {
                taken = rest.len().min(40);
                (OTHERS[usize::from(kind / 8) % OTHERS.len()], rest[..taken].to_vec(), None)
            }
        };
        records = &rest[taken..];
        built.extend_from_slice(&(HEADER + data.len()).to_ne_bytes());
        built.extend_from_slice(&level.to_ne_bytes());
        built.extend_from_slice(&name.to_ne_bytes());
        built.extend_from_slice(&data);
        if let Some(meaning) = meaning {
            meanings.push((built.len(), meaning));
        }
        while built.len() % LENGTH != 0 {
            built.push(0xa5);
        }
    }
    (built, meanings)
}

fn family(kind: u8) -> (i32, i32) {
    if kind < 128 { IPV4 } else { IPV6 }
}

/// `struct sock_extended_err` with the address of the offender behind it, as the kernel has it.
fn extended_error(errno: u32, origin: u8, code: u8, info: u32, value: u32) -> Vec<u8> {
    let mut data = errno.to_ne_bytes().to_vec();
    // Type and padding are nobody's business.
    data.extend_from_slice(&[origin, 0xff, code, 0xff]);
    data.extend_from_slice(&info.to_ne_bytes());
    data.extend_from_slice(&value.to_ne_bytes());
    data.extend_from_slice(&[0; 16]);
    data
}

/// The first four bytes; those that are missing are zero.
fn word(bytes: &[u8]) -> u32 {
    let byte = |at: usize| bytes.get(at).copied().unwrap_or(0);
    u32::from_ne_bytes([byte(0), byte(1), byte(2), byte(3)])
}

/// `recvmsg(2)` and `cmsg(3)`, with every sum in a type that it cannot leave.
fn by_offsets(bytes: &[u8]) -> Entry {
    let end = bytes.len() as u128;
    let mut at = 0u128;
    while at + HEADER as u128 <= end {
        let from = &bytes[at as usize..];
        let mut length = [0; LENGTH];
        length.copy_from_slice(&from[..LENGTH]);
        let length = usize::from_ne_bytes(length) as u128;
        // Shorter than its own header, or longer than what there is: nothing behind it can be found.
        if length < HEADER as u128 || at + length > end {
            break;
        }
        let level = word(&from[LENGTH..]).cast_signed();
        let name = word(&from[LENGTH + 4..]).cast_signed();
        let told = [IPV4, IPV6].contains(&(level, name));
        if told && length >= HEADER as u128 + 16 {
            let (origin, code) = (from[HEADER + 4], from[HEADER + 6]);
            let (info, value) = (word(&from[HEADER + 8..]), word(&from[HEADER + 12..]));
            return match (origin, info) {
                (4, 2) => Entry::Acked { index: value },
                (5, first) => Entry::Released { first, last: value, copied: code % 2 == 1 },
                _ => Entry::Other { origin, errno: word(&from[HEADER..]) },
            };
        }
        at += length.div_ceil(LENGTH as u128) * LENGTH as u128;
    }
    NOTHING
}
