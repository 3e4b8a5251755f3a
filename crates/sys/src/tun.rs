//! A network device whose other end is a descriptor (`/dev/net/tun`, the kernel's
//! `Documentation/networking/tuntap.rst`).

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags, open};
use rustix::ioctl::{Updater, ioctl};

/// `_IOW('T', 202, int)`: but the kernel reads and writes a whole `struct ifreq`.
const TUNSETIFF: rustix::ioctl::Opcode = libc::TUNSETIFF as rustix::ioctl::Opcode;

/// IP packets without anything in front of them.
const FLAGS: libc::c_short = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;

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
/// not shared any further. The device goes with this descriptor.
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
        Ok(Tun { fd })
    }

    /// Takes the next packet that the host has sent, and returns its length. What does not fit
    /// into `buffer` is lost.
    ///
    /// # Errors
    /// `EAGAIN` when there is none, `EBADFD` when the device was deleted.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(rustix::io::read(&self.fd, buffer)?)
    }

    /// Lets the host receive a packet. Its protocols run on the calling thread, as far as no other
    /// processor was chosen for them.
    ///
    /// # Errors
    /// `EINVAL` for what is neither IPv4 nor IPv6, `EIO` when the device is down, `EBADFD` when it
    /// was deleted, `ENOMEM`.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        rustix::io::write(&self.fd, packet)?;
        Ok(())
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

    // What works needs privileges: it is tested in the lab (`testkit/tests/lab_wire.rs`).
    #[test]
    fn what_cannot_be_a_name_is_refused() {
        for name in ["", "sixteen-letters-", "eth%d", "a\0b"] {
            let error = Tun::create(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
