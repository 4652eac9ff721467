//! The copy in Redis that all data planes of a fleet share: a pod that starts on a new node finds the table there.
//!
//! All of them see a change at the same time, so each waits a random while and then looks whether another one was
//! quicker: a fleet of a thousand writes a table once or a few times, not a thousand times.

use std::time::Duration;

use feed::{sealed, wire::SealedHeader};

use crate::limit::redis::{
    keys::Keys,
    script::Script,
    store::{Store, error::StoreError, target::Target},
};

/// A table of 10,000 keys has 650 KB: a call takes longer than one that counts.
const TIMEOUT: Duration = Duration::from_secs(2);

/// The longest wait before writing.
const JITTER: Duration = Duration::from_secs(2);

/// A copy of the same table is not written again before this: it would say nothing but the time.
const SAME_MS: u64 = 240_000;

/// The copy of a fleet.
pub(super) struct Shared {
    store: Store,
    key: String,
    about: Script,
    read: Script,
    write: Script,
}

impl Shared {
    /// Connects to nothing yet. Errs where the target is not whole.
    pub(super) fn new(target: Target, prefix: &str, fleet: &str) -> anyhow::Result<Self> {
        let about = Script::new("kept_about", include_str!("../limit/redis/lua/kept_about.lua").to_owned());
        let read = Script::new("kept_read", include_str!("../limit/redis/lua/kept_read.lua").to_owned());
        let write = Script::new("kept_write", include_str!("../limit/redis/lua/kept_write.lua").to_owned());
        let target = Target { timeout: target.timeout.max(TIMEOUT), ..target };
        let store = Store::new(target, vec![about.clone(), read.clone(), write.clone()])?;
        Ok(Self { store, key: Keys::new(prefix).table(fleet), about, read, write })
    }

    /// The name that it has in Redis.
    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// The copy; none where there is none.
    pub(super) async fn load(&self) -> Result<Option<Vec<u8>>, StoreError> {
        let copy = self.eval(&self.read, &[]).await?;
        Ok((!copy.is_empty()).then_some(copy))
    }

    /// Writes a copy, after a while, unless the one that is there is as good.
    pub(super) async fn save(&self, copy: &[u8]) -> Result<(), StoreError> {
        tokio::time::sleep(JITTER.mul_f64(rand::random_range(0.0..=1.0))).await;
        let there = sealed::peek(&self.eval(&self.about, &[]).await?);
        if sealed::peek(copy).is_some_and(|ours| says_more(&ours, there.as_ref())) {
            self.eval(&self.write, copy).await?;
        }
        Ok(())
    }

    /// Connects anew where the connection broke: nobody else does.
    async fn eval(&self, script: &Script, arg: &[u8]) -> Result<Vec<u8>, StoreError> {
        if !self.store.is_open(&self.key) {
            self.store.revive().await?;
        }
        self.store.eval(script, std::slice::from_ref(&self.key), arg).await
    }
}

/// Whether a copy is worth writing over the one that is there.
fn says_more(ours: &SealedHeader, there: Option<&SealedHeader>) -> bool {
    let Some(there) = there else { return true };
    let is_same = (&ours.root, &ours.epoch, &ours.source_vector) == (&there.root, &there.epoch, &there.source_vector);
    if is_same { ours.confirmed_ms > there.confirmed_ms.saturating_add(SAME_MS) } else { sealed::is_newer(ours, there) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header(version: u64, confirmed_ms: u64) -> SealedHeader {
        let source_vector = [("hosts".to_owned(), version)].into();
        SealedHeader { epoch: "e".into(), source_vector, confirmed_ms, ..SealedHeader::default() }
    }

    #[test]
    fn a_copy_is_written_over_an_older_one_alone_and_over_the_same_one_seldom() {
        assert!(says_more(&header(1, 0), None));
        assert!(says_more(&header(2, 0), Some(&header(1, 500))));
        assert!(!says_more(&header(1, 500), Some(&header(2, 0))));
        assert!(!says_more(&header(1, SAME_MS), Some(&header(1, 0))));
        assert!(says_more(&header(1, SAME_MS + 1), Some(&header(1, 0))));
    }
}
