//! Packs bytes for the way, and unpacks no more than was announced.

use bytes::Bytes;

use crate::wire::Codec;

/// Level 3: some 6 ms for 10,000 relay keys, whose hashes nothing packs.
const LEVEL: i32 = 3;

/// Below this, packing costs more than it saves.
const WORTHWHILE: usize = 256;

/// What does not unpack to what was announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PackingError {
    /// The packing is not known.
    #[error("packing {0} is unknown; {known} is known", known = "0 (plain) or 1 (zstd)")]
    Unknown(i32),
    /// The length is another.
    #[error("{announced} bytes were announced and {found} came")]
    Length {
        /// As announced.
        announced: u64,
        /// As found; for packed bytes, at least so many.
        found: u64,
    },
    /// The bytes are no frame of that packing.
    #[error("the bytes are damaged: {0}")]
    Damaged(String),
}

/// Packs where that makes it smaller and the other side can read it.
pub fn pack(raw: Bytes, zstd: bool) -> (Codec, Bytes) {
    if !zstd || raw.len() < WORTHWHILE {
        return (Codec::Plain, raw);
    }
    match zstd::bulk::compress(&raw, LEVEL) {
        Ok(packed) if packed.len() < raw.len() => (Codec::Zstd, packed.into()),
        Ok(_) | Err(_) => (Codec::Plain, raw),
    }
}

/// Unpacks to exactly `raw_bytes`; never holds more.
pub fn unpack(codec: i32, packed: Bytes, raw_bytes: u64) -> Result<Bytes, PackingError> {
    let codec = Codec::try_from(codec).map_err(|_| PackingError::Unknown(codec))?;
    let raw = match codec {
        Codec::Plain => packed,
        Codec::Zstd => {
            let bound = usize::try_from(raw_bytes).unwrap_or(usize::MAX);
            let raw =
                zstd::bulk::decompress(&packed, bound).map_err(|error| PackingError::Damaged(error.to_string()))?;
            raw.into()
        }
    };
    let found = raw.len() as u64;
    if found == raw_bytes { Ok(raw) } else { Err(PackingError::Length { announced: raw_bytes, found }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_packed_unpacks_to_the_same_bytes() {
        let raw = Bytes::from("relay ".repeat(1000));
        for zstd in [false, true] {
            let (codec, packed) = pack(raw.clone(), zstd);
            assert_eq!(packed.len() < raw.len(), zstd);
            assert_eq!(unpack(codec.into(), packed, raw.len() as u64).unwrap(), raw);
        }
    }

    #[test]
    fn more_or_less_than_announced_is_refused() {
        let raw = Bytes::from(vec![7; 4096]);
        for zstd in [false, true] {
            let (codec, packed) = pack(raw.clone(), zstd);
            for announced in [0, 4095, 4097] {
                unpack(codec.into(), packed.clone(), announced).unwrap_err();
            }
        }
        assert_eq!(unpack(9, raw, 4096), Err(PackingError::Unknown(9)));
    }
}
