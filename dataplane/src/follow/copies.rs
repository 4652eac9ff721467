//! The sealed copies of the last good table: one in a file, one in Redis where there is one. The newer counts.

use std::{io, path::PathBuf};

use anyhow::{Context, ensure};
use bytes::Bytes;
use feed::{
    sealed::{self, SealKey},
    store::FileStore,
    wire::{SealedBody, SealedHeader},
};
use tracing::warn;

use super::shared::Shared;
use crate::config::{follow::FollowConfig, redis::RedisConfig};

/// The file's name in its directory.
const FILE: &str = "table.sealed";

/// What was at a place: a copy, nothing, or why that cannot be said.
type Read = Result<Option<Vec<u8>>, String>;

/// Where copies are kept.
pub(super) struct Copies {
    file: Option<(PathBuf, FileStore)>,
    shared: Option<Shared>,
}

/// An opened copy.
pub(super) struct Copy {
    /// Where it was.
    pub(super) place: String,
    pub(super) header: SealedHeader,
    pub(super) body: SealedBody,
}

impl Copies {
    /// Errs where the directory is none, or the settings of Redis are wrong.
    pub(super) fn new(config: &FollowConfig, redis: &RedisConfig) -> anyhow::Result<Self> {
        let file = config.kept_dir.as_ref().map(|directory| {
            ensure!(directory.is_dir(), "--kept-dir (RELAY_KEPT_DIR) {} is no directory", directory.display());
            let path = directory.join(FILE);
            Ok((path.clone(), FileStore::new(path)))
        });
        let shared = redis.target()?.map(|target| Shared::new(target, &redis.prefix, &config.fleet));
        Ok(Self { file: file.transpose()?, shared: shared.transpose().context("the copy in Redis")? })
    }

    /// The newest copy that opens, and what is wrong with those that do not.
    pub(super) async fn load(&self, key: &SealKey) -> (Option<Copy>, Vec<String>) {
        let mut found = Vec::new();
        if let Some((path, file)) = &self.file {
            found.push((path.display().to_string(), load(file.clone()).await.map_err(|error| error.to_string())));
        }
        if let Some(shared) = &self.shared {
            found.push((format!("Redis, `{}`", shared.key()), shared.load().await.map_err(|error| error.to_string())));
        }
        newest(found, key)
    }

    /// Writes a copy wherever copies are kept. What fails is told of; the next copy may do better.
    pub(super) async fn save(&self, sealed: Bytes) {
        if let Some((path, file)) = &self.file {
            let (file, bytes) = (file.clone(), sealed.clone());
            let saved = tokio::task::spawn_blocking(move || file.save(&bytes)).await.map_err(io::Error::other);
            if let Err(error) = saved.flatten() {
                warn!(%error, "the last good table is not kept in {}: {error}", path.display());
            }
        }
        if let Some(shared) = &self.shared
            && let Err(error) = shared.save(&sealed).await
        {
            warn!(%error, "the last good table is not kept in Redis: {error}");
        }
    }
}

async fn load(file: FileStore) -> io::Result<Option<Vec<u8>>> {
    tokio::task::spawn_blocking(move || file.load()).await.map_err(io::Error::other)?
}

fn newest(found: Vec<(String, Read)>, key: &SealKey) -> (Option<Copy>, Vec<String>) {
    let (mut newest, mut wrong): (Option<Copy>, _) = (None, Vec::new());
    for (place, bytes) in found {
        let opened = match bytes {
            Ok(None) => continue,
            Ok(Some(bytes)) => sealed::open(&bytes, key).map_err(|error| error.to_string()),
            Err(error) => Err(error),
        };
        match opened {
            Ok((header, body)) => {
                if newest.as_ref().is_none_or(|before| sealed::is_newer(&header, &before.header)) {
                    newest = Some(Copy { place, header, body });
                }
            }
            Err(error) => wrong.push(format!("{place}: {error}")),
        }
    }
    (newest, wrong)
}
