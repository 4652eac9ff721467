//! Digests: deterministic compilation makes equal tables equal bytes, and this is how that is seen cheaply.

use std::fmt;

use serde::Serialize;

/// 128 bits of BLAKE3; printed as 32 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest([u8; 16]);

impl Digest {
    /// The digest of a value's JSON form. Equal values have equal digests as long as their maps are ordered.
    pub fn of(value: &impl Serialize) -> Self {
        let mut hasher = blake3::Hasher::new();
        serde_json::to_writer(&mut hasher, value).expect("rows have string keys and no failing serializer");
        Self::from_hash(hasher.finalize())
    }

    pub(crate) fn from_hash(hash: blake3::Hash) -> Self {
        let mut short = [0; 16];
        short.copy_from_slice(&hash.as_bytes()[..16]);
        Self(short)
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
