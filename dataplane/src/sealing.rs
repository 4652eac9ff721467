//! Sealed credentials: each is encrypted with a key of its own, and that key is wrapped by one that data planes hold. Both
//! layers are bound to the HostKey and its Host, so that a sealed value opens nowhere else. docs/sealed-keys.md says byte
//! by byte how, for those who seal with other programs.
//!
//! Where data planes have their keys from is the business of `keys`.

pub mod keys;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use data_encoding::BASE64;
use table::{ObjectRef, Sealed, Secret};

/// Bytes of a key, of those that wrap and of those that are wrapped.
pub const KEY_BYTES: usize = 32;

const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// The longest credential: its base64 has to fit into the 8192 characters of the field.
pub const MAX_VALUE_BYTES: usize = 8192 / 4 * 3 - TAG_BYTES;

/// A key that credentials are sealed with. Shows nothing of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SealingKey(Secret<[u8; KEY_BYTES]>);

/// Why a sealed credential does not open. Shows nothing of it, and nothing of a key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// A field is not what it should be.
    #[error("`{field}` is not base64 of {expected}")]
    Malformed {
        /// Which field.
        field: &'static str,
        /// What would be right.
        expected: &'static str,
    },
    /// The wrapped key.
    #[error(
        "it does not open with key `{key_id}`: it was sealed with another key of that name, for another HostKey or Host, \
         or altered"
    )]
    Wrapped {
        /// The name of the key.
        key_id: String,
    },
    /// The credential itself.
    #[error("`nonce` or `ciphertext` was altered, or belongs to another sealed credential")]
    Ciphertext,
    /// It opens, but is no text.
    #[error("what was sealed is not text (UTF-8)")]
    NoText,
}

/// Why a credential cannot be sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// It does not fit.
    #[error("the credential has {0} bytes; {MAX_VALUE_BYTES} at most can be sealed")]
    Long(usize),
    /// The machine.
    #[error("sealing failed: the system gives no random bytes")]
    Random,
}

impl SealingKey {
    /// Takes a key. Errs, in words, unless there are 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, String> {
        let key = bytes.try_into().map_err(|_| {
            let number = bytes.len();
            format!("it has {number} bytes; {KEY_BYTES} random ones would be right, as `relay seal --generate-key` makes them")
        });
        key.map(|key| Self(Secret::new(key)))
    }

    /// A new one. Errs where the system gives no random bytes.
    pub fn generate() -> Result<Self, SealError> {
        random().map(|bytes| Self(Secret::new(bytes)))
    }

    /// The key itself, to be written where keys are kept.
    pub fn expose(&self) -> &[u8; KEY_BYTES] {
        self.0.expose()
    }

    fn cipher(&self) -> RandomizedNonceKey {
        cipher(self.expose())
    }
}

/// Seals a credential of a HostKey for its Host.
pub fn seal(
    value: &Secret<String>,
    host_key: &ObjectRef,
    host: &ObjectRef,
    key_id: &str,
    key: &SealingKey,
) -> Result<Sealed, SealError> {
    let value = value.expose().as_bytes();
    if value.len() > MAX_VALUE_BYTES {
        return Err(SealError::Long(value.len()));
    }
    let own_key = random()?;
    let bound = bound_value(host_key, host);
    let mut encrypted = value.to_vec();
    let nonce = cipher(&own_key).seal_in_place_append_tag(Aad::from(bound.as_bytes()), &mut encrypted);
    let nonce = nonce.map_err(|_| SealError::Random)?;
    Ok(Sealed {
        host: host.clone(),
        key_id: key_id.to_owned(),
        wrapped_key: wrap(&own_key, host_key, host, key_id, key)?,
        nonce: BASE64.encode(nonce.as_ref()),
        ciphertext: BASE64.encode(&encrypted),
    })
}

/// Opens the sealed credential of a HostKey.
pub fn open(sealed: &Sealed, host_key: &ObjectRef, key: &SealingKey) -> Result<Secret<String>, OpenError> {
    let own_key = unwrap(sealed, host_key, key)?;
    let malformed = |field, expected| move || OpenError::Malformed { field, expected };
    let nonce: [u8; NONCE_BYTES] = decoded(&sealed.nonce).ok_or_else(malformed("nonce", "12 bytes"))?;
    let encrypted = BASE64.decode(sealed.ciphertext.as_bytes()).ok();
    let mut encrypted = encrypted.ok_or_else(malformed("ciphertext", "a credential and its tag"))?;
    let bound = bound_value(host_key, &sealed.host);
    let aad = Aad::from(bound.as_bytes());
    let opened = cipher(own_key.expose()).open_in_place(Nonce::from(&nonce), aad, &mut encrypted);
    let opened = opened.map_err(|_| OpenError::Ciphertext)?;
    std::str::from_utf8(opened).map(|text| Secret::new(text.to_owned())).map_err(|_| OpenError::NoText)
}

/// Wraps the key of a sealed credential by another key. The credential itself stays as it is.
pub fn rewrap(
    sealed: &Sealed,
    host_key: &ObjectRef,
    old: &SealingKey,
    key_id: &str,
    key: &SealingKey,
) -> Result<Sealed, RewrapError> {
    let own_key = unwrap(sealed, host_key, old)?;
    let wrapped_key = wrap(own_key.expose(), host_key, &sealed.host, key_id, key)?;
    Ok(Sealed { key_id: key_id.to_owned(), wrapped_key, ..sealed.clone() })
}

/// Why a sealed credential cannot be given another key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewrapError {
    /// It does not open.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The new key cannot be applied.
    #[error(transparent)]
    Seal(#[from] SealError),
}

fn wrap(
    own_key: &[u8; KEY_BYTES],
    host_key: &ObjectRef,
    host: &ObjectRef,
    key_id: &str,
    key: &SealingKey,
) -> Result<String, SealError> {
    let bound = bound_key(key_id, host_key, host);
    let mut wrapped = own_key.to_vec();
    let nonce = key.cipher().seal_in_place_append_tag(Aad::from(bound.as_bytes()), &mut wrapped);
    let nonce = nonce.map_err(|_| SealError::Random)?;
    Ok(BASE64.encode(&[nonce.as_ref().as_slice(), &wrapped].concat()))
}

fn unwrap(sealed: &Sealed, host_key: &ObjectRef, key: &SealingKey) -> Result<Secret<[u8; KEY_BYTES]>, OpenError> {
    const WRAPPED_BYTES: usize = NONCE_BYTES + KEY_BYTES + TAG_BYTES;
    let malformed = OpenError::Malformed { field: "wrappedKey", expected: "60 bytes" };
    let mut wrapped: [u8; WRAPPED_BYTES] = decoded(&sealed.wrapped_key).ok_or(malformed)?;
    let (nonce, wrapped) = wrapped.split_first_chunk_mut::<NONCE_BYTES>().expect("it is longer than a nonce");
    let bound = bound_key(&sealed.key_id, host_key, &sealed.host);
    let opened = key.cipher().open_in_place(Nonce::from(&*nonce), Aad::from(bound.as_bytes()), wrapped).ok();
    let own_key = opened.and_then(|opened| <[u8; KEY_BYTES]>::try_from(&*opened).ok());
    own_key.map(Secret::new).ok_or_else(|| OpenError::Wrapped { key_id: sealed.key_id.clone() })
}

/// What the wrapped key is bound to. Neither ids nor names hold a line break, so no two bindings are equal text.
fn bound_key(key_id: &str, host_key: &ObjectRef, host: &ObjectRef) -> String {
    format!("llmrelay.io/sealed/v1 key\n{key_id}\n{host_key}\n{host}")
}

/// What the credential is bound to: all but the key that may change.
fn bound_value(host_key: &ObjectRef, host: &ObjectRef) -> String {
    format!("llmrelay.io/sealed/v1 value\n{host_key}\n{host}")
}

fn cipher(key: &[u8; KEY_BYTES]) -> RandomizedNonceKey {
    RandomizedNonceKey::new(&AES_256_GCM, key).expect("AES-256 takes 32 bytes")
}

fn random() -> Result<[u8; KEY_BYTES], SealError> {
    let mut bytes = [0; KEY_BYTES];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| SealError::Random)?;
    Ok(bytes)
}

fn decoded<const N: usize>(text: &str) -> Option<[u8; N]> {
    BASE64.decode(text.as_bytes()).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
