//! What a proxy holds while it works: memory, pipes, files. Looked at from outside, from another
//! core, by what `/proc` tells of its process; and what our own tells of itself.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};
use rustix::io::ioctl_fionread;
use serde::{Deserialize, Serialize};

use crate::harness::memory::Memory;
use crate::harness::network::Side;

/// How often it is looked at.
const PERIOD: Duration = Duration::from_millis(50);

/// What `st_blocks` counts in.
const BLOCK: u64 = 512;

/// The most that a proxy held at one look, in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Watched {
    /// Of its process alone, above what it had before (`RssAnon`): files that it has mapped are
    /// counted as files.
    pub(crate) own: i64,
    /// In temporary files on disks, of all of them and of the largest.
    pub(crate) on_disk: u64,
    pub(crate) largest: u64,
    /// In files in memory (memfd).
    pub(crate) in_memory: u64,
    /// In pipes.
    pub(crate) in_pipes: u64,
    /// Pipes that it had.
    pub(crate) pipes: u64,
    /// Pages that it has dirtied of files on disks: what must be written unless the file goes
    /// before (`write_bytes` of `proc_pid_io(5)`).
    pub(crate) written: u64,
    /// Looks.
    pub(crate) looks: u64,
}

/// One look, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Look {
    pub(crate) on_disk: u64,
    largest: u64,
    pub(crate) in_memory: u64,
    pub(crate) in_pipes: u64,
    pipes: u64,
}

/// Looks at a process until `work` is done.
pub(crate) fn watch<T>(
    pid: u32,
    directory: Option<&Path>,
    pipes_too: bool,
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, Watched)> {
    let own = Memory::read(pid)?.anonymous;
    let written = written(pid)?;
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut most = Watched::default();
            while !is_over.load(Ordering::Relaxed) {
                // A process that has ended is noticed by who asks it.
                if let (Ok(look), Ok(memory)) = (look(pid, directory, pipes_too), Memory::read(pid))
                {
                    most.take(look, memory.anonymous - own);
                }
                thread::sleep(PERIOD);
            }
            most
        });
        let done = work();
        is_over.store(true, Ordering::Relaxed);
        let mut most = looking.join().map_err(|_| anyhow::anyhow!("the watcher panicked"))?;
        let done = done?;
        most.written = self::written(pid)?.saturating_sub(written);
        Ok((done, most))
    })
}

impl Watched {
    fn take(&mut self, look: Look, own: i64) {
        self.own = self.own.max(own);
        self.on_disk = self.on_disk.max(look.on_disk);
        self.largest = self.largest.max(look.largest);
        self.in_memory = self.in_memory.max(look.in_memory);
        self.in_pipes = self.in_pipes.max(look.in_pipes);
        self.pipes = self.pipes.max(look.pipes);
        self.looks += 1;
    }

    /// Bytes of bodies that it held in memory at most: pipes, files in memory, and what its
    /// process grew by, which may hold code and more too.
    pub(crate) fn held(&self) -> u64 {
        self.in_pipes + self.in_memory + u64::try_from(self.own).unwrap_or(0)
    }
}

/// Looks at a process once.
pub(crate) fn look(pid: u32, directory: Option<&Path>, pipes_too: bool) -> Result<Look> {
    let mut look = Look::default();
    let mut seen = Vec::new();
    for entry in fs::read_dir(format!("/proc/{pid}/fd"))?.flatten() {
        let Ok(target) = fs::read_link(entry.path()) else { continue };
        let name = target.to_string_lossy();
        if name.starts_with("pipe:") {
            if !seen.contains(&target) {
                look.pipes += 1;
                if pipes_too {
                    look.in_pipes += contained(&entry.path());
                }
                seen.push(target);
            }
            continue;
        }
        if !name.starts_with('/') {
            continue;
        }
        let Ok(metadata) = fs::metadata(entry.path()) else { continue };
        if !metadata.is_file() {
            continue;
        }
        let bytes = metadata.blocks() * BLOCK;
        if name.starts_with("/memfd:") {
            look.in_memory += bytes;
        } else if metadata.nlink() == 0 {
            look.on_disk += bytes;
            look.largest = look.largest.max(bytes);
        }
    }
    // Temporary files that have names, open or not.
    if let Some(directory) = directory {
        named(directory, &mut look);
    }
    Ok(look)
}

fn named(directory: &Path, look: &mut Look) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_dir() {
            named(&entry.path(), look);
        } else if metadata.is_file() {
            let bytes = metadata.blocks() * BLOCK;
            // Configurations and logs of errors are some KiB.
            if bytes > 64 << 10 {
                look.on_disk += bytes;
                look.largest = look.largest.max(bytes);
            }
        }
    }
}

/// Bytes in a pipe of another process.
fn contained(path: &Path) -> u64 {
    // A reader more, which reads nothing.
    let nonblocking = i32::try_from(rustix::fs::OFlags::NONBLOCK.bits()).unwrap_or(0);
    let pipe: Option<File> =
        OpenOptions::new().read(true).custom_flags(nonblocking).open(path).ok();
    pipe.and_then(|pipe| ioctl_fionread(&pipe).ok()).unwrap_or(0)
}

/// What a process has written, in bytes: see [`Watched::written`].
pub(crate) fn written(pid: u32) -> Result<u64> {
    let path = format!("/proc/{pid}/io");
    // Another user's is root's to read.
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("write_bytes: "));
    Ok(line.with_context(|| format!("no write_bytes in {path}"))?.trim().parse()?)
}

/// What our proxy tells of itself: metrics by name with labels.
pub(crate) type Metrics = BTreeMap<String, f64>;

/// Where our proxy tells it.
#[derive(Debug, Clone)]
pub(crate) struct Admin {
    address: SocketAddr,
}

impl Admin {
    /// Of a proxy with this directory, if it is ours.
    pub(crate) fn of(directory: Option<PathBuf>) -> Option<Self> {
        let text = fs::read_to_string(directory?.join("admin")).ok()?;
        Some(Self { address: text.trim().parse().ok()? })
    }

    /// Asks it.
    pub(crate) fn ask(&self, side: Side<'_>) -> Result<Metrics> {
        side.enter(|| {
            let mut stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(Duration::from_secs(5)))?;
            stream
                .write_all(b"GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
            let mut text = Vec::new();
            stream.read_to_end(&mut text)?;
            Ok(parse(&String::from_utf8_lossy(&text)))
        })?
    }
}

/// The text format of Prometheus.
fn parse(text: &str) -> Metrics {
    let lines = text.lines().filter(|line| line.starts_with("sluicegate_"));
    let of = |line: &str| {
        let (name, value) = line.rsplit_once(' ')?;
        Some((name.to_owned(), value.parse().ok()?))
    };
    lines.filter_map(of).collect()
}

/// The sum of all metrics of a name whose labels hold these words.
pub(crate) fn sum(metrics: &Metrics, name: &str, labels: &[&str]) -> f64 {
    let is_meant = |key: &str| {
        let bare = key.split('{').next().unwrap_or(key);
        bare == name && labels.iter().all(|label| key.contains(label))
    };
    metrics.iter().filter(|(key, _)| is_meant(key)).map(|(_, value)| value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use sluicegate_sys::memfd::MappedMemfd;

    #[test]
    fn what_this_process_holds_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let memory = MappedMemfd::new(1 << 20).unwrap();
        let (mut reader, mut writer) = std::io::pipe().unwrap();
        let ((), watched) = watch(std::process::id(), Some(directory.path()), true, || {
            writer.write_all(&[7; 3000])?;
            let mut file = tempfile::tempfile_in(directory.path())?;
            file.write_all(&vec![1; 200_000])?;
            fs::write(directory.path().join("named"), vec![1; 300_000])?;
            thread::sleep(4 * PERIOD);
            Ok(())
        })
        .unwrap();
        assert!(watched.looks > 0 && watched.pipes > 0);
        assert!(watched.in_pipes >= 3000, "{watched:?}");
        assert!(watched.on_disk >= 500_000 && watched.largest >= 300_000, "{watched:?}");
        reader.read_exact(&mut [0; 3000]).unwrap();
        drop(memory);
    }

    #[test]
    fn metrics_are_added_by_name_and_labels() {
        let metrics = parse(
            "# HELP x\nsluicegate_a_total{way=\"x\"} 3\nsluicegate_a_total{way=\"y\"} 4\n\
             sluicegate_ab 5\n",
        );
        assert_eq!(sum(&metrics, "sluicegate_a_total", &[]), 7.0);
        assert_eq!(sum(&metrics, "sluicegate_a_total", &["\"y\""]), 4.0);
        assert_eq!(sum(&metrics, "sluicegate_ab", &[]), 5.0);
    }
}
