//! Moves a slot from one master to another, in the steps in which an operator's tools do it.

use super::{Cluster, Member};
use crate::{Redis, process::CONTROL};

/// A slot on its way.
#[must_use = "a slot stays half moved until `finish`"]
pub struct Move<'a> {
    cluster: &'a Cluster,
    slot: String,
    from: &'a Member,
    to: &'a Member,
}

impl<'a> Move<'a> {
    pub(super) fn begin(cluster: &'a Cluster, slot: u16, from: &'a Member, to: &'a Member) -> Self {
        let slot = slot.to_string();
        to.redis.cli(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &from.id]);
        from.redis.cli(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &to.id]);
        Self { cluster, slot, from, to }
    }

    /// Moves the keys that are in the slot now.
    pub fn migrate_keys(&self) {
        let port = self.to.redis.address().port().to_string();
        loop {
            let keys = self.from.redis.cli(&["CLUSTER", "GETKEYSINSLOT", &self.slot, "100"]);
            if keys.is_empty() {
                return;
            }
            let head = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "AUTH2", CONTROL, CONTROL, "KEYS"];
            let words: Vec<_> = head.into_iter().chain(keys.lines()).collect();
            self.from.redis.cli(&words);
        }
    }

    /// Gives the slot to its new owner, tells all nodes, and returns the new owner.
    pub fn finish(self) -> &'a Redis {
        // The new owner first: it takes a new epoch with the slot, which convinces whoever was not told.
        let owners = [self.to, self.from];
        let others = self.cluster.members.iter().filter(|member| owners.iter().all(|owner| owner.id != member.id));
        for member in owners.into_iter().chain(others) {
            if member.redis.is_running() && member.is_master() {
                member.redis.cli(&["CLUSTER", "SETSLOT", &self.slot, "NODE", &self.to.id]);
            }
        }
        &self.to.redis
    }
}
