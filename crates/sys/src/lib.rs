//! Linux kernel facilities behind safe types.
//!
//! One file per facility, in the order in which bytes meet them. All `unsafe`
//! and all `libc` of the workspace live here, each block with its proof;
//! rustix is used wherever it has the call. No policy of any kind: a function
//! makes one system call, tells what the kernel said, and decides nothing.
//! `EINTR` is passed on like any other error, because whether to try again is
//! the caller's choice.

#[cfg(not(target_os = "linux"))]
compile_error!(
    "Sluicegate runs on Linux only: it stands on sendfile, splice, epoll and SIOCOUTQ as Linux has them"
);

#[cfg(target_os = "linux")]
pub mod affinity;
#[cfg(target_os = "linux")]
pub mod append;
#[cfg(target_os = "linux")]
pub mod cachestat;
#[cfg(target_os = "linux")]
pub mod clock;
#[cfg(target_os = "linux")]
pub mod connect;
#[cfg(target_os = "linux")]
pub mod directory;
#[cfg(target_os = "linux")]
pub mod epoll;
#[cfg(target_os = "linux")]
pub mod errqueue;
#[cfg(target_os = "linux")]
pub mod ethtool;
#[cfg(target_os = "linux")]
pub mod file;
#[cfg(target_os = "linux")]
pub mod file_system;
#[cfg(target_os = "linux")]
pub mod identity;
#[cfg(target_os = "linux")]
pub mod inherit;
#[cfg(target_os = "linux")]
pub mod io_signal;
#[cfg(target_os = "linux")]
pub mod io_uring;
#[cfg(target_os = "linux")]
pub mod limits;
#[cfg(target_os = "linux")]
pub mod links;
#[cfg(target_os = "linux")]
pub mod mapping;
#[cfg(target_os = "linux")]
pub mod memfd;
#[cfg(all(target_os = "linux", feature = "tokio"))]
pub mod nested;
#[cfg(target_os = "linux")]
pub mod open;
#[cfg(target_os = "linux")]
pub mod outq;
#[cfg(target_os = "linux")]
pub mod pages;
#[cfg(target_os = "linux")]
pub mod ports;
#[cfg(target_os = "linux")]
pub mod sendfile;
#[cfg(target_os = "linux")]
pub mod signal;
#[cfg(target_os = "linux")]
pub mod socket;
#[cfg(target_os = "linux")]
pub mod splice;
#[cfg(target_os = "linux")]
pub mod tcp_info;
#[cfg(target_os = "linux")]
pub mod timer;
#[cfg(target_os = "linux")]
pub mod tun;
#[cfg(target_os = "linux")]
pub mod ulp;
#[cfg(target_os = "linux")]
pub mod wake;
#[cfg(target_os = "linux")]
pub mod zerocopy;
