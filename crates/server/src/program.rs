//! From what an operator says to a running program.

use std::any::Any;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::Result;

use crate::admin::{self, Configuration, Refused, Sources};
use crate::config::{self, Config};
use crate::files::Options;
use crate::observe::Stats;
use crate::serve::{self, Plan, Start, State, Subject};
use crate::site::{self, Sites};

/// Serves the files of a directory.
///
/// # Errors
/// What keeps it from starting.
pub(crate) fn serve(directory: &Path, options: Options, plan: Plan) -> Result<()> {
    let prepared = serve::prepare(false)?;
    // Opened here so that a mistake is told before anything listens.
    let sites = Sites::of_directory(directory, options, plan.workers)?;
    let path = std::path::absolute(directory).unwrap_or_else(|_| directory.to_owned());
    let subject = Arc::new(Served { name: path.display().to_string(), needs_local: false, sites });
    let stats = plan.stats();
    serve::run(Start { prepared, plan, subject, stats, reload: None, admin: None })
}

/// Serves what the configuration at `path` says.
///
/// # Errors
/// The mistakes in it, or what keeps it from starting.
pub(crate) fn run(path: &Path) -> Result<()> {
    let prepared = serve::prepare(true)?;
    let config = config::load(path)?;
    // The working directory may be another one at a reload.
    let path = config.path.clone();
    let plan = plan(&config);
    let (workers, stats) = (plan.workers, plan.stats());
    let subject = Served::open(&config, workers, None)?;
    let admin = {
        let (path, subject, stats) = (path.clone(), Arc::clone(&subject), Arc::clone(&stats));
        move |listener, state: &Arc<State>| {
            let running = admin::start(listener, sources(path, &subject, stats, state))?;
            Ok(Box::new(running) as Box<dyn Any>)
        }
    };
    let reload = move |before: &Arc<Served>| {
        let config = config::load(&path)?;
        // As many workers as there are: that cannot change.
        Ok((Served::open(&config, workers, Some(before))?, self::plan(&config)))
    };
    let (reload, admin) = (Some(Box::new(reload) as _), Some(Box::new(admin) as _));
    serve::run(Start { prepared, plan, subject, stats, reload, admin })
}

fn plan(config: &Config) -> Plan {
    Plan {
        addresses: config.listen.clone(),
        is_default_address: false,
        workers: config.workers,
        strategy: config.strategy.clone(),
        locality: config.locality.clone(),
        limits: config.limits.clone(),
        drain: config.drain,
        user: config.user.clone(),
        admin: config.admin,
        access_log: config.access_log.clone(),
    }
}

/// What the admin server shows.
fn sources(path: PathBuf, subject: &Served, stats: Arc<Stats>, state: &Arc<State>) -> Sources {
    let (listen, draining, configured) = (Arc::clone(state), Arc::clone(state), Arc::clone(state));
    // They count on over reloads.
    let counters = Arc::clone(subject.sites.counters());
    Sources {
        stats,
        listen: Box::new(move || listen.listen()),
        files: Box::new(move || counters.totals()),
        configuration: Box::new(move || {
            let (generation, loaded) = configured.generation();
            let refused = configured.last_refusal().map(|(at, why)| Refused { at, why });
            Some(Configuration { path: path.clone(), generation, loaded, refused })
        }),
        draining: Box::new(move || draining.is_draining()),
    }
}

/// The sites of a configuration, or of one directory.
struct Served {
    name: String,
    /// A site is restricted to some addresses.
    needs_local: bool,
    sites: Arc<Sites>,
}

impl Served {
    fn open(config: &Config, workers: usize, before: Option<&Served>) -> Result<Arc<Self>> {
        let sites = Sites::open(config, workers, before.map(|before| &*before.sites))?;
        let name = config.path.display().to_string();
        let needs_local = config.sites.iter().any(|site| !site.listen.is_empty());
        Ok(Arc::new(Served { name, needs_local, sites }))
    }
}

impl Subject for Served {
    type Handler = site::Worker;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn worker(
        &self,
        _: usize,
        _: &Arc<Stats>,
        before: Option<&site::Worker>,
    ) -> io::Result<site::Worker> {
        Ok(match before {
            Some(before) => before.renewed(&self.sites),
            None => self.sites.worker(),
        })
    }

    fn needs_local(&self) -> bool {
        self.needs_local
    }

    fn finish(&self) -> Option<String> {
        Some(self.sites.counters().to_string())
    }
}
