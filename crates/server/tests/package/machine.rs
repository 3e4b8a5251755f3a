//! A throw-away machine: this one's file system, of which every change is
//! forgotten, and processes, sockets and mounts of its own.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use sluicegate_testkit::need::Need;
use sluicegate_testkit::process::Child;
use tempfile::TempDir;

use crate::common::PATIENCE;

/// Where Debian has it; `PATH` leads to no such program.
const SYSTEMD: &str = "/lib/systemd/systemd";

pub(crate) struct Machine {
    child: Child,
    /// The first process of the machine, as it is called outside.
    init: String,
    _directory: TempDir,
}

/// What it takes to have one.
pub(crate) fn needs() -> [Need; 6] {
    [
        Need::NetworkNamespaces,
        Need::Program("unshare"),
        Need::Program("nsenter"),
        Need::Program("setpriv"),
        Need::Program("dpkg"),
        Need::Fact {
            what: "an overlay over the root directory, and control groups",
            holds: overlay(),
        },
    ]
}

/// What it takes for systemd to run there.
pub(crate) fn systemd() -> Need {
    Need::Fact { what: "systemd", holds: Path::new(SYSTEMD).exists() }
}

fn overlay() -> bool {
    let directory = TempDir::new().unwrap();
    let script = "mount -t tmpfs none \"$1\" && cd \"$1\" && mkdir a b c d && \
                  mount -t overlay -o lowerdir=/,upperdir=a,workdir=b none c && \
                  mount -t cgroup2 none d";
    let mut command = Command::new("unshare");
    command.args(["--mount", "--propagation", "private", "sh", "-c", script, "sh"]);
    command.arg(directory.path()).output().is_ok_and(|output| output.status.success())
}

impl Machine {
    /// One where systemd has come up, without services.
    pub(crate) fn boot() -> Self {
        let init = [SYSTEMD, "--system", "--unit=basic.target", "--show-status=no"];
        let machine = Self::with(&init);
        // `degraded` is how it is where a unit of this machine failed.
        machine.until("systemctl is-system-running | grep -E 'running|degraded'");
        machine
    }

    /// One where nothing runs, as in a container.
    pub(crate) fn idle() -> Self {
        Self::with(&["sleep", "infinity"])
    }

    fn with(init: &[&str]) -> Self {
        let directory = TempDir::new().unwrap();
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/package/machine.sh");
        // It goes with this thread, also when that is killed.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "TERM", "unshare", "--mount", "--propagation", "private"]);
        command.arg("sh").arg(script).arg(directory.path()).args(init);
        let mut child = Child::spawn(command).unwrap();
        let line = child.wait_for_line(|line| line.starts_with("machine "), PATIENCE).unwrap();
        let init = line["machine ".len()..].to_owned();
        child.wait_for_line(|line| line == "ready", PATIENCE).unwrap();
        Machine { child, init, _directory: directory }
    }

    /// A command that is run by a shell in the machine, as root.
    pub(crate) fn shell(&self, script: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--target", &self.init, "--all", "env", "-i", "LC_ALL=C.UTF-8"]);
        command.arg("PATH=/usr/sbin:/usr/bin:/sbin:/bin");
        command.args(["timeout", "120", "sh", "-euc", script]);
        command
    }

    /// How a shell command in the machine ended.
    pub(crate) fn try_run(&self, script: &str) -> Output {
        self.shell(script).stdin(Stdio::null()).output().unwrap()
    }

    /// What a shell command in the machine, which must succeed, wrote.
    pub(crate) fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "{script}: {}\n{written}{errors}\n{}",
            output.status,
            self.journal()
        );
        written
    }

    /// Waits until a shell command succeeds.
    pub(crate) fn until(&self, script: &str) -> String {
        self.run(&format!(
            "i=0; until {{ {script}; }} 2>/dev/null; do
                 i=$((i + 1)); [ $i -lt 300 ]; sleep 0.2
             done"
        ))
    }

    /// What the service has said.
    pub(crate) fn journal(&self) -> String {
        let output =
            self.try_run("journalctl --no-pager --output=cat --unit='sluicegate*' || true");
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Copies a file into it.
    pub(crate) fn copy(&self, file: &Path, to: &str) {
        let file = OwnedFd::from(File::open(file).unwrap());
        let mut command = self.shell(&format!("cat >'{to}'"));
        assert!(command.stdin(file).status().unwrap().success());
    }

    /// The path, outside, of a file in it.
    pub(crate) fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.init))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // It takes itself down; what it does not, the guard kills.
        if self.child.terminate().is_ok() {
            let _ = self.child.wait_timeout(PATIENCE);
        }
    }
}
