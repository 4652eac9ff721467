//! Where sealed tables are kept: a file that is replaced whole, and a pace at which copies are written.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use futures::future::BoxFuture;
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::{
    replica::Kept,
    sealed::{SealKey, seal},
};

/// A copy in a file.
#[derive(Clone, Debug)]
pub struct FileStore(PathBuf);

impl FileStore {
    /// A copy at this path; its directory must exist.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    /// The copy; none where there is no file.
    pub fn load(&self) -> io::Result<Option<Vec<u8>>> {
        match fs::read(&self.0) {
            Ok(bytes) => Ok(Some(bytes)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Replaces the copy whole: whoever reads meanwhile, or after a crash, sees the old one or the new one.
    pub fn save(&self, bytes: &[u8]) -> io::Result<()> {
        let directory = self.0.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut name = self.0.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
        name.push(".new");
        let draft = directory.join(name);
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&draft)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&draft, &self.0)?;
        File::open(directory)?.sync_all()
    }
}

/// How copies are kept.
#[derive(Clone)]
pub struct Keeping {
    /// What they are sealed with.
    pub key: SealKey,
    /// At most one copy in this time, unless something was taken away; usually 10 s.
    pub every: Duration,
    /// A copy of an unchanged table is written so often, so that it says until when the table was the newest.
    pub refresh: Duration,
    /// Writes a copy wherever copies are kept; failures are its own to handle.
    pub put: Arc<dyn Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Keeping {
    /// A copy every 10 s where something changed, every 5 minutes where nothing did.
    pub fn new(key: SealKey, put: impl Fn(Bytes) -> BoxFuture<'static, ()> + Send + Sync + 'static) -> Self {
        Self { key, every: Duration::from_secs(10), refresh: Duration::from_secs(300), put: Arc::new(put) }
    }

    /// Writes what `kept` shows until `stop`, and what is not yet written then.
    pub(crate) async fn run(self, mut kept: watch::Receiver<Option<Kept>>, stop: CancellationToken) {
        let mut written: Option<(Kept, Instant)> = None;
        loop {
            let newest = kept.borrow_and_update().clone();
            let pending = newest.and_then(|newest| Some((self.due(&newest, &written)?, newest)));
            let stopping = stop.is_cancelled();
            if let Some((due, newest)) = pending {
                let is_change = written.as_ref().is_none_or(|(before, _)| !is_same(before, &newest));
                if due <= Instant::now() || (stopping && is_change) {
                    self.write(&newest).await;
                    written = Some((newest, Instant::now()));
                    continue;
                }
                if !stopping {
                    tokio::select! {
                        () = sleep_until(due) => {}
                        () = stop.cancelled() => {}
                        // The next may not wait.
                        Ok(()) = kept.changed() => {}
                    }
                    continue;
                }
            }
            if stopping {
                return;
            }
            tokio::select! {
                changed = kept.changed() => if changed.is_err() { return },
                () = stop.cancelled() => {}
            }
        }
    }

    /// When this is to be written; none where it was.
    fn due(&self, kept: &Kept, written: &Option<(Kept, Instant)>) -> Option<Instant> {
        let Some((before, at)) = written else { return Some(Instant::now()) };
        if !is_same(before, kept) {
            // Who starts from a copy without what was taken away brings it back.
            return Some(if kept.urgent == before.urgent { *at + self.every } else { Instant::now() });
        }
        (before.header.confirmed_ms != kept.header.confirmed_ms).then(|| *at + self.refresh)
    }

    async fn write(&self, kept: &Kept) {
        let (kept, key) = (kept.clone(), self.key.clone());
        let sealed = tokio::task::spawn_blocking(move || seal(&kept.header, &kept.body(), &key));
        match sealed.await {
            Ok(Ok(sealed)) => (self.put)(sealed.into()).await,
            Ok(Err(error)) => warn!(%error, "the last good table is not kept: {error}"),
            Err(error) => warn!(%error, "the last good table is not kept: {error}"),
        }
    }
}

/// Whether a copy of one would say the same as a copy of the other, apart from the time.
fn is_same(one: &Kept, other: &Kept) -> bool {
    let (a, b) = (&one.header, &other.header);
    a.root == b.root && a.epoch == b.epoch && a.source_vector == b.source_vector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_is_its_owners_alone() {
        let directory = tempfile::tempdir().unwrap();
        let store = FileStore::new(directory.path().join("table"));
        assert_eq!(store.load().unwrap(), None);
        store.save(b"one").unwrap();
        store.save(b"two, longer").unwrap();
        store.save(b"3").unwrap();
        assert_eq!(store.load().unwrap().unwrap(), b"3");
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        #[cfg(unix)]
        {
            let mode = std::os::unix::fs::PermissionsExt::mode(
                &fs::metadata(directory.path().join("table")).unwrap().permissions(),
            );
            assert_eq!(mode & 0o777, 0o600);
        }
    }
}
