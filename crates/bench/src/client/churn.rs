//! Clients of a server that is reloaded or replaced meanwhile: some open a connection for each
//! request, others keep theirs. Whatever goes wrong is counted, and none of it ends the run.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use clap::Args;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::{Check, Resource, send};

/// A server that says nothing for so long has dropped the request.
const SILENCE: Duration = Duration::from_secs(10);

/// Kinds of failures that are told of in words.
const TOLD: usize = 5;

/// Connections come no faster than this from one client: each leaves a TIME-WAIT behind, and there
/// are 28,000 ports.
const PACE: Duration = Duration::from_millis(2);

#[derive(Debug, Args)]
pub(crate) struct Churn {
    #[command(flatten)]
    resource: Resource,
    /// Clients that keep their connection.
    #[arg(long)]
    keeping: usize,
    /// Clients that open one for each request.
    #[arg(long)]
    opening: usize,
    /// Milliseconds.
    #[arg(long)]
    window: u64,
}

/// What the clients saw.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Churned {
    /// Whole answers.
    pub(crate) answers: u64,
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Kept ones that the server closed in order: behind an answer that said so.
    pub(crate) closed_in_order: u64,
    /// Connections that were not accepted.
    pub(crate) refused: u64,
    /// Requests whose connection ended before their answer began, without a word.
    pub(crate) dropped: u64,
    /// Requests whose answer was wrong, cut or missing.
    pub(crate) failed: u64,
    /// The longest time from a request, or from the beginning of its connection, to its answer.
    pub(crate) longest_ms: f64,
    /// What was said of the first failures.
    pub(crate) told: Vec<String>,
}

/// How one request ended.
enum End {
    Answered { is_last: bool },
    Refused(String),
    Dropped(String),
    Failed(String),
}

impl Churned {
    /// All that went wrong.
    pub(crate) fn wrong(&self) -> u64 {
        self.refused + self.dropped + self.failed
    }

    fn count(&mut self, end: &End, took: Duration) {
        let (count, said) = match end {
            End::Answered { .. } => {
                self.answers += 1;
                self.longest_ms = self.longest_ms.max(took.as_secs_f64() * 1e3);
                return;
            }
            End::Refused(said) => (&mut self.refused, said),
            End::Dropped(said) => (&mut self.dropped, said),
            End::Failed(said) => (&mut self.failed, said),
        };
        *count += 1;
        if self.told.len() < TOLD {
            self.told.push(said.clone());
        }
    }

    fn add(&mut self, other: Self) {
        self.answers += other.answers;
        self.connections += other.connections;
        self.closed_in_order += other.closed_in_order;
        self.refused += other.refused;
        self.dropped += other.dropped;
        self.failed += other.failed;
        self.longest_ms = self.longest_ms.max(other.longest_ms);
        self.told.extend(other.told);
        self.told.truncate(TOLD);
    }
}

impl Churn {
    pub(crate) fn run(&self) -> Result<Churned> {
        ensure!(self.keeping + self.opening > 0, "nobody asks");
        let end = Instant::now() + Duration::from_millis(self.window);
        let mut all = Churned::default();
        thread::scope(|scope| {
            let clients: Vec<_> = (0..self.keeping + self.opening)
                .map(|number| scope.spawn(move || self.client(number < self.keeping, end)))
                .collect();
            for client in clients {
                // A client that panics was wrong, and so was all it saw.
                match client.join() {
                    Ok(saw) => all.add(saw),
                    Err(_) => all.failed += 1,
                }
            }
        });
        Ok(all)
    }

    fn client(&self, keeps: bool, end: Instant) -> Churned {
        let mut saw = Churned::default();
        let request = self.resource.request(&self.resource.path);
        let mut buffer = vec![0; 64 << 10];
        let mut kept: Option<TcpStream> = None;
        while Instant::now() < end {
            let asked = Instant::now();
            let outcome = match kept.take().map_or_else(|| self.open(&mut saw), Ok) {
                Ok(stream) => {
                    let outcome = self.ask(&stream, &request, &mut buffer);
                    if keeps && matches!(outcome, End::Answered { is_last: false }) {
                        kept = Some(stream);
                    }
                    outcome
                }
                Err(refused) => refused,
            };
            if let (true, End::Answered { is_last: true }) = (keeps, &outcome) {
                saw.closed_in_order += 1;
            }
            saw.count(&outcome, asked.elapsed());
            thread::sleep(PACE);
        }
        saw
    }

    fn open(&self, saw: &mut Churned) -> Result<TcpStream, End> {
        let stream = self.resource.connect().map_err(|error| End::Refused(format!("{error:#}")))?;
        saw.connections += 1;
        match stream.set_read_timeout(Some(SILENCE)) {
            Ok(()) => Ok(stream),
            Err(error) => Err(End::Failed(error.to_string())),
        }
    }

    fn ask(&self, mut stream: &TcpStream, request: &[u8], buffer: &mut [u8]) -> End {
        if let Err(error) = send(stream, request) {
            return End::Dropped(format!("a request was not taken: {error:#}"));
        }
        let mut answer = Answer::new(self.resource.length, self.resource.seed, Check::Whole);
        let mut has_begun = false;
        loop {
            let received = match stream.read(buffer) {
                Ok(0) if has_begun => return End::Failed("an answer was cut".to_owned()),
                Ok(0) => return End::Dropped("closed without an answer".to_owned()),
                Ok(received) => received,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == ErrorKind::ConnectionReset && !has_begun => {
                    return End::Dropped("reset without an answer".to_owned());
                }
                Err(error) => return End::Failed(format!("no answer: {error}")),
            };
            has_begun = true;
            match answer.take(&buffer[..received]) {
                Ok(true) => return End::Answered { is_last: answer.is_last() },
                Ok(false) => {}
                Err(error) => return End::Failed(format!("{error:#}")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::net::{SocketAddr, TcpListener};

    fn at(address: SocketAddr) -> Resource {
        Resource { address, path: "/".to_owned(), length: 0, seed: 1, files: None, sites: None }
    }

    /// What clients see of a server that treats the connections that come in turn so.
    fn seen(keeping: usize, opening: usize, serve: fn(usize, TcpStream)) -> Churned {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        // It ends with the process of the tests.
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                serve(number, stream.unwrap());
            }
        });
        let window = 300;
        Churn { resource: at(address), keeping, opening, window }.run().unwrap()
    }

    fn answer(mut stream: &TcpStream, field: &str) {
        let mut request = [0; 1024];
        if stream.read(&mut request).unwrap_or(0) > 0 {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{field}\r\n");
            stream.write_all(head.as_bytes()).unwrap();
        }
    }

    #[test]
    fn a_close_that_was_announced_is_in_order() {
        let saw = seen(1, 0, |_, stream| answer(&stream, "Connection: close\r\n"));
        assert!(saw.answers > 1 && saw.closed_in_order == saw.answers, "{saw:?}");
        assert_eq!(saw.wrong(), 0, "{saw:?}");
    }

    #[test]
    fn a_close_without_a_word_is_not() {
        let saw = seen(1, 0, |_, stream| answer(&stream, ""));
        assert!(saw.answers > 0 && saw.dropped > 0, "{saw:?}");
        assert!(saw.told[0].contains("without an answer"), "{saw:?}");
    }

    #[test]
    fn who_opens_a_connection_for_each_request_does_not_mind() {
        let saw = seen(0, 2, |_, stream| answer(&stream, ""));
        assert!(saw.answers > 1 && saw.connections == saw.answers, "{saw:?}");
        assert_eq!((saw.wrong(), saw.closed_in_order), (0, 0), "{saw:?}");
    }

    #[test]
    fn nobody_there_is_a_refusal() {
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let churn = Churn { resource: at(address), keeping: 1, opening: 1, window: 20 };
        let saw = churn.run().unwrap();
        assert!(saw.refused > 0 && saw.refused == saw.wrong(), "{saw:?}");
    }
}
