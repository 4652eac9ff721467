//! The last good table, sealed: AES-256-GCM under a key that is not stored with it, so that a copy on a disk or in a
//! database is useless alone.
//!
//! `RELAYLKG`, form, salt, length of the header, header, then the sealed body; all before the body is authenticated too.
//! Each copy has a key of its own, drawn from the fleet's key by the salt: so however many pods write however often, no
//! key and nonce meet twice.

use aws_lc_rs::{
    aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey},
    hkdf::{HKDF_SHA256, Salt},
};
use prost::Message;

use crate::{
    vector::SourceVector,
    wire::{SealedBody, SealedHeader},
};

const MAGIC: &[u8; 8] = b"RELAYLKG";
const FORM: u8 = 1;
const SALT: usize = 16;
const PREFIX: usize = MAGIC.len() + 1 + SALT + 4;

/// Nothing larger is unpacked.
const MAX_BODY: u64 = 1 << 30;

/// The key that a fleet seals with. Shows nothing of itself.
#[derive(Clone)]
pub struct SealKey([u8; 32]);

impl std::fmt::Debug for SealKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SealKey(redacted)")
    }
}

/// What cannot be sealed or opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The key.
    #[error("the key has {0} bytes; 32 would be right")]
    Key(usize),
    /// The bytes are none of ours, or cut off.
    #[error("this is no sealed table of form {FORM}")]
    Form,
    /// Another key, or altered bytes.
    #[error("it does not open: it was sealed with another key, or altered")]
    Sealed,
    /// It opens, but holds something else.
    #[error("what was sealed cannot be read: {0}")]
    Body(String),
    /// The machine has no randomness, or the body is too large.
    #[error("sealing failed: {0}")]
    Sealing(String),
}

impl SealKey {
    /// Errs unless there are 32 bytes.
    pub fn new(bytes: &[u8]) -> Result<Self, SealError> {
        bytes.try_into().map(Self).map_err(|_| SealError::Key(bytes.len()))
    }

    /// The key of one copy. Used once, so its nonce may be zero.
    fn of_copy(&self, salt: &[u8]) -> LessSafeKey {
        let drawn = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let okm = drawn.expand(&[b"relay last known good v1"], &AES_256_GCM).expect("32 bytes can be drawn");
        LessSafeKey::new(UnboundKey::from(okm))
    }
}

/// Seals a table.
pub fn seal(header: &SealedHeader, body: &SealedBody, key: &SealKey) -> Result<Vec<u8>, SealError> {
    let sealing = |error: String| SealError::Sealing(error);
    let raw = body.encode_to_vec();
    let mut packed = (raw.len() as u64).to_le_bytes().to_vec();
    packed.extend(zstd::bulk::compress(&raw, 3).map_err(|error| sealing(error.to_string()))?);

    let mut salt = [0; SALT];
    aws_lc_rs::rand::fill(&mut salt).map_err(|_| sealing("no randomness".into()))?;
    let header = header.encode_to_vec();
    let length = u32::try_from(header.len()).map_err(|_| sealing("the header is too large".into()))?;
    let mut sealed = [MAGIC.as_slice(), &[FORM], &salt, &length.to_le_bytes(), &header].concat();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let aad = Aad::from(sealed.as_slice());
    key.of_copy(&salt)
        .seal_in_place_append_tag(nonce, aad, &mut packed)
        .map_err(|_| sealing("it is too large".into()))?;
    sealed.append(&mut packed);
    Ok(sealed)
}

/// Opens a sealed table. What it gives is what was sealed with this key, unaltered.
pub fn open(sealed: &[u8], key: &SealKey) -> Result<(SealedHeader, SealedBody), SealError> {
    let prefix = sealed.get(..PREFIX).ok_or(SealError::Form)?;
    if prefix[..8] != *MAGIC || prefix[8] != FORM {
        return Err(SealError::Form);
    }
    let salt = &prefix[9..9 + SALT];
    let length = prefix[9 + SALT..].try_into().map(u32::from_le_bytes).map_err(|_| SealError::Form)?;
    let end = PREFIX.checked_add(length as usize).filter(|end| *end <= sealed.len()).ok_or(SealError::Form)?;
    let (authenticated, body) = sealed.split_at(end);
    let mut body = body.to_vec();
    let nonce = Nonce::assume_unique_for_key([0; 12]);
    let opened = key.of_copy(salt).open_in_place(nonce, Aad::from(authenticated), &mut body);
    let opened = opened.map_err(|_| SealError::Sealed)?;
    let unreadable = |error: String| SealError::Body(error);
    let header = SealedHeader::decode(&authenticated[PREFIX..]).map_err(|error| unreadable(error.to_string()))?;
    let (raw_bytes, packed) = opened.split_first_chunk::<8>().ok_or_else(|| unreadable("it is empty".into()))?;
    let raw_bytes = u64::from_le_bytes(*raw_bytes);
    if raw_bytes > MAX_BODY {
        return Err(unreadable(format!("{raw_bytes} bytes; at most {MAX_BODY} are taken")));
    }
    let bound = usize::try_from(raw_bytes).map_err(|error| unreadable(error.to_string()))?;
    let raw = zstd::bulk::decompress(packed, bound).map_err(|error| unreadable(error.to_string()))?;
    let body = SealedBody::decode(raw.as_slice()).map_err(|error| unreadable(error.to_string()))?;
    Ok((header, body))
}

/// What a sealed table says of itself, unopened and so believed by nobody: enough to see whether another copy would say
/// anything new. None where the bytes are no sealed table; what comes after the header may be missing.
pub fn peek(sealed: &[u8]) -> Option<SealedHeader> {
    let prefix = sealed.get(..PREFIX).filter(|prefix| prefix[..8] == *MAGIC && prefix[8] == FORM)?;
    let length = u32::from_le_bytes(prefix[9 + SALT..].try_into().ok()?);
    let end = PREFIX.checked_add(length as usize)?;
    SealedHeader::decode(sealed.get(PREFIX..end)?).ok()
}

/// Of copies from several places, the newest that opens; and what is wrong with those that do not.
pub fn newest(
    copies: impl IntoIterator<Item = Vec<u8>>,
    key: &SealKey,
) -> (Option<(SealedHeader, SealedBody)>, Vec<SealError>) {
    let (mut newest, mut wrong): (Option<(SealedHeader, SealedBody)>, _) = (None, Vec::new());
    for copy in copies {
        match open(&copy, key) {
            Ok(opened) if newest.as_ref().is_none_or(|(before, _)| is_newer(&opened.0, before)) => {
                newest = Some(opened)
            }
            Ok(_) => {}
            Err(error) => wrong.push(error),
        }
    }
    (newest, wrong)
}

/// Whether `header` is of a later state: by source within one history, by which history was left for which, else by the
/// clock.
pub fn is_newer(header: &SealedHeader, before: &SealedHeader) -> bool {
    if header.epoch == before.epoch {
        let (ours, theirs) = (vector(header), vector(before));
        match (theirs.regression(&ours).is_some(), ours.regression(&theirs).is_some()) {
            (false, true) => return true,
            (true, false) => return false,
            (true, true) | (false, false) => {}
        }
    } else if header.former_epochs.contains(&before.epoch) {
        return true;
    } else if before.former_epochs.contains(&header.epoch) {
        return false;
    }
    header.confirmed_ms > before.confirmed_ms
}

fn vector(header: &SealedHeader) -> SourceVector {
    header.source_vector.clone().into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RowItem, SealedTable};

    fn key(byte: u8) -> SealKey {
        SealKey::new(&[byte; 32]).unwrap()
    }

    fn header(epoch: &str, version: u64, confirmed_ms: u64) -> SealedHeader {
        let source_vector = [("hosts".to_owned(), version)].into();
        SealedHeader { epoch: epoch.into(), source_vector, confirmed_ms, ..SealedHeader::default() }
    }

    fn body() -> SealedBody {
        let row = RowItem { key: "team/a".into(), row: bytes::Bytes::from_static(b"sk-canary") };
        SealedBody { tables: vec![SealedTable { table: 7, rows: vec![row] }], quarantine: Vec::new() }
    }

    #[test]
    fn what_was_sealed_opens_with_the_same_key_alone() {
        let sealed = seal(&header("e", 1, 2), &body(), &key(1)).unwrap();
        assert_eq!(open(&sealed, &key(1)), Ok((header("e", 1, 2), body())));
        assert_eq!(open(&sealed, &key(2)), Err(SealError::Sealed));
        assert!(!sealed.windows(9).any(|window| window == b"sk-canary"));
    }

    #[test]
    fn a_single_altered_bit_anywhere_is_seen() {
        let sealed = seal(&header("e", 1, 2), &body(), &key(1)).unwrap();
        for bit in 0..sealed.len() * 8 {
            let mut altered = sealed.clone();
            altered[bit / 8] ^= 1 << (bit % 8);
            open(&altered, &key(1)).unwrap_err();
        }
        for end in 0..sealed.len() {
            open(&sealed[..end], &key(1)).unwrap_err();
        }
    }

    #[test]
    fn what_a_copy_says_of_itself_is_read_from_its_beginning_alone() {
        let sealed = seal(&header("e", 1, 2), &body(), &key(1)).unwrap();
        let beginning = PREFIX + header("e", 1, 2).encoded_len();
        assert_eq!(peek(&sealed[..beginning]), Some(header("e", 1, 2)));
        assert_eq!(peek(&sealed[..beginning - 1]), None);
        assert_eq!(peek(b"something else that is long enough to hold a prefix"), None);
    }

    #[test]
    fn the_same_table_sealed_twice_is_not_the_same_bytes() {
        let once = seal(&header("e", 1, 2), &body(), &key(1)).unwrap();
        assert_ne!(once, seal(&header("e", 1, 2), &body(), &key(1)).unwrap());
    }

    #[test]
    fn the_newest_copy_is_of_the_latest_sources_whatever_the_clocks_say() {
        let sealed = |header: &SealedHeader| seal(header, &body(), &key(1)).unwrap();
        let newest_of = |headers: &[&SealedHeader]| {
            let (newest, wrong) = newest(headers.iter().map(|header| sealed(header)), &key(1));
            assert_eq!(wrong, []);
            newest.unwrap().0
        };
        let (old, new) = (header("e", 1, 900), header("e", 2, 100));
        assert_eq!(newest_of(&[&old, &new]), new);
        assert_eq!(newest_of(&[&new, &old]), new);
        let (earlier, later) = (header("e", 2, 100), header("e", 2, 200));
        assert_eq!(newest_of(&[&earlier, &later]), later);
        let restored = SealedHeader { former_epochs: vec!["e".into()], ..header("f", 1, 50) };
        assert_eq!(newest_of(&[&restored, &new]), restored);
        assert_eq!(newest_of(&[&new, &restored]), restored);
    }

    #[test]
    fn a_copy_that_does_not_open_is_said_and_costs_only_itself() {
        let good = seal(&header("e", 1, 2), &body(), &key(1)).unwrap();
        let foreign = seal(&header("e", 5, 9), &body(), &key(2)).unwrap();
        let (found, wrong) = newest([foreign, b"x".to_vec(), good], &key(1));
        assert_eq!(found.unwrap().0, header("e", 1, 2));
        assert_eq!(wrong, [SealError::Sealed, SealError::Form]);
        assert_eq!(SealKey::new(b"short").unwrap_err(), SealError::Key(5));
    }
}
