//! Where and of what a run was made: what a reader needs before believing a figure.

use std::env;
use std::fs;
use std::process::Command;
use std::thread::available_parallelism;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use sluicegate_testkit::process::find_program;

/// The machine, the versions and the moment.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// UTC, as `2026-11-21T20:58:03Z`.
    pub(crate) date: String,
    pub(crate) command_line: Vec<String>,
    /// `git rev-parse HEAD` where the run was started; ends in `+` when files differ from it.
    pub(crate) revision: Option<String>,
    pub(crate) kernel: String,
    pub(crate) processor: String,
    pub(crate) cores: usize,
    pub(crate) memory_bytes: u64,
    /// Load average of the last minute when the run began.
    pub(crate) load: f64,
    /// The host's default congestion control. One that paces (BBR) costs a timer for each 64 KiB.
    pub(crate) congestion_control: String,
    pub(crate) nginx: Option<String>,
    pub(crate) lighttpd: Option<String>,
    pub(crate) h2o: Option<String>,
    #[serde(default)]
    pub(crate) apache: Option<String>,
    #[serde(default)]
    pub(crate) caddy: Option<String>,
    #[serde(default)]
    pub(crate) haproxy: Option<String>,
    pub(crate) strace: Option<String>,
    /// What has been told apart from these, such as the version of our server.
    pub(crate) sluicegate: Option<String>,
}

impl Machine {
    pub(crate) fn look() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self {
            date: utc(SystemTime::now()),
            command_line: env::args().collect(),
            revision: revision(),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: field(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cores: available_parallelism().map_or(1, usize::from),
            memory_bytes: kibibytes(&read("/proc/meminfo"), "MemTotal") * 1024,
            load: first_number(&read("/proc/loadavg")),
            congestion_control: read("/proc/sys/net/ipv4/tcp_congestion_control").trim().to_owned(),
            nginx: version("nginx", "-v"),
            lighttpd: version("lighttpd", "-v"),
            h2o: version("h2o", "--version"),
            apache: version("apache2", "-v"),
            caddy: version("caddy", "version").map(|version| format!("Caddy {version}")),
            haproxy: version("haproxy", "-v")
                .map(|version| version.split(" - ").next().unwrap_or_default().to_owned()),
            strace: version("strace", "-V"),
            sluicegate: None,
        }
    }

    /// Two lines for the head of a report.
    pub(crate) fn summary(&self) -> String {
        let missing = |version: &Option<String>, name| {
            version.clone().unwrap_or_else(|| format!("no {name}"))
        };
        format!(
            "{}, Linux {}, {} × {}, {:.1} GiB, {} by default, load {:.2}, revision {}\n\
             {}, {}, {}, {}, {}, {}, {}",
            self.date,
            self.kernel,
            self.cores,
            self.processor,
            self.memory_bytes as f64 / f64::from(1 << 30),
            self.congestion_control,
            self.load,
            self.revision.as_deref().unwrap_or("unknown"),
            missing(&self.sluicegate, "sluicegate"),
            missing(&self.nginx, "nginx"),
            missing(&self.lighttpd, "lighttpd"),
            missing(&self.h2o, "h2o"),
            missing(&self.apache, "Apache"),
            missing(&self.caddy, "Caddy"),
            missing(&self.haproxy, "HAProxy"),
        )
    }
}

/// The first line that a program prints about itself, on either stream.
pub(crate) fn version(program: &str, option: &str) -> Option<String> {
    let output = Command::new(find_program(program)?).arg(option).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text);
    Some(text.lines().next()?.trim().to_owned())
}

fn revision() -> Option<String> {
    let git = |arguments: &[&str]| {
        let output = Command::new("git").args(arguments).output().ok()?;
        let text = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| text.trim().to_owned())
    };
    let head = git(&["rev-parse", "--verify", "HEAD"])?;
    let clean = git(&["status", "--porcelain"]).is_some_and(|changes| changes.is_empty());
    Some(if clean { head } else { head + "+" })
}

/// The value of a line like `model name : AMD EPYC`.
fn field(text: &str, name: &str) -> Option<String> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim().to_owned())
    })
}

fn kibibytes(text: &str, name: &str) -> u64 {
    let value = field(text, name).unwrap_or_default();
    value.trim_end_matches(" kB").parse().unwrap_or(0)
}

fn first_number(text: &str) -> f64 {
    text.split_ascii_whitespace().next().and_then(|word| word.parse().ok()).unwrap_or(0.0)
}

/// RFC 3339, in whole seconds.
fn utc(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The date of a day after 1 January 1970, in the proleptic Gregorian calendar. Counted from
/// 1 March of the year 0, so that the leap day is a year's last (Hinnant, *chrono-compatible
/// low-level date algorithms*).
pub(crate) fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn seconds_become_dates() {
        let at = |seconds| utc(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_795_294_683), "2026-11-21T20:58:03Z");
        assert_eq!(at(4_107_542_399), "2100-02-28T23:59:59Z");
        assert_eq!(at(4_107_542_400), "2100-03-01T00:00:00Z");
    }

    #[test]
    fn a_machine_survives_the_round_trip_through_json() {
        let machine = Machine::look();
        let json = serde_json::to_string(&machine).unwrap();
        assert_eq!(serde_json::from_str::<Machine>(&json).unwrap(), machine);
        assert!(machine.cores > 0 && machine.memory_bytes > 0);
    }
}
