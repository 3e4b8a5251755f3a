//! What a test needs of the machine that it runs on.
//!
//! The workspace's tests pass on a fresh machine. A test that needs a program or a privilege says
//! so in its first line:
//!
//! ```ignore
//! #[test]
//! fn curl_resumes_a_download() {
//!     require!(Need::Program("curl"), Need::NetworkNamespaces);
//!     // …
//! }
//! ```
//!
//! Where a need is not met the test returns, and the test target `skipped` of this crate, which
//! cargo runs last, lists it. With `SLUICEGATE_LAB=required` in the environment it fails instead.

mod record;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::{env, fs, thread};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::lab::{Lab, LabError, Wire};
use crate::process::find_program;
use crate::vm;
pub use record::SkippedTests;

/// The environment variable that, set to `required`, makes a test with an unmet need fail.
pub const VARIABLE: &str = "SLUICEGATE_LAB";

/// A rate that any machine can throttle to, for the check of [`Need::Throttle`].
const PROBE_RATE: u64 = 8_000_000;

/// Something that a test cannot do without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Need {
    /// A program, in `PATH` or in a directory such as `/usr/sbin`: see [`find_program`].
    Program(&'static str),
    /// To run as root.
    Root,
    /// To be able to build a [`Lab`]: `ip`, and the privileges to make network namespaces.
    NetworkNamespaces,
    /// All of [`Need::NetworkNamespaces`], `tc`, and a kernel with `tbf`: a [`Lab`] whose wire
    /// can be throttled.
    Throttle,
    /// All of [`Need::NetworkNamespaces`], and `/dev/net/tun`: to be able to build a
    /// [`Lab::wire`].
    TrueWire,
    /// All of [`Need::NetworkNamespaces`], `/dev/net/tun`, qemu, busybox and a kernel: to be able
    /// to boot a [`Vm`](crate::vm::Vm). `.ci/vm` fetches what can be fetched.
    VirtualMachine,
    /// So many open descriptors. A soft limit that is lower is raised, for the whole process.
    Descriptors(u64),
    /// At least this kernel, for example `Kernel(6, 5)` for `cachestat`.
    Kernel(u32, u32),
    /// Anything else, found out by the test: `holds` tells whether it is so, `what` names it.
    Fact {
        /// What is needed, for the list: `a file system with large folios`.
        what: &'static str,
        /// Whether it is there.
        holds: bool,
    },
}

impl Need {
    /// Why the need is not met; `None` if it is.
    fn lack(self) -> Option<String> {
        match self {
            Self::Program(name) => find_program(name).is_none().then(|| format!("`{name}`")),
            Self::Root => (!rustix::process::geteuid().is_root()).then(|| "root".to_owned()),
            Self::NetworkNamespaces => {
                // Setting up takes several processes; one try per test binary is enough.
                static LACK: OnceLock<Option<String>> = OnceLock::new();
                LACK.get_or_init(|| Lab::veth().err().map(|error| reason(&error))).clone()
            }
            Self::Throttle => {
                static LACK: OnceLock<Option<String>> = OnceLock::new();
                let try_it = || Lab::veth().and_then(|lab| lab.throttle(PROBE_RATE));
                LACK.get_or_init(|| try_it().err().map(|error| reason(&error))).clone()
            }
            Self::TrueWire => {
                static LACK: OnceLock<Option<String>> = OnceLock::new();
                let try_it = || Lab::wire(Wire::default());
                LACK.get_or_init(|| try_it().err().map(|error| reason(&error))).clone()
            }
            Self::VirtualMachine => {
                static LACK: OnceLock<Option<String>> = OnceLock::new();
                LACK.get_or_init(vm::lack).clone()
            }
            Self::Descriptors(count) => raise_descriptor_limit(count).err(),
            Self::Kernel(major, minor) => {
                let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
                let enough = kernel_version(&release) >= Some((major, minor));
                (!enough).then(|| format!("this is {}", release.trim()))
            }
            Self::Fact { holds, .. } => (!holds).then(String::new),
        }
        .map(|detail| self.describe(&detail))
    }

    fn describe(self, detail: &str) -> String {
        match self {
            Self::Program(_) => format!("the program {detail}"),
            Self::Root => "to run as root".to_owned(),
            Self::NetworkNamespaces => format!("network namespaces ({detail})"),
            Self::Throttle => format!("a wire that `tc` can throttle ({detail})"),
            Self::TrueWire => format!("a wire of TUN devices ({detail})"),
            Self::VirtualMachine => format!("a virtual machine ({detail})"),
            Self::Descriptors(count) => format!("{count} descriptors ({detail})"),
            Self::Kernel(major, minor) => format!("Linux {major}.{minor} ({detail})"),
            Self::Fact { what, .. } => what.to_owned(),
        }
    }
}

/// Returns from the test unless all needs are met. For tests that return nothing; others can
/// ask [`need::met`](met).
#[macro_export]
macro_rules! require {
    ($($need:expr),+ $(,)?) => {
        if !$crate::need::met(&$crate::test_name!(), &[$($need),+]) {
            return;
        }
    };
}

/// The name of the running test: its package, its test binary, and its path therein.
#[macro_export]
macro_rules! test_name {
    () => {{
        // The type of a function names the functions and modules around it.
        fn here() {}
        $crate::need::name_of_test(
            ::core::env!("CARGO_PKG_NAME"),
            ::core::module_path!(),
            ::core::any::type_name_of_val(&here),
        )
    }};
}

/// Whether all needs are met. If not, the test is recorded under its name, or fails where
/// [`VARIABLE`] says that it must run.
///
/// # Panics
/// If a need is not met and either the test is required, or it cannot be recorded: a test that is
/// neither run nor listed would look like a test that passed.
#[must_use]
pub fn met(test_name: &str, needs: &[Need]) -> bool {
    let lacks: Vec<String> = needs.iter().filter_map(|need| need.lack()).collect();
    if lacks.is_empty() {
        return true;
    }
    let entry = format!("{test_name}: needs {}", lacks.join(", and ")).replace('\n', " ");
    assert!(
        env::var_os(VARIABLE).is_none_or(|value| value != "required"),
        "{VARIABLE}=required, but {entry}"
    );
    if let Err(error) = record::append(&entry) {
        panic!("cannot record that {entry}: {error}");
    }
    eprintln!("skipped: {entry}");
    false
}

/// For [`test_name!`]. `module` starts with the name of the binary, `place` is that of a function
/// within the test.
#[doc(hidden)]
#[must_use]
pub fn name_of_test(package: &str, module: &str, place: &str) -> String {
    let binary = module.split("::").next().unwrap_or(module);
    // libtest names a thread after its test. That is right even when the macro stands in a
    // function that several tests call; with --test-threads=1 the thread is the main one.
    let current = thread::current();
    let path = match current.name() {
        Some(name) if name != "main" => name,
        _ => {
            let place = place.trim_end_matches("::here").trim_end_matches("::{{closure}}");
            place.strip_prefix(binary).and_then(|rest| rest.strip_prefix("::")).unwrap_or(place)
        }
    };
    if binary == package.replace('-', "_") {
        format!("{package} {path}")
    } else {
        format!("{package} {binary}::{path}")
    }
}

/// Why there is no lab, in a line that is short enough for a list.
fn reason(error: &LabError) -> String {
    match error {
        LabError::Failed { stderr, .. } if !stderr.is_empty() => stderr.clone(),
        other => other.to_string(),
    }
}

fn raise_descriptor_limit(count: u64) -> Result<(), String> {
    // Two tests that raise it at the same time must not leave the lower one of the two.
    static RAISING: Mutex<()> = Mutex::new(());
    let _raising = RAISING.lock().unwrap_or_else(PoisonError::into_inner);
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current.is_none_or(|current| current >= count) {
        return Ok(());
    }
    // Root may raise the hard limit as well.
    let maximum = maximum.map(|maximum| maximum.max(count));
    setrlimit(Resource::Nofile, Rlimit { current: Some(count), maximum })
        .map_err(|error| format!("`ulimit -n` cannot be raised: {error}"))
}

/// Major and minor number of a kernel release such as `6.18.44-generic`.
fn kernel_version(release: &str) -> Option<(u32, u32)> {
    let (major, rest) = release.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::{kernel_version, name_of_test};

    #[test]
    fn kernel_releases_are_read_whatever_follows_the_version() {
        assert_eq!(kernel_version("6.18.44-fc-v595\n"), Some((6, 18)));
        assert_eq!(kernel_version("7.0-rc1"), Some((7, 0)));
        assert_eq!(kernel_version("plan9"), None);
    }

    #[test]
    fn a_test_is_named_by_its_package_binary_and_path() {
        let name = |thread: &str, package: &'static str, module: &'static str, place| {
            std::thread::Builder::new()
                .name(thread.to_owned())
                .spawn(move || name_of_test(package, module, place))
                .expect("threads can be made")
                .join()
                .expect("does not panic")
        };
        assert_eq!(
            name("resumes", "p-server", "serve", "serve::help::here"),
            "p-server serve::resumes"
        );
        let place = "serve::resumes::{{closure}}::here";
        assert_eq!(name("main", "p-server", "serve", place), "p-server serve::resumes");
        let place = "p_server::files::tests::finds::here";
        assert_eq!(
            name("main", "p-server", "p_server::files::tests", place),
            "p-server files::tests::finds"
        );
    }
}
