//! An open snapshot: collects chunks in their order, then puts the parts over what is held and compares the root.

use bytes::BytesMut;
use table::Digest;

use super::Offer;
use crate::{
    parts,
    tables::Tables,
    wire::{SnapshotBegin, SnapshotChunk},
};

/// No part may be larger, packed or not: a hundred times the largest fleet that was thought of.
const MAX_PART: u64 = 512 << 20;

/// An open snapshot.
#[derive(Debug)]
pub(super) struct Loading {
    begin: SnapshotBegin,
    root: Digest,
    parts: Vec<BytesMut>,
    /// The part and the piece of it that come next.
    next: (u32, u32),
}

impl Loading {
    pub(super) fn open(begin: SnapshotBegin, root: Digest) -> Result<Self, String> {
        if let Some(part) = begin.parts.iter().find(|part| part.raw_bytes.max(part.wire_bytes) > MAX_PART) {
            return Err(format!(
                "a part of {} bytes; at most {MAX_PART} are taken",
                part.raw_bytes.max(part.wire_bytes)
            ));
        }
        let mut loading = Self { parts: vec![BytesMut::new(); begin.parts.len()], begin, root, next: (0, 0) };
        loading.skip_whole();
        Ok(loading)
    }

    pub(super) fn revision(&self) -> u64 {
        self.begin.revision
    }

    pub(super) fn take(&mut self, chunk: SnapshotChunk) -> Result<(), String> {
        let (part, sequence) = self.next;
        if (chunk.part, chunk.sequence) != self.next {
            let SnapshotChunk { part: got, sequence: piece, .. } = chunk;
            return Err(format!("chunk {piece} of part {got} where {sequence} of part {part} was expected"));
        }
        let index = part as usize;
        let Some(announced) = self.begin.parts.get(index) else { return Err("a chunk after the last part".to_owned()) };
        let held = &mut self.parts[index];
        let bytes = (held.len() + chunk.data.len()) as u64;
        if chunk.data.is_empty() || bytes > announced.wire_bytes {
            return Err(format!("part {part} has {bytes} bytes where {} were announced", announced.wire_bytes));
        }
        held.extend_from_slice(&chunk.data);
        self.next.1 += 1;
        self.skip_whole();
        Ok(())
    }

    /// Goes on to the next part of which something is missing.
    fn skip_whole(&mut self) {
        while let Some(announced) = self.begin.parts.get(self.next.0 as usize) {
            if (self.parts[self.next.0 as usize].len() as u64) < announced.wire_bytes {
                return;
            }
            self.next = (self.next.0 + 1, 0);
        }
    }

    /// The tables, if nothing is missing and they have the root that was announced.
    pub(super) fn close(self, held: &Tables) -> Result<Offer, String> {
        let Self { begin, root, parts, next } = self;
        if (next.0 as usize) < begin.parts.len() {
            return Err(format!("the snapshot ended within part {} of {}", next.0, begin.parts.len()));
        }
        let mut tables = if begin.whole { Tables::default() } else { held.clone() };
        for (part, bytes) in begin.parts.iter().zip(parts) {
            tables = parts::apply(&tables, part, bytes.freeze()).map_err(|error| error.to_string())?;
        }
        if tables.root() != root {
            return Err("what arrived has another root than was announced".to_owned());
        }
        let SnapshotBegin { revision, epoch, source_vector, urgent, .. } = begin;
        Ok(Offer { tables, epoch, vector: source_vector.into(), revision, urgent })
    }
}
