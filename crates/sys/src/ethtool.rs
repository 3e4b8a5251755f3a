//! What a network device does by itself (`SIOCETHTOOL`, `<linux/ethtool.h>`).
//!
//! Reading needs no privilege, changing `CAP_NET_ADMIN`. The devices are those
//! of the calling thread's network namespace.

use std::io;

use rustix::ioctl::{Updater, ioctl};
use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};

const SIOCETHTOOL: rustix::ioctl::Opcode = libc::SIOCETHTOOL as rustix::ioctl::Opcode;

/// `ETHTOOL_GDRVINFO`.
const DRIVER_INFORMATION: u32 = 3;

/// `struct ethtool_drvinfo`, and where in it the driver's name is, and how long.
const DRIVER_SIZE: usize = 196;
const DRIVER_NAME: std::ops::Range<usize> = 4..36;

/// Something that a device can do for the kernel, and that can be switched off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feature {
    /// Sends packets whose parts lie in several places. Without it the kernel
    /// copies what was given to it by reference.
    ScatterGather,
    /// Sums up packets that it sends. Scatter-gather of TCP needs it.
    TransmitChecksum,
    /// Cuts large pieces of a TCP stream into packets.
    TcpSegmentation,
    /// The same in the kernel, just before the device.
    GenericSegmentation,
}

impl Feature {
    /// `ETHTOOL_GSG` and so on, which get it.
    fn get(self) -> u32 {
        match self {
            Feature::ScatterGather => 0x18,
            Feature::TransmitChecksum => 0x16,
            Feature::TcpSegmentation => 0x1e,
            Feature::GenericSegmentation => 0x23,
        }
    }

    /// `ETHTOOL_SSG` and so on: the one that sets follows the one that gets.
    fn set(self) -> u32 {
        self.get() + 1
    }
}

/// `struct ethtool_value`.
#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// `struct ethtool_drvinfo`.
#[repr(C, align(4))]
struct Driver([u8; DRIVER_SIZE]);

/// The bytes of `struct ifreq` behind the pointer.
const REST: usize = size_of::<libc::ifreq>() - libc::IFNAMSIZ - size_of::<*mut ()>();

/// `struct ifreq` (`netdevice(7)`) with its union taken as a pointer.
#[repr(C)]
struct Request<T> {
    name: [u8; libc::IFNAMSIZ],
    data: *mut T,
    rest: [u8; REST],
}

const _: () = assert!(size_of::<Request<Value>>() == size_of::<libc::ifreq>());

/// Whether `device` does this by itself now.
///
/// # Errors
/// `ENODEV` when there is no such device, `EOPNOTSUPP` where its driver does not
/// tell, `EPERM` from a filter of system calls.
pub fn feature(device: &str, feature: Feature) -> io::Result<bool> {
    let mut value = Value { command: feature.get(), data: 0 };
    // SAFETY: the commands that get a feature read the command and write a
    // `struct ethtool_value`, which `Value` is.
    unsafe { ask(device, &mut value) }?;
    Ok(value.data != 0)
}

/// Switches it on or off. What needs it goes off with it: segmentation needs
/// scatter-gather.
///
/// # Errors
/// As [`feature`]; `EPERM` without `CAP_NET_ADMIN`, `EOPNOTSUPP` or `EIO` where
/// the device cannot.
pub fn set_feature(device: &str, feature: Feature, on: bool) -> io::Result<()> {
    let mut value = Value { command: feature.set(), data: u32::from(on) };
    // SAFETY: the commands that set a feature read a `struct ethtool_value`,
    // which `Value` is, and write nothing.
    unsafe { ask(device, &mut value) }
}

/// Name of the device's driver: `veth`, `virtio_net`, `e1000e`.
///
/// # Errors
/// As [`feature`].
pub fn driver(device: &str) -> io::Result<String> {
    let mut driver = Driver([0; DRIVER_SIZE]);
    driver.0[..4].copy_from_slice(&DRIVER_INFORMATION.to_ne_bytes());
    // SAFETY: ETHTOOL_GDRVINFO reads the command and writes a `struct
    // ethtool_drvinfo`, whose size `Driver` has.
    unsafe { ask(device, &mut driver) }?;
    let name = &driver.0[DRIVER_NAME];
    let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
    Ok(String::from_utf8_lossy(&name[..end]).into_owned())
}

/// Makes one request.
///
/// # Safety
/// `T` begins with the command, in 32 bits, has the layout of the structure that
/// this command reads and writes, and is valid for any bytes.
unsafe fn ask<T>(device: &str, data: &mut T) -> io::Result<()> {
    let mut name = [0; libc::IFNAMSIZ];
    // The kernel needs a NUL behind the name.
    if device.is_empty() || device.len() >= name.len() || device.contains('\0') {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    name[..device.len()].copy_from_slice(device.as_bytes());
    let mut request = Request { name, data: &raw mut *data, rest: [0; REST] };
    let socket = socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: SIOCETHTOOL copies one struct ifreq in and out through its pointer
    // (sock_do_ioctl: copy_from_user and copy_to_user), which `Request` has the
    // size of, and reads and writes through the pointer in it what the command
    // says, which is a `T` by this function's contract. Both are borrowed until
    // the call returns.
    unsafe { ioctl(&socket, Updater::<SIOCETHTOOL, Request<T>>::new(&mut request)) }?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_takes_packets_in_parts() {
        assert!(feature("lo", Feature::ScatterGather).unwrap());
    }

    #[test]
    fn what_is_no_device_is_refused() {
        let error = feature("no-such-device", Feature::ScatterGather).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        for name in ["", "sixteen-letters-", "a\0b"] {
            assert_eq!(driver(name).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{name}");
        }
    }
}
