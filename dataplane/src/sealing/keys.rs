//! The keys that sealed credentials open with: files of 32 bytes, read again when they change. Several are held at once,
//! so that one can take over from another.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use arc_swap::ArcSwap;
use tracing::{info, warn};

use super::SealingKey;
use crate::config::sealing::{SealingConfig, is_key_id};

/// The keys that were read, by name; or why one could not be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Held {
    keys: BTreeMap<String, Result<SealingKey, String>>,
    /// What else is wrong: a directory that cannot be read, a file whose name is no name of a key.
    troubles: BTreeSet<String>,
}

impl Held {
    /// The key of that name; `None`: there is none.
    pub fn key(&self, id: &str) -> Option<&Result<SealingKey, String>> {
        self.keys.get(id)
    }

    /// The names of all keys that can be used.
    pub fn ids(&self) -> impl Iterator<Item = &str> {
        self.keys.iter().filter(|(_, key)| key.is_ok()).map(|(id, _)| id.as_str())
    }

    /// All keys by name, with what is wrong with those that cannot be used.
    pub fn all(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.keys.iter().map(|(id, key)| (id.as_str(), key.as_ref().err().map(String::as_str)))
    }

    /// What else is wrong.
    pub fn troubles(&self) -> impl Iterator<Item = &str> {
        self.troubles.iter().map(String::as_str)
    }
}

/// The keys of a process.
#[derive(Debug, Default)]
pub struct SealingKeys {
    places: SealingConfig,
    held: ArcSwap<Held>,
}

impl SealingKeys {
    /// Reads the keys. One that is missing is told of, and read when it is there.
    pub fn new(places: SealingConfig) -> Self {
        let keys = Self { places, held: ArcSwap::default() };
        keys.refresh();
        keys
    }

    /// Those that were read last.
    pub fn held(&self) -> Arc<Held> {
        self.held.load_full()
    }

    /// Reads them again, and says in the log what changed. Gives the same value as before where nothing did. Blocks as
    /// long as the files take to read.
    pub fn refresh(&self) -> Arc<Held> {
        let (before, now) = (self.held(), read(&self.places));
        if *before == now {
            return before;
        }
        tell(&before, &now);
        let now = Arc::new(now);
        self.held.store(now.clone());
        now
    }
}

fn tell(before: &Held, now: &Held) {
    for (id, key) in now.keys.iter().filter(|(id, key)| before.keys.get(*id) != Some(*key)) {
        match key {
            Ok(_) => info!(key_id = %id, "sealing key `{id}` is read"),
            Err(error) => warn!(key_id = %id, error, "sealing key `{id}` cannot be used: {error}"),
        }
    }
    for id in before.keys.keys().filter(|id| !now.keys.contains_key(*id)) {
        warn!(key_id = %id, "sealing key `{id}` is gone");
    }
    for trouble in now.troubles.difference(&before.troubles) {
        warn!("{trouble}");
    }
}

fn read(places: &SealingConfig) -> Held {
    let mut held = Held::default();
    if let Some(directory) = &places.directory {
        read_directory(directory, &mut held);
    }
    for place in &places.files {
        held.keys.insert(place.id.clone(), key(&place.path));
    }
    held
}

/// A mounted Secret: a file for each key, named as it. What begins with a dot is how the kubelet swaps versions.
fn read_directory(directory: &Path, held: &mut Held) {
    let shown = directory.display();
    let files: io::Result<Vec<PathBuf>> =
        fs::read_dir(directory).and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect());
    let files = match files {
        Ok(files) => files,
        Err(error) => {
            held.troubles.insert(format!("the directory of sealing keys `{shown}` cannot be read: {error}"));
            return;
        }
    };
    for path in files {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if name.starts_with('.') || path.is_dir() {
            continue;
        }
        if is_key_id(&name) {
            held.keys.insert(name.into_owned(), key(&path));
        } else {
            held.troubles.insert(format!("`{name}` in `{shown}` is no name of a sealing key, and is left out"));
        }
    }
}

fn key(path: &Path) -> Result<SealingKey, String> {
    let bytes = fs::read(path).map_err(|error| format!("`{}`: {error}", path.display()))?;
    SealingKey::new(&bytes).map_err(|error| format!("`{}`: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(directory: &Path) -> SealingKeys {
        let config = SealingConfig { directory: Some(directory.to_owned()), ..SealingConfig::default() };
        SealingKeys::new(config)
    }

    #[test]
    fn a_directory_gives_a_key_for_each_file_and_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, bytes: &[u8]| fs::write(directory.path().join(name), bytes).unwrap();
        write("one", &[1; 32]);
        write("..data", &[2; 32]);
        let keys = keys(directory.path());
        let before = keys.held();
        assert_eq!(before.ids().collect::<Vec<_>>(), ["one"]);
        assert!(Arc::ptr_eq(&before, &keys.refresh()));

        write("two", &[2; 32]);
        write("no name", &[3; 32]);
        write("short", b"short");
        let held = keys.refresh();
        assert_eq!(held.ids().collect::<Vec<_>>(), ["one", "two"]);
        let wrong = held.key("short").unwrap().as_ref().unwrap_err();
        assert!(wrong.contains("it has 5 bytes; 32 random ones would be right"), "{wrong}");
        assert!(held.troubles().next().unwrap().contains("`no name`"));

        fs::remove_file(directory.path().join("one")).unwrap();
        assert_eq!(keys.refresh().ids().collect::<Vec<_>>(), ["two"]);
    }

    #[test]
    fn a_directory_that_is_mounted_later_is_read_then() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys");
        let keys = keys(&path);
        assert!(keys.held().troubles().next().unwrap().contains("cannot be read"));
        fs::create_dir(&path).unwrap();
        fs::write(path.join("one"), [1; 32]).unwrap();
        assert_eq!(keys.refresh().ids().collect::<Vec<_>>(), ["one"]);
        assert_eq!(keys.held().troubles().count(), 0);
    }

    #[test]
    fn a_file_of_its_own_wins_over_one_in_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one"), [1; 32]).unwrap();
        let own = directory.path().join("elsewhere.bin");
        fs::write(&own, [2; 32]).unwrap();
        let config = SealingConfig {
            files: vec![format!("one={}", own.display()).parse().unwrap()],
            directory: Some(directory.path().to_owned()),
        };
        let held = SealingKeys::new(config).held();
        assert_eq!(held.key("one").unwrap().as_ref().unwrap().expose(), &[2; 32]);
    }

    #[test]
    fn no_key_is_shown() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("one"), b"canary-canary-canary-canary-cana").unwrap();
        let shown = format!("{:?}", keys(directory.path()));
        assert!(shown.contains("one") && !shown.contains("99, 97"), "{shown}");
    }
}
