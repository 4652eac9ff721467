//! Settles who is right where a data plane has seen newer sources than this replica has: has them listed again.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use feed::publisher::Publisher;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::info;

use crate::world::World;

/// How often it is looked. What is only late by a moment has come at the next look, and needs no list.
const LOOK: Duration = Duration::from_millis(200);

/// The shortest time between two lists of one collection because of data planes; it doubles as long as somebody stays ahead.
pub(super) const AGAIN: Duration = Duration::from_secs(1);

/// The same for sidecars: anyone who can make a pod may say anything, and lists of everything cost the API server something.
pub(super) const AGAIN_FOR_SIDECARS: Duration = Duration::from_secs(30);

/// The longest.
const AGAIN_MOST: Duration = Duration::from_secs(120);

/// Looks at these data planes until `stop`. Sidecars are looked at apart: what they say must not have data planes wait.
pub(super) async fn run(
    served: impl Fn() -> BTreeMap<String, Publisher> + Send,
    again: Duration,
    world: Arc<World>,
    stop: CancellationToken,
) {
    let mut doubts = Doubted::new(again);
    let mut ticks = interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let ahead = served()
            .values()
            .flat_map(|publisher| publisher.fleet().ahead())
            .map(|regression| regression.kind)
            .collect();
        for collection in doubts.due(ahead, Instant::now()) {
            info!(collection, "a data plane has seen a newer state of `{collection}`: it is listed again");
            world.doubts().tell(&collection);
        }
    }
}

/// Collections in which a data plane is ahead.
#[derive(Debug)]
struct Doubted {
    again: Duration,
    known: BTreeMap<String, Doubt>,
}

#[derive(Debug)]
struct Doubt {
    /// When it is listed again.
    next: Instant,
    times: u32,
}

impl Doubted {
    fn new(again: Duration) -> Self {
        Self { again, known: BTreeMap::new() }
    }

    /// Those of the collections, in which somebody is ahead now, that have to be listed.
    fn due(&mut self, ahead: BTreeSet<String>, now: Instant) -> Vec<String> {
        // What was settled a moment ago is remembered, so that nobody can have lists made as fast as they are answered.
        self.known.retain(|collection, doubt| ahead.contains(collection) || now < doubt.next);
        let mut due = Vec::new();
        for collection in ahead {
            let doubt = self.known.entry(collection.clone()).or_insert(Doubt { next: now + LOOK / 2, times: 0 });
            if doubt.next <= now {
                doubt.next = now + self.again.saturating_mul(1 << doubt.times.min(16)).min(AGAIN_MOST);
                doubt.times += 1;
                due.push(collection);
            }
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collection_is_listed_when_somebody_stays_ahead_in_it_and_then_ever_less_often() {
        let (mut doubted, start) = (Doubted::new(AGAIN), Instant::now());
        let mut lists = Vec::new();
        for look in 0..100 {
            let ahead = BTreeSet::from(["secrets".to_owned()]);
            if !doubted.due(ahead, start + look * LOOK).is_empty() {
                lists.push(look);
            }
        }
        assert_eq!(lists, [1, 6, 16, 36, 76]);
    }

    #[test]
    fn who_is_ahead_for_a_moment_has_nothing_listed() {
        let (mut doubted, start) = (Doubted::new(AGAIN), Instant::now());
        for look in 0..10 {
            let ahead = if look % 2 == 0 { BTreeSet::from(["secrets".to_owned()]) } else { BTreeSet::new() };
            assert_eq!(doubted.due(ahead, start + look * LOOK), [] as [&str; 0]);
        }
    }
}
