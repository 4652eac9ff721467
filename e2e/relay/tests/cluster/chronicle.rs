//! Everything that was ever said on objects, and every token that was ever made, while somebody watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use futures::TryStreamExt;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client, Resource,
    api::{DynamicObject, WatchEvent, WatchParams},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::task::JoinHandle;

use crate::census::{KINDS, Said, api};

/// What was seen so far.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    /// Statuses that took back what they had said of the same generation.
    pub(crate) flaps: Vec<String>,
    /// How many statuses were looked at.
    pub(crate) statuses: usize,
    /// By uid: what was said last, and the newest generation at which the object was ready.
    last: BTreeMap<String, (Said, Option<i64>)>,
    /// Tokens by the uid of the RelayKey that they were made for.
    tokens: BTreeMap<String, BTreeSet<String>>,
    /// RelayKeys whose Secret was seen, by the name and the token.
    made: BTreeMap<String, String>,
}

impl Seen {
    fn status(&mut self, said: Said) {
        self.statuses += 1;
        let before = self.last.get(&said.uid);
        let mut ready_at = before.and_then(|(_, ready_at)| *ready_at);
        if let Some((before, _)) = before
            && said.observed < before.observed
        {
            self.flaps.push(format!("what was newer was taken back: {before}, then {said}"));
        }
        if let Some((is_ready, generation)) = said.ready {
            if !is_ready && ready_at == Some(generation) {
                self.flaps.push(format!("it was ready as it is: {said}"));
            }
            if is_ready {
                ready_at = Some(generation);
            }
        }
        self.last.insert(said.uid.clone(), (said, ready_at));
    }

    fn secret(&mut self, secret: &Secret) {
        let owner = secret.metadata.owner_references.iter().flatten().find(|owner| owner.kind == "RelayKey");
        let token = secret.data.as_ref().and_then(|data| data.get("token"));
        let (Some(owner), Some(token)) = (owner, token) else { return };
        let token = String::from_utf8(token.0.clone()).expect("a token is text");
        self.tokens.entry(owner.uid.clone()).or_default().insert(token.clone());
        self.made.insert(owner.uid.clone(), token);
    }

    /// RelayKeys for which more than one token was made.
    pub(crate) fn minted_twice(&self) -> Vec<&String> {
        self.tokens.iter().filter(|(_, tokens)| tokens.len() > 1).map(|(uid, _)| uid).collect()
    }

    /// The token of each RelayKey, by its uid.
    pub(crate) fn made(&self) -> &BTreeMap<String, String> {
        &self.made
    }
}

/// Somebody who watches until dropped.
pub(crate) struct Chronicle {
    seen: Arc<Mutex<Seen>>,
    watching: Vec<JoinHandle<()>>,
}

impl Chronicle {
    /// Watches from now on; an API server that goes away ends the test.
    pub(crate) async fn start(client: &Client, namespace: &str) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut watching = Vec::new();
        for kind in KINDS {
            let seen = seen.clone();
            watching.push(watch(api(client, namespace, kind), move |object: &DynamicObject| {
                seen.lock().status(Said::of(kind, object));
            }));
        }
        let written = seen.clone();
        let secrets: Api<Secret> = Api::namespaced(client.clone(), namespace);
        watching.push(watch(secrets, move |secret| written.lock().secret(secret)));
        Self { seen, watching }
    }

    /// What was seen so far.
    pub(crate) fn seen<T>(&self, look: impl FnOnce(&Seen) -> T) -> T {
        assert!(self.watching.iter().all(|watch| !watch.is_finished()), "somebody stopped to watch");
        look(&self.seen.lock())
    }
}

impl Drop for Chronicle {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
    }
}

/// Shows every version of every object: what is there, and each change of it.
fn watch<K>(api: Api<K>, mut show: impl FnMut(&K) + Send + 'static) -> JoinHandle<()>
where
    K: Resource + Clone + DeserializeOwned + std::fmt::Debug + Send + 'static,
{
    tokio::spawn(async move {
        // From version 0 what is there comes first. No test takes longer than the longest watch.
        let asked = WatchParams::default().timeout(290);
        let mut events = std::pin::pin!(api.watch(&asked, "0").await.expect("objects can be watched"));
        while let Some(event) = events.try_next().await.expect("a watch goes on") {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => show(&object),
                WatchEvent::Deleted(_) | WatchEvent::Bookmark(_) => {}
                WatchEvent::Error(status) => panic!("a watch ended: {status:?}"),
            }
        }
        panic!("a watch ended");
    })
}
