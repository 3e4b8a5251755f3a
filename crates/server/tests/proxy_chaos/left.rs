//! What the program has when nothing is under way: what it has more than before is a leak.

use std::net::SocketAddr;
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::Value;
use sluicegate_testkit::lab::Lab;

use crate::proxied::program::{Metrics, Proxied, told};
use crate::proxied::{PATIENCE, eventually};

/// Idle pipes that a program keeps (`KEPT` of the library's pool).
const KEPT: usize = 128;

/// Idle connections to servers are closed when a worker looks after them, every five seconds.
const SETTLED: Duration = Duration::from_secs(8);

/// The thread that waits for what dropped sockets still refer to, as far as the kernel shows its
/// name, and its descriptors. It is made when it is first needed, which may be in any round.
const LINGER: (&str, usize) = ("sluicegate-ling", 2);

/// Descriptors by kind, but for those of pipes that are kept for the next bodies, and of the
/// lingering table.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Left {
    sockets: usize,
    /// Ends of pipes.
    pipes: usize,
    /// Rings: of memory, and unlinked files.
    rings: usize,
    others: usize,
}

impl Left {
    /// Once nothing is under way and idle connections are closed.
    pub(crate) fn at_first(lab: &Lab, proxied: &Proxied) -> Self {
        Self::await_rest(lab, proxied);
        let (mut least, mut since) = (Self::look(lab, proxied), Instant::now());
        eventually("it has what it has", || {
            sleep(Duration::from_millis(50));
            let now = Self::look(lab, proxied);
            if now.sockets < least.sockets {
                (least, since) = (now, Instant::now());
            }
            since.elapsed() >= SETTLED
        });
        least
    }

    /// Waits until the program has this again, and nothing more.
    #[track_caller]
    pub(crate) fn is_again(&self, lab: &Lab, proxied: &Proxied) {
        Self::await_rest(lab, proxied);
        let until = Instant::now() + PATIENCE;
        loop {
            // Connections of health checks come and go.
            let now = Self::look(lab, proxied);
            if now == *self {
                return;
            }
            let late = Instant::now() > until;
            assert!(!late, "{now:?} is left, of {self:?}: {:#?}", proxied.descriptors());
            sleep(Duration::from_millis(20));
        }
    }

    fn await_rest(lab: &Lab, proxied: &Proxied) {
        eventually("nothing is under way and nothing is held", || {
            let metrics = lab.client().enter(|| Metrics::of(proxied.admin)).unwrap();
            ["upstream_active_requests", "spool_held_bytes", "spool_disk_bytes", "pipes_in_use"]
                .iter()
                .all(|name| metrics.sum(name) == 0)
        });
    }

    fn look(lab: &Lab, proxied: &Proxied) -> Self {
        // Its own connection is closed before they are counted.
        let kept = kept_pipes(lab, proxied.admin);
        assert!(kept <= KEPT, "{kept} pipes are kept");
        let mut left = Left::default();
        for name in proxied.descriptors() {
            let kind = match name.as_str() {
                name if name.starts_with("socket:") => &mut left.sockets,
                name if name.starts_with("pipe:") => &mut left.pipes,
                name if name.starts_with("/memfd:") => &mut left.rings,
                name if name.ends_with(" (deleted)") => &mut left.rings,
                _ => &mut left.others,
            };
            *kind += 1;
        }
        assert!(left.pipes >= 2 * kept, "{} ends of {kept} pipes", left.pipes);
        left.pipes -= 2 * kept;
        if proxied.has_thread(LINGER.0) {
            left.others -= LINGER.1;
        }
        left
    }
}

/// Pipes that the program knows of.
fn kept_pipes(lab: &Lab, admin: SocketAddr) -> usize {
    let text = lab.client().enter(|| told(admin, "/status.json")).unwrap();
    let content = text.split_once("\r\n\r\n").unwrap().1;
    let status: Value = serde_json::from_str(content).expect(content);
    status["pipes"]["made"].as_u64().unwrap() as usize
}
