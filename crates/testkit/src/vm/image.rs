//! The guest's files: an archive of our own making, since the guest has no disk.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::Command;

use super::cpio::Archive;
use super::parts::Parts;
use super::{GUEST, READY, STATUS, VmError};
use crate::process::find_program;

/// A program, and what it is called in the guest.
#[derive(Debug)]
pub(super) struct Program {
    pub(super) on_host: PathBuf,
    pub(super) in_guest: String,
}

/// Writes the archive to `path`.
pub(super) fn write(
    path: &Path,
    parts: &Parts,
    modules: &[String],
    programs: &[Program],
) -> Result<(), VmError> {
    let of = |what: &Path| {
        let what = what.display().to_string();
        move |source| VmError::Image { what, source }
    };
    let mut archive = Archive::new(BufWriter::new(File::create(path).map_err(of(path))?));
    let init = include_str!("init.sh")
        .replace("@GUEST@", &GUEST.to_string())
        .replace("@READY@", READY)
        .replace("@STATUS@", STATUS);
    archive.file("/init", init.as_bytes()).map_err(of(path))?;

    let modules = parts.kernel.modules.in_order(modules).map_err(of(&parts.kernel.image))?;
    for (number, module) in modules.iter().enumerate() {
        let name = format!("/modules/{number:02}-{}.ko", module.name);
        archive.file(&name, &module.contents).map_err(of(path))?;
    }

    let busybox = Program { on_host: parts.busybox.clone(), in_guest: "/bin/busybox".to_owned() };
    let mut libraries = BTreeSet::new();
    for program in [&busybox].into_iter().chain(programs) {
        let contents = stripped(&program.on_host, path).map_err(of(&program.on_host))?;
        archive.file(&program.in_guest, &contents).map_err(of(path))?;
        libraries.extend(libraries_of(&program.on_host).map_err(of(&program.on_host))?);
    }
    for library in libraries {
        let contents = fs::read(&library).map_err(of(Path::new(&library)))?;
        archive.file(&library, &contents).map_err(of(path))?;
    }
    archive.finish().map_err(of(path))
}

/// A program without what only a debugger reads: nine tenths of a test. Whole, where no `strip`
/// is there or it does not understand the file. `beside` names a file in a directory for scratch.
fn stripped(program: &Path, beside: &Path) -> io::Result<Vec<u8>> {
    let scratch = beside.with_extension("stripped");
    if let Some(strip) = find_program("strip") {
        let output = Command::new(strip)
            .args(["--strip-debug", "-o"])
            .arg(&scratch)
            .arg(program)
            .output()?;
        if output.status.success() {
            return fs::read(&scratch);
        }
    }
    fs::read(program)
}

/// The absolute paths of the libraries that a program is started with, and of what loads them.
fn libraries_of(program: &Path) -> io::Result<Vec<String>> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, "no program ldd");
    let output = Command::new(find_program("ldd").ok_or_else(missing)?)
        .arg(program)
        .env("LC_ALL", "C")
        .output()?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    if stderr.contains("not a dynamic executable") {
        return Ok(Vec::new());
    }
    if !output.status.success() {
        return Err(io::Error::other(format!("ldd: {}", stderr.trim())));
    }
    libraries_listed(&String::from_utf8_lossy(&output.stdout)).map_err(io::Error::other)
}

/// Reads what `ldd(1)` prints: `name => path (address)`, or `path (address)` for the loader. What
/// the kernel itself maps into every process has no path.
fn libraries_listed(list: &str) -> Result<Vec<String>, String> {
    let mut paths = Vec::new();
    for line in list.lines().map(str::trim) {
        let found = line.split_once(" => ").map_or(line, |(_, found)| found);
        if found == "not found" {
            return Err(line.to_owned());
        }
        if found.starts_with('/') {
            paths.push(found.split(" (").next().unwrap_or(found).to_owned());
        }
    }
    Ok(paths)
}

#[cfg(test)]
mod tests {
    use super::libraries_listed;

    #[test]
    fn the_list_of_libraries_is_read_as_ldd_prints_it() {
        let list = "\tlinux-vdso.so.1 (0x00007fb031e74000)\n\
                    \tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007fb031b3f000)\n\
                    \t/lib64/ld-linux-x86-64.so.2 (0x00007fb031e76000)\n";
        let paths = ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries_listed(list).expect("all are found"), paths);
        assert_eq!(libraries_listed("\tstatically linked\n"), Ok(Vec::new()));
        let line = "libx.so.1 => not found";
        assert_eq!(libraries_listed(&format!("\t{line}\n")), Err(line.to_owned()));
    }
}
