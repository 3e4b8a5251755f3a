//! Names in a directory (`getdents64(2)`), and what they are (`fstatat(2)`).

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use rustix::fs::{AtFlags, Dir, FileType, statat};

use crate::file::Stamp;

/// What a name in a directory is. Its own link is not followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Named {
    /// A symbolic link.
    Link,
    /// Anything else.
    Thing(Stamp),
}

/// The names in an open directory, in the file system's order and without `.`
/// and `..`. They are read a few kilobytes at a time, as they are asked for.
///
/// A name that is made or removed meanwhile may come or not.
#[derive(Debug)]
pub struct Names {
    entries: Dir,
}

impl Names {
    /// Of a directory that was opened for reading, and not read before. What is
    /// no directory fails at the first name: `ENOTDIR`.
    ///
    /// # Errors
    /// None on Linux; the call is made with the first name.
    pub fn of(directory: File) -> io::Result<Self> {
        Ok(Names { entries: Dir::new(OwnedFd::from(directory))? })
    }

    /// What `name`, one of these, is by now. Neither opens it nor waits for it.
    ///
    /// # Errors
    /// `ENOENT` when it is gone, `EACCES` where names may be read and nothing
    /// else, `EIO`, `ESTALE`.
    pub fn look(&self, name: &CStr) -> io::Result<Named> {
        let stat = statat(self.entries.fd()?, name, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Named::Link,
            _ => Named::Thing(Stamp::of(&stat)),
        })
    }
}

impl Iterator for Names {
    type Item = io::Result<CString>;

    /// The next name. An error, such as `EIO`, is the last item.
    fn next(&mut self) -> Option<Self::Item> {
        loop {
            match self.entries.read()? {
                Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
                Ok(entry) => return Some(Ok(entry.file_name().to_owned())),
                Err(error) => return Some(Err(error.into())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file::Kind;
    use std::collections::BTreeMap;
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;

    #[test]
    fn names_of_any_bytes_come_with_what_they_are_and_links_are_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let long = [b'n'; 255];
        for name in [&b"a\nb"[..], b"\xff\xfe", &long] {
            std::fs::write(dir.path().join(OsStr::from_bytes(name)), "four").unwrap();
        }
        std::fs::create_dir(dir.path().join("sub")).unwrap();
        symlink("nowhere", dir.path().join("link")).unwrap();
        let mut names = Names::of(File::open(dir.path()).unwrap()).unwrap();
        let mut found = BTreeMap::new();
        while let Some(name) = names.next() {
            let name = name.unwrap();
            let what = match names.look(&name).unwrap() {
                Named::Link => None,
                Named::Thing(Stamp { kind: Kind::Directory, .. }) => Some((Kind::Directory, 0)),
                Named::Thing(stamp) => Some((stamp.kind, stamp.len)),
            };
            found.insert(name.into_bytes(), what);
        }
        let file = Some((Kind::Regular, 4));
        let expected = [
            (&b"a\nb"[..], file),
            (b"link", None),
            (&long, file),
            (b"sub", Some((Kind::Directory, 0))),
            (b"\xff\xfe", file),
        ];
        assert_eq!(found, expected.map(|(name, what)| (name.to_vec(), what)).into());
        let gone = names.look(c"gone").unwrap_err();
        assert_eq!(gone.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn many_names_all_come_once() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..3000 {
            File::create(dir.path().join(format!("a-name-of-some-length-{number}"))).unwrap();
        }
        let names = Names::of(File::open(dir.path()).unwrap()).unwrap();
        let mut all: Vec<CString> = names.map(Result::unwrap).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), 3000);
    }

    #[test]
    fn what_is_no_directory_says_so() {
        let file = tempfile::tempfile().unwrap();
        let error = Names::of(file).unwrap().next().unwrap().unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotADirectory);
    }
}
