//! Shares what is learned of requests' sizes, so that a new process does not start from nothing.
//!
//! Everything here happens in the background: a request neither waits for it nor costs a command more. What others have
//! learned only fills gaps; what this process has learned itself is never replaced.

pub mod lessons;

use std::{
    collections::{BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{
    keys::{FLEET, Keys},
    link::{Link, Missed},
    script::{Script, Scripts},
};
use crate::limit::estimate::{Estimator, Lessons};

/// How often what changed is told, and what could not be read is tried again.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// Fields of one hash at most; beyond, it is dropped and learned anew.
const MOST_FIELDS: usize = 20_000;

/// How long a hash is kept that nobody writes to: 30 days.
const KEPT_MS: u64 = 30 * 24 * 60 * 60 * 1_000;

/// Where reading a hash begins and ends.
const FIRST: &str = "0";

/// Lessons that one call tells or reads, about: it keeps Redis busy for less than a millisecond.
const MOST_TOLD: usize = 500;

/// How lessons are written and read.
#[derive(Clone, Debug)]
struct Words {
    learned: Script,
    recall: Script,
}

/// Shares an estimator's lessons.
pub struct Learned {
    link: Arc<Link>,
    keys: Keys,
    scripts: Words,
    estimator: Arc<Estimator>,
    /// The domains that somebody asked for.
    known: RwLock<HashSet<String>>,
    /// Those of them that are to be read yet.
    unread: Mutex<BTreeSet<String>>,
    news: Notify,
}

impl Learned {
    /// Nothing is shared before [`Learned::run`].
    pub fn new(link: Arc<Link>, keys: Keys, scripts: &Scripts, estimator: Arc<Estimator>) -> Self {
        // From now on it lists what it learns itself, and so not what others are heard of.
        estimator.put_back(&estimator.drain());
        let scripts = Words { learned: scripts.learned.clone(), recall: scripts.recall.clone() };
        let unread = Mutex::new(BTreeSet::from([FLEET.to_owned()]));
        Self { link, keys, scripts, estimator, known: RwLock::default(), unread, news: Notify::new() }
    }

    /// A relay key of this namespace asks: what is known of its keys will be read, once. Never waits.
    pub fn ask(&self, domain: &str) {
        if self.known.read().contains(domain) || !self.known.write().insert(domain.to_owned()) {
            return;
        }
        self.unread.lock().insert(domain.to_owned());
        self.news.notify_one();
    }

    /// Reads what is asked for and tells what changed, and at the end tells once more.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let mut ticks = interval(TELL_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                () = self.news.notified() => self.read().await,
                _ = ticks.tick() => {
                    self.read().await;
                    self.tell().await;
                }
            }
        }
        self.tell().await;
    }

    /// Reads the domains that are to be read; those that Redis does not give stay for the next time.
    pub(super) async fn read(&self) {
        let domains = self.unread.lock().clone();
        for domain in domains {
            match self.read_one(&domain).await {
                Ok(()) => drop(self.unread.lock().remove(&domain)),
                Err(missed) => debug!(domain, %missed, "what was learned of namespace `{domain}` cannot be read yet"),
            }
        }
    }

    async fn read_one(&self, domain: &str) -> Result<(), Missed> {
        let (hash, mut cursor) = ([self.hash(domain)], FIRST.to_owned());
        loop {
            let argument = rmp_serde::to_vec(&(&cursor, MOST_TOLD)).expect("numbers and strings can be written");
            let answer = self.link.call(domain, &self.scripts.recall, &hash, &argument).await?;
            let (next, fields): (String, Vec<String>) =
                rmp_serde::from_slice(&answer).map_err(|_| Missed::Unreadable)?;
            self.estimator.take_in(lessons::lessons(domain, &fields));
            if next == FIRST {
                return Ok(());
            }
            cursor = next;
        }
    }

    /// Tells what changed since the last time; what Redis does not take is told again.
    pub(super) async fn tell(&self) {
        for (domain, lessons) in lessons::by_domain(self.estimator.drain()) {
            for part in parts(lessons) {
                if let Err(missed) = self.write(&domain, &part).await {
                    debug!(domain, %missed, "what was learned waits for Redis");
                    self.estimator.put_back(&part);
                }
            }
        }
    }

    async fn write(&self, domain: &str, lessons: &Lessons) -> Result<(), Missed> {
        let fields = lessons::fields(lessons);
        if fields.is_empty() {
            return Ok(());
        }
        let argument = rmp_serde::to_vec(&(MOST_FIELDS, KEPT_MS, fields)).expect("numbers and strings can be written");
        self.link.call(domain, &self.scripts.learned, &[self.hash(domain)], &argument).await.map(drop)
    }

    fn hash(&self, domain: &str) -> String {
        if domain == FLEET { self.keys.rates() } else { self.keys.learned(domain) }
    }
}

/// Lessons of one domain, so many at a time.
fn parts(lessons: Lessons) -> Vec<Lessons> {
    let Lessons { rates, outputs } = lessons;
    let rates = rates.chunks(MOST_TOLD).map(|part| Lessons { rates: part.to_vec(), outputs: Vec::new() });
    let outputs = outputs.chunks(MOST_TOLD).map(|part| Lessons { rates: Vec::new(), outputs: part.to_vec() });
    rates.chain(outputs).collect()
}

#[cfg(test)]
mod tests;
