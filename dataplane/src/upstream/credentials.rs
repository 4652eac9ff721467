//! The secrets of host keys: where each is read, whether it can be sent, and the hash under which its health is kept.
//! Files are read again when they change, and sealed values opened again when the keys do; no message here shows a byte of
//! a value.

use std::{collections::BTreeMap, fmt, io, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use foldhash::HashMap;
use http::HeaderValue;
use sha2::{Digest, Sha256};
use table::{Credential, Credentials, ObjectRef, Sealed, Secret};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::sealing::{
    self, OpenError,
    keys::{Held, SealingKeys},
};

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
    /// It is sealed with a key that is not here.
    #[error("it is sealed with key `{key_id}`, which this data plane does not have{known}")]
    NoSealingKey {
        /// The name of the key.
        key_id: String,
        /// `: it has ...`.
        known: String,
    },
    /// It is sealed with a key that cannot be used.
    #[error("it is sealed with key `{key_id}`, which cannot be used: {reason}")]
    BadSealingKey {
        /// The name of the key.
        key_id: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It is sealed and does not open.
    #[error("the sealed credential cannot be opened: {0}")]
    Sealed(#[from] OpenError),
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
        let mut mixed = self.0;
        mixed.iter_mut().zip(keyless.0).for_each(|(byte, other)| *byte ^= other);
        Self(mixed)
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
    sent: Arc<Sent>,
    hash: KeyHash,
}

/// A secret as requests carry it, made once for all of them.
#[derive(Debug, PartialEq, Eq)]
struct Sent {
    text: Secret<String>,
    /// As the value of a header, marked as sensitive.
    plain: HeaderValue,
    /// The same behind `Bearer `.
    bearer: HeaderValue,
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
        let (plain, bearer) = (sensitive(text), sensitive(&["Bearer ", text].concat()));
        let sent = Arc::new(Sent { text: Secret::new(text.to_owned()), plain, bearer });
        Ok(Self { sent, hash: KeyHash(Sha256::digest(text).into()) })
    }

    /// Where its health is kept.
    pub fn hash(&self) -> KeyHash {
        self.hash
    }

    pub(crate) fn expose(&self) -> &str {
        self.sent.text.expose()
    }

    /// The value of a header that holds it alone. Marked as sensitive, so that neither `Debug` nor HTTP/2's table of headers
    /// holds it.
    pub(super) fn plain(&self) -> HeaderValue {
        self.sent.plain.clone()
    }

    /// The same behind `Bearer `.
    pub(super) fn bearer(&self) -> HeaderValue {
        self.sent.bearer.clone()
    }
}

fn sensitive(visible: &str) -> HeaderValue {
    let mut value = HeaderValue::from_str(visible).expect("visible ASCII and spaces can stand in a header");
    value.set_sensitive(true);
    value
}

/// Reads a credential of a host key from where it is.
fn resolve(host_key: &ObjectRef, credential: &Credential, keys: &Held) -> Result<HostSecret, CredentialError> {
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
        Credential::Sealed(sealed) => HostSecret::new(opened(host_key, sealed, keys)?.expose()),
    }
}

/// What was sealed, opened with the key that it names.
fn opened(host_key: &ObjectRef, sealed: &Sealed, keys: &Held) -> Result<Secret<String>, CredentialError> {
    let key_id = sealed.key_id.clone();
    match keys.key(&key_id) {
        Some(Ok(key)) => Ok(sealing::open(sealed, host_key, key)?),
        Some(Err(reason)) => Err(CredentialError::BadSealingKey { key_id, reason: reason.clone() }),
        None => {
            let ids: Vec<_> = keys.ids().map(|id| format!("`{id}`")).collect();
            let known =
                if ids.is_empty() { "; it has none".to_owned() } else { format!("; it has {}", ids.join(", ")) };
            Err(CredentialError::NoSealingKey { key_id, known })
        }
    }
}

fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "there is no such file".to_owned(),
        io::ErrorKind::PermissionDenied => "it may not be read".to_owned(),
        _ => error.to_string(),
    }
}

/// The secrets of all host keys, read again when their files or the keys that they are sealed with change.
#[derive(Default)]
pub struct Keyring {
    keys: Arc<SealingKeys>,
    entries: ArcSwap<Entries>,
}

#[derive(Clone, Default)]
struct Entries {
    by_key: HashMap<ObjectRef, Entry>,
    /// What sealed ones were opened with.
    held: Arc<Held>,
}

#[derive(Clone)]
struct Entry {
    source: Credential,
    found: Result<HostSecret, CredentialError>,
}

/// How a host key's credential stands, without the credential.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Where it is, in words.
    pub source: String,
    /// Why it cannot be used; none: it can.
    pub error: Option<CredentialError>,
}

impl Keyring {
    /// Reads every credential, and opens none that is sealed. Errors are kept with their keys and told by
    /// [`Keyring::secret`].
    pub fn new(credentials: &Credentials) -> Self {
        Self::opening(credentials, Arc::default())
    }

    /// As [`Keyring::new`], and opens sealed ones with these keys.
    pub fn opening(credentials: &Credentials, keys: Arc<SealingKeys>) -> Self {
        let is_sealed = |credential: &Credential| matches!(credential, Credential::Sealed(_));
        // The key may have come with what it opens.
        let held = if credentials.host_keys.values().any(is_sealed) { keys.refresh() } else { keys.held() };
        let read = |(name, source): (&ObjectRef, &Credential)| {
            (name.clone(), Entry { source: source.clone(), found: resolve(name, source, &held) })
        };
        let by_key = credentials.host_keys.iter().map(read).collect();
        Self { keys, entries: ArcSwap::from_pointee(Entries { by_key, held }) }
    }

    /// The secret of a host key; `None`: it has no credential at all.
    pub fn secret(&self, key: &ObjectRef) -> Option<Result<HostSecret, CredentialError>> {
        self.entries.load().by_key.get(key).map(|entry| entry.found.clone())
    }

    /// Every host key with a usable secret.
    pub fn secrets(&self) -> Vec<(ObjectRef, HostSecret)> {
        let entries = self.entries.load();
        let usable = entries.by_key.iter().filter_map(|(name, entry)| Some((name.clone(), entry.found.clone().ok()?)));
        usable.collect()
    }

    /// Every host key whose credential cannot be used, and why.
    pub fn faults(&self) -> BTreeMap<ObjectRef, CredentialError> {
        let entries = self.entries.load();
        let faults = entries.by_key.iter().filter_map(|(name, entry)| Some((name.clone(), entry.found.clone().err()?)));
        faults.collect()
    }

    /// How every host key's credential stands.
    pub fn standings(&self) -> BTreeMap<ObjectRef, Standing> {
        let entries = self.entries.load();
        let standing = |(name, entry): (&ObjectRef, &Entry)| {
            let standing = Standing { source: in_words(&entry.source), error: entry.found.clone().err() };
            (name.clone(), standing)
        };
        entries.by_key.iter().map(standing).collect()
    }

    /// Reads the files again, and opens again what is sealed where the keys changed. Says whether a credential changed.
    /// Blocks as long as the files take to read.
    pub fn refresh(&self) -> bool {
        let before = self.entries.load_full();
        let has_sealed = before.by_key.values().any(|entry| matches!(entry.source, Credential::Sealed(_)));
        let held = if has_sealed { self.keys.refresh() } else { before.held.clone() };
        let are_keys_new = !Arc::ptr_eq(&held, &before.held);
        let mut after = Entries { by_key: before.by_key.clone(), held };
        let mut is_changed = false;
        for (name, entry) in &mut after.by_key {
            let may_have_changed = match &entry.source {
                Credential::File(_) => true,
                Credential::Sealed(_) => are_keys_new,
                Credential::Value(_) | Credential::Env(_) => false,
            };
            if may_have_changed {
                is_changed |= entry.read_again(name, &after.held);
            }
        }
        if is_changed || are_keys_new {
            // What was loaded meanwhile was read from the files itself.
            self.entries.compare_and_swap(&before, Arc::new(after));
        }
        is_changed
    }

    /// Looks at the files of the `current` keyring every two seconds until `stop`, and calls `changed` when a credential
    /// did.
    pub async fn follow(current: impl Fn() -> Arc<Keyring>, changed: impl Fn(), stop: CancellationToken) {
        let mut ticks = tokio::time::interval(LOOK_EVERY);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            let keyring = current();
            match tokio::task::spawn_blocking(move || keyring.refresh()).await {
                Ok(true) => changed(),
                Ok(false) => {}
                Err(_) => return,
            }
        }
    }
}

impl Entry {
    /// Says whether what was found is another.
    fn read_again(&mut self, name: &ObjectRef, held: &Held) -> bool {
        let found = resolve(name, &self.source, held);
        if found == self.found {
            return false;
        }
        match &found {
            Ok(_) => info!(host_key = %name, "credential of host key `{name}` is another or can be used again"),
            Err(error) => warn_unusable(name, error),
        }
        self.found = found;
        true
    }
}

/// Logs that a host key cannot be used, and why.
pub fn warn_unusable(name: &ObjectRef, error: &CredentialError) {
    warn!(host_key = %name, %error, "credential of host key `{name}` is unusable: {error}");
}

fn in_words(source: &Credential) -> String {
    match source {
        Credential::Value(_) => "value".to_owned(),
        Credential::File(path) => format!("file {path}"),
        Credential::Env(name) => format!("variable {name}"),
        Credential::Sealed(sealed) => format!("sealed with {}", sealed.key_id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{config::sealing::SealingConfig, sealing::SealingKey};

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

    fn sealed_with(id: &str, byte: u8) -> Credential {
        let (host, kek) = (ObjectRef::new("a", "h"), SealingKey::new(&[byte; 32]).unwrap());
        Credential::Sealed(sealing::seal(&Secret::new("sk-canary".into()), &key(), &host, id, &kek).unwrap())
    }

    /// A keyring whose keys are in `directory`.
    fn opening(source: Credential, directory: &std::path::Path) -> Keyring {
        let config = SealingConfig { directory: Some(directory.to_owned()), ..SealingConfig::default() };
        let credentials = Credentials { host_keys: [(key(), source)].into(), ..Credentials::default() };
        Keyring::opening(&credentials, Arc::new(SealingKeys::new(config)))
    }

    fn fault(keyring: &Keyring) -> String {
        keyring.faults().remove(&key()).unwrap().to_string()
    }

    #[test]
    fn a_sealed_value_is_opened_once_its_key_arrives_and_lost_when_the_key_goes() {
        let directory = tempfile::tempdir().unwrap();
        let keyring = opening(sealed_with("new", 2), directory.path());
        let missing = "it is sealed with key `new`, which this data plane does not have; it has none";
        assert_eq!((fault(&keyring).as_str(), keyring.refresh()), (missing, false));
        std::fs::write(directory.path().join("old"), [1; 32]).unwrap();
        assert!(keyring.refresh());
        assert!(fault(&keyring).ends_with("does not have; it has `old`"), "{}", fault(&keyring));
        std::fs::write(directory.path().join("new"), [2; 31]).unwrap();
        assert!(keyring.refresh());
        assert!(fault(&keyring).contains("`new`, which cannot be used: "), "{}", fault(&keyring));
        std::fs::write(directory.path().join("new"), [1; 32]).unwrap();
        assert!(keyring.refresh());
        assert!(fault(&keyring).contains("sealed with another key of that name"), "{}", fault(&keyring));

        std::fs::write(directory.path().join("new"), [2; 32]).unwrap();
        assert!(keyring.refresh());
        assert_eq!((keyring.secret(&key()), keyring.refresh()), (Some(HostSecret::new("sk-canary")), false));
        std::fs::remove_file(directory.path().join("new")).unwrap();
        assert!(keyring.refresh());
        assert!(matches!(keyring.secret(&key()), Some(Err(CredentialError::NoSealingKey { .. }))));
    }

    #[test]
    fn another_key_does_not_disturb_what_is_open() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("one"), [1; 32]).unwrap();
        let keyring = opening(sealed_with("one", 1), directory.path());
        std::fs::write(directory.path().join("two"), [2; 32]).unwrap();
        assert!(!keyring.refresh());
        assert_eq!(keyring.secret(&key()), Some(HostSecret::new("sk-canary")));
        assert_eq!(keyring.standings()[&key()], Standing { source: "sealed with one".into(), error: None });
    }

    #[test]
    fn what_opens_to_something_that_cannot_be_sent_is_refused_without_being_shown() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("one"), [1; 32]).unwrap();
        let (host, kek) = (ObjectRef::new("a", "h"), SealingKey::new(&[1; 32]).unwrap());
        let sealed = sealing::seal(&Secret::new("sk\ncanary".into()), &key(), &host, "one", &kek).unwrap();
        let keyring = opening(Credential::Sealed(sealed), directory.path());
        assert_eq!(keyring.secret(&key()), Some(Err(CredentialError::NotVisible(2))));
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
