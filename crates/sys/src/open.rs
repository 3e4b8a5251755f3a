//! Opening beneath a directory (`openat2(2)`).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// A directory from which names are resolved; nothing outside it is reached.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
}

/// How a name beneath a root is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// `O_PATH`: a handle for `fstat`; neither reads the thing nor waits for it.
    Look,
    /// `O_RDONLY`. Never waits for a fifo's writer (`O_NONBLOCK`).
    Read,
}

impl Root {
    /// Opens the directory `path`.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`.
    pub fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Root { fd: rustix::fs::open(path, flags, Mode::empty())? })
    }

    /// Opens `name`, which may have several components and be empty (the root itself).
    ///
    /// Symbolic links are followed as long as they stay inside
    /// (`RESOLVE_BENEATH`), magic links never.
    ///
    /// # Errors
    /// `EXDEV` for what leads outside, `ENOENT`, `EACCES`, `ELOOP`, `ENOTDIR`,
    /// `ENAMETOOLONG`; `EAGAIN` when a rename went on meanwhile (try again);
    /// `EINVAL` for a name with a NUL; `ENXIO` for a socket.
    pub fn open_beneath(&self, name: &[u8], access: Access) -> io::Result<File> {
        let name = if name.is_empty() { b"." } else { name };
        let path = CString::new(name).map_err(|_| io::ErrorKind::InvalidInput)?;
        let flags = OFlags::CLOEXEC
            | match access {
                Access::Look => OFlags::PATH,
                Access::Read => OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY,
            };
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&self.fd, &path, flags, Mode::empty(), resolve) {
            // Before Linux 5.6, under a seccomp profile of that time, under
            // valgrind.
            Err(Errno::NOSYS) => Ok(File::from(self.walk(name, flags)?)),
            opened => Ok(File::from(opened?)),
        }
    }

    /// Opens `name` component by component. Without the kernel's help no
    /// symbolic link can be followed safely, so none is: `ELOOP`.
    fn walk(&self, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let components: Vec<&[u8]> = name
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .collect();
        if name.starts_with(b"/") || components.contains(&&b".."[..]) {
            return Err(Errno::XDEV.into());
        }
        let Some((last, parents)) = components.split_last() else {
            return Ok(openat(&self.fd, c".", flags, Mode::empty())?);
        };
        let mut directory = None;
        for parent in parents {
            let from = directory.as_ref().unwrap_or(&self.fd);
            let step = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
            directory = Some(openat(from, *parent, step, Mode::empty())?);
        }
        let from = directory.as_ref().unwrap_or(&self.fd);
        let opened = openat(from, *last, flags | OFlags::NOFOLLOW, Mode::empty())?;
        // O_PATH with O_NOFOLLOW opens the link itself.
        if FileType::from_raw_mode(fstat(&opened)?.st_mode) == FileType::Symlink {
            return Err(Errno::LOOP.into());
        }
        Ok(opened)
    }
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_inside_are_followed_and_links_outside_refused() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("page"), "p").unwrap();
        symlink("page", inside.join("good")).unwrap();
        symlink("../secret", inside.join("bad")).unwrap();
        symlink(dir.path().join("secret"), inside.join("absolute")).unwrap();
        let root = Root::open(&inside).unwrap();
        assert!(root.open_beneath(b"good", Access::Read).is_ok());
        for name in [&b"bad"[..], b"absolute", b"../secret"] {
            let error = root.open_beneath(name, Access::Read).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{error}");
        }
        assert!(root.open_beneath(b"", Access::Look).is_ok());
    }

    #[test]
    fn without_openat2_nothing_outside_is_reached_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir_all(inside.join("sub")).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("sub/page"), "p").unwrap();
        symlink("sub", inside.join("link")).unwrap();
        symlink("sub/page", inside.join("leaf")).unwrap();
        let root = Root::open(&inside).unwrap();
        let errno = |name: &[u8], flags| {
            root.walk(name, flags).map(drop).map_err(|error| error.raw_os_error().unwrap())
        };
        for flags in [OFlags::PATH, OFlags::RDONLY] {
            for good in [&b"sub/page"[..], b"sub", b".", b"sub//./page"] {
                assert_eq!(errno(good, flags), Ok(()), "{}", good.escape_ascii());
            }
            assert_eq!(errno(b"../secret", flags), Err(libc::EXDEV));
            assert_eq!(errno(b"/etc/passwd", flags), Err(libc::EXDEV));
            assert_eq!(errno(b"leaf", flags), Err(libc::ELOOP));
            assert_eq!(errno(b"link/page", flags), Err(libc::ENOTDIR));
            assert_eq!(errno(b"none", flags), Err(libc::ENOENT));
        }
    }

    #[test]
    fn a_fifo_without_a_writer_does_not_hang() {
        let dir = tempfile::tempdir().unwrap();
        let path = CString::new(dir.path().join("fifo").to_str().unwrap()).unwrap();
        rustix::fs::mknodat(rustix::fs::CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0)
            .unwrap();
        let root = Root::open(dir.path()).unwrap();
        let look = root.open_beneath(b"fifo", Access::Look).unwrap();
        assert_eq!(crate::file::stamp(look.as_fd()).unwrap().kind, crate::file::Kind::Special);
        root.open_beneath(b"fifo", Access::Read).unwrap();
    }
}
