//! Where tests count: servers that all tests of this process share, each kind started once, when it is first needed.

use std::{collections::BTreeSet, net::SocketAddr, sync::OnceLock, time::Duration};

use servers::{Cluster, Redis};

use super::{super::store::target, bench::DOMAINS};

/// A busy machine is not what is tested here.
const PATIENT: Duration = Duration::from_secs(10);

/// Servers that are there for as long as this process is.
pub(super) trait Place: Send + Sync + 'static {
    /// The servers.
    fn shared() -> &'static Self;

    /// How limiters find them.
    fn target(&self) -> target::Target;

    /// The server that has the keys of a domain.
    fn serving(&self, domain: &str) -> &Redis;
}

/// One server.
pub(super) struct Standalone(Redis);

impl Place for Standalone {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Standalone> = OnceLock::new();
        SHARED.get_or_init(|| Self(Redis::start()))
    }

    fn target(&self) -> target::Target {
        target::Target { timeout: PATIENT, ..target::Target::standalone(address(self.0.address())) }
    }

    fn serving(&self, _: &str) -> &Redis {
        &self.0
    }
}

/// Three masters.
pub(super) struct Masters {
    cluster: Cluster,
    /// Who serves each of [`DOMAINS`], as an index of the nodes: to ask the cluster takes long.
    owners: [usize; DOMAINS.len()],
}

impl Place for Masters {
    fn shared() -> &'static Self {
        static SHARED: OnceLock<Masters> = OnceLock::new();
        SHARED.get_or_init(|| {
            let cluster = Cluster::start();
            let owner = |domain| cluster.owner_of(&format!("{{{domain}}}")).address();
            let place = |address| cluster.nodes().iter().position(|node| node.address() == address);
            let owners = DOMAINS.map(|domain| place(owner(domain)).expect("a node serves each slot"));
            let different = BTreeSet::from(owners).len();
            assert!(different > 1, "one master serves all domains: that proves nothing of a cluster");
            Self { cluster, owners }
        })
    }

    fn target(&self) -> target::Target {
        let nodes = self.cluster.addresses().into_iter().map(address).collect();
        target::Target {
            nodes,
            mode: target::Mode::Cluster,
            timeout: PATIENT,
            ..target::Target::standalone(target::Address::new("", 0))
        }
    }

    fn serving(&self, domain: &str) -> &Redis {
        let at = DOMAINS.iter().position(|known| *known == domain).expect("the contract has no other domain");
        self.cluster.nodes()[self.owners[at]]
    }
}

pub(super) fn address(socket: SocketAddr) -> target::Address {
    target::Address::new(socket.ip().to_string(), socket.port())
}
