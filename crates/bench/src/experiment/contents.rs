//! The files that are served: real bytes on a real disk, in the page cache.
//!
//! (A hole of a sparse file reads as the same zero page again and again, which a processor's
//! cache holds; that would flatter whoever copies.)

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use sluicegate_testkit::corpus;

use crate::client::file_of;
use crate::harness::pinned::own_path;

/// A file of the corpus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) name: &'static str,
    pub(crate) length: u64,
    pub(crate) seed: u64,
}

pub(crate) const KIB: Contents = Contents { name: "1KiB.bin", length: 1 << 10, seed: 1 };
pub(crate) const TEN_KIB: Contents = Contents { name: "10KiB.bin", length: 10 << 10, seed: 3 };
pub(crate) const HUNDRED_KIB: Contents =
    Contents { name: "100KiB.bin", length: 100 << 10, seed: 4 };
pub(crate) const GIB: Contents = Contents { name: "1GiB.bin", length: 1 << 30, seed: 2 };

/// The directory that servers serve, with all files, each read once. It is kept in `target/`
/// between runs: writing a GiB takes longer than reading it.
pub(crate) fn prepare(files: &[Contents]) -> Result<PathBuf> {
    let root = root()?;
    for file in files {
        file.prepare(&root, file.name).with_context(|| format!("cannot prepare {}", file.name))?;
    }
    Ok(root)
}

/// As [`prepare`], so many files of a length in a directory of theirs, with different contents.
pub(crate) fn prepare_set(of: Contents, files: u32) -> Result<()> {
    let (root, directory) = (root()?, of.set());
    fs::create_dir_all(root.join(&directory))?;
    for index in 0..files {
        let file = Contents { seed: of.seed + u64::from(index), ..of };
        let name = file_of(&directory, index);
        file.prepare(&root, &name).with_context(|| format!("cannot prepare {name}"))?;
    }
    Ok(())
}

/// As [`prepare`], a directory for each of so many sites, `0` and up, with a file of this name
/// and length and with contents of its own in each. Returns the directory above them.
pub(crate) fn prepare_sites(of: Contents, sites: u32) -> Result<PathBuf> {
    let above = root()?.join("sites");
    for index in 0..sites {
        let site = above.join(index.to_string());
        fs::create_dir_all(&site)?;
        let file = Contents { seed: of.seed + u64::from(index), ..of };
        let prepared = file.prepare(&site, file.name);
        prepared.with_context(|| format!("cannot prepare {}", site.display()))?;
    }
    Ok(above)
}

fn root() -> Result<PathBuf> {
    let own = own_path()?;
    let target = Path::new(&own).ancestors().nth(2).context("this program is in no target")?;
    let root = target.join("bench-data");
    fs::create_dir_all(&root).with_context(|| format!("cannot make {}", root.display()))?;
    Ok(root)
}

impl Contents {
    /// What a length is called: `64KiB`.
    pub(crate) fn label(&self) -> &'static str {
        self.name.trim_end_matches(".bin")
    }

    /// The directory of a set of such files.
    pub(crate) fn set(&self) -> String {
        format!("{}-set", self.label())
    }

    fn prepare(&self, root: &Path, name: &str) -> Result<()> {
        let path = root.join(name);
        if !self.is_whole(&path) {
            // Renamed when whole: an interrupted run leaves no half of a file behind this name.
            let part = path.with_extension("part");
            corpus::write_file(&part, self.seed, self.length)?;
            File::open(&part)?.sync_all()?;
            fs::rename(&part, &path)?;
        }
        self.read(&path)
    }

    fn is_whole(&self, path: &Path) -> bool {
        fs::metadata(path).is_ok_and(|metadata| metadata.len() == self.length)
    }

    /// Makes it resident, and finds out whether it still is what it should be.
    fn read(&self, path: &Path) -> Result<()> {
        let mut verifier = corpus::Verifier::new(self.seed, 0);
        io::copy(&mut File::open(path)?, &mut verifier)
            .with_context(|| format!("{} is not as it was written: remove it", path.display()))?;
        ensure!(verifier.position() == self.length, "{} is too short", path.display());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_written_once_and_a_spoilt_one_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let file = Contents { name: "a.bin", length: 100_000, seed: 9 };
        let path = directory.path().join("a.bin");
        file.prepare(directory.path(), file.name).unwrap();
        let written = fs::metadata(&path).unwrap().modified().unwrap();
        file.prepare(directory.path(), file.name).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().modified().unwrap(), written);

        let mut bytes = fs::read(&path).unwrap();
        bytes[99_999] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(file.prepare(directory.path(), file.name).is_err());
        fs::write(&path, &bytes[..10]).unwrap();
        file.prepare(directory.path(), file.name).unwrap();
    }
}
