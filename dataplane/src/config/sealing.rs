//! Where the keys are that sealed credentials open with.

use std::{path::PathBuf, str::FromStr};

use anyhow::ensure;

/// The keys that sealed credentials open with.
#[derive(Clone, Debug, Default, PartialEq, Eq, clap::Args)]
#[group(skip)]
pub struct SealingConfig {
    /// Key that sealed HostKeys open with: its id and a file of 32 bytes, read again when it changes; may be repeated
    #[arg(long = "sealing-key", env = "RELAY_SEALING_KEY", value_delimiter = ',', value_name = "ID=FILE")]
    pub files: Vec<KeyPlace>,

    /// Directory of such files, each named by its id, as a mounted Secret is; looked at again all the time
    #[arg(long = "sealing-keys", env = "RELAY_SEALING_KEYS", value_name = "DIR")]
    pub directory: Option<PathBuf>,
}

/// A key's name and its file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyPlace {
    /// Its name.
    pub id: String,
    /// Where it is.
    pub path: PathBuf,
}

impl SealingConfig {
    /// Errs where one name is given to two files.
    pub fn check(&self) -> anyhow::Result<()> {
        for (at, place) in self.files.iter().enumerate() {
            let is_first = self.files[..at].iter().all(|before| before.id != place.id);
            ensure!(is_first, "--sealing-key (RELAY_SEALING_KEY) names key `{}` twice", place.id);
        }
        Ok(())
    }
}

/// Whether a text can name a key: 1 to 63 letters, digits, `.`, `_` and `-`, with a letter or digit at both ends.
pub fn is_key_id(text: &str) -> bool {
    let ends = |byte: Option<u8>| byte.is_some_and(|byte| byte.is_ascii_alphanumeric());
    let is_inner = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    let (first, last) = (text.bytes().next(), text.bytes().next_back());
    text.len() <= 63 && ends(first) && ends(last) && text.bytes().all(is_inner)
}

impl FromStr for KeyPlace {
    type Err = String;

    /// Reads `ID=FILE`.
    fn from_str(text: &str) -> Result<Self, String> {
        let (id, path) = text.split_once('=').filter(|(_, path)| !path.is_empty()).ok_or_else(|| {
            format!("`{text}` names no file: write the key's id and its file, as `2026-a=/etc/relay/sealing/2026-a`")
        })?;
        if !is_key_id(id) {
            return Err(format!(
                "`{id}` is no id of a key: write letters, digits, `.`, `_` and `-`, 63 at most, with a letter or digit at \
                 both ends"
            ));
        }
        Ok(Self { id: id.to_owned(), path: path.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_an_id_and_a_file() {
        let place: KeyPlace = "2026-a=/keys/a=b".parse().unwrap();
        assert_eq!((place.id.as_str(), place.path), ("2026-a", PathBuf::from("/keys/a=b")));
        for (wrong, word) in [("a", "names no file"), ("a=", "names no file"), ("=f", "no id"), ("a/b=f", "`a/b`")] {
            let error = wrong.parse::<KeyPlace>().unwrap_err();
            assert!(error.contains(word), "{error}");
        }
    }

    #[test]
    fn ids_are_those_that_manifests_take() {
        for right in ["a", "2026-a", "K.1_x", &"a".repeat(63)] {
            assert!(is_key_id(right), "{right}");
        }
        for wrong in ["", "-a", "a-", ".a", "a b", "ä", &"a".repeat(64)] {
            assert!(!is_key_id(wrong), "{wrong}");
        }
    }

    #[test]
    fn one_id_for_two_files_is_a_mistake() {
        let of = |places: &[&str]| {
            let files = places.iter().map(|place| place.parse().unwrap()).collect();
            SealingConfig { files, directory: None }
        };
        of(&["a=1", "b=1"]).check().unwrap();
        let error = of(&["a=1", "b=2", "a=3"]).check().unwrap_err().to_string();
        assert!(error.contains("`a` twice"), "{error}");
    }
}
