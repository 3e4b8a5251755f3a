//! From what an operator says to a running program.

use std::any::Any;
use std::collections::HashSet;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use ipnet::IpNet;
use sluicegate::Reactor;

use crate::admin::{self, Configuration, Refused, Sources, Spools};
use crate::config::{self, Config};
use crate::files::Options;
use crate::gateway::{Pools, Upstreams};
use crate::log::tell;
use crate::observe::{AccessLog, Observed, Stats};
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
    let log = Log::open(plan.access_log.as_ref(), None)?;
    let name = path.display().to_string();
    let subject = Arc::new(Served::new(name, false, sites, log, None));
    let (stats, open) = (plan.stats(), Box::new(|| Ok(subject)));
    serve::run(Start { prepared, plan, open, stats, reload: None, admin: None })
}

/// Relays to the one pool of `config`, which no file says.
///
/// # Errors
/// What keeps it from starting.
pub(crate) fn proxy(config: &Config, plan: Plan) -> Result<()> {
    let prepared = serve::prepare(false)?;
    let sites = Sites::open(config, plan.workers, None)?;
    let log = Log::open(plan.access_log.as_ref(), None)?;
    let servers = config.pools.iter().flat_map(|pool| &pool.servers);
    let names: Vec<String> = servers.map(|server| server.address.to_string()).collect();
    let subject = Arc::new(Served::new(names.join(", "), false, sites, log, None));
    let (stats, open) = (plan.stats(), Box::new(|| Ok(subject)));
    serve::run(Start { prepared, plan, open, stats, reload: None, admin: None })
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
    create_log(&config)?;
    let open = move || {
        let opened = look_again(&config).and_then(|()| Served::open(&config, workers, None));
        match &config.user {
            Some(user) => opened.with_context(|| format!("as user `{user}`")),
            None => opened,
        }
    };
    let admin = {
        let (path, stats) = (path.clone(), Arc::clone(&stats));
        move |listener, subject: &Arc<Served>, state: &Arc<State>| {
            let running = admin::start(listener, sources(path, subject, stats, state))?;
            Ok(Box::new(running) as Box<dyn Any>)
        }
    };
    let reload = move |before: &Arc<Served>| {
        let config = config::load(&path)?;
        create_log(&config)?;
        // As many workers as there are: that cannot change.
        Ok((Served::open(&config, workers, Some(before))?, self::plan(&config)))
    };
    let (reload, admin) = (Some(Box::new(reload) as _), Some(Box::new(admin) as _));
    serve::run(Start { prepared, plan, open: Box::new(open), stats, reload, admin })
}

/// Makes the access log for the user that the process is to become, who may
/// not make one in its directory.
fn create_log(config: &Config) -> Result<()> {
    let (Some(log), Some(user)) = (&config.access_log, &config.user) else { return Ok(()) };
    match serve::owner(user)? {
        Some(owner) => AccessLog::create(log, owner),
        None => Ok(()),
    }
}

/// Root has read the configuration; who the process is now is to read it at a
/// reload.
fn look_again(config: &Config) -> Result<()> {
    let opened = File::open(&config.path);
    opened.with_context(|| format!("cannot read `{}`", config.path.display()))?;
    // And it is who makes the rings on disk.
    let mut tried = HashSet::new();
    for route in config.sites.iter().flat_map(|site| &site.routes) {
        let config::Action::Proxy(proxy) = &route.action else { continue };
        let directory = &proxy.spool.directory;
        if proxy.spool.disk > 0
            && tried.insert(directory)
            && let Err(reason) = config::spool::look(directory)
        {
            bail!("a spool's directory `{}` {reason}", directory.display());
        }
    }
    Ok(())
}

fn plan(config: &Config) -> Plan {
    Plan {
        addresses: config.listen.clone(),
        is_default_address: config.is_default_address,
        workers: config.workers,
        strategy: config.strategy.clone(),
        locality: config.locality.clone(),
        limits: config.limits.clone(),
        drain: config.drain,
        user: config.user.clone(),
        admin: config.admin,
        access_log: config.access_log.clone(),
        spool_budget: config.spool_budget,
    }
}

/// What the admin server shows.
fn sources(path: PathBuf, subject: &Served, stats: Arc<Stats>, state: &Arc<State>) -> Sources {
    let (listen, draining, configured) = (Arc::clone(state), Arc::clone(state), Arc::clone(state));
    // They count on over reloads.
    let counters = Arc::clone(subject.sites.counters());
    let (pools, spools) = (Arc::clone(&subject.pools), Arc::clone(subject.sites.spools()));
    Sources {
        stats,
        listen: Box::new(move || listen.listen()),
        files: Box::new(move || counters.totals()),
        pools: Box::new(move || {
            let pools = Arc::clone(&pools.lock().unwrap_or_else(PoisonError::into_inner));
            pools.figures()
        }),
        spools: Box::new(move || Spools {
            held: spools.held(),
            on_disk: spools.on_disk(),
            budget: spools.bytes(),
        }),
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
    /// Whose connections begin by telling whose they are.
    introducers: Vec<IpNet>,
    sites: Arc<Sites>,
    /// The pools that are asked now, for operators: shared with what was before.
    pools: Arc<Mutex<Arc<Pools>>>,
    log: Option<Log>,
}

/// An access log, and what was said of it.
struct Log {
    said: config::AccessLog,
    log: Arc<AccessLog>,
}

impl Log {
    /// The log that is asked for: the one from before if that is the same.
    fn open(said: Option<&config::AccessLog>, before: Option<&Log>) -> Result<Option<Self>> {
        let Some(said) = said else { return Ok(None) };
        let log = match before {
            Some(before) if before.said == *said => Arc::clone(&before.log),
            _ => AccessLog::open(said)?,
        };
        Ok(Some(Log { said: said.clone(), log }))
    }
}

impl Served {
    fn new(
        name: String,
        needs_local: bool,
        sites: Arc<Sites>,
        log: Option<Log>,
        before: Option<&Served>,
    ) -> Self {
        let pools = match before {
            Some(before) => Arc::clone(&before.pools),
            None => Arc::new(Mutex::new(Arc::clone(sites.pools()))),
        };
        let introducers = Vec::new();
        Served { name, needs_local, introducers, sites, pools, log }
    }

    fn open(config: &Config, workers: usize, before: Option<&Served>) -> Result<Arc<Self>> {
        let sites = Sites::open(config, workers, before.map(|before| &*before.sites))?;
        let name = config.path.display().to_string();
        // A site asks where a client has come in, or a server is to be told.
        let needs_local = config.sites.iter().any(|site| !site.listen.is_empty())
            || config.pools.iter().any(|pool| pool.proxy_protocol.is_some());
        let log_before = before.and_then(|before| before.log.as_ref());
        let log = Log::open(config.access_log.as_ref(), log_before)?;
        let networks = config.proxy_protocol_from.iter();
        let introducers = networks.filter_map(|&(ip, len)| IpNet::new(ip, len).ok()).collect();
        let served = Served::new(name, needs_local, sites, log, before);
        Ok(Arc::new(Served { introducers, ..served }))
    }
}

impl Subject for Served {
    type Handler = Observed<site::Worker>;

    fn name(&self) -> String {
        self.name.clone()
    }

    fn worker(
        &self,
        number: usize,
        stats: &Arc<Stats>,
        reactor: &Reactor,
        before: Option<&Self::Handler>,
    ) -> io::Result<Self::Handler> {
        let worker = match before {
            Some(before) => before.inner().renewed(&self.sites),
            None => {
                let context = Arc::clone(&stats.context);
                let upstreams = Upstreams::new(reactor.clone(), context);
                self.sites.worker(upstreams, Arc::clone(stats.relays(number)))
            }
        };
        let log = self.log.as_ref().map(|log| &log.log);
        Ok(Observed::new(worker, Arc::clone(stats), number, log))
    }

    fn needs_local(&self) -> bool {
        self.needs_local
    }

    fn introducers(&self) -> &[IpNet] {
        &self.introducers
    }

    fn begin(&self) {
        let pools = Arc::clone(self.sites.pools());
        let mut asked = self.pools.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *asked, Arc::clone(&pools));
        drop(asked);
        pools.take_over(&before);
    }

    fn reopen_logs(&self) -> Result<()> {
        self.log.as_ref().map_or(Ok(()), |log| log.log.reopen())
    }

    fn flush(&self) {
        if let Some(log) = &self.log {
            log.log.flush();
        }
    }

    fn finish(&self) -> Option<String> {
        if let Some(log) = &self.log
            && !log.log.finish()
        {
            tell(format_args!("some lines of the access log were not written"));
        }
        Some(self.sites.counters().to_string())
    }
}
