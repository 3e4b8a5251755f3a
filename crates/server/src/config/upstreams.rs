//! Whether pools are asked and asked for, and whether internal routes are led to.

use std::collections::{HashMap, HashSet};

use super::mistakes::{listed, nearest, quoted};
use super::model::{Action, Pool};
use super::pools::ReadPool;
use super::proxy::Asked;
use super::site::ReadSite;
use super::table::Reader;

/// All pools: those of the file and those that routes have for themselves. Notes
/// names that no pool has, and pools that nobody asks.
pub(super) fn pools(reader: &Reader<'_>, named: Vec<ReadPool>, sites: &[ReadSite]) -> Vec<Pool> {
    let known: HashSet<&str> = named.iter().map(|read| &*read.pool.name).collect();
    let mut used = HashSet::new();
    let mut own: HashMap<&str, &Pool> = HashMap::new();
    let mut order = Vec::new();
    for asked in sites.iter().flat_map(|site| &site.routes).filter_map(|it| it.asked.as_ref()) {
        match asked {
            Asked::Named(name, _) if known.contains(name.as_str()) => {
                used.insert(name.clone());
            }
            Asked::Named(name, span) => {
                let mut message = format!("there is no pool {}", quoted(name));
                // In the order of the file, so that a draw is the same each time.
                let names: Vec<&str> = named.iter().map(|read| &*read.pool.name).collect();
                let near = nearest(name, names.iter().copied());
                // It is asked, then, by a slip.
                used.extend(near.map(str::to_owned));
                message += &match near {
                    Some(near) => format!("; did you mean `{near}`?"),
                    None if names.is_empty() => "; expected a table `[pool.NAME]`".to_owned(),
                    None if names.len() > 10 => String::new(),
                    None => format!("; expected {}", listed(&names, "or")),
                };
                reader.mistake(span.clone(), message);
            }
            // Routes with the same URL share its connections and its health.
            Asked::Own(pool, _) => {
                if own.insert(&pool.name, pool).is_none() {
                    order.push(Pool::clone(pool));
                }
            }
        }
    }
    for read in named.iter().filter(|read| !used.contains(&read.pool.name)) {
        let message = format_args!("no route asks the pool {}", quoted(&read.pool.name));
        reader.absence(read.span.clone(), message);
    }
    named.into_iter().map(|read| read.pool).chain(order).collect()
}

/// Notes internal routes of a site none of whose upstreams can lead there.
pub(super) fn internal_routes(reader: &Reader<'_>, site: &ReadSite) {
    let leads = site.routes.iter().any(|route| match &route.route {
        // What is wrong with it was told; who knows what it would be.
        None => true,
        Some(route) => matches!(&route.action, Action::Proxy(proxy) if proxy.accel),
    });
    for span in site.routes.iter().filter_map(|route| route.internal.clone()).filter(|_| !leads) {
        let message = "nothing leads here: no `proxy` of this site has `accel = true`";
        reader.absence(span, message);
    }
}
