//! What a virtual machine shall have.

use std::path::PathBuf;
use std::time::Duration;
use std::{env, io};

use super::image::Program;
use super::{MODULES, TEST, VmError};

const TEST_LIMIT: Duration = Duration::from_secs(60);

/// What a virtual machine shall have.
#[derive(Debug, Clone)]
pub struct Options {
    pub(super) processors: u32,
    pub(super) mebibytes: u32,
    pub(super) modules: Vec<String>,
    programs: Vec<PathBuf>,
    pub(super) test_limit: Duration,
}

impl Options {
    /// One processor, 512 MiB of memory, virtio-net, the running test binary, and 60 s for each
    /// test.
    #[must_use]
    pub fn new() -> Self {
        let modules = MODULES.map(str::to_owned).to_vec();
        Self {
            processors: 1,
            mebibytes: 512,
            modules,
            programs: Vec::new(),
            test_limit: TEST_LIMIT,
        }
    }

    /// So many processors.
    #[must_use]
    pub fn processors(mut self, count: u32) -> Self {
        self.processors = count;
        self
    }

    /// So much memory, in MiB. The guest's files are in there too.
    #[must_use]
    pub fn memory(mut self, mebibytes: u32) -> Self {
        self.mebibytes = mebibytes;
        self
    }

    /// Loads a module of the guest's kernel, for example `tls` or `sch_netem`, after those that it
    /// needs.
    #[must_use]
    pub fn module(mut self, name: &str) -> Self {
        self.modules.push(name.to_owned());
        self
    }

    /// Takes a program of this machine along, with its libraries. In the guest it is
    /// `/programs/NAME`. (busybox is there without being asked for.)
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.programs.push(path.into());
        self
    }

    /// How long each test in the guest may take: 60 s if nothing else is said. (A machine ends by
    /// itself after ten minutes.)
    #[must_use]
    pub fn test_limit(mut self, limit: Duration) -> Self {
        self.test_limit = limit;
        self
    }

    /// The programs to take along: the test binary first.
    pub(super) fn all_programs(&self) -> Result<Vec<Program>, VmError> {
        let itself = env::current_exe()
            .map_err(|source| VmError::Image { what: "the test binary".to_owned(), source })?;
        let mut programs = vec![Program { on_host: itself, in_guest: TEST.to_owned() }];
        for path in &self.programs {
            let what = path.display().to_string();
            let name =
                path.file_name().and_then(|name| name.to_str()).ok_or_else(|| VmError::Image {
                    what,
                    source: io::Error::other("it has no name that can be written"),
                })?;
            programs.push(Program { on_host: path.clone(), in_guest: format!("/programs/{name}") });
        }
        Ok(programs)
    }
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}
