//! Flags that say what is relayed, and how.

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Result, bail};
use bytesize::ByteSize;
use clap::Args;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use crate::config::parse::size;
use crate::config::pools::{BALANCES, request_path};
use crate::config::proxy::{host_rule, own_pool};
use crate::config::{
    self, Access, Action, Address, Balance, Config, HeaderRules, Health, HostRule, Match, Proxy,
    Route, Server, Site, spool,
};
use crate::serve::Plan;

#[derive(Debug, Args)]
#[command(next_help_heading = "Proxy")]
pub(super) struct ProxyFlags {
    /// How requests are shared out among several servers. `hash` goes by the
    /// client, `hash-path` by what is asked for.
    #[arg(long, value_parser = balances(), default_value = "round-robin")]
    balance: Balance,
    /// A path that servers are asked for now and then; who does not answer it
    /// well gets no requests.
    #[arg(long, value_name = "PATH", value_parser = request_path)]
    health: Option<String>,
    /// What Host says to servers: what the client says, the server's own
    /// address, or a name.
    #[arg(long, value_name = "preserve|upstream|NAME", value_parser = host_rule,
          default_value = "preserve")]
    host: HostRule,
    /// How much of one answer may wait in memory for its client, so that its
    /// server is free; the sum of all is bounded by a quarter of the memory.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "64MiB")]
    spool_memory: ByteSize,
    /// How much more of it may wait on disk, in an unlinked file that is used
    /// cyclically.
    #[arg(long, value_name = "SIZE", value_parser = size, default_value = "0")]
    spool_disk: ByteSize,
    /// Where that file is [default: /var/tmp].
    #[arg(long, value_name = "DIR", requires = "spool_disk")]
    spool_directory: Option<PathBuf>,
}

/// The names that the configuration has for them.
fn balances() -> impl TypedValueParser<Value = Balance> {
    PossibleValuesParser::new(BALANCES.map(|(name, _)| name)).map(|given| {
        let known = BALANCES.into_iter().find(|(name, _)| *name == given);
        known.map(|(_, balance)| balance).unwrap_or_default()
    })
}

impl ProxyFlags {
    /// A configuration that has the servers at all paths, and nothing else.
    ///
    /// # Errors
    /// What flags and addresses are to each other.
    pub(super) fn config(self, servers: Vec<Address>, plan: &Plan) -> Result<Config> {
        for (at, address) in servers.iter().enumerate() {
            if servers[..at].contains(address) {
                bail!("http://{address} is given twice");
            }
            if let Some(own) = config::listener(address, &plan.addresses) {
                bail!("http://{address} is this server itself, which listens on {own}");
            }
        }
        let mut options = config::spool_options();
        options.memory = self.spool_memory.as_u64();
        options.disk = self.spool_disk.as_u64();
        options.directory = self.spool_directory.unwrap_or(options.directory);
        if options.disk > 0 {
            if let Err(reason) = spool::bounds(&options) {
                bail!("--spool-disk: {reason}");
            }
            if let Err(reason) = spool::look(&options.directory) {
                bail!("--spool-directory: `{}` {reason}", options.directory.display());
            }
        }
        let mut pool = own_pool(servers.into_iter().map(Server::new).collect());
        pool.balance = self.balance;
        pool.health = self.health.map(Health::new);
        let proxy = Proxy { host: self.host, ..Proxy::new(pool.name.clone(), Arc::new(options)) };
        let route = Route {
            matches: Match::Prefix(Vec::new()),
            headers: HeaderRules::default(),
            access: Access::default(),
            action: Action::Proxy(Arc::new(proxy)),
            internal: false,
            line: 0,
        };
        let site = Site { hosts: Vec::new(), listen: Vec::new(), routes: vec![route] };
        Ok(Config {
            path: PathBuf::new(),
            listen: plan.addresses.clone(),
            is_default_address: plan.is_default_address,
            workers: plan.workers,
            user: None,
            admin: plan.admin,
            access_log: plan.access_log.clone(),
            strategy: plan.strategy.clone(),
            locality: plan.locality.clone(),
            limits: plan.limits.clone(),
            drain: plan.drain,
            pools: vec![pool],
            spool_budget: spool::default_budget(),
            proxy_protocol_from: Vec::new(),
            sites: vec![site],
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::address;
    use clap::Parser;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        listen: super::super::Listen,
        #[command(flatten)]
        proxy: ProxyFlags,
        #[arg(required = true, value_parser = address::url)]
        urls: Vec<Address>,
    }

    fn config(line: &[&str]) -> Result<Config> {
        let Line { listen, proxy, urls } = Line::try_parse_from(["program"].iter().chain(line))
            .map_err(|error| {
                anyhow::anyhow!("{}", error.to_string().lines().next().unwrap_or_default())
            })?;
        proxy.config(urls, &listen.plan())
    }

    fn proxy(config: &Config) -> &Proxy {
        match &config.sites[0].routes[0].action {
            Action::Proxy(proxy) => proxy,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_url_is_enough() {
        let config = config(&["http://127.0.0.1:9001"]).unwrap();
        let [pool] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
        let address = Address::Tcp("127.0.0.1:9001".parse().unwrap());
        assert_eq!(pool.servers, [Server::new(address)]);
        let proxy = proxy(&config);
        assert_eq!(proxy.pool, pool.name);
        assert_eq!((proxy.spool.memory, proxy.spool.disk), (64 << 20, 0));
        assert_eq!(*proxy, Proxy::new(pool.name.clone(), Arc::new(config::spool_options())));
        assert!(config.spool_budget > 0);
    }

    #[test]
    fn flags_mean_what_they_say() {
        let directory = tempfile::tempdir().unwrap();
        let line = [
            "http://a.test",
            "http://unix:/run/b.sock",
            "--balance=hash-path",
            "--health=/up",
            "--host=c.test",
            "--spool-memory=0",
            "--spool-disk=1MiB",
            "--spool-directory",
            directory.path().to_str().unwrap(),
        ];
        let config = config(&line).unwrap();
        let [pool] = config.pools.as_slice() else { panic!("{:?}", config.pools) };
        assert_eq!(pool.name, "http://a.test:80 http://unix:/run/b.sock");
        assert_eq!(pool.balance, Balance::HashPath);
        assert_eq!(pool.health, Some(Health::new("/up".to_owned())));
        let proxy = proxy(&config);
        assert_eq!(proxy.host, HostRule::Fixed("c.test".to_owned()));
        assert_eq!((proxy.spool.memory, proxy.spool.disk), (0, 1 << 20));
        assert_eq!(proxy.spool.directory, directory.path());
    }

    #[test]
    fn what_cannot_be_is_refused() {
        for (line, reason) in [
            (&[] as &[&str], "required"),
            (&["127.0.0.1:9001"], "did you mean `http://127.0.0.1:9001`?"),
            (&["https://a.test"], "not in this version yet"),
            (&["http://a.test/x"], "without a path"),
            (&["http://a.test", "http://a.test:80/"], "http://a.test:80 is given twice"),
            (&["http://localhost:8080"], "this server itself"),
            (&["http://127.0.0.1:80", "--listen", "0.0.0.0:80"], "listens on 0.0.0.0:80"),
            (&["http://a.test", "--health", "up"], "did you mean `/up`?"),
            (&["http://a.test", "--host", "$host"], "expected `preserve`"),
            (&["http://a.test", "--balance", "random"], "invalid value 'random'"),
            (&["http://a.test", "--spool-memory", "64"], "with its unit"),
            (&["http://a.test", "--spool-disk", "4KiB"], "--spool-disk: a ring of 4.0 KiB"),
            (
                &["http://a.test", "--spool-disk", "1GiB", "--spool-directory", "/nonexistent"],
                "--spool-directory: `/nonexistent` is missing",
            ),
        ] {
            let error = config(line).unwrap_err().to_string();
            assert!(error.contains(reason), "{line:?}: {error}");
        }
    }
}
