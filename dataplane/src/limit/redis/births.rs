//! When the data of each domain began. Another birth than before says that everything was lost in between; then this
//! process gives back, once, what it knows of budgets.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{link::Missed, seed::Seeder};

/// The births in which this process is registered: whatever it settles is in the counters, and so must not be given
/// back there again.
pub(super) struct Births {
    known: Mutex<HashMap<String, Arc<str>>>,
    seeder: Seeder,
    /// One at a time, so that nothing is settled between a sum and its being given back.
    seeding: tokio::sync::Mutex<()>,
}

impl Births {
    /// No birth is known.
    pub(super) fn new(seeder: Seeder) -> Self {
        Self { known: Mutex::default(), seeder, seeding: tokio::sync::Mutex::default() }
    }

    /// The birth of a domain's data in which this process is registered.
    pub(super) fn of(&self, domain: &str) -> Option<Arc<str>> {
        self.known.lock().get(domain).cloned()
    }

    /// The birth of a domain's present data, as far as it was heard of: to be asked before something is sent.
    pub(super) fn heard(&self, domain: &str) -> Option<Arc<str>> {
        self.seeder.heard(domain)
    }

    /// A script has registered this process, says an answer to what was sent when `heard` was the present birth. An
    /// answer that is late brings no earlier birth back.
    pub(super) fn registered(&self, domain: &str, born: &str, heard: Option<&Arc<str>>) {
        if self.seeder.hear(domain, born, heard) {
            self.know(domain, born);
        }
    }

    fn know(&self, domain: &str, born: &str) {
        let mut known = self.known.lock();
        if known.get(domain).is_none_or(|known| **known != *born) {
            known.insert(domain.to_owned(), born.into());
        }
    }

    /// The name under which this process, and those that go on with its books after it, give back what they know.
    pub(super) fn process(&self) -> &str {
        self.seeder.process()
    }

    /// Whether there is something to give back should the data of a domain have been lost.
    pub(super) fn has_seeds(&self, domain: &str) -> bool {
        self.seeder.has_seeds(domain)
    }

    /// Gives back, until `stop`, what is known only after a script has let this process in.
    pub(super) async fn give_back(self: Arc<Self>, stop: CancellationToken) {
        self.seeder.run(stop).await;
    }

    /// Registers this process in the domain's data that began with `born`, and gives back what it knows; `heard` is as in
    /// [`Births::registered`].
    pub(super) async fn register(&self, domain: &str, born: &str, heard: Option<&Arc<str>>) -> Result<(), Missed> {
        let _one = self.seeding.lock().await;
        if self.seeder.hear(domain, born, heard) && self.of(domain).is_none_or(|known| *known != *born) {
            self.seeder.seed(domain, born).await?;
            self.know(domain, born);
        }
        Ok(())
    }
}
