//! What a virtual machine is made of, and where it is found: in a directory that `.ci/vm` filled,
//! or installed in the system.

use std::path::{Path, PathBuf};
use std::{env, fs};

use super::modules::Modules;
use crate::process::find_program;

/// Names the directory, if it is not `target/vm` of the workspace.
const VARIABLE: &str = "SLUICEGATE_VM";

const QEMU: &str = "qemu-system-x86_64";

/// The device files of taps are made with.
const TAPS: &str = "/dev/net/tun";

/// How the hint reads that ends each message about something missing.
const HINT: &str = "`.ci/vm` fetches all of it";

/// Programs and a kernel to boot.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) qemu: PathBuf,
    /// The directories of its libraries, if they are not the system's.
    pub(super) libraries: Vec<PathBuf>,
    pub(super) busybox: PathBuf,
    pub(super) kernel: Kernel,
}

/// A kernel that has what the guest needs of it.
#[derive(Debug)]
pub(super) struct Kernel {
    pub(super) image: PathBuf,
    pub(super) modules: Modules,
}

impl Parts {
    /// Finds them.
    ///
    /// # Errors
    /// A line that tells what is missing.
    pub(super) fn find() -> Result<Self, String> {
        if !cfg!(target_arch = "x86_64") {
            return Err("tests that are built for x86-64".to_owned());
        }
        if !Path::new(TAPS).exists() {
            return Err(TAPS.to_owned());
        }
        let unpacked = directory();
        let lacks = |what: &str| format!("{what}; {HINT}");
        let path = |name: &str| Some(unpacked.join(name)).filter(|path| path.is_file());

        let own_qemu = path(&format!("usr/bin/{QEMU}"));
        let libraries = if own_qemu.is_some() { libraries(&unpacked) } else { Vec::new() };
        let qemu = own_qemu.or_else(|| find_program(QEMU)).ok_or_else(|| lacks(QEMU))?;
        let busybox = path("bin/busybox").or_else(|| path("usr/bin/busybox"));
        let busybox =
            busybox.or_else(|| find_program("busybox")).ok_or_else(|| lacks("busybox"))?;
        let kernel = [unpacked.as_path(), Path::new("/")].into_iter().find_map(kernel_of);
        let kernel = kernel.ok_or_else(|| lacks("a kernel with virtio_net"))?;
        Ok(Self { qemu, libraries, busybox, kernel })
    }
}

/// Where `.ci/vm` puts what it fetches.
fn directory() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/vm");
    env::var_os(VARIABLE).map_or_else(default, PathBuf::from)
}

fn libraries(root: &Path) -> Vec<PathBuf> {
    ["usr/lib/x86_64-linux-gnu", "lib/x86_64-linux-gnu"].map(|name| root.join(name)).to_vec()
}

/// The first kernel below a root, by name, that has the modules that every guest needs.
fn kernel_of(root: &Path) -> Option<Kernel> {
    let entries = fs::read_dir(root.join("boot")).ok()?;
    let mut images: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
    images.sort();
    images.into_iter().find_map(|image| {
        let release = image.file_name()?.to_str()?.strip_prefix("vmlinuz-")?;
        let modules = Modules::within(&root.join("lib/modules").join(release)).ok()?;
        let complete = super::MODULES.iter().all(|name| modules.have(name));
        complete.then_some(Kernel { image, modules })
    })
}
