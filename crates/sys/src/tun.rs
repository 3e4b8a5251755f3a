//! A network device whose other end is a descriptor (`/dev/net/tun`, the kernel's
//! `Documentation/networking/tuntap.rst`).

use std::io::{self, IoSlice, IoSliceMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::io::{readv, writev};
use rustix::ioctl::{IntegerSetter, Updater, ioctl};

/// `_IOW('T', 202, int)`: but the kernel reads and writes a whole `struct ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = libc::TUNSETIFF as rustix::ioctl::Opcode;

/// `_IOW('T', 208, unsigned int)`: the argument is the number itself.
const TUNSETOFFLOAD: rustix::ioctl::Opcode = libc::TUNSETOFFLOAD as rustix::ioctl::Opcode;

/// `TUN_F_CSUM` of `<linux/if_tun.h>`: who reads the packets sums them up.
const CHECKSUMS: usize = 1;

/// IP packets with a `struct virtio_net_hdr` in front of them.
const FLAGS: libc::c_short =
    (libc::IFF_TUN | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;

/// Bytes of `struct virtio_net_hdr` (virtio 1.2, section 5.1.6, as it was before
/// 1.0): flags, kind of segmentation, and four numbers of 16 bits, of which the
/// third and fourth tell where a checksum begins and where it goes.
const HEADER: usize = 10;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`.
const NEEDS_CHECKSUM: u8 = 1;

/// The bytes of `struct ifreq` that this request does not use.
const REST: usize = size_of::<libc::ifreq>() - libc::IFNAMSIZ - size_of::<libc::c_short>();

/// `struct ifreq` (`netdevice(7)`) with its union taken as flags.
#[repr(C)]
struct Request {
    name: [u8; libc::IFNAMSIZ],
    flags: libc::c_short,
    rest: [u8; REST],
}

const _: () = assert!(size_of::<Request>() == size_of::<libc::ifreq>());

/// A TUN device: what its host sends can be read here, packet by packet, and what is written here
/// is received by that host.
///
/// The kernel copies packets on this way in both directions, so pages that a socket refers to are
/// not shared any further. As a network card it leaves checksums to who takes the packets, which
/// is [`Tun::receive`]: without that the kernel would put together anew each packet that refers to
/// pages, before it sums it up. The device goes with this descriptor.
#[derive(Debug)]
pub struct Tun {
    fd: OwnedFd,
}

impl Tun {
    /// Makes the device `name` in the network namespace of the calling thread; it is down and has
    /// no address. The descriptor is non-blocking and closed on exec.
    ///
    /// # Errors
    /// `ENOENT` where the machine has no `/dev/net/tun`, `EPERM` without `CAP_NET_ADMIN`, `EBUSY`
    /// when there is such a device, `EINVAL` for what cannot be a name.
    pub fn create(name: &str) -> io::Result<Self> {
        let mut request = Request { name: [0; libc::IFNAMSIZ], flags: FLAGS, rest: [0; REST] };
        // The kernel takes an empty name for "any", and needs a NUL behind the name.
        if name.is_empty() || name.len() >= libc::IFNAMSIZ || name.contains(['\0', '%']) {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        request.name[..name.len()].copy_from_slice(name.as_bytes());
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let fd = open("/dev/net/tun", flags, Mode::empty())?;
        // SAFETY: TUNSETIFF copies one struct ifreq in and out through its pointer
        // (__tun_chr_ioctl: copy_from_user and copy_to_user of `ifreq_len`, sizeof(struct ifreq)).
        // `Request` is of that size, as asserted above, initialised to its last byte, valid for
        // any bytes that the kernel writes, and borrowed until the call returns.
        unsafe { ioctl(&fd, Updater::<TUNSETIFF, Request>::new(&mut request)) }?;
        // SAFETY: TUNSETOFFLOAD takes a number and no pointer.
        unsafe { ioctl(&fd, IntegerSetter::<TUNSETOFFLOAD>::new_usize(CHECKSUMS)) }?;
        Ok(Tun { fd })
    }

    /// Takes the next packet that the host has sent, whole and with its checksums, and returns its
    /// length. What does not fit into `buffer` is lost.
    ///
    /// # Errors
    /// `EAGAIN` when there is none, `EBADFD` when the device was deleted.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut header = [0; HEADER];
        let taken = {
            let mut parts = [IoSliceMut::new(&mut header), IoSliceMut::new(buffer)];
            readv(&self.fd, &mut parts)?
        };
        let length = taken.saturating_sub(HEADER);
        if header[0] & NEEDS_CHECKSUM != 0 {
            let number = |at: usize| usize::from(u16::from_ne_bytes([header[at], header[at + 1]]));
            sum_up(&mut buffer[..length], number(6), number(8));
        }
        Ok(length)
    }

    /// Lets the host receive a packet. Its protocols run on the calling thread, as far as no other
    /// processor was chosen for them.
    ///
    /// # Errors
    /// `EINVAL` for what is neither IPv4 nor IPv6, `EIO` when the device is down, `EBADFD` when it
    /// was deleted, `ENOMEM`.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        writev(&self.fd, &[IoSlice::new(&[0; HEADER]), IoSlice::new(packet)])?;
        Ok(())
    }
}

/// Sums up a packet from `start` on, and puts the checksum `offset` bytes behind that, where the
/// sum of what is not in the packet is already (RFC 1071). Nothing, of a packet that is cut off.
fn sum_up(packet: &mut [u8], start: usize, offset: usize) {
    let Some(summed) = packet.get_mut(start..) else { return };
    let mut words = summed.chunks_exact(2);
    let mut sum: u64 =
        words.by_ref().map(|word| u64::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    if let [last] = words.remainder() {
        sum += u64::from(*last) << 8;
    }
    while sum > u64::from(u16::MAX) {
        sum = (sum & u64::from(u16::MAX)) + (sum >> 16);
    }
    // Below 2¹⁶ by now. All ones instead of zero, which means "none" in UDP.
    let sum = match !u16::try_from(sum).unwrap_or(0) {
        0 => u16::MAX,
        sum => sum,
    };
    if let Some(place) = summed.get_mut(offset..offset + 2) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_sums_up_to_nothing_with_its_checksum() {
        // The example of RFC 1071, section 3, behind two bytes that do not count.
        let mut packet = [9, 9, 0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7, 0, 0];
        sum_up(&mut packet, 2, 8);
        assert_eq!(&packet[10..], [0x22, 0x0d]);
        let mut odd = [0x01, 0x02, 0, 0, 0x03];
        sum_up(&mut odd, 0, 2);
        assert_eq!(&odd[2..4], (!0x0402_u16).to_be_bytes());
        let mut short = [1, 2, 3];
        for (start, offset) in [(4, 0), (0, 2), (3, 0), (usize::MAX, 1)] {
            sum_up(&mut short, start, offset);
        }
        assert_eq!(short, [1, 2, 3], "there is no place for it");
    }

    // What works needs privileges: it is tested in the lab (`testkit/tests/lab_wire.rs`).
    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for name in ["", "sixteen-letters-", "eth%d", "a\0b"] {
            let error = Tun::create(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
