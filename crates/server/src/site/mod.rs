//! Sites and their routes, as requests find them.
//!
//! A request's site is found by the address that it came to and its host name
//! (`hosts`), its route by its path (`routes`). The client's address is looked
//! at (`access`), and then the route's action answers: files, another place
//! (`redirect`), or the same for everybody.

mod access;
mod hosts;
mod redirect;
mod routes;
mod worker;

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Result, bail};
use bytes::Bytes;
use sluicegate::SpoolBudget;
use sluicegate::os::raise_descriptors;
use sluicegate_http::{FieldRules, Fields, Prepared, Response};

use self::access::Access;
use self::hosts::Hosts;
use self::redirect::Redirect;
use self::routes::Routes;
use crate::config::{self, Config};
use crate::files::{Budget, Counters, Directories, Directory, Options};
use crate::gateway::{Pools, Upstreams};
use crate::observe::RelayStats;
use crate::proxy::Proxy;

pub(crate) use self::worker::Worker;

/// All that a configuration says of sites, as all workers know it.
#[derive(Debug)]
pub(crate) struct Sites {
    hosts: Hosts,
    sites: Vec<Site>,
    pools: Arc<Pools>,
    /// Outlives a reload.
    spools: Arc<SpoolBudget>,
    /// Where no site has the name.
    nobody: Arc<Prepared>,
    directories: Directories,
    /// Numbers of the directories, which the caches know them by.
    numbers: HashSet<u32>,
    /// They outlive a reload.
    counters: Arc<Counters>,
    /// What a worker may keep of files.
    budget: Budget,
}

/// What there is at a site's paths.
#[derive(Debug)]
struct Site {
    paths: Routes,
    routes: Vec<Route>,
}

/// What is at a set of paths.
#[derive(Debug)]
struct Route {
    access: Option<Access>,
    rules: Arc<FieldRules>,
    action: Action,
    /// Only an upstream can lead here.
    internal: bool,
}

#[derive(Debug)]
enum Action {
    Files {
        directory: Arc<Directory>,
        strip: Box<[u8]>,
    },
    Redirect(Redirect),
    Proxy(Box<Proxy>),
    Respond(Arc<Prepared>),
    /// As `Respond`, with a status that has no content.
    RespondEmpty(u16, Fields),
}

impl Sites {
    /// What `config` says, for so many workers, in place of `before`: what is
    /// kept of directories that are the same stays.
    ///
    /// # Errors
    /// All directories that cannot be opened or lack a file, each with its line
    /// in the configuration.
    pub(crate) fn open(
        config: &Config,
        workers: usize,
        before: Option<&Sites>,
    ) -> Result<Arc<Self>> {
        let place = |line: usize| format!("{}:{line}: ", config.path.display());
        let pools = Pools::open(&config.pools, before.map(|before| &*before.pools))?;
        let budget = match before {
            Some(before) => Arc::clone(&before.spools),
            None => SpoolBudget::new(config.spool_budget),
        };
        Self::of(&config.sites, &place, workers, before, pools, budget)
    }

    /// The files beneath `path`, for whoever asks.
    ///
    /// # Errors
    /// When it cannot be opened or lacks a file that the options name.
    pub(crate) fn of_directory(path: &Path, options: Options, workers: usize) -> Result<Arc<Self>> {
        let route = config::Route {
            matches: config::Match::Prefix(Vec::new()),
            headers: config::HeaderRules::default(),
            access: config::Access::default(),
            action: config::Action::Files {
                root: path.to_owned(),
                strip_prefix: Vec::new(),
                options,
            },
            internal: false,
            line: 0,
        };
        let site = config::Site { hosts: Vec::new(), listen: Vec::new(), routes: vec![route] };
        let pools = Pools::open(&[], None)?;
        Self::of(&[site], &|_| String::new(), workers, None, pools, SpoolBudget::new(0))
    }

    fn of(
        sites: &[config::Site],
        place: &dyn Fn(usize) -> String,
        workers: usize,
        before: Option<&Sites>,
        pools: Arc<Pools>,
        spools: Arc<SpoolBudget>,
    ) -> Result<Arc<Self>> {
        // Where the limit cannot be told, it is the least that systems have.
        // Before anything is opened: each directory keeps a descriptor.
        let limit = raise_descriptors().unwrap_or(1024);
        let known = before.map(|before| &before.directories);
        let mut opening = Opening {
            directories: Directories::after(known),
            before: known,
            pools: &pools,
            rules: HashSet::new(),
            mistakes: Vec::new(),
            place,
        };
        let opened: Vec<Site> = sites.iter().map(|site| opening.site(site)).collect();
        let Opening { directories, mistakes, .. } = opening;
        if !mistakes.is_empty() {
            bail!(mistakes.join("\n"));
        }
        let text = "404 Not Found\n\nNo site of this server has this name.\n";
        Ok(Arc::new(Sites {
            hosts: Hosts::new(sites),
            sites: opened,
            pools,
            spools,
            nobody: Arc::new(Prepared::new(404, &plain_text(), text.as_bytes())),
            numbers: directories.iter().map(|directory| directory.number()).collect(),
            directories,
            counters: before.map(|before| Arc::clone(&before.counters)).unwrap_or_default(),
            budget: Budget::share(workers, limit),
        }))
    }

    /// The handler of one worker, which counts what it relays in `relays`.
    pub(crate) fn worker(
        self: &Arc<Self>,
        upstreams: Upstreams,
        relays: Arc<RelayStats>,
    ) -> Worker {
        Worker::new(Arc::clone(self), upstreams, relays)
    }

    /// The pools of upstreams.
    pub(crate) fn pools(&self) -> &Arc<Pools> {
        &self.pools
    }

    /// What all spools have together; counted on over reloads.
    pub(crate) fn spools(&self) -> &Arc<SpoolBudget> {
        &self.spools
    }

    /// How often files were found in the caches of all workers, and what these
    /// keep; counted on over reloads.
    pub(crate) fn counters(&self) -> &Arc<Counters> {
        &self.counters
    }
}

fn plain_text() -> Fields {
    let mut fields = Fields::default();
    // A constant that is valid.
    let _ = fields.add("Content-Type", "text/plain; charset=utf-8");
    fields
}

/// Sites on their way from the configuration.
struct Opening<'a> {
    directories: Directories,
    before: Option<&'a Directories>,
    pools: &'a Pools,
    /// Of equals there is one, for all of their routes.
    rules: HashSet<Arc<FieldRules>>,
    mistakes: Vec<String>,
    place: &'a dyn Fn(usize) -> String,
}

impl Opening<'_> {
    fn site(&mut self, site: &config::Site) -> Site {
        let paths = Routes::new(site.routes.iter().map(|route| &route.matches));
        let routes = site.routes.iter().map(|route| self.route(route, &site.hosts)).collect();
        Site { paths, routes }
    }

    fn route(&mut self, route: &config::Route, hosts: &[config::Host]) -> Route {
        let config::HeaderRules { add, remove } = &route.headers;
        let rules = Arc::new(FieldRules::new(add, remove));
        let rules = self.rules.get(&rules).cloned().unwrap_or_else(|| {
            self.rules.insert(Arc::clone(&rules));
            rules
        });
        let action = match &route.action {
            config::Action::Files { root, strip_prefix, options } => {
                let strip = strip_prefix.strip_suffix(b"/").unwrap_or(strip_prefix);
                self.files(root, strip, options, &rules, route.line)
            }
            config::Action::Redirect(redirect) => Action::Redirect(Redirect::new(redirect, hosts)),
            config::Action::Proxy(rule) => match self.pools.get(&rule.pool) {
                Some(pool) => Action::Proxy(Box::new(Proxy::new(Arc::clone(rule), pool))),
                // The configuration was checked for that.
                None => Action::RespondEmpty(502, Fields::default()),
            },
            config::Action::Respond { status, content_type, content } => {
                respond(*status, content_type, content, &rules)
            }
        };
        Route { access: Access::new(&route.access), rules, action, internal: route.internal }
    }

    fn files(
        &mut self,
        root: &Path,
        strip: &[u8],
        options: &Options,
        rules: &Arc<FieldRules>,
        line: usize,
    ) -> Action {
        match self.directories.open(root, options, rules, self.before) {
            Ok(directory) => Action::Files { directory, strip: strip.into() },
            Err(error) => {
                let place = (self.place)(line);
                self.mistakes.push(format!("{place}cannot serve `{}`: {error}", root.display()));
                // Nobody gets to see it.
                Action::RespondEmpty(500, Fields::default())
            }
        }
    }
}

/// The same answer for everybody, composed once.
fn respond(status: u16, content_type: &str, content: &Bytes, rules: &FieldRules) -> Action {
    let mut fields = Fields::default();
    // Of one that cannot be sent nothing is said.
    let _ = fields.add("Content-Type", content_type);
    // RFC 9110 section 8.6: these have no Content-Length either. And what is no
    // status is none of a prepared answer.
    if matches!(status, 204 | 304) || !(200..600).contains(&status) {
        return Action::RespondEmpty(status, Fields::default());
    }
    rules.apply(&mut fields);
    Action::Respond(Arc::new(Prepared::new(status, &fields, content)))
}

impl Action {
    /// The same answer for everybody; `None` where it depends on the request.
    fn fixed(&self) -> Option<Response> {
        match self {
            Action::Respond(prepared) => Some(Response::prepared(Arc::clone(prepared))),
            Action::RespondEmpty(status, fields) => {
                Some(Response::new(*status).with_fields(fields.clone()))
            }
            Action::Files { .. } | Action::Redirect(_) | Action::Proxy(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
