//! What a plan is told about hosts and keys at this moment.

use std::{sync::Arc, time::Duration};

use table::ObjectRef;

use crate::world::{Host, HostKey};

/// What is known of hosts and keys at this moment.
pub struct Weather<'a> {
    /// How a host is.
    pub host: &'a dyn Fn(&ObjectRef) -> HostWeather,
    /// Puts the keys of a host in the order in which they are tried; the number keeps a conversation at its key where
    /// policies or the host want that, and is chance otherwise.
    pub keys: &'a dyn Fn(&Host, Vec<Arc<HostKey>>, u64) -> Vec<Arc<HostKey>>,
}

/// How a host is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HostWeather {
    /// Whether it is known to be failing.
    pub is_failing: bool,
    /// Requests in flight.
    pub in_flight: u64,
    /// Recent time to the first content; absent: not known.
    pub latency: Option<Duration>,
}

impl Weather<'_> {
    /// Nothing is known: every host is well, and keys go by priority, weight and name.
    pub fn unknown() -> Weather<'static> {
        Weather {
            host: &|_| HostWeather::default(),
            keys: &|_, mut keys, _| {
                keys.sort_by(|a, b| {
                    let rank = |key: &HostKey| (key.row.priority, u32::MAX - key.row.weight);
                    rank(a).cmp(&rank(b)).then_with(|| a.id.cmp(&b.id))
                });
                keys
            },
        }
    }
}
