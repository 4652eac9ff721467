//! Whose turn it is to probe a host key: whoever writes its name first, for a while.

use std::sync::Arc;

use futures::future::FutureExt;

use super::Fleet;
use crate::{
    heal::peers::{Peers, Probe},
    limit::redis::{keys::Keys, store::Store},
};

/// Who decides it.
pub struct Probes {
    fleet: Arc<Fleet>,
    store: Store,
    keys: Keys,
    process: Arc<str>,
}

impl Probes {
    /// Turns of `process` among those that use this store.
    pub fn new(fleet: Arc<Fleet>, store: Store, keys: Keys, process: Arc<str>) -> Self {
        Self { fleet, store, keys, process }
    }

    /// Whether it is this process' turn. While Redis is away every process probes by itself.
    pub async fn lease(&self, probe: &Probe) -> bool {
        let name = self.keys.probe(&probe.domain, &self.fleet.probe_name(probe));
        self.store.set_if_absent(&name, &self.process, probe.lease).await.unwrap_or(true)
    }

    /// What healing asks of the other processes.
    pub fn peers(self) -> Peers {
        let (fleet, probes) = (self.fleet.clone(), Arc::new(self));
        let lease = move |probe: Probe| {
            let probes = probes.clone();
            async move { probes.lease(&probe).await }.boxed()
        };
        Peers::new(move |wards| fleet.know(wards), lease)
    }
}
