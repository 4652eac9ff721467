//! What is measured: each gateway as a process of its own on the same core, all before the same upstream, all running all
//! the time; those that are not asked sleep.

mod dataplane;
mod manifests;
mod nginx;
mod relay;

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use servers::{Options, Redis};

use crate::{cores::Cores, process::Process, upstream::Upstream};

pub use manifests::resources;
pub use nginx::version as nginx_version;
pub use relay::built;

/// The relay key without limits.
pub const OPEN: &str = "bench-token-open-not-for-production-0001";
/// The relay key with limits of every kind.
pub const EVERYTHING: &str = "bench-token-everything-not-for-production-0002";

/// Who answers in a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Contender {
    /// The upstream itself: what the load generator and the upstream can do.
    Direct,
    /// nginx as a plain reverse proxy.
    Nginx,
    /// hyper, and nothing else.
    Hyper,
    /// Relay, with a relay key that nothing limits.
    RelayOpen,
    /// Relay, with everything on, counted in memory.
    Relay,
    /// The same, counted in Redis.
    RelayRedis,
    /// `relay-dataplane`, whose table an operator has pushed.
    Dataplane,
}

impl Contender {
    /// For tables.
    pub fn title(self) -> &'static str {
        match self {
            Self::Direct => "none: load generator and upstream",
            Self::Nginx => "nginx",
            Self::Hyper => "bare hyper",
            Self::RelayOpen => "Relay, limits off",
            Self::Relay => "Relay, everything on",
            Self::RelayRedis => "Relay, everything on, Redis",
            Self::Dataplane => "Relay in a pod: relay-dataplane with a table",
        }
    }

    /// What it is asked with.
    pub fn token(self) -> &'static str {
        match self {
            Self::Direct | Self::Nginx | Self::Hyper | Self::RelayOpen => OPEN,
            Self::Relay | Self::RelayRedis | Self::Dataplane => EVERYTHING,
        }
    }

    /// Whether this is Relay, which alone translates, limits and fails over.
    pub fn is_relay(self) -> bool {
        match self {
            Self::Direct | Self::Nginx | Self::Hyper => false,
            Self::RelayOpen | Self::Relay | Self::RelayRedis | Self::Dataplane => true,
        }
    }
}

/// A gateway that listens.
#[derive(Debug)]
pub struct Gateway {
    /// Where.
    pub address: SocketAddr,
    /// What it runs as.
    pub process: Process,
}

/// What is measured.
#[derive(Debug, Clone)]
pub struct Programs {
    /// `relay`.
    pub relay: PathBuf,
    /// `relay-dataplane`.
    pub dataplane: PathBuf,
}

/// All of them, and what they need.
pub struct Gateways {
    /// The provider behind all.
    pub upstream: Upstream,
    nginx: Gateway,
    hyper: Gateway,
    memory: Gateway,
    shared: Gateway,
    redis: Redis,
    operator: dataplane::Operator,
    programs: Programs,
    directory: tempfile::TempDir,
    cores: Cores,
}

impl Gateways {
    /// Starts them.
    pub async fn start(cores: Cores, programs: Programs) -> anyhow::Result<Self> {
        let upstream = Upstream::start().await?;
        let directory = tempfile::tempdir().context("making a temporary directory")?;
        let redis = Redis::start_with(Options::new().directive(&format!("server_cpulist {}", cores.redis)));
        let nginx = nginx::start(cores, directory.path(), upstream.address)?;
        let hyper = pass_through(cores, upstream.address)?;
        relay::write_manifests(directory.path(), upstream.address)?;
        let start = |more: &[&str]| relay::start(cores, &programs.relay, directory.path(), more);
        let memory = start(&[])?;
        let shared = start(&["--redis", &redis.url(), "--redis-timeout", "5s"])?;
        let operator = dataplane::Operator::start(directory.path(), upstream.address).await?;
        Ok(Self { upstream, nginx, hyper, memory, shared, redis, operator, programs, directory, cores })
    }

    /// Who answers; nobody where nothing is between, or what is between is started for each measurement.
    pub fn gateway(&self, contender: Contender) -> Option<&Gateway> {
        match contender {
            Contender::Direct | Contender::Dataplane => None,
            Contender::Nginx => Some(&self.nginx),
            Contender::Hyper => Some(&self.hyper),
            Contender::RelayOpen | Contender::Relay => Some(&self.memory),
            Contender::RelayRedis => Some(&self.shared),
        }
    }

    /// Where a contender is asked.
    pub fn address(&self, contender: Contender) -> SocketAddr {
        self.gateway(contender).map_or(self.upstream.address, |gateway| gateway.address)
    }

    /// Starts another Relay, and says when it began to.
    pub fn another_relay(&self) -> anyhow::Result<(Gateway, Instant)> {
        let begun = Instant::now();
        Ok((relay::start(self.cores, &self.programs.relay, self.directory.path(), &[])?, begun))
    }

    /// Starts a `relay-dataplane`, and says how long it took until it served its table.
    pub async fn dataplane(&self) -> anyhow::Result<(Gateway, Duration)> {
        self.operator.follow(self.cores, &self.programs.dataplane).await
    }

    /// Microseconds of scripts in Redis so far.
    pub fn redis_script_micros(&self) -> f64 {
        let stats = self.redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find(|line| line.starts_with("cmdstat_evalsha:")).unwrap_or_default();
        let micros = line.split(',').find_map(|field| field.strip_prefix("usec="));
        micros.and_then(|micros| micros.parse().ok()).unwrap_or_default()
    }
}

fn pass_through(cores: Cores, upstream: SocketAddr) -> anyhow::Result<Gateway> {
    let program = std::env::current_exe().context("asking which program this is")?;
    let mut command = cores.gateway(program);
    command.args(["pass-through", &upstream.to_string()]);
    let (process, line) = Process::announced(command)?;
    let address = line.trim().parse().with_context(|| format!("`{line}` is no address"))?;
    Ok(Gateway { address, process })
}
