//! Directories of files for a test.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use tempfile::TempDir;

use super::write_file;

/// A directory with files, removed when dropped.
///
/// ```ignore
/// let tree = Tree::new()?.text("index.html", "hello")?.file("large.bin", 7, 1 << 30)?;
/// ```
#[derive(Debug)]
pub struct Tree {
    directory: TempDir,
}

impl Tree {
    /// An empty directory where the system keeps temporary files. That may be memory: see
    /// [`Tree::within`].
    ///
    /// # Errors
    /// What the file system says; so for all that follows.
    pub fn new() -> io::Result<Self> {
        Self::within(&env::temp_dir())
    }

    /// An empty directory within the one given, for tests that need a certain file system.
    pub fn within(parent: &Path) -> io::Result<Self> {
        let directory = tempfile::Builder::new().prefix("sluicegate-").tempdir_in(parent)?;
        Ok(Self { directory })
    }

    /// Adds a file of [`fill`](super::fill)ed contents, and the directories on the way to it.
    pub fn file(self, name: &str, seed: u64, length: u64) -> io::Result<Self> {
        write_file(&self.place(name)?, seed, length)?;
        Ok(self)
    }

    /// Adds a file with these bytes, and the directories on the way to it.
    pub fn text(self, name: &str, contents: impl AsRef<[u8]>) -> io::Result<Self> {
        fs::write(self.place(name)?, contents)?;
        Ok(self)
    }

    /// Adds a directory, and those on the way to it.
    pub fn directory(self, name: &str) -> io::Result<Self> {
        fs::create_dir_all(self.path().join(name))?;
        Ok(self)
    }

    /// Adds a symbolic link, and the directories on the way to it. The target is taken as it is
    /// and may lie outside: tests of escapes need such links.
    pub fn link(self, name: &str, target: impl AsRef<Path>) -> io::Result<Self> {
        std::os::unix::fs::symlink(target, self.place(name)?)?;
        Ok(self)
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// The path of a name in it.
    #[must_use]
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    fn place(&self, name: &str) -> io::Result<PathBuf> {
        let path = self.join(name);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        Ok(path)
    }
}
