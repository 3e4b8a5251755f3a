//! Opening beneath a directory (`openat2(2)`).

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{FileType, Mode, OFlags, ResolveFlags, fstat, openat, openat2};
use rustix::io::Errno;

/// Which symbolic links a name may lead through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Links {
    /// None: `ELOOP`.
    Never,
    /// Those that lead to something beneath the root; `EXDEV` for others.
    #[default]
    Inside,
    /// All but the magic ones of `/proc`.
    Anywhere,
}

/// A directory from which names are resolved; nothing outside it is reached,
/// unless [`Links::Anywhere`] was asked for.
#[derive(Debug)]
pub struct Root {
    fd: OwnedFd,
    links: Links,
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
    /// Opens the directory `path`; its own links are followed.
    ///
    /// # Errors
    /// `ENOENT`, `ENOTDIR`, `EACCES`.
    pub fn open(path: &Path, links: Links) -> io::Result<Self> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        Ok(Root { fd: rustix::fs::open(path, flags, Mode::empty())?, links })
    }

    /// Whether the kernel resolves names beneath a directory by itself, which
    /// [`Root::open_beneath`] does without where it must.
    ///
    /// # Errors
    /// `ENOSYS` before Linux 5.6, `EPERM` from a filter of system calls.
    pub fn try_resolve(&self) -> io::Result<()> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        Ok(openat2(&self.fd, c".", flags, Mode::empty(), ResolveFlags::BENEATH).map(drop)?)
    }

    /// Opens `name`, which is relative, has no `..`, may have several
    /// components and be empty (the root itself).
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
        let resolve = match self.links {
            Links::Never => ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS,
            Links::Inside => ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS,
            Links::Anywhere if leads_up(name) => return Err(Errno::XDEV.into()),
            Links::Anywhere => ResolveFlags::NO_MAGICLINKS,
        };
        match openat2(&self.fd, &path, flags, Mode::empty(), resolve) {
            // Before Linux 5.6 and under valgrind the call is not known, and
            // seccomp profiles of that time refuse it with EPERM, which it has
            // no other reason to say.
            Err(Errno::NOSYS | Errno::PERM) => Ok(File::from(self.walk(name, flags)?)),
            // RESOLVE_BENEATH refuses every absolute link, also one that leads
            // to a place inside.
            Err(Errno::XDEV) if self.links == Links::Inside && !leads_up(name) => {
                Ok(File::from(self.look_then_open(&path, access)?))
            }
            opened => Ok(File::from(opened?)),
        }
    }

    /// Opens a name that leads through an absolute link: a handle first, which
    /// neither reads nor waits, and then a look at where that thing is. What
    /// is opened for reading is that very thing, whatever the name leads to
    /// by then. Without `/proc` the link stays refused.
    fn look_then_open(&self, path: &CString, access: Access) -> io::Result<OwnedFd> {
        let flags = OFlags::PATH | OFlags::CLOEXEC;
        let resolve = ResolveFlags::NO_MAGICLINKS;
        let handle = openat2(&self.fd, path, flags, Mode::empty(), resolve)?;
        let root = path_of(self.fd.as_fd()).map_err(|_| Errno::XDEV)?;
        let place = path_of(handle.as_fd()).map_err(|_| Errno::XDEV)?;
        if !place.starts_with(root) {
            return Err(Errno::XDEV.into());
        }
        match access {
            Access::Look => Ok(handle),
            Access::Read => {
                let flags = OFlags::CLOEXEC | OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY;
                Ok(rustix::fs::open(link_of(handle.as_fd()), flags, Mode::empty())?)
            }
        }
    }

    /// Opens `name` component by component. Without the kernel's help no
    /// symbolic link can be followed safely, so none is: `ELOOP`.
    fn walk(&self, name: &[u8], flags: OFlags) -> io::Result<OwnedFd> {
        let components: Vec<&[u8]> = name
            .split(|&byte| byte == b'/')
            .filter(|component| !component.is_empty() && *component != b".")
            .collect();
        if leads_up(name) {
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

fn leads_up(name: &[u8]) -> bool {
    name.starts_with(b"/") || name.split(|&byte| byte == b'/').any(|component| component == b"..")
}

/// The link by which `/proc` leads to an open file.
fn link_of(file: BorrowedFd<'_>) -> String {
    format!("/proc/self/fd/{}", file.as_raw_fd())
}

/// Where an open file is now, for checks and messages; a deleted one has
/// ` (deleted)` at its end.
///
/// # Errors
/// `ENOENT` without `/proc`.
pub fn path_of(file: BorrowedFd<'_>) -> io::Result<PathBuf> {
    std::fs::read_link(link_of(file))
}

impl AsFd for Root {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::os::unix::fs::symlink;

    /// A root with a page in it, and a secret beside it.
    fn root_beside_a_secret() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("root");
        std::fs::create_dir(&inside).unwrap();
        std::fs::write(dir.path().join("secret"), "s").unwrap();
        std::fs::write(inside.join("page"), "p").unwrap();
        symlink("page", inside.join("good")).unwrap();
        (dir, inside)
    }

    #[test]
    fn links_inside_are_followed_and_links_outside_refused() {
        let (dir, inside) = root_beside_a_secret();
        symlink("../secret", inside.join("bad")).unwrap();
        symlink(dir.path().join("secret"), inside.join("absolute")).unwrap();
        symlink(inside.join("page"), inside.join("absolute-inside")).unwrap();
        // A directory whose name only begins like the root's.
        std::fs::create_dir(dir.path().join("root2")).unwrap();
        std::fs::write(dir.path().join("root2/page"), "other").unwrap();
        symlink(dir.path().join("root2/page"), inside.join("sibling")).unwrap();
        let root = Root::open(&inside, Links::Inside).unwrap();
        for access in [Access::Look, Access::Read] {
            for name in [&b"good"[..], b"absolute-inside", b""] {
                assert!(root.open_beneath(name, access).is_ok(), "{}", name.escape_ascii());
            }
            for name in [&b"bad"[..], b"absolute", b"sibling", b"../secret"] {
                let error = root.open_beneath(name, access).unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "{error}");
            }
        }
        let mut content = String::new();
        root.open_beneath(b"absolute-inside", Access::Read)
            .unwrap()
            .read_to_string(&mut content)
            .unwrap();
        assert_eq!(content, "p");
    }

    #[test]
    fn all_links_or_none_are_followed_where_that_was_asked_for() {
        let (_dir, inside) = root_beside_a_secret();
        symlink("../secret", inside.join("out")).unwrap();
        let never = Root::open(&inside, Links::Never).unwrap();
        assert!(never.open_beneath(b"page", Access::Read).is_ok());
        for name in [&b"good"[..], b"out"] {
            let error = never.open_beneath(name, Access::Read).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ELOOP), "{error}");
        }
        let anywhere = Root::open(&inside, Links::Anywhere).unwrap();
        assert!(anywhere.open_beneath(b"good", Access::Read).is_ok());
        assert!(anywhere.open_beneath(b"out", Access::Read).is_ok());
        let error = anywhere.open_beneath(b"../secret", Access::Read).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EXDEV), "a name is no link");
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
        let root = Root::open(&inside, Links::Inside).unwrap();
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
        let root = Root::open(dir.path(), Links::Inside).unwrap();
        let look = root.open_beneath(b"fifo", Access::Look).unwrap();
        assert_eq!(crate::file::stamp(look.as_fd()).unwrap().kind, crate::file::Kind::Special);
        root.open_beneath(b"fifo", Access::Read).unwrap();
    }
}
