//! Modules of the guest's kernel, in the order in which they can be loaded.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{fs, str};

use crate::process::find_program;

/// Ends of the names of modules, and what unpacks them.
const SUFFIXES: [(&str, Option<&str>); 4] =
    [(".ko", None), (".ko.xz", Some("xz")), (".ko.gz", Some("gzip")), (".ko.zst", Some("zstd"))];

/// Where a module tells which others it needs (`modinfo(8)`). `modules.dep` would tell too, but
/// it is made when a kernel is installed, and this one may only have been unpacked.
const DEPENDS: &[u8] = b"\0depends=";

/// The modules of one kernel.
#[derive(Debug)]
pub(super) struct Modules {
    files: BTreeMap<String, PathBuf>,
    /// Those that are part of the kernel's image.
    built_in: BTreeSet<String>,
}

/// A module, unpacked.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) name: String,
    pub(super) contents: Vec<u8>,
}

impl Modules {
    /// Those in a directory such as `/lib/modules/6.1.0`.
    pub(super) fn within(directory: &Path) -> io::Result<Self> {
        let mut files = BTreeMap::new();
        collect(&directory.join("kernel"), &mut files)?;
        let list = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
        let built_in = list.lines().filter_map(|line| name_of(line.rsplit('/').next()?)).collect();
        Ok(Self { files, built_in })
    }

    /// Whether there is such a module, be it a file or built in.
    pub(super) fn have(&self, name: &str) -> bool {
        self.built_in.contains(name) || self.files.contains_key(name)
    }

    /// The modules of these names and all that they need, each behind what it needs. Those that
    /// are built in are left out.
    pub(super) fn in_order(&self, names: &[String]) -> io::Result<Vec<Module>> {
        let mut order = Vec::new();
        let mut seen = BTreeSet::new();
        for name in names {
            self.visit(&name.replace('-', "_"), &mut seen, &mut order)?;
        }
        Ok(order)
    }

    fn visit(
        &self,
        name: &str,
        seen: &mut BTreeSet<String>,
        order: &mut Vec<Module>,
    ) -> io::Result<()> {
        if self.built_in.contains(name) || !seen.insert(name.to_owned()) {
            return Ok(());
        }
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no module {name}"));
        let contents = unpacked(self.files.get(name).ok_or_else(missing)?)?;
        for needed in dependencies(&contents).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidData, format!("{name} names no dependencies"))
        })? {
            self.visit(&needed, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), contents });
        Ok(())
    }
}

fn collect(directory: &Path, files: &mut BTreeMap<String, PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            collect(&entry.path(), files)?;
        } else if let Some(name) = entry.file_name().to_str().and_then(name_of) {
            files.insert(name, entry.path());
        }
    }
    Ok(())
}

/// The name of the module in a file. A dash in the file's name is an underscore in the module's.
fn name_of(file: &str) -> Option<String> {
    let stem = SUFFIXES.iter().find_map(|(suffix, _)| file.strip_suffix(suffix))?;
    Some(stem.replace('-', "_"))
}

fn unpacked(path: &Path) -> io::Result<Vec<u8>> {
    let file = path.to_string_lossy();
    let program = SUFFIXES.iter().find(|(suffix, _)| file.ends_with(suffix)).and_then(|it| it.1);
    let Some(program) = program else {
        return fs::read(path);
    };
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("no program {program}"));
    let output =
        Command::new(find_program(program).ok_or_else(missing)?).arg("-dc").arg(path).output()?;
    if output.status.success() {
        Ok(output.stdout)
    } else {
        Err(io::Error::other(format!("{program} cannot unpack {file}")))
    }
}

/// What the module needs, by name; `None` when it does not tell.
fn dependencies(module: &[u8]) -> Option<Vec<String>> {
    let start = module.windows(DEPENDS.len()).position(|window| window == DEPENDS)?;
    let list = module[start + DEPENDS.len()..].split(|&byte| byte == 0).next()?;
    let names = str::from_utf8(list).ok()?.split(',').filter(|name| !name.is_empty());
    Some(names.map(|name| name.replace('-', "_")).collect())
}

#[cfg(test)]
mod tests {
    use super::Modules;
    use std::fs;

    #[test]
    fn a_module_comes_behind_all_that_it_needs_and_once() {
        let directory = tempfile::tempdir().expect("a directory");
        let kernel = directory.path().join("kernel/net");
        fs::create_dir_all(&kernel).expect("a directory");
        for (file, depends) in
            [("card-net.ko", "ring,fail_over"), ("ring.ko", "core"), ("fail-over.ko", "core,ring")]
        {
            let contents = format!("ELF\0license=GPL\0depends={depends}\0name=x\0");
            fs::write(kernel.join(file), contents).expect("a file");
        }
        let built_in = "kernel/base/core.ko\n";
        fs::write(directory.path().join("modules.builtin"), built_in).expect("a file");

        let modules = Modules::within(directory.path()).expect("readable");
        assert!(modules.have("core") && modules.have("fail_over") && !modules.have("absent"));
        let order = modules.in_order(&["card-net".to_owned(), "ring".to_owned()]);
        let names: Vec<String> = order.expect("all there").into_iter().map(|it| it.name).collect();
        assert_eq!(names, ["ring", "fail_over", "card_net"]);
        let error = modules.in_order(&["absent".to_owned()]).expect_err("it is not there");
        assert_eq!(error.to_string(), "no module absent");
    }
}
