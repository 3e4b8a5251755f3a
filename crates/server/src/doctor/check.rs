//! One thing that was looked at, and what was found.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};

use serde::Serialize;
use serde_json::Value;
use sluicegate::os::is_out_of_descriptors;

/// What was found, from the operator's side. The names are part of the JSON
/// report: programs rely on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// As it should be.
    Good,
    /// It works, and a change would make Sluicegate faster, or hold more.
    CouldBeBetter,
    /// It does not work here.
    Missing,
    /// It could not be found out.
    NotKnown,
    /// Neither good nor bad: for whoever reads a report from elsewhere.
    Information,
}

impl Verdict {
    pub(super) const ALL: [Verdict; 5] = [
        Verdict::Good,
        Verdict::CouldBeBetter,
        Verdict::Missing,
        Verdict::NotKnown,
        Verdict::Information,
    ];

    /// For people.
    pub(super) fn words(self) -> &'static str {
        match self {
            Verdict::Good => "good",
            Verdict::CouldBeBetter => "could be better",
            Verdict::Missing => "missing",
            Verdict::NotKnown => "not known",
            Verdict::Information => "information",
        }
    }
}

/// What checks are grouped by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Topic {
    Kernel,
    Sending,
    Acknowledgements,
    Network,
    Interfaces,
    Limits,
    Process,
    Directory,
}

impl Topic {
    pub(super) const ALL: [Topic; 8] = [
        Topic::Kernel,
        Topic::Sending,
        Topic::Acknowledgements,
        Topic::Network,
        Topic::Interfaces,
        Topic::Limits,
        Topic::Process,
        Topic::Directory,
    ];

    pub(super) fn words(self) -> &'static str {
        match self {
            Topic::Kernel => "Kernel",
            Topic::Sending => "Sending without copying",
            Topic::Acknowledgements => "Acknowledgements",
            Topic::Network => "Network",
            Topic::Interfaces => "Interfaces",
            Topic::Limits => "Limits",
            Topic::Process => "Where this process runs",
            Topic::Directory => "Directory",
        }
    }
}

/// What an operator can do about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Change {
    /// In words.
    pub(super) text: String,
    /// A command that does it, or a setting to write down; as it is typed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) command: Option<String>,
}

/// One line of the report.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Check {
    /// For programs; never changes.
    pub(super) name: &'static str,
    pub(super) topic: Topic,
    /// The interface or directory that it is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) subject: Option<String>,
    /// For people.
    pub(super) title: String,
    pub(super) verdict: Verdict,
    /// What was measured, for people.
    pub(super) value: String,
    /// What was measured, for programs: bytes, counts, names.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) measured: BTreeMap<&'static str, Value>,
    /// Why it matters for Sluicegate.
    pub(super) why: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) change: Option<Change>,
    /// No server can run without it.
    pub(super) required: bool,
}

impl Check {
    /// A check whose outcome is not known yet.
    pub(super) fn new(topic: Topic, name: &'static str, title: &str, why: &'static str) -> Self {
        Check {
            name,
            topic,
            subject: None,
            title: title.to_owned(),
            verdict: Verdict::NotKnown,
            value: String::new(),
            measured: BTreeMap::new(),
            why,
            change: None,
            required: false,
        }
    }

    pub(super) fn about(mut self, subject: &str) -> Self {
        self.subject = Some(subject.to_owned());
        self
    }

    pub(super) fn required(mut self) -> Self {
        self.required = true;
        self
    }

    pub(super) fn found(mut self, verdict: Verdict, value: impl Into<String>) -> Self {
        self.verdict = verdict;
        self.value = value.into();
        self
    }

    pub(super) fn figure(mut self, name: &'static str, value: impl Into<Value>) -> Self {
        self.measured.insert(name, value.into());
        self
    }

    pub(super) fn change(mut self, text: impl Into<String>) -> Self {
        self.change = Some(Change { text: text.into(), command: None });
        self
    }

    pub(super) fn command(mut self, command: impl Into<String>) -> Self {
        if let Some(change) = &mut self.change {
            change.command = Some(command.into());
        }
        self
    }

    /// A system call failed that the thing cannot do without. `call` is its
    /// name, `since` the kernel that has it.
    pub(super) fn refused(self, error: &io::Error, call: &str, since: &str) -> Self {
        let check = self.found(Verdict::Missing, format!("`{call}` failed: {error}"));
        match error.kind() {
            ErrorKind::Unsupported => check.change(format!(
                "Run on Linux {since} or later. If this kernel is, something between it and the \
                 program hides `{call}`: a filter of system calls (seccomp), a sandbox, valgrind."
            )),
            ErrorKind::PermissionDenied => check.change(format!(
                "Allow `{call}` where it is forbidden: in the seccomp profile of the container, or \
                 in `SystemCallFilter=` of the systemd unit."
            )),
            _ if is_out_of_descriptors(error) => check
                .change("Allow more open descriptors: `LimitNOFILE=` of the unit, or in the shell:")
                .command("ulimit -n 65536"),
            ErrorKind::TimedOut => check.change(
                "What was sent on the loopback interface did not arrive: look for a packet filter \
                 that drops it.",
            ),
            _ => check.change(format!(
                "This is not expected of `{call}`: report it, with what `doctor --json` says."
            )),
        }
    }

    /// What the probe itself stands on was not to be had, so that nothing is
    /// known of the thing.
    pub(super) fn not_tried(self, error: &io::Error) -> Self {
        let check = self.found(Verdict::NotKnown, format!("could not be tried: {error}"));
        if is_out_of_descriptors(error) {
            return check
                .change("Allow more open descriptors: `LimitNOFILE=` of the unit, or in the shell:")
                .command("ulimit -n 65536");
        }
        match error.kind() {
            ErrorKind::AddrNotAvailable | ErrorKind::NetworkUnreachable => check
                .change("The probe uses the loopback interface, which is down. Take it into use:")
                .command("ip link set lo up"),
            ErrorKind::TimedOut => check
                .change(
                    "A connection on the loopback interface got no answer: a packet filter drops \
                     it, or the interface is down. To take it into use:",
                )
                .command("ip link set lo up"),
            ErrorKind::PermissionDenied | ErrorKind::Unsupported => check.change(
                "A call that the probe needs is forbidden or not known here: look for a filter of \
                 system calls (seccomp) in the profile of the container or in the systemd unit.",
            ),
            _ => check,
        }
    }

    pub(super) fn is_fatal(&self) -> bool {
        self.required && self.verdict == Verdict::Missing
    }
}
