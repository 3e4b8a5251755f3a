//! The network devices of this host (`rtnetlink(7)`, RTM_GETLINK).

use std::io;
use std::time::Duration;

use rustix::net::netlink::SocketAddrNetlink;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, sendto, socket_with,
};

/// A network device.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// `eth0`.
    pub name: String,
    /// Taken into use (`IFF_UP`).
    pub is_up: bool,
    /// The host's own (`IFF_LOOPBACK`).
    pub is_loopback: bool,
    /// The longest packet in bytes; 0 where the kernel did not tell.
    pub mtu: u32,
    /// Its queueing discipline, empty where the kernel did not tell. `mq` is one
    /// for each queue of the device.
    pub qdisc: String,
    /// What it is, of a device that is not of hardware: `veth`, `bridge`, `tun`.
    pub kind: Option<String>,
}

// <linux/netlink.h>, <linux/rtnetlink.h>, <linux/if_link.h>
const ERROR: u16 = 2;
const DONE: u16 = 3;
const NEW_LINK: u16 = 16;
const GET_LINK: u16 = 18;
/// `NLM_F_REQUEST | NLM_F_DUMP`.
const DUMP: u16 = 0x301;
/// Bytes of `struct nlmsghdr`, and of `struct ifinfomsg` behind it.
const HEADER: usize = 16;
const INFORMATION: usize = 16;
const NAME: u16 = 3;
const MTU: u16 = 4;
const QDISC: u16 = 6;
const LINK_INFORMATION: u16 = 18;
const KIND: u16 = 1;

/// Room for one answer: the kernel fills up to 32 KiB of what it is given.
const ANSWER: usize = 64 * 1024;

/// A kernel answers at once; this is for one that does not at all.
const PATIENCE: Duration = Duration::from_millis(500);

/// Asks the kernel for all devices of the calling thread's network namespace.
///
/// # Errors
/// `EAFNOSUPPORT`, `EPERM`, `EACCES` where such sockets are forbidden, `EAGAIN`
/// when nobody answers, `EMFILE`, `ENOBUFS`; what the kernel reports.
pub fn links() -> io::Result<Vec<Link>> {
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    set_socket_timeout(&socket, Timeout::Recv, Some(PATIENCE))?;
    let mut request = [0; HEADER + INFORMATION];
    let length = u32::try_from(request.len()).unwrap_or(0);
    request[..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&GET_LINK.to_ne_bytes());
    request[6..8].copy_from_slice(&DUMP.to_ne_bytes());
    sendto(&socket, &request, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut links = Vec::new();
    let mut buffer = vec![0; ANSWER];
    loop {
        let (count, _) = recv(&socket, &mut buffer[..], RecvFlags::empty())?;
        if count == 0 || read(&buffer[..count], &mut links)? {
            return Ok(links);
        }
    }
}

/// Reads the messages of one answer; true when the last one has come. Whatever
/// the bytes are, it returns.
fn read(answer: &[u8], links: &mut Vec<Link>) -> io::Result<bool> {
    let mut rest = answer;
    while let Some((length, kind)) = header(rest) {
        let Some(message) = rest.get(HEADER..length) else { break };
        match kind {
            DONE => return Ok(true),
            ERROR => {
                let code = message.first_chunk().map_or(0, |code| i32::from_ne_bytes(*code));
                return Err(io::Error::from_raw_os_error(code.saturating_neg()));
            }
            NEW_LINK => links.extend(link(message)),
            _ => {}
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(false)
}

/// Length, with the header, and kind of the first message.
fn header(bytes: &[u8]) -> Option<(usize, u16)> {
    let (length, bytes) = bytes.split_first_chunk::<4>()?;
    let kind = bytes.first_chunk::<2>()?;
    let length = usize::try_from(u32::from_ne_bytes(*length)).ok()?;
    (length >= HEADER).then_some((length, u16::from_ne_bytes(*kind)))
}

/// A `struct ifinfomsg`, whose flags are at 8, with its attributes.
fn link(message: &[u8]) -> Option<Link> {
    let (information, rest) = message.split_first_chunk::<INFORMATION>()?;
    let [_, _, _, _, _, _, _, _, flags @ ..] = information;
    let flags = u32::from_ne_bytes(*flags.first_chunk()?);
    let is = |flag: libc::c_int| flags & flag.cast_unsigned() != 0;
    let mut link =
        Link { is_up: is(libc::IFF_UP), is_loopback: is(libc::IFF_LOOPBACK), ..Link::default() };
    for (kind, value) in attributes(rest) {
        match kind {
            NAME => link.name = text(value),
            MTU => link.mtu = value.first_chunk().map_or(0, |mtu| u32::from_ne_bytes(*mtu)),
            QDISC => link.qdisc = text(value),
            LINK_INFORMATION => {
                let kind = attributes(value).find(|(kind, _)| *kind == KIND);
                link.kind = kind.map(|(_, value)| text(value));
            }
            _ => {}
        }
    }
    (!link.name.is_empty()).then_some(link)
}

/// Kind and value of each `struct rtattr`: length and kind, 16 bits each, the
/// value, and padding to a multiple of four.
fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    /// The highest bits say how the value is written (`NLA_TYPE_MASK`).
    const KINDS: u16 = 0x3fff;
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let (length, behind) = rest.split_first_chunk::<2>()?;
        let kind = behind.first_chunk::<2>()?;
        let length = usize::from(u16::from_ne_bytes(*length));
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes(*kind) & KINDS, value))
    })
}

fn text(value: &[u8]) -> String {
    let end = value.iter().position(|&byte| byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(&value[..end]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_is_among_them() {
        let links = links().unwrap();
        let loopback = links.iter().find(|link| link.name == "lo").unwrap();
        assert!(loopback.is_loopback && loopback.mtu > 0, "{loopback:?}");
    }

    #[test]
    fn bytes_that_mean_nothing_are_no_links() {
        for bytes in [&[][..], &[0xff; 64], &[0; 64], &[16, 0, 0, 0, 16, 0], &[40; 40]] {
            let mut links = Vec::new();
            assert!(!read(bytes, &mut links).unwrap());
            assert_eq!(links, []);
        }
        // A message that is a link, cut off everywhere.
        let mut message = vec![0; HEADER + INFORMATION];
        message[4..6].copy_from_slice(&NEW_LINK.to_ne_bytes());
        message.extend([7, 0, 3, 0, b'l', b'o', 0, 0, 8, 0, 4, 0, 1, 0, 0, 0]);
        let length = u32::try_from(message.len()).unwrap();
        message[..4].copy_from_slice(&length.to_ne_bytes());
        let mut links = Vec::new();
        read(&message, &mut links).unwrap();
        assert_eq!((links[0].name.as_str(), links[0].mtu), ("lo", 1));
        for end in 0..message.len() {
            read(&message[..end], &mut Vec::new()).unwrap();
        }
        let mut refused = message;
        refused[4..6].copy_from_slice(&ERROR.to_ne_bytes());
        refused[16..20].copy_from_slice(&(-libc::EPERM).to_ne_bytes());
        let error = read(&refused, &mut Vec::new()).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EPERM));
    }
}
