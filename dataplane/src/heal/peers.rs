//! What healing asks of other processes that use the same keys: who probes. A process that is alone asks nobody.

use std::{fmt, sync::Arc, time::Duration};

use futures::future::{BoxFuture, FutureExt, ready};

use super::Ward;
use crate::upstream::credentials::KeyHash;

/// A probe that a process wants to send, and others then should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The namespace of the host key, or of the host where it needs none; of several, the first.
    pub domain: String,
    /// Under which the key's health is kept.
    pub key: KeyHash,
    /// What for.
    pub purpose: Purpose,
    /// For how long it is nobody else's turn: a process that died may hold it no longer.
    pub lease: Duration,
}

/// What a probe is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// To bring back a key that is out.
    Heal,
    /// To find out whether a key that is in use still works.
    Check,
}

/// The other processes. Cheap to clone.
#[derive(Clone)]
pub struct Peers {
    know: Arc<Know>,
    lease: Arc<Lease>,
}

type Know = dyn Fn(&[Ward]) + Send + Sync;
type Lease = dyn Fn(Probe) -> BoxFuture<'static, bool> + Send + Sync;

impl Peers {
    /// There are none: every probe is this process' own.
    pub fn none() -> Self {
        Self::new(|_| (), |_| ready(true).boxed())
    }

    /// `know` is told all keys of the current table, often; `lease` says whether a probe is this process' turn.
    pub fn new(
        know: impl Fn(&[Ward]) + Send + Sync + 'static,
        lease: impl Fn(Probe) -> BoxFuture<'static, bool> + Send + Sync + 'static,
    ) -> Self {
        Self { know: Arc::new(know), lease: Arc::new(lease) }
    }

    pub(super) fn know(&self, wards: &[Ward]) {
        (self.know)(wards);
    }

    pub(super) fn lease(&self, probe: Probe) -> BoxFuture<'static, bool> {
        (self.lease)(probe)
    }
}

impl fmt::Debug for Peers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Peers").finish_non_exhaustive()
    }
}
