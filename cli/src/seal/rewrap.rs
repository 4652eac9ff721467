//! Gives sealed credentials to another key. All manifests are changed, or none.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context, anyhow, bail};
use dataplane::sealing::{self, SealingKey};

use super::{NamedKey, patch};
use crate::{manifests, outcome::count};

/// Wraps the keys of all sealed credentials below `path` by `key`, and says how many there were.
pub(super) fn run(
    path: &Path,
    old: &[NamedKey],
    namespace: Option<&str>,
    id: &str,
    key: &SealingKey,
) -> anyhow::Result<String> {
    let mut held = BTreeMap::new();
    for named in old {
        held.insert(named.id.as_str(), named.read().context("--old-key-file")?);
    }
    let keys = Keys { held, id, key };
    let (mut written, mut changed, mut current) = (Vec::new(), 0, 0);
    for (file, text) in manifests::files(path)? {
        let before = text.map_err(|error| anyhow!("`{}` {error}", file.display()))?;
        let (after, ours, others) = keys.rewrapped(before, namespace).with_context(|| file.display().to_string())?;
        (changed, current) = (changed + ours, current + others);
        if ours > 0 {
            written.push((file, after));
        }
    }
    for (file, text) in &written {
        fs::write(file, text).with_context(|| format!("writing `{}`", file.display()))?;
    }
    let credentials = count(changed, "sealed credential");
    Ok(format!("{credentials} given to key `{id}`, in {}; {current} had it before\n", count(written.len(), "file")))
}

struct Keys<'a> {
    held: BTreeMap<&'a str, SealingKey>,
    id: &'a str,
    key: &'a SealingKey,
}

impl Keys<'_> {
    /// A text with all of its sealed credentials given to the key; how many were, and how many had it before.
    fn rewrapped(&self, mut text: String, namespace: Option<&str>) -> anyhow::Result<(String, usize, usize)> {
        let (mut changed, mut current) = (0, 0);
        for at in 0..patch::host_keys(&text, namespace)?.len() {
            // Read again: lines may have moved.
            let found = &patch::host_keys(&text, namespace)?[at];
            let Some(sealed) = &found.sealed else { continue };
            let host_key = &found.host_key;
            if sealed.key_id == self.id {
                sealing::open(sealed, host_key, self.key).with_context(|| format!("HostKey {host_key}"))?;
                current += 1;
                continue;
            }
            let Some(old) = self.held.get(sealed.key_id.as_str()) else {
                bail!("HostKey {host_key} is sealed with key `{}`, which no --old-key-file gives", sealed.key_id);
            };
            let rewrapped = sealing::rewrap(sealed, host_key, old, self.id, self.key);
            let rewrapped = rewrapped.with_context(|| format!("HostKey {host_key}"))?;
            text = patch::with_source(&text, found, &rewrapped)?;
            changed += 1;
        }
        Ok((text, changed, current))
    }
}
