//! A key that credentials are sealed with, as it is named on the command line.

use std::{fs, path::PathBuf, str::FromStr};

use anyhow::{Context, anyhow};
use dataplane::{
    config::sealing::{KeyPlace, is_key_id},
    sealing::SealingKey,
};

/// What an id has to be.
pub(super) const WRONG_ID: &str =
    "an id has letters, digits, `.`, `_` and `-`, 63 at most, with a letter or digit at both ends";

/// A key's id and its file; the id is the file's name where none is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NamedKey {
    /// Its id.
    pub(crate) id: String,
    /// Where it is.
    pub(crate) path: PathBuf,
}

impl NamedKey {
    /// The key of a file that is named as the key. Errs where the name cannot be an id.
    pub(super) fn of_file(path: &std::path::Path) -> Result<Self, String> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if is_key_id(&name) {
            return Ok(Self { id: name.into_owned(), path: path.to_owned() });
        }
        Err(format!("the file's name `{name}` is no id of a key: {WRONG_ID}"))
    }

    /// The key itself.
    pub(crate) fn read(&self) -> anyhow::Result<SealingKey> {
        let shown = self.path.display();
        let bytes = fs::read(&self.path).with_context(|| format!("reading the key `{shown}`"))?;
        SealingKey::new(&bytes).map_err(|error| anyhow!("the key `{shown}`: {error}"))
    }
}

impl FromStr for NamedKey {
    type Err = String;

    /// Reads `FILE` or `ID=FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        if !text.contains('=') {
            return Self::of_file(text.as_ref());
        }
        let KeyPlace { id, path } = text.parse()?;
        Ok(Self { id, path })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_is_the_name_of_the_file_unless_another_is_given() {
        let key: NamedKey = "keys/2026-a".parse().unwrap();
        assert_eq!((key.id.as_str(), key.path), ("2026-a", PathBuf::from("keys/2026-a")));
        let key: NamedKey = "other=keys/2026-a".parse().unwrap();
        assert_eq!((key.id.as_str(), key.path), ("other", PathBuf::from("keys/2026-a")));
        assert!("keys/a b".parse::<NamedKey>().unwrap_err().contains("`a b`"));
    }
}
