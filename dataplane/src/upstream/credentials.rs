//! The secrets of host keys: where each is read, whether it can be sent, and the hash under which its health is kept.
//! Files are read again when they change; no message here shows a byte of a value.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use sha2::{Digest, Sha256};
use table::{Credential, Credentials, ObjectRef, Secret};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Why a host key has no usable credential. Never shows it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialError {
    /// The file cannot be read.
    #[error("cannot read the credential file `{path}`: {reason}")]
    File {
        /// Which file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// The variable is not set.
    #[error("the environment variable `{0}` is not set")]
    Env(String),
    /// There is nothing in it.
    #[error("the credential is empty")]
    Empty,
    /// It holds something that no header can carry.
    #[error("the credential holds a character that is not visible ASCII, at position {0}")]
    NotVisible(usize),
}

/// Under which the health of a host key is kept: the hash of its secret at its host. A rotated key has another one, and
/// so starts with a clean record; one secret that serves two hosts has a record at each.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl KeyHash {
    /// The record of a host that needs no credential.
    pub fn keyless(host: &ObjectRef) -> Self {
        Self(Sha256::digest(format!("keyless {host}")).into())
    }

    /// The record of this secret at a host, given the host's [`KeyHash::keyless`].
    pub fn at(self, keyless: KeyHash) -> Self {
        Self(std::array::from_fn(|at| self.0[at] ^ keyless.0[at]))
    }

    /// The bytes, stable over processes and machines.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyHash(redacted)")
    }
}

/// The secret of a host key, fit to be sent. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostSecret {
    secret: Arc<Secret<String>>,
    hash: KeyHash,
}

impl HostSecret {
    /// Takes a secret; white space around it is trimmed. Errs when it is empty or cannot stand in a header.
    pub fn new(text: &str) -> Result<Self, CredentialError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(CredentialError::Empty);
        }
        if let Some(position) = text.bytes().position(|byte| !byte.is_ascii_graphic()) {
            return Err(CredentialError::NotVisible(position));
        }
        let hash = KeyHash(Sha256::digest(text).into());
        Ok(Self { secret: Arc::new(Secret::new(text.to_owned())), hash })
    }

    /// Where its health is kept.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    pub(crate) fn expose(&self) -> &str {
        self.secret.expose()
    }
}

/// Reads a credential from where it is.
pub fn resolve(credential: &Credential) -> Result<HostSecret, CredentialError> {
    match credential {
        Credential::Value(secret) => HostSecret::new(secret.expose()),
        Credential::File(path) => match std::fs::read(path) {
            Ok(bytes) => HostSecret::new(&String::from_utf8_lossy(&bytes)),
            Err(error) => Err(CredentialError::File { path: path.clone(), reason: reason(&error) }),
        },
        Credential::Env(name) => match std::env::var_os(name) {
            Some(value) => HostSecret::new(&value.to_string_lossy()),
            None => Err(CredentialError::Env(name.clone())),
        },
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

/// The secrets of all host keys, read again when their files change.
#[derive(Default)]
pub struct Keyring {
    entries: ArcSwap<BTreeMap<ObjectRef, Entry>>,
}

#[derive(Clone, PartialEq)]
struct Entry {
    source: Credential,
    found: Result<HostSecret, CredentialError>,
}

impl Keyring {
    /// Reads every credential. Errors are kept with their keys and told by [`Keyring::secret`].
    pub fn new(credentials: &Credentials) -> Self {
        let keyring = Self::default();
        keyring.load(credentials);
        keyring
    }

    /// Replaces all credentials by new ones.
    pub fn load(&self, credentials: &Credentials) {
        let read = |(name, source): (&ObjectRef, &Credential)| {
            (name.clone(), Entry { source: source.clone(), found: resolve(source) })
        };
        self.entries.store(Arc::new(credentials.host_keys.iter().map(read).collect()));
    }

    /// The secret of a host key; `None`: it has no credential at all.
    pub fn secret(&self, key: &ObjectRef) -> Option<Result<HostSecret, CredentialError>> {
        self.entries.load().get(key).map(|entry| entry.found.clone())
    }

    /// Every host key with a usable secret.
    pub fn secrets(&self) -> Vec<(ObjectRef, HostSecret)> {
        let entries = self.entries.load();
        let usable = entries.iter().filter_map(|(name, entry)| Some((name.clone(), entry.found.clone().ok()?)));
        usable.collect()
    }

    /// Reads the files again. Blocks as long as they take to read.
    pub fn refresh(&self) {
        let before = self.entries.load_full();
        let mut after = BTreeMap::clone(&before);
        let mut is_changed = false;
        for (name, entry) in &mut after {
            let Credential::File(path) = &entry.source else { continue };
            let found = resolve(&entry.source);
            if found == entry.found {
                continue;
            }
            match &found {
                Ok(_) => info!(host_key = %name, path, "credential of host key `{name}` changed"),
                Err(error) => warn!(host_key = %name, %error, "credential of host key `{name}` is unusable"),
            }
            entry.found = found;
            is_changed = true;
        }
        if is_changed {
            // What was loaded meanwhile was read from the files itself.
            self.entries.compare_and_swap(&before, Arc::new(after));
        }
    }

    /// Looks at the files of the `current` keyring every two seconds until `stop`.
    pub async fn follow(current: impl Fn() -> Arc<Keyring>, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let keyring = current();
            if tokio::task::spawn_blocking(move || keyring.refresh()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> ObjectRef {
        ObjectRef::new("a", "k")
    }

    fn holding(source: Credential) -> Keyring {
        Keyring::new(&Credentials { host_keys: [(key(), source)].into(), ..Credentials::default() })
    }

    #[test]
    fn a_trailing_newline_is_no_part_of_the_secret() {
        assert_eq!(HostSecret::new("sk-1\n"), HostSecret::new("sk-1"));
        assert_ne!(HostSecret::new("sk-1").unwrap().hash(), HostSecret::new("sk-2").unwrap().hash());
    }

    #[test]
    fn what_cannot_be_sent_is_refused_without_being_shown() {
        for (text, error) in [
            ("", CredentialError::Empty),
            (" \n", CredentialError::Empty),
            ("sk-\ncanary", CredentialError::NotVisible(3)),
            ("sk canary", CredentialError::NotVisible(2)),
            ("sk-canary-é", CredentialError::NotVisible(10)),
        ] {
            let refused = HostSecret::new(text).unwrap_err();
            assert_eq!(refused, error);
            assert!(!format!("{refused} {refused:?}").contains("canary"));
        }
        let secret = HostSecret::new("sk-canary").unwrap();
        assert!(!format!("{secret:?}").contains("canary"));
    }

    #[test]
    fn a_file_is_read_again_when_it_changes_and_missed_when_it_goes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        std::fs::write(&path, "sk-old\n").unwrap();
        let keyring = holding(Credential::File(path.to_str().unwrap().to_owned()));
        assert_eq!(keyring.secret(&key()), Some(HostSecret::new("sk-old")));
        std::fs::write(&path, "sk-new\n").unwrap();
        keyring.refresh();
        assert_eq!(keyring.secret(&key()), Some(HostSecret::new("sk-new")));
        std::fs::remove_file(&path).unwrap();
        keyring.refresh();
        assert!(matches!(keyring.secret(&key()), Some(Err(CredentialError::File { .. }))));
        assert_eq!(keyring.secrets(), []);
    }

    #[test]
    fn one_secret_at_two_hosts_has_a_record_at_each() {
        let secret = HostSecret::new("sk-1").unwrap().hash();
        let [one, other] = ["one", "other"].map(|name| KeyHash::keyless(&ObjectRef::new("team", name)));
        assert_ne!(secret.at(one), secret.at(other));
        assert_eq!(secret.at(one), HostSecret::new("sk-1").unwrap().hash().at(one));
    }

    #[test]
    fn a_variable_that_is_not_set_is_named() {
        let keyring = holding(Credential::Env("RELAY_KEY_NOT_SET".into()));
        assert_eq!(keyring.secret(&key()), Some(Err(CredentialError::Env("RELAY_KEY_NOT_SET".into()))));
        assert_eq!(keyring.secret(&ObjectRef::new("a", "other")), None);
    }
}
