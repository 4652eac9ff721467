//! Turns names into addresses and says how long they hold. Judges no address: that is [`table::address`]'s business.

use std::{
    net::IpAddr,
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use hickory_resolver::{TokioResolver, config::LookupIpStrategy};
use tracing::warn;

/// How long an answer of the C library holds, which tells no time to live.
const UNTOLD: Duration = Duration::from_secs(30);

/// The addresses of a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resolved {
    /// In the order of the answer; never empty.
    pub addresses: Vec<IpAddr>,
    /// How long they hold.
    pub valid_for: Duration,
}

/// Turns a name into addresses. Called once for each new connection; a cache is the implementation's business.
pub trait Resolve: Send + Sync + 'static {
    /// The addresses of `name`, or why there are none.
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Resolved, String>>;
}

/// The system's name servers and hosts file, with a cache that keeps times to live.
pub enum System {
    /// As the system's configuration names them.
    Configured(Box<TokioResolver>),
    /// By the C library, where the system's configuration cannot be read.
    Library,
}

impl System {
    /// Reads the system's configuration.
    pub fn new() -> Self {
        let built = TokioResolver::builder_tokio().and_then(|mut builder| {
            builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
            builder.build()
        });
        match built {
            Ok(resolver) => System::Configured(Box::new(resolver)),
            Err(error) => {
                warn!(%error, "cannot read the system's resolver configuration; asking the C library instead");
                System::Library
            }
        }
    }
}

impl Default for System {
    fn default() -> Self {
        Self::new()
    }
}

impl Resolve for System {
    fn resolve<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<Resolved, String>> {
        Box::pin(async move {
            let resolved = match self {
                System::Configured(resolver) => configured(resolver, name).await?,
                System::Library => library(name).await?,
            };
            if resolved.addresses.is_empty() { Err("it has no address".to_owned()) } else { Ok(resolved) }
        })
    }
}

async fn configured(resolver: &TokioResolver, name: &str) -> Result<Resolved, String> {
    let answer = resolver.lookup_ip(name).await.map_err(|error| error.to_string())?;
    let valid_for = answer.valid_until().saturating_duration_since(Instant::now());
    Ok(Resolved { addresses: answer.iter().collect(), valid_for })
}

async fn library(name: &str) -> Result<Resolved, String> {
    let found = tokio::net::lookup_host((name, 0)).await.map_err(|error| error.to_string())?;
    Ok(Resolved { addresses: found.map(|address| address.ip()).collect(), valid_for: UNTOLD })
}
