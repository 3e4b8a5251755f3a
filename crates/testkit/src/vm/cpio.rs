//! The archive that the kernel unpacks into its first file system: "newc", as
//! `driver-api/early-userspace/buffer-format.rst` of the kernel describes it.

use std::collections::BTreeSet;
use std::io::{self, Write};
use std::path::Path;

const MAGIC: &str = "070701";

/// Kinds of files, `inode(7)`.
const REGULAR: u32 = 0o100_000;
const DIRECTORY: u32 = 0o040_000;

/// Headers and contents begin at multiples of this.
const ALIGNMENT: usize = 4;

/// The entry after which nothing is read.
const LAST: &str = "TRAILER!!!";

/// Writes an archive. Everything in it belongs to root.
#[derive(Debug)]
pub(super) struct Archive<W> {
    out: W,
    /// Files of the same number would be taken for names of one file.
    files: u32,
    directories: BTreeSet<String>,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, files: 0, directories: BTreeSet::new() }
    }

    /// Adds an executable file under an absolute path, and the directories on the way to it.
    pub(super) fn file(&mut self, path: &str, contents: &[u8]) -> io::Result<()> {
        let name = path.trim_start_matches('/');
        let parents: Vec<&Path> = Path::new(name).ancestors().skip(1).collect();
        for parent in parents.into_iter().rev().filter_map(Path::to_str) {
            if !parent.is_empty() && self.directories.insert(parent.to_owned()) {
                self.entry(parent, DIRECTORY | 0o755, &[])?;
            }
        }
        self.entry(name, REGULAR | 0o755, contents)
    }

    /// Ends the archive.
    pub(super) fn finish(mut self) -> io::Result<()> {
        self.entry(LAST, 0, &[])?;
        self.out.flush()
    }

    fn entry(&mut self, name: &str, mode: u32, contents: &[u8]) -> io::Result<()> {
        self.files += 1;
        let number = self.files;
        let size = u32::try_from(contents.len()).map_err(io::Error::other)?;
        // With the NUL behind it.
        let name_size = u32::try_from(name.len() + 1).map_err(io::Error::other)?;
        let (user, group, links, modified, device, checksum) = (0, 0, 1, 0, 0, 0);
        let fields = [
            number, mode, user, group, links, modified, size, device, device, device, device,
            name_size, checksum,
        ];
        let mut header = String::from(MAGIC);
        for field in fields {
            header += &format!("{field:08x}");
        }
        header += name;
        header.push('\0');
        self.padded(header.as_bytes())?;
        self.padded(contents)
    }

    fn padded(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        let padding = bytes.len().next_multiple_of(ALIGNMENT) - bytes.len();
        self.out.write_all(&[0; ALIGNMENT][..padding])
    }
}

#[cfg(test)]
mod tests {
    use super::Archive;

    #[test]
    fn entries_are_aligned_and_directories_come_first_and_once() {
        let mut bytes = Vec::new();
        let mut archive = Archive::new(&mut bytes);
        archive.file("/a/b/c", b"12345").expect("memory");
        archive.file("/a/d", b"").expect("memory");
        archive.finish().expect("memory");

        let mut names = Vec::new();
        let mut at = 0;
        while at < bytes.len() {
            let text = |from: usize, to: usize| {
                std::str::from_utf8(&bytes[at + from..at + to]).expect("ASCII")
            };
            let field = |index: usize| {
                let from = 6 + 8 * index;
                usize::from_str_radix(text(from, from + 8), 16).expect("digits")
            };
            assert_eq!(text(0, 6), "070701");
            let (size, name_size) = (field(6), field(11));
            names.push((text(110, 110 + name_size - 1).to_owned(), field(1), size));
            at = (at + 110 + name_size).next_multiple_of(4);
            if names.last().is_some_and(|(name, ..)| name == "a/b/c") {
                assert_eq!(&bytes[at..at + 5], b"12345");
            }
            at = (at + size).next_multiple_of(4);
        }
        let expected = [
            ("a", 0o040_755, 0),
            ("a/b", 0o040_755, 0),
            ("a/b/c", 0o100_755, 5),
            ("a/d", 0o100_755, 0),
            ("TRAILER!!!", 0, 0),
        ];
        assert_eq!(names, expected.map(|(name, mode, size)| (name.to_owned(), mode, size)));
    }
}
