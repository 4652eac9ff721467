//! The connection to Redis: finds the server, keeps one connection to each master, runs scripts, and says in a closed set
//! of errors what went wrong. The only module that names the client library.
//!
//! Nothing here happens by itself: a connection that broke stays broken, and calls fail at once, until `revive` is called.
//! No call is repeated that may have been executed.

mod call;
mod dial;
mod discovery;
pub mod error;
mod greeting;
mod layout;
mod line;
mod opener;
mod reply;
mod slots;
pub mod target;

#[cfg(test)]
mod tests;

use std::{collections::HashMap, fmt, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use futures::future::join_all;
use parking_lot::Mutex;
use tokio::time::timeout;

use self::{
    call::Call,
    error::StoreError,
    layout::Layout,
    opener::Opener,
    target::{Mode, Target},
};
use super::script::Script;

/// The way to Redis. Clones share their connections.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

struct Inner {
    opener: Opener,
    layout: ArcSwap<Layout>,
    /// Held by whoever opens connections.
    opening: tokio::sync::Mutex<()>,
    revived: Mutex<Revived>,
}

/// How the last revival went, for those who asked for it while it was under way.
struct Revived {
    count: u64,
    outcome: Result<(), StoreError>,
}

impl Store {
    /// Connects to nothing yet. Errs when the target is not whole or the authorities for TLS cannot be read.
    pub fn new(target: Target, scripts: Vec<Script>) -> anyhow::Result<Self> {
        anyhow::ensure!(!target.nodes.is_empty(), "no node of Redis is named");
        anyhow::ensure!(
            target.mode != Mode::Standalone || target.nodes.len() == 1,
            "{} nodes of Redis are named, and a standalone one has one",
            target.nodes.len()
        );
        Ok(Self(Arc::new(Inner {
            opener: Opener::new(target, scripts)?,
            layout: ArcSwap::default(),
            opening: tokio::sync::Mutex::default(),
            revived: Mutex::new(Revived { count: 0, outcome: Ok(()) }),
        })))
    }

    /// Makes sure that there is a connection that answers, with the scripts loaded: to the server, or to every master of
    /// a cluster. Replaces what broke, and asks sentinels and cluster who the masters are. Takes a few hundred
    /// milliseconds at most; who calls while it is under way gets its outcome. In a cluster the masters that could be
    /// reached serve their slots even where it errs for another.
    pub async fn revive(&self) -> Result<(), StoreError> {
        let before = self.0.revived.lock().count;
        let _opening = self.0.opening.lock().await;
        {
            let last = self.0.revived.lock();
            if last.count != before {
                return last.outcome.clone();
            }
        }
        let outcome = self.0.reopen().await;
        *self.0.revived.lock() = Revived { count: before + 1, outcome: outcome.clone() };
        outcome
    }

    /// Whether the connection that serves a key is open, as far as is known without asking.
    pub fn is_open(&self, key: &str) -> bool {
        self.0.layout.load().line(key).is_ok_and(|line| line.is_alive())
    }

    /// Runs a script. All keys have the same hash tag. Errs at once where there is no connection, and after the target's
    /// timeout in any case.
    pub async fn eval(
        &self,
        script: &Script,
        keys: &[impl AsRef<str> + Sync],
        arg: &[u8],
    ) -> Result<Vec<u8>, StoreError> {
        let key = keys.first().map_or("", AsRef::as_ref);
        let value = self.in_time(self.0.call(key, Call::Script { script, keys, arg })).await?;
        reply::blob(value)
    }

    /// Sets a key that does not exist yet, for a while. Gives whether it was set.
    pub async fn set_if_absent(&self, key: &str, value: &str, ttl: Duration) -> Result<bool, StoreError> {
        let call: Call<'_, &str> = Call::SetIfAbsent { key, value, ttl };
        let value = self.in_time(self.0.call(key, call)).await?;
        reply::was_set(&value)
    }

    /// The fields of a hash; none where the key does not exist.
    pub async fn read_hash(&self, key: &str) -> Result<HashMap<String, Vec<u8>>, StoreError> {
        let call: Call<'_, &str> = Call::ReadHash { key };
        let value = self.in_time(self.0.call(key, call)).await?;
        reply::fields(value)
    }

    async fn in_time<T>(&self, work: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
        timeout(self.0.opener.target.timeout, work).await.unwrap_or(Err(StoreError::Timeout))
    }
}

impl fmt::Debug for Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Store").field(&self.0.opener.target).finish()
    }
}

impl Inner {
    async fn reopen(&self) -> Result<(), StoreError> {
        match &self.opener.target.mode {
            Mode::Standalone => self.reopen_at(&self.opener.target.nodes[0]).await,
            Mode::Sentinel { master } => match discovery::masters(&self.opener, master).await {
                Ok(addresses) => self.reopen_at_one_of(&addresses).await,
                Err(error) => self.keep_without_sentinels(error).await,
            },
            Mode::Cluster => self.reopen_cluster().await,
        }
    }

    async fn reopen_at(&self, address: &target::Address) -> Result<(), StoreError> {
        let old = self.layout.load().any_line_to(address).cloned();
        let line = self.opener.keep(address, old).await?;
        self.layout.store(Arc::new(Layout::single(line)));
        Ok(())
    }

    async fn reopen_at_one_of(&self, addresses: &[target::Address]) -> Result<(), StoreError> {
        let mut outcome = Err(StoreError::Lost("no sentinel knows a master".to_owned()));
        for address in addresses {
            outcome = self.reopen_at(address).await;
            if outcome.is_ok() {
                break;
            }
        }
        outcome
    }

    /// A server that still answers is as good without sentinels.
    async fn keep_without_sentinels(&self, error: StoreError) -> Result<(), StoreError> {
        let known = self.layout.load().line("").map(|line| line.address().clone());
        match known {
            Ok(address) if self.layout.load().line_to(&address).is_some() => self.reopen_at(&address).await,
            _ => Err(error),
        }
    }

    async fn reopen_cluster(&self) -> Result<(), StoreError> {
        let old = self.layout.load_full();
        let chart = discovery::chart(&self.opener, old.lines()).await?;
        let masters = chart.masters();
        let kept = masters.iter().map(|master| self.opener.keep(master, old.any_line_to(master).cloned()));
        let (mut lines, mut failed) = (Vec::new(), None);
        for (kept, master) in join_all(kept).await.into_iter().zip(&masters) {
            match kept {
                Ok(line) => lines.push(line),
                Err(error) => {
                    // Silent, but not given up: its next call finds out.
                    lines.extend(old.line_to(master).cloned());
                    failed.get_or_insert(error);
                }
            }
        }
        self.layout.store(Arc::new(Layout::of_cluster(&chart, lines)));
        match (failed, chart.unserved()) {
            (Some(error), _) => Err(error),
            (None, 0) => Ok(()),
            (None, slots) => Err(StoreError::Busy(format!("nobody serves {slots} slots of the cluster"))),
        }
    }
}
