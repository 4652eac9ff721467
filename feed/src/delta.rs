//! Changes as operations on rows.

use bytes::Bytes;
use prost::Message;

use crate::{
    packing::{self, PackingError},
    tables::Change,
    wire::{Codec, Op, Ops},
};

/// No delta unpacks to more; what is larger goes as a snapshot.
pub const MAX_BYTES: usize = 16 << 20;

/// Operations that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// They are too many.
    #[error("a delta of {0} bytes; at most {MAX_BYTES} are taken")]
    Size(u32),
    /// The bytes.
    #[error("a delta: {0}")]
    Packing(#[from] PackingError),
    /// What they say.
    #[error("a delta holds bytes that are no operations")]
    Malformed,
}

/// Operations with their bytes, which all streams share.
#[derive(Clone, Debug)]
pub struct EncodedOps {
    /// How they are packed.
    pub codec: Codec,
    /// Bytes once unpacked.
    pub raw_bytes: usize,
    /// A message `Ops`, packed.
    pub bytes: Bytes,
}

impl EncodedOps {
    pub(crate) fn is_plain(&self) -> bool {
        self.codec == Codec::Plain
    }
}

/// Packs changes.
pub fn encode(changes: Vec<Change>, zstd: bool) -> EncodedOps {
    let op = |Change { table, key, row }| Op { table, key: String::from(&*key), row };
    let raw = Bytes::from(Ops { ops: changes.into_iter().map(op).collect() }.encode_to_vec());
    let raw_bytes = raw.len();
    let (codec, bytes) = packing::pack(raw, zstd);
    EncodedOps { codec, raw_bytes, bytes }
}

/// Unpacks changes.
pub fn decode(codec: i32, raw_bytes: u32, bytes: Bytes) -> Result<Vec<Change>, DeltaError> {
    if raw_bytes as usize > MAX_BYTES {
        return Err(DeltaError::Size(raw_bytes));
    }
    let raw = packing::unpack(codec, bytes, raw_bytes.into())?;
    let ops = Ops::decode(raw).map_err(|_| DeltaError::Malformed)?.ops;
    Ok(ops.into_iter().map(|Op { table, key, row }| Change { table, key: key.into(), row }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_read_back_as_they_were_written() {
        let change = |key: &str, row: Option<&'static [u8]>| Change {
            table: 5,
            key: key.into(),
            row: row.map(Bytes::from_static),
        };
        let changes = vec![change("a/b", Some(b"row")), change("a/c", None), change("a/d", Some(b""))];
        let EncodedOps { codec, raw_bytes, bytes } = encode(changes.clone(), true);
        let raw_bytes = u32::try_from(raw_bytes).unwrap();
        assert_eq!(decode(codec.into(), raw_bytes, bytes.clone()), Ok(changes));
        assert_eq!(decode(codec.into(), u32::MAX, bytes), Err(DeltaError::Size(u32::MAX)));
        assert_eq!(decode(0, 2, Bytes::from_static(&[0xff, 0xff])), Err(DeltaError::Malformed));
    }
}
