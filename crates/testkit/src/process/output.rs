//! The newest lines that a process wrote.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Read};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Instant;

/// How much output of a process is kept, in bytes: the newest. Enough for the log of any test,
/// and a server that logs without end cannot fill the memory of the test.
const OUTPUT_LIMIT: usize = 1 << 20;

/// A longer line is cut into several, so that output without line ends is bounded as well.
const LINE_LIMIT: u64 = 16 << 10;

/// The newest lines of a process, shared with the threads that read them.
#[derive(Debug, Default)]
pub(super) struct Output {
    lines: Mutex<Lines>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct Lines {
    kept: VecDeque<String>,
    /// Bytes in `kept`; at most [`OUTPUT_LIMIT`], unless a single line is all there is.
    bytes: usize,
    /// Lines that made room; so the number of `kept[0]`.
    dropped: u64,
    open_streams: u32,
}

pub(super) enum Next {
    Line(u64, String),
    /// Both streams have ended.
    End,
    /// The deadline has come.
    Nothing,
}

impl Output {
    pub(super) fn collect(output: &Arc<Self>, stream: impl Read + Send + 'static) {
        output.lock().open_streams += 1;
        let output = Arc::clone(output);
        thread::spawn(move || {
            let mut stream = BufReader::new(stream);
            let mut line = Vec::new();
            while matches!((&mut stream).take(LINE_LIMIT).read_until(b'\n', &mut line), Ok(1..)) {
                output.push(String::from_utf8_lossy(&line).trim_end().to_owned());
                line.clear();
            }
            output.lock().open_streams -= 1;
            output.changed.notify_all();
        });
    }

    fn push(&self, line: String) {
        let mut lines = self.lock();
        lines.bytes += line.len();
        lines.kept.push_back(line);
        while lines.bytes > OUTPUT_LIMIT && lines.kept.len() > 1 {
            let oldest = lines.kept.pop_front().map_or(0, |line| line.len());
            lines.bytes -= oldest;
            lines.dropped += 1;
        }
        drop(lines);
        self.changed.notify_all();
    }

    /// The first line that is kept and whose number is at least `number`.
    pub(super) fn next_from(&self, number: u64, deadline: Instant) -> Next {
        let mut lines = self.lock();
        loop {
            let index = number.saturating_sub(lines.dropped);
            let found = usize::try_from(index).ok().and_then(|index| lines.kept.get(index));
            if let Some(line) = found {
                return Next::Line(lines.dropped + index, line.clone());
            }
            if lines.open_streams == 0 {
                return Next::End;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            lines =
                self.changed.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until both streams have ended.
    pub(super) fn settle(&self, deadline: Instant) {
        let _ = self.next_from(u64::MAX, deadline);
    }

    pub(super) fn text(&self) -> String {
        let lines = self.lock();
        let mut text = String::with_capacity(lines.bytes + lines.kept.len());
        for line in &lines.kept {
            text.push_str(line);
            text.push('\n');
        }
        text
    }

    fn lock(&self) -> MutexGuard<'_, Lines> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
