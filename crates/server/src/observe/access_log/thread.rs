//! The thread that writes.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::output::{Output, line_start};
use super::{Order, Shared, lock};
use crate::log::tell;

/// How long a line may wait for others before it is written.
const COLLECT: Duration = Duration::from_millis(200);

/// Pause before a file that took nothing is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// Pause before a pipe that is full, and that nobody waits at, is tried again.
const FULL: Duration = Duration::from_millis(5);

/// How often it is tried before that is told as trouble.
const FULL_TRIES: u32 = 100;

/// How often something is tried again at the end, before what is left is lost.
const LAST_TRIES: u32 = 4;

/// How often the same trouble is told.
const AGAIN: Duration = Duration::from_secs(60);

/// Writes what the seats hold.
#[derive(Debug)]
pub(super) struct Scribe {
    shared: Arc<Shared>,
    output: Output,
    name: String,
    /// Pieces that were taken, in their order.
    queue: VecDeque<Vec<u8>>,
    /// What of the first is written.
    written: usize,
    trouble: Trouble,
}

/// What the operator was told.
#[derive(Debug, Default)]
struct Trouble {
    /// The file takes nothing.
    failing: bool,
    told: Option<Instant>,
    /// Lost lines that were told of.
    lost: u64,
}

/// What woke the thread.
struct Call {
    orders: Vec<Order>,
    left: bool,
}

impl Scribe {
    pub(super) fn new(shared: Arc<Shared>, output: Output, name: String) -> Self {
        let (queue, trouble) = Default::default();
        Scribe { shared, output, name, queue, written: 0, trouble }
    }

    pub(super) fn run(mut self) {
        loop {
            let Call { orders, left } = self.wait();
            // While nothing is taken, what the seats hold stays there, whole.
            let ordered = !orders.is_empty();
            if ordered || left || !self.trouble.failing {
                self.collect();
            }
            self.write();
            self.tell_lost();
            for order in orders {
                match order {
                    // Who does not wait any more is no loss.
                    Order::Flush(done) => drop(done.send(())),
                    Order::Reopen(done) => drop(done.send(self.reopen())),
                    Order::Finish(done) => {
                        let _ = done.send(self.finish());
                        return;
                    }
                }
            }
            if left && lock(&self.shared.seats).is_empty() {
                self.finish();
                return;
            }
        }
    }

    /// Waits for something to do: an order or a full piece at once, lines after
    /// a moment in which others may come.
    fn wait(&self) -> Call {
        let mut desk = lock(&self.shared.desk);
        let mut until = self.trouble.failing.then(|| Instant::now() + RETRY);
        loop {
            if until.is_none() && desk.lines {
                until = Some(Instant::now() + COLLECT);
            }
            let now = Instant::now();
            let is_time = until.is_some_and(|until| until <= now);
            let hurry = desk.hurry && !self.trouble.failing;
            if is_time || hurry || !desk.orders.is_empty() {
                (desk.lines, desk.hurry) = (false, false);
                return Call { orders: std::mem::take(&mut desk.orders), left: desk.left };
            }
            let bell = &self.shared.bell;
            desk = match until {
                Some(until) => {
                    let waited = bell.wait_timeout(desk, until - now);
                    waited.unwrap_or_else(PoisonError::into_inner).0
                }
                None => bell.wait(desk).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Takes all lines, and forgets the seats that nobody fills any more.
    fn collect(&mut self) {
        let (shared, queue) = (&self.shared, &mut self.queue);
        lock(&shared.seats).retain(|seat| seat.empty(shared, |piece| queue.push_back(piece)));
    }

    /// Writes what was taken, as far as the file takes it.
    fn write(&mut self) {
        let mut full = 0;
        while let Some(piece) = self.queue.front() {
            let (written, result) = self.output.write(piece, self.written);
            self.written = written;
            match result {
                Ok(()) => {
                    self.drop_front();
                    self.handle_success();
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && full < FULL_TRIES => {
                    full += 1;
                    std::thread::sleep(FULL);
                }
                // Who has read it is gone, and does not come back.
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {
                    self.handle_failure(&error, "its reader is gone, lines are lost");
                    self.trouble.failing = false;
                    self.lose_all();
                }
                Err(error) => {
                    self.handle_failure(&error, "lines wait in memory until it can");
                    return;
                }
            }
        }
    }

    fn drop_front(&mut self) {
        self.written = 0;
        if let Some(piece) = self.queue.pop_front() {
            self.shared.done_with(piece);
        }
    }

    fn lose_all(&mut self) {
        while let Some(piece) = self.queue.front() {
            let from = line_start(piece, self.written);
            let lines = piece[from..].iter().filter(|&&byte| byte == b'\n').count();
            self.shared.lose(lines as u64);
            self.drop_front();
        }
    }

    fn handle_success(&mut self) {
        if std::mem::take(&mut self.trouble.failing) {
            tell(format_args!("{} is written again", self.name));
            self.trouble.told = None;
        }
    }

    fn handle_failure(&mut self, error: &io::Error, consequence: &str) {
        self.trouble.failing = true;
        if self.trouble.told.is_none_or(|told| told.elapsed() >= AGAIN) {
            self.trouble.told = Some(Instant::now());
            tell(format_args!("cannot write {}: {error}; {consequence}", self.name));
        }
    }

    /// Says what was lost, now and then.
    fn tell_lost(&mut self) {
        let lost = self.shared.lost.load(Ordering::Relaxed);
        let is_due = self.trouble.told.is_none_or(|told| told.elapsed() >= AGAIN);
        if lost > self.trouble.lost && is_due {
            self.trouble.told = Some(Instant::now());
            let since = lost - std::mem::replace(&mut self.trouble.lost, lost);
            tell(format_args!("{}: {since} lines were lost, {lost} in all", self.name));
        }
    }

    /// Opens the path anew. What the old file has not taken goes to the new
    /// one, in whole lines.
    fn reopen(&mut self) -> io::Result<()> {
        if !self.output.can_reopen() {
            return Ok(());
        }
        let start = self.queue.front().map(|piece| line_start(piece, self.written));
        // A new file first: without one the old one goes on where it stopped.
        let mut next = self.output.reopened()?;
        std::mem::swap(&mut self.output, &mut next);
        // A pipe goes on within the line.
        if let Some(start) = start
            && !self.output.continues(&next)
        {
            next.mend();
            self.written = start;
        }
        self.trouble.told = None;
        self.write();
        Ok(())
    }

    /// The end: tries a little longer, and loses what is left. Returns whether
    /// that was nothing.
    fn finish(&mut self) -> bool {
        for _ in 0..LAST_TRIES {
            if self.queue.is_empty() {
                break;
            }
            std::thread::sleep(RETRY);
            self.write();
        }
        self.shared.over.store(true, Ordering::Release);
        for seat in &*lock(&self.shared.seats) {
            seat.close();
            // What was logged since.
            seat.empty(&self.shared, |piece| self.queue.push_back(piece));
        }
        self.write();
        let is_done = self.queue.is_empty();
        self.output.mend();
        self.lose_all();
        self.trouble.told = None;
        self.tell_lost();
        is_done
    }
}
