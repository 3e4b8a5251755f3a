//! Directories of files, as all workers know them.

use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sluicegate::file::{Access, Kind, Links, Root, stamp};
use sluicegate_http::FieldRules;

use super::Options;
use super::lookup;

/// A directory of files, and how they are served.
#[derive(Debug)]
pub(crate) struct Directory {
    /// What it has in the caches' keys. Nothing else that was ever served by
    /// this process has it.
    pub(super) number: u32,
    pub(super) root: Arc<Root>,
    pub(super) options: Options,
    /// In the heads that are kept with the files.
    pub(super) rules: Arc<FieldRules>,
}

impl Directory {
    /// What it has in the caches' keys.
    pub(crate) fn number(&self) -> u32 {
        self.number
    }
}

/// What tells one directory from another: files that are kept for one may be
/// served for its equal.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    path: PathBuf,
    /// Another directory may have the path by now.
    inode: (u64, u64),
    options: Options,
    rules: Arc<FieldRules>,
}

/// A directory that is open, and its device and inode number.
#[derive(Clone, Debug)]
struct Opened {
    root: Arc<Root>,
    inode: (u64, u64),
}

/// The directories of a configuration, each once however many routes lead to it.
#[derive(Debug, Default)]
pub(crate) struct Directories {
    directories: HashMap<Identity, Arc<Directory>>,
    /// Those with the same path and rule for links share a descriptor.
    roots: HashMap<(PathBuf, Links), Opened>,
    /// The number of the next one.
    next: u32,
}

impl Directories {
    /// None, to be those of a configuration that takes the place of `before`.
    pub(crate) fn after(before: Option<&Directories>) -> Self {
        Directories { next: before.map_or(0, |before| before.next), ..Self::default() }
    }

    /// The files beneath `path`. One that was in `before`, and is the same, is
    /// the very same: what is kept of it stays.
    ///
    /// # Errors
    /// When it cannot be opened, is no directory, or lacks a file that the
    /// options name.
    pub(crate) fn open(
        &mut self,
        path: &Path,
        options: &Options,
        rules: &Arc<FieldRules>,
        before: Option<&Directories>,
    ) -> io::Result<Arc<Directory>> {
        let path = std::path::absolute(path)?;
        let Opened { root, inode } = self.root(&path, options.links, before)?;
        let identity = Identity { path, inode, options: options.clone(), rules: Arc::clone(rules) };
        if let Some(directory) = self.directories.get(&identity) {
            return Ok(Arc::clone(directory));
        }
        check_named(&root, options)?;
        let known = before.and_then(|before| before.directories.get(&identity));
        let directory = known.cloned().unwrap_or_else(|| {
            let number = self.next;
            self.next = number.wrapping_add(1);
            let (options, rules) = (options.clone(), Arc::clone(rules));
            Arc::new(Directory { number, root, options, rules })
        });
        self.directories.insert(identity, Arc::clone(&directory));
        Ok(directory)
    }

    fn root(
        &mut self,
        path: &Path,
        links: Links,
        before: Option<&Directories>,
    ) -> io::Result<Opened> {
        let key = (path.to_owned(), links);
        if let Some(opened) = self.roots.get(&key) {
            return Ok(opened.clone());
        }
        let root = Root::open(path, links)?;
        let inode = stamp(root.as_fd())?.inode;
        let known = before.and_then(|before| before.roots.get(&key));
        let opened = match known.filter(|known| known.inode == inode) {
            Some(known) => known.clone(),
            None => Opened { root: Arc::new(root), inode },
        };
        self.roots.insert(key, opened.clone());
        Ok(opened)
    }

    /// All of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Directory>> {
        self.directories.values()
    }
}

/// The files that options name must be there.
fn check_named(root: &Root, options: &Options) -> io::Result<()> {
    let pages = options.error_pages.iter().map(|(_, page)| page);
    for named in options.fallback.iter().chain(pages) {
        if let Err(reason) = readable(root, named) {
            let message = format!("`{}` beneath it {reason}", named.escape_ascii());
            return Err(io::Error::other(message));
        }
    }
    Ok(())
}

/// Looks whether the path `named`, a normal form, is a file that can be read.
///
/// # Errors
/// Why it is none, in words that follow its name.
pub(crate) fn readable(root: &Root, named: &[u8]) -> Result<(), String> {
    match lookup::look(root, named) {
        Ok(stamp) if stamp.kind != Kind::Regular => Err("is no regular file".to_owned()),
        // It must be there to be read, too.
        Ok(_) => match lookup::open_beneath(root, named, Access::Read) {
            Ok(_) => Ok(()),
            Err(refusal) => Err(refusal.to_string()),
        },
        Err(refusal) => Err(refusal.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(
        directories: &mut Directories,
        path: &Path,
        listing: bool,
        before: Option<&Directories>,
    ) -> Arc<Directory> {
        let options = Options { listing, ..Options::default() };
        directories.open(path, &options, &Arc::default(), before).unwrap()
    }

    #[test]
    fn equals_are_one_and_what_coincides_is_opened_once() {
        let tree = tempfile::tempdir().unwrap();
        let mut directories = Directories::default();
        let one = open(&mut directories, tree.path(), false, None);
        let same = open(&mut directories, tree.path(), false, None);
        let other = open(&mut directories, tree.path(), true, None);
        assert!(Arc::ptr_eq(&one, &same) && Arc::ptr_eq(&one.root, &other.root));
        assert_ne!(one.number, other.number);
        assert_eq!((directories.iter().count(), directories.roots.len()), (2, 1));
    }

    #[test]
    fn what_is_the_same_after_a_reload_keeps_its_number() {
        let tree = tempfile::tempdir().unwrap();
        let (kept, moved) = (tree.path().join("kept"), tree.path().join("moved"));
        for path in [&kept, &moved] {
            std::fs::create_dir(path).unwrap();
        }
        let mut before = Directories::default();
        let first = [&kept, &moved].map(|path| open(&mut before, path, false, None).number);
        // Another directory under the same name.
        std::fs::rename(&moved, tree.path().join("old")).unwrap();
        std::fs::create_dir(&moved).unwrap();
        let mut after = Directories::after(Some(&before));
        let second =
            [&kept, &moved].map(|path| open(&mut after, path, false, Some(&before)).number);
        let listed = open(&mut after, &kept, true, Some(&before)).number;
        assert_eq!(first[0], second[0]);
        assert!(!first.contains(&second[1]) && !first.contains(&listed));
        assert_ne!(second[1], listed);
    }
}
