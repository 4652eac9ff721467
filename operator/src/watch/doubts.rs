//! Doubts about what was heard. A watch does not say how new it is before something happens, so another replica, which has
//! listed a collection later, can know that all of it is as it was at a version that is newer than any heard of here. A
//! data plane that has this from there takes nothing from here; a list then shows which of the two is right.

use std::{collections::BTreeMap, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Where doubts are told, and heard by whoever follows the collection.
#[derive(Debug, Default)]
pub(crate) struct Doubts(Mutex<BTreeMap<String, Arc<Notify>>>);

impl Doubts {
    /// Has a collection listed again. Any number tell, one list is made. One that nobody follows stays as it is.
    pub(crate) fn tell(&self, collection: &str) {
        if let Some(doubt) = self.0.lock().get(collection) {
            doubt.notify_one();
        }
    }

    /// Doubts about one collection.
    pub(super) fn of(&self, collection: &str) -> Arc<Notify> {
        self.0.lock().entry(collection.to_owned()).or_default().clone()
    }
}
