//! Follows one collection of the API server for ever: lists it, watches it from there, and lists it again where the
//! server no longer knows what came since.
//!
//! Written here, on the client's `list` and `watch`, because the ready-made watcher keeps the versions of lists and
//! bookmarks to itself, and the source vector is made of these.

use std::{fmt::Debug, time::Duration};

use futures::StreamExt;
use kube::{
    Api, Error, Resource, ResourceExt,
    api::{ListParams, WatchEvent, WatchParams},
};
use rand::RngExt as _;
use serde::de::DeserializeOwned;
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

/// Objects of one answer to a list.
const PAGE: u32 = 500;
/// How long one answer to a list may take.
const LIST: Duration = Duration::from_secs(60);
/// How long the server keeps a watch open; each is up to a fifth shorter, so that not all end at once.
const WATCH_SECONDS: u32 = 290;
/// How much longer than that a silent connection is believed in.
const MARGIN: Duration = Duration::from_secs(10);
/// The first wait after a failure; it doubles with every other.
const WAIT: Duration = Duration::from_millis(100);
/// The longest wait after a failure.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What is heard of a collection, in order.
#[derive(Debug)]
pub(crate) enum Heard<K> {
    /// What follows is all that is there, until [`Heard::Listed`].
    Listing,
    /// One of the objects that are there.
    Item(K),
    /// That was all, at this version.
    Listed(u64),
    /// One object was made or changed.
    Applied(u64, K),
    /// One object is gone.
    Deleted(u64, K),
    /// Nothing else happened up to this version.
    Bookmark(u64),
    /// The server cannot be heard; the reason.
    Failing(String),
    /// It can be heard again.
    Hearing,
}

impl<K> Heard<K> {
    /// The same of what `part` takes out of an object.
    pub(crate) fn map<P>(self, part: impl FnOnce(K) -> P) -> Heard<P> {
        match self {
            Self::Listing => Heard::Listing,
            Self::Item(object) => Heard::Item(part(object)),
            Self::Listed(version) => Heard::Listed(version),
            Self::Applied(version, object) => Heard::Applied(version, part(object)),
            Self::Deleted(version, object) => Heard::Deleted(version, part(object)),
            Self::Bookmark(version) => Heard::Bookmark(version),
            Self::Failing(reason) => Heard::Failing(reason),
            Self::Hearing => Heard::Hearing,
        }
    }
}

/// Why the server was not heard any further.
#[derive(Debug, thiserror::Error)]
enum Broken {
    /// It does not know the version that was asked for: the collection has to be listed again.
    #[error("the server no longer knows what came since: {0}")]
    Lost(String),
    #[error("{0}")]
    Failed(String),
}

/// Follows a collection until it is dropped. Lists it again whenever `doubt` is told of, which proves how new it is.
pub(super) async fn follow<K>(name: &str, api: Api<K>, doubt: &Notify, hear: impl FnMut(Heard<K>))
where
    K: Resource + Clone + DeserializeOwned + Debug,
{
    let mut follower = Follower { name, api, doubt, hear, since: None, failures: 0, is_failing: false };
    loop {
        let begun = Instant::now();
        let ended = match follower.since.clone() {
            None => follower.list().await,
            Some(version) => follower.watch(&version).await,
        };
        match ended {
            Err(broken) => follower.failed(&broken),
            Ok(Ended::Listed) => continue,
            Ok(Ended::Doubted) => {
                follower.since = None;
                continue;
            }
            Ok(Ended::Closed) if begun.elapsed() > LONGEST_WAIT => continue,
            // A server that closes every watch at once is not asked as fast as it answers.
            Ok(Ended::Closed) => follower.failures += 1,
        }
        sleep(wait(follower.failures)).await;
    }
}

enum Ended {
    Listed,
    Closed,
    /// Somebody has seen a newer state than was heard of.
    Doubted,
}

struct Follower<'a, K, F> {
    name: &'a str,
    api: Api<K>,
    doubt: &'a Notify,
    hear: F,
    /// The version up to which everything was heard; absent: the collection has to be listed.
    since: Option<String>,
    /// Failures one after the other.
    failures: u32,
    is_failing: bool,
}

impl<K, F> Follower<'_, K, F>
where
    K: Resource + Clone + DeserializeOwned + Debug,
    F: FnMut(Heard<K>),
{
    async fn list(&mut self) -> Result<Ended, Broken> {
        (self.hear)(Heard::Listing);
        let mut page = ListParams::default().limit(PAGE);
        loop {
            let answer = timeout(LIST, self.api.list(&page)).await;
            let answer = answer.map_err(|_| Broken::Failed(format!("no list within {} s", LIST.as_secs())))??;
            for item in answer.items {
                (self.hear)(Heard::Item(item));
            }
            match answer.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page = page.continue_token(&token),
                None => {
                    let version = answer.metadata.resource_version.unwrap_or_default();
                    (self.hear)(Heard::Listed(number(&version)?));
                    self.since = Some(version);
                    self.heard();
                    self.failures = 0;
                    return Ok(Ended::Listed);
                }
            }
        }
    }

    async fn watch(&mut self, since: &str) -> Result<Ended, Broken> {
        let seconds = WATCH_SECONDS - rand::rng().random_range(0..WATCH_SECONDS / 5);
        let patience = Duration::from_secs(seconds.into()) + MARGIN;
        let asked = WatchParams::default().timeout(seconds);
        let opened = timeout(LIST, self.api.watch(&asked, since)).await;
        let opened = opened.map_err(|_| Broken::Failed(format!("no watch within {} s", LIST.as_secs())))??;
        let mut events = std::pin::pin!(opened);
        self.heard();
        loop {
            // Bookmarks come every minute or so, and the server ends the watch in time: silence is a dead connection.
            let event = tokio::select! {
                event = timeout(patience, events.next()) => event,
                () = self.doubt.notified() => return Ok(Ended::Doubted),
            };
            let Ok(Some(event)) = event else { return Ok(Ended::Closed) };
            let (version, heard) = match event? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => of(object, Heard::Applied)?,
                WatchEvent::Deleted(object) => of(object, Heard::Deleted)?,
                WatchEvent::Bookmark(bookmark) => {
                    let version = bookmark.metadata.resource_version;
                    let number = number(&version)?;
                    (version, Heard::Bookmark(number))
                }
                WatchEvent::Error(status) => return Err(Error::Api(status).into()),
            };
            (self.hear)(heard);
            self.since = Some(version);
            self.failures = 0;
        }
    }

    fn heard(&mut self) {
        if std::mem::take(&mut self.is_failing) {
            info!(collection = self.name, "`{}` can be watched again", self.name);
            (self.hear)(Heard::Hearing);
        }
    }

    fn failed(&mut self, broken: &Broken) {
        self.failures += 1;
        match broken {
            Broken::Lost(_) => {
                info!(collection = self.name, "`{}` is listed again: {broken}", self.name);
                self.since = None;
            }
            Broken::Failed(reason) => {
                if !std::mem::replace(&mut self.is_failing, true) {
                    warn!(collection = self.name, "`{}` cannot be watched: {reason}", self.name);
                }
                debug!(collection = self.name, failures = self.failures, "watching `{}`: {reason}", self.name);
                (self.hear)(Heard::Failing(reason.clone()));
            }
        }
    }
}

fn of<K: Resource>(object: K, heard: impl Fn(u64, K) -> Heard<K>) -> Result<(String, Heard<K>), Broken> {
    let version = object.resource_version().unwrap_or_default();
    let number = number(&version)?;
    Ok((version, heard(number, object)))
}

/// Versions of one collection are numbers that grow; the server says so since 1.35, and it was so before.
fn number(version: &str) -> Result<u64, Broken> {
    version.parse().map_err(|_| Broken::Lost(format!("the version `{version}` is not a number")))
}

impl From<Error> for Broken {
    fn from(error: Error) -> Self {
        match error {
            // 410: compacted. 504 with words about a version: the server's data is older than ours, as after a restore.
            Error::Api(status) if status.code == 410 || status.message.contains("Too large resource version") => {
                Self::Lost(status.message)
            }
            Error::Api(status) => Self::Failed(format!("{} ({})", status.message, status.code)),
            other => Self::Failed(words(&other)),
        }
    }
}

/// An error with what is behind it: the outermost alone says too little of a connection.
pub(super) fn words(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut below = error.source();
    while let Some(cause) = below {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        below = cause.source();
    }
    text
}

/// How long to wait after so many failures: doubling, and a random half of it, so that watches do not come in step.
pub(super) fn wait(failures: u32) -> Duration {
    let doubled = WAIT.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(LONGEST_WAIT);
    doubled.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use kube::core::Status;

    use super::*;

    fn api_error(code: u16, message: &str) -> Error {
        Error::Api(Box::new(Status { code, message: message.to_owned(), ..Status::default() }))
    }

    #[test]
    fn a_compacted_or_restored_server_is_listed_again() {
        for (code, message) in
            [(410, "too old resource version: 1 (500)"), (504, "Timeout: Too large resource version: 9, current: 5")]
        {
            assert!(matches!(Broken::from(api_error(code, message)), Broken::Lost(_)), "{message}");
        }
        assert!(matches!(Broken::from(api_error(403, "forbidden")), Broken::Failed(_)));
    }

    #[test]
    fn waits_double_up_to_the_longest() {
        for (failures, most) in [(1, 100), (2, 200), (6, 3_200), (7, 5_000), (4_000_000_000, 5_000)] {
            let waited = wait(failures).as_millis();
            assert!((most / 2..=most).contains(&waited), "{failures}: {waited}");
        }
    }

    #[test]
    fn a_version_that_is_no_number_asks_for_a_list() {
        assert_eq!(number("4711").unwrap(), 4711);
        assert!(matches!(number(""), Err(Broken::Lost(_))));
    }
}
