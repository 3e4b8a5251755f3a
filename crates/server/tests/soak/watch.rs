//! What the server's processes and the kernel take, looked at all the time.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// What one process takes, or the most that any took.
#[derive(Clone, Copy, Debug, Default)]
pub struct Taken {
    pub descriptors: u64,
    pub resident: u64,
    pub threads: u64,
    pub pipes: u64,
    /// Pages that all TCP sockets of the machine hold (`/proc/net/sockstat`).
    pub pages: u64,
    /// Bytes that the sockets of the server's host have accepted and that no
    /// peer has acknowledged.
    pub unsent: u64,
}

impl Taken {
    /// `None` when there is no such process any more.
    pub fn by(pid: i32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        // A process that has ended but was not waited for has no memory.
        let resident = number("VmRSS:")? * 1024;
        Some(Taken {
            descriptors: descriptors(pid)?,
            resident,
            threads: number("Threads:")?,
            pipes: pipes(pid) as u64,
            pages: pages(),
            unsent: unsent(pid)?,
        })
    }

    fn rise(&mut self, to: Taken) {
        self.descriptors = self.descriptors.max(to.descriptors);
        self.resident = self.resident.max(to.resident);
        self.threads = self.threads.max(to.threads);
        self.pipes = self.pipes.max(to.pipes);
        self.pages = self.pages.max(to.pages);
        self.unsent = self.unsent.max(to.unsent);
    }
}

fn descriptors(pid: i32) -> Option<u64> {
    let directory = format!("/proc/{pid}/fd");
    // Since Linux 6.2 the directory's size is their number.
    match fs::metadata(&directory).ok()?.len() {
        0 => Some(fs::read_dir(&directory).ok()?.count() as u64),
        count => Some(count),
    }
}

/// Ends of pipes that a process has open.
fn pipes(pid: i32) -> usize {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

/// TCP's count is the machine's, not the namespace's.
pub fn pages() -> u64 {
    let text = fs::read_to_string("/proc/net/sockstat").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("TCP:")).unwrap_or_default();
    line.rsplit(' ').next().and_then(|word| word.parse().ok()).unwrap_or(0)
}

/// Of all TCP sockets of the process's network namespace: the first half of
/// `tx_queue:rx_queue` (the kernel's `proc_net_tcp.rst`).
fn unsent(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/net/tcp")).ok()?;
    let queues = text.lines().skip(1).filter_map(|line| {
        let (sending, _) = line.split_whitespace().nth(4)?.split_once(':')?;
        u64::from_str_radix(sending, 16).ok()
    });
    Some(queues.sum())
}

/// Looks at processes until it is dropped.
pub struct Watch {
    stop: Arc<AtomicBool>,
    pids: Arc<Mutex<Vec<i32>>>,
    most: Arc<Mutex<Taken>>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    pub fn on(pid: i32) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let pids = Arc::new(Mutex::new(vec![pid]));
        let most = Arc::new(Mutex::new(Taken::default()));
        let shared = (Arc::clone(&stop), Arc::clone(&pids), Arc::clone(&most));
        let thread = std::thread::spawn(move || {
            let (stop, pids, most) = shared;
            while !stop.load(Ordering::Relaxed) {
                let pids = pids.lock().unwrap().clone();
                for taken in pids.into_iter().filter_map(Taken::by) {
                    most.lock().unwrap().rise(taken);
                }
                std::thread::sleep(Duration::from_millis(400));
            }
        });
        Watch { stop, pids, most, thread: Some(thread) }
    }

    /// One process more.
    pub fn also(&self, pid: i32) {
        self.pids.lock().unwrap().push(pid);
    }

    /// The most that there was of each.
    pub fn most(&self) -> Taken {
        *self.most.lock().unwrap()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
