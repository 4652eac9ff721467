//! What a snapshot holds: which tables or buckets differ from what the other side has, as packed bytes cut into chunks.

use std::collections::BTreeMap;

use bytes::{Bytes, BytesMut};
use prost::Message;
use table::Digest;

use crate::{
    packing::{self, PackingError},
    tables::{BUCKETS, Key, Number, Table, Tables, bucket_of},
    wire::{Held, Part, RowItem, SnapshotChunk, bytes_of, digest_of},
};

/// Tables with more rows name the digests of their buckets.
const LARGE: usize = BUCKETS;

/// What somebody has, by digests alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Digests(BTreeMap<Number, (Digest, Option<Vec<Digest>>)>);

impl Digests {
    /// Of tables at hand.
    pub fn of(tables: &Tables) -> Self {
        let of = |table: &Table| {
            let large = table.len() > LARGE;
            (table.digest(), large.then(|| (0..=u8::MAX).map(|bucket| table.bucket_digest(bucket)).collect()))
        };
        Self(tables.tables().map(|(number, table)| (number, of(table))).collect())
    }

    /// As they travel.
    pub fn to_wire(&self) -> Vec<Held> {
        let held = |(&table, (digest, buckets)): (&Number, &(Digest, Option<Vec<Digest>>))| {
            let buckets = buckets.iter().flatten().flat_map(|digest| *digest.as_bytes()).collect::<Vec<u8>>();
            Held { table, digest: bytes_of(digest), buckets: buckets.into() }
        };
        self.0.iter().map(held).collect()
    }

    /// As they arrived. What is malformed counts as not there: it will be sent again.
    pub fn from_wire(held: &[Held]) -> Self {
        let read = |held: &Held| {
            let buckets: Vec<_> = held.buckets.chunks(16).filter_map(digest_of).collect();
            Some((held.table, (digest_of(&held.digest)?, (buckets.len() == BUCKETS).then_some(buckets))))
        };
        Self(held.iter().filter_map(read).collect())
    }
}

/// A table of which something has to be sent.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Needed {
    /// The table.
    pub table: Number,
    /// The buckets; empty: the whole table.
    pub buckets: Vec<u8>,
}

/// What makes somebody who has `held` have `tables`.
pub fn needed(held: &Digests, tables: &Tables) -> Vec<Needed> {
    let mut numbers: Vec<_> = held.0.keys().copied().chain(tables.tables().map(|(number, _)| number)).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let part = |number| needed_of(held.0.get(&number), tables.table(number).map(AsRef::as_ref), number);
    numbers.into_iter().filter_map(part).collect()
}

fn needed_of(held: Option<&(Digest, Option<Vec<Digest>>)>, table: Option<&Table>, number: Number) -> Option<Needed> {
    let whole = Needed { table: number, buckets: Vec::new() };
    let (Some((digest, buckets)), Some(table)) = (held, table) else { return Some(whole) };
    if *digest == table.digest() {
        return None;
    }
    let Some(held) = buckets.as_ref() else { return Some(whole) };
    let differs = |bucket: &u8| held[usize::from(*bucket)] != table.bucket_digest(*bucket);
    let buckets: Vec<u8> = (0..=u8::MAX).filter(differs).collect();
    Some(if buckets.len() < BUCKETS { Needed { table: number, buckets } } else { whole })
}

/// A part with its bytes, which all streams share.
#[derive(Clone)]
pub struct EncodedPart {
    /// What is announced.
    pub part: Part,
    /// What is cut into chunks.
    pub bytes: Bytes,
}

/// The part of `tables` that is needed.
pub fn encode(tables: &Tables, needed: &Needed, zstd: bool) -> EncodedPart {
    let (mut raw, mut rows) = (BytesMut::new(), 0);
    let mut put = |(key, row): (&Key, &Bytes)| {
        let item = RowItem { key: key.to_string(), row: row.clone() };
        item.encode_length_delimited(&mut raw).expect("the buffer grows");
        rows += 1;
    };
    if let Some(table) = tables.table(needed.table) {
        match needed.buckets.as_slice() {
            [] => table.rows().for_each(&mut put),
            buckets => buckets.iter().for_each(|bucket| table.bucket(*bucket).for_each(&mut put)),
        }
    }
    let raw_bytes = raw.len() as u64;
    let (codec, bytes) = packing::pack(raw.freeze(), zstd);
    let part = Part {
        table: needed.table,
        buckets: bitmap(&needed.buckets),
        rows,
        raw_bytes,
        wire_bytes: bytes.len() as u64,
        codec: codec.into(),
    };
    EncodedPart { part, bytes }
}

/// The chunks of a part, none larger than `max` bytes.
pub fn chunks(revision: u64, part: u32, bytes: &Bytes, max: usize) -> impl Iterator<Item = SnapshotChunk> {
    let (max, mut rest, mut sequence) = (max.max(1), bytes.clone(), 0);
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let data = rest.split_to(rest.len().min(max));
        sequence += 1;
        Some(SnapshotChunk { revision, part, sequence: sequence - 1, data })
    })
}

fn bitmap(buckets: &[u8]) -> Bytes {
    if buckets.is_empty() {
        return Bytes::new();
    }
    let mut bits = [0_u8; BUCKETS / 8];
    for bucket in buckets {
        bits[usize::from(bucket / 8)] |= 1 << (bucket % 8);
    }
    Bytes::copy_from_slice(&bits)
}

/// A part that is not what was announced.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartError {
    /// The bits of the buckets.
    #[error("the bits of buckets have {0} bytes; none or 32 would be right")]
    Bitmap(usize),
    /// The bytes.
    #[error("a part of table {table}: {source}")]
    Packing {
        /// Number of the table.
        table: Number,
        /// What is wrong.
        source: PackingError,
    },
    /// A row.
    #[error("a part of table {0} holds bytes that are no row")]
    Row(Number),
    /// A row of another bucket than was announced.
    #[error("a part of table {0} holds a row of another bucket than was announced")]
    Bucket(Number),
    /// The number of rows.
    #[error("a part of table {table} holds {found} rows, {announced} were announced")]
    Rows {
        /// Number of the table.
        table: Number,
        /// As announced.
        announced: u32,
        /// As found.
        found: usize,
    },
}

/// The rows of a part, applied to tables.
pub fn apply(tables: &Tables, part: &Part, bytes: Bytes) -> Result<Tables, PartError> {
    let table = part.table;
    let buckets = buckets_of(&part.buckets)?;
    let unpacked = packing::unpack(part.codec, bytes, part.raw_bytes);
    let mut raw = unpacked.map_err(|source| PartError::Packing { table, source })?;
    let mut rows = Vec::new();
    while !raw.is_empty() {
        let RowItem { key, row } = RowItem::decode_length_delimited(&mut raw).map_err(|_| PartError::Row(table))?;
        if !buckets.is_empty() && buckets.binary_search(&bucket_of(&key)).is_err() {
            return Err(PartError::Bucket(table));
        }
        rows.push((Key::from(key), row));
    }
    if rows.len() != part.rows as usize {
        return Err(PartError::Rows { table, announced: part.rows, found: rows.len() });
    }
    Ok(tables.replacing(table, &buckets, rows))
}

fn buckets_of(bitmap: &[u8]) -> Result<Vec<u8>, PartError> {
    match bitmap.len() {
        0 => Ok(Vec::new()),
        32 => Ok((0..=u8::MAX).filter(|bucket| bitmap[usize::from(bucket / 8)] & (1 << (bucket % 8)) != 0).collect()),
        other => Err(PartError::Bitmap(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn large(rows: usize) -> Tables {
        Tables::of((0..rows).map(|n| (5, format!("ns/{n}").into(), format!("row {n}").into())))
    }

    #[test]
    fn equal_tables_need_nothing_and_large_ones_only_the_buckets_that_differ() {
        let tables = large(1000);
        assert_eq!(needed(&Digests::of(&tables), &tables), []);
        let next = tables.with([crate::tables::Change { table: 5, key: "ns/7".into(), row: None }]);
        let part = Needed { table: 5, buckets: vec![bucket_of("ns/7")] };
        assert_eq!(needed(&Digests::of(&tables), &next), std::slice::from_ref(&part));
        let encoded = encode(&next, &part, true);
        assert_eq!(apply(&tables, &encoded.part, encoded.bytes).unwrap(), next);
    }

    #[test]
    fn digests_read_back_from_the_wire() {
        let digests = Digests::of(&large(1000));
        assert_eq!(Digests::from_wire(&digests.to_wire()), digests);
        assert_eq!(digests.to_wire()[0].buckets.len(), 4096);
        assert!(Digests::of(&large(10)).to_wire()[0].buckets.is_empty());
    }

    #[test]
    fn a_table_that_is_gone_is_needed_as_an_empty_part() {
        let needed = needed(&Digests::of(&large(3)), &Tables::default());
        let encoded = encode(&Tables::default(), &needed[0], true);
        assert_eq!(apply(&large(3), &encoded.part, encoded.bytes).unwrap(), Tables::default());
    }

    #[test]
    fn what_is_not_as_announced_is_refused() {
        let tables = large(300);
        let whole = Needed { table: 5, buckets: Vec::new() };
        let EncodedPart { part, bytes } = encode(&tables, &whole, false);
        let refusal = |part: &Part, bytes: &Bytes| apply(&Tables::default(), part, bytes.clone()).unwrap_err();
        let rows = Part { rows: 299, ..part.clone() };
        assert_eq!(refusal(&rows, &bytes), PartError::Rows { table: 5, announced: 299, found: 300 });
        let other = bitmap(&[bucket_of("ns/1").wrapping_add(1)]);
        assert_eq!(refusal(&Part { buckets: other, ..part.clone() }, &bytes), PartError::Bucket(5));
        assert_eq!(refusal(&Part { buckets: Bytes::from_static(b"x"), ..part.clone() }, &bytes), PartError::Bitmap(1));
        let short = bytes.slice(..bytes.len() - 1);
        assert!(matches!(refusal(&part, &short), PartError::Packing { table: 5, .. }));
        assert_eq!(refusal(&Part { raw_bytes: short.len() as u64, ..part }, &short), PartError::Row(5));
    }
}
