//! Where the figures come from that others own.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::files::Totals;
use crate::gateway::PoolFigures;
use crate::observe::Stats;

/// Tells a figure as it is now. Called on the admin server's own thread, so it
/// must not wait for a worker.
pub(crate) type Source<T> = Box<dyn Fn() -> T + Send>;

/// All that operators are shown.
pub(crate) struct Sources {
    pub(crate) stats: Arc<Stats>,
    /// Addresses that are listened on; a reload may change them.
    pub(crate) listen: Source<Vec<SocketAddr>>,
    /// What the file caches of all workers did and have.
    pub(crate) files: Source<Totals>,
    /// Pools of upstreams and their servers; a reload may change them.
    pub(crate) pools: Source<Vec<PoolFigures>>,
    /// What all spools hold.
    pub(crate) spools: Source<Spools>,
    /// `None` where the program runs without a configuration file.
    pub(crate) configuration: Source<Option<Configuration>>,
    /// Whether the program is about to end.
    pub(crate) draining: Source<bool>,
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sources").finish_non_exhaustive()
    }
}

/// What waits between upstreams and clients, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Spools {
    /// In memory, pipes included.
    pub(crate) held: u64,
    /// Of rings on disk.
    pub(crate) on_disk: u64,
    /// What may be in memory.
    pub(crate) budget: u64,
}

/// The configuration that is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Configuration {
    pub(crate) path: PathBuf,
    /// From 1; one more with each reload that took place.
    pub(crate) generation: u64,
    pub(crate) loaded: SystemTime,
    /// The last reload, if that was refused.
    pub(crate) refused: Option<Refused>,
}

/// A reload that did not take place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) at: SystemTime,
    /// Why, as it was told on standard error.
    pub(crate) why: String,
}
