//! The receiver's table: takes snapshots and deltas, refuses what is older, damaged or unusable, and keeps the last good
//! copy of an entry that it cannot use. Knows nothing of connections.
//!
//! Digests are computed over what was received, entries that cannot be used included: so roots agree with the sender's
//! whatever this data plane can read.

mod draft;
mod loading;

use std::sync::Arc;

use bytes::Bytes;
use table::{Credentials, Digest, RoutingTable};

use self::{
    draft::{Draft, Quarantine, Quarantined},
    loading::Loading,
};
use crate::{
    delta,
    parts::Digests,
    rows::{Decoded, Kind},
    schema::{SCHEMA, read_here},
    tables::{Change, Key, Number, Table, Tables},
    vector::SourceVector,
    wire::{
        self, Ack, Delta, Fault, FromClient, MAX_REJECTIONS, Nack, Ping, Rejection, Resume, RowItem, SealedBody,
        SealedHeader, SealedQuarantine, SealedTable, SnapshotBegin, SnapshotChunk, SnapshotEnd, bytes_of, digest_of,
    },
};

/// How often an update is tried with more and more entries replaced by their last good copies.
const PASSES: usize = 4;

/// How many histories are remembered that were left.
const FORMER: usize = 8;

/// A table to put into effect, whole.
#[derive(Clone, Debug)]
pub struct Update {
    /// What to route by.
    pub table: RoutingTable,
    /// The secrets beside it.
    pub credentials: Credentials,
    /// Under what number it came.
    pub revision: u64,
    /// The digest of everything received.
    pub root: Digest,
    /// It takes something away that must not wait.
    pub urgent: bool,
}

/// An entry that cannot be used, and why; whoever says so has put nothing into effect.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The table that it is in.
    pub kind: Kind,
    /// Its key.
    pub key: String,
    /// A word for programs.
    pub code: String,
    /// For people; holds no secret.
    pub message: String,
}

/// Why what arrived is not put into effect.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("revision {revision}: {message}")]
pub struct Refusal {
    /// Of what arrived.
    pub revision: u64,
    /// The kind of reason.
    pub fault: Fault,
    /// For people.
    pub message: String,
}

/// What arrived whole and is as announced, but is not in effect yet.
#[derive(Debug)]
pub struct Offer {
    tables: Tables,
    epoch: String,
    vector: SourceVector,
    revision: u64,
    urgent: bool,
}

/// What to seal.
#[derive(Clone, Debug)]
pub struct Kept {
    /// What is known without opening it.
    pub header: SealedHeader,
    /// How many updates that must not wait are in it.
    pub(crate) urgent: u64,
    tables: Tables,
    quarantine: Vec<SealedQuarantine>,
}

impl Kept {
    /// What is sealed.
    pub fn body(&self) -> SealedBody {
        let row = |(key, row): (&Key, &Bytes)| RowItem { key: key.to_string(), row: row.clone() };
        let table = |(table, rows): (Number, &Arc<Table>)| SealedTable { table, rows: rows.rows().map(row).collect() };
        SealedBody { tables: self.tables.tables().map(table).collect(), quarantine: self.quarantine.clone() }
    }
}

/// The table of a data plane, and what came on the way to the next.
#[derive(Debug, Default)]
pub struct Replica {
    tables: Option<Tables>,
    decoded: Decoded,
    quarantine: Quarantine,
    /// Entries in effect that cannot be used at the moment, for reasons of this machine.
    unusable: Vec<Refused>,
    epoch: String,
    former: Vec<String>,
    vector: SourceVector,
    revision: u64,
    /// How many updates came that must not wait.
    urgent: u64,
    restored: bool,
    /// The history that the open stream speaks of.
    stream_epoch: String,
    loading: Option<Loading>,
    /// A snapshot that was refused: the rest of it is passed over.
    ignored: Option<u64>,
}

impl Replica {
    /// Without a table.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether there is a table in effect.
    pub fn is_ready(&self) -> bool {
        self.tables.is_some()
    }

    /// The digest of everything received; none before the first.
    pub fn root(&self) -> Option<Digest> {
        self.tables.as_ref().map(Tables::root)
    }

    /// The number that what is in effect came under; 0 before the first.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// How new the table is.
    pub fn vector(&self) -> &SourceVector {
        &self.vector
    }

    /// What is in effect.
    pub fn decoded(&self) -> &Decoded {
        &self.decoded
    }

    /// Whether what is in effect was read from a sealed copy and nobody has confirmed or replaced it since.
    pub fn is_restored(&self) -> bool {
        self.restored
    }

    /// Entries that cannot be used.
    pub fn rejections(&self) -> Vec<Rejection> {
        let is_named = |one: &Refused| self.quarantine.contains_key(&(one.kind.number(), one.key.as_str().into()));
        let here = self.unusable.iter().filter(|one| !is_named(one)).map(|one| Rejection {
            table: one.kind.number(),
            key: one.key.clone(),
            code: one.code.clone(),
            message: wire::cut(&one.message),
        });
        self.quarantine.iter().map(rejection).chain(here).collect()
    }

    /// Takes down which entries in effect cannot be used at the moment, for reasons of this machine that may pass. Says
    /// whether that is news.
    pub fn name_unusable(&mut self, unusable: Vec<Refused>) -> bool {
        let is_news = self.unusable != unusable;
        self.unusable = unusable;
        is_news
    }

    /// What a new stream says to be sent no more than differs. Forgets what came of an open snapshot.
    pub fn resume(&mut self) -> Option<Resume> {
        (self.loading, self.ignored) = (None, None);
        self.stream_epoch.clear();
        let tables = self.tables.as_ref()?;
        Some(Resume {
            epoch: self.epoch.clone(),
            source_vector: self.vector.to_wire(),
            root: bytes_of(&tables.root()),
            tables: Digests::of(tables).to_wire(),
        })
    }

    /// Opens a snapshot, in place of one that is still open.
    pub fn begin(&mut self, begin: SnapshotBegin) -> Result<(), Refusal> {
        (self.loading, self.ignored) = (None, Some(begin.revision));
        self.stream_epoch.clone_from(&begin.epoch);
        let (revision, vector) = (begin.revision, SourceVector::from(begin.source_vector.clone()));
        let root = digest_of(&begin.root).ok_or_else(|| corrupt(revision, "the root has not 16 bytes"))?;
        self.guard(&begin.epoch, &vector, root).map_err(|message| rollback(revision, message))?;
        self.loading = Some(Loading::open(begin, root).map_err(|message| corrupt(revision, message))?);
        self.ignored = None;
        Ok(())
    }

    /// Takes a chunk of the open snapshot.
    pub fn chunk(&mut self, chunk: SnapshotChunk) -> Result<(), Refusal> {
        let revision = chunk.revision;
        if self.ignored == Some(revision) {
            return Ok(());
        }
        let Some(loading) = self.loading.as_mut().filter(|loading| loading.revision() == revision) else {
            return Err(corrupt(revision, "a chunk of a snapshot that is not open"));
        };
        loading.take(chunk).map_err(|message| {
            (self.loading, self.ignored) = (None, Some(revision));
            corrupt(revision, message)
        })
    }

    /// Closes the open snapshot; none where it was refused before.
    pub fn end(&mut self, end: SnapshotEnd) -> Result<Option<Offer>, Refusal> {
        let revision = end.revision;
        if self.ignored.take_if(|ignored| *ignored == revision).is_some() {
            return Ok(None);
        }
        let Some(loading) = self.loading.take().filter(|loading| loading.revision() == revision) else {
            return Err(corrupt(revision, "the end of a snapshot that is not open"));
        };
        let held = self.tables.clone().unwrap_or_default();
        loading.close(&held).map(Some).map_err(|message| corrupt(revision, message))
    }

    /// Takes what changed.
    pub fn delta(&mut self, delta: Delta) -> Result<Offer, Refusal> {
        let revision = delta.revision;
        let held = self.tables.clone().ok_or_else(|| corrupt(revision, "a delta before the first snapshot"))?;
        if digest_of(&delta.from_root) != Some(held.root()) {
            return Err(corrupt(revision, "a delta to another table than is held"));
        }
        let root = digest_of(&delta.root).ok_or_else(|| corrupt(revision, "the root has not 16 bytes"))?;
        let vector = SourceVector::from(delta.source_vector);
        self.guard(&self.stream_epoch, &vector, root).map_err(|message| rollback(revision, message))?;
        let changes = delta::decode(delta.codec, delta.raw_bytes, delta.ops);
        let tables = held.with(changes.map_err(|error| corrupt(revision, error))?);
        if tables.root() != root {
            return Err(corrupt(revision, "what arrived has another root than was announced"));
        }
        Ok(Offer { tables, epoch: self.stream_epoch.clone(), vector, revision, urgent: delta.urgent })
    }

    /// Takes a heartbeat: what is held may be newer than was known. Says whether it is the newest there is.
    pub fn ping(&mut self, ping: &Ping) -> bool {
        let current = self.tables.as_ref().is_some_and(|tables| digest_of(&ping.root) == Some(tables.root()));
        if current {
            self.confirm(&ping.epoch.clone(), &SourceVector::from(ping.source_vector.clone()));
        }
        current
    }

    /// What is older than what is held is refused; the same table is always welcome.
    fn guard(&self, epoch: &str, vector: &SourceVector, root: Digest) -> Result<(), String> {
        if self.tables.as_ref().is_none_or(|tables| tables.root() == root) {
            return Ok(());
        }
        if epoch == self.epoch {
            return match self.vector.regression(vector) {
                Some(regression) => Err(regression.to_string()),
                None => Ok(()),
            };
        }
        if self.former.iter().any(|former| former == epoch) {
            return Err(format!("the history `{epoch}` was left for `{}`", self.epoch));
        }
        Ok(())
    }

    /// Takes over how new the table is that is held.
    fn confirm(&mut self, epoch: &str, vector: &SourceVector) {
        self.restored = false;
        if epoch == self.epoch {
            self.vector.advance(vector);
        } else if !self.former.iter().any(|former| former == epoch) {
            if !self.epoch.is_empty() {
                self.former.push(std::mem::take(&mut self.epoch));
                self.former.drain(..self.former.len().saturating_sub(FORMER));
            }
            epoch.clone_into(&mut self.epoch);
            self.vector = vector.clone();
        }
    }

    /// Puts an offer into effect through `apply`, which does so whole or names the entries that it cannot use: these are
    /// replaced by their last good copies and `apply` is asked again. Gives what to answer.
    pub fn settle(
        &mut self,
        offer: Offer,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Result<FromClient, Refusal> {
        let Offer { tables, epoch, vector, revision, urgent } = offer;
        let root = tables.root();
        if self.root() != Some(root) {
            let held = self.tables.clone().unwrap_or_default();
            let mut draft = Draft::new(&self.decoded, &self.quarantine, &held, &tables);
            for change in tables.changes_since(&held) {
                draft.take(&change);
            }
            let update = |decoded: Decoded| {
                let Decoded { table, credentials } = decoded;
                Update { table, credentials, revision, root, urgent }
            };
            let settled = draft.settle(PASSES, &mut |decoded| apply(update(decoded)));
            let refused = |message| Refusal { revision, fault: Fault::Unusable, message };
            (self.decoded, self.quarantine) = settled.map_err(refused)?;
            self.tables = Some(tables);
            self.urgent += u64::from(urgent);
        }
        self.revision = revision;
        self.confirm(&epoch, &vector);
        Ok(self.answer(root))
    }

    /// What to answer again when other entries became unusable or usable; none before the first table.
    pub fn answer_again(&self) -> Option<FromClient> {
        self.root().map(|root| self.answer(root))
    }

    fn answer(&self, root: Digest) -> FromClient {
        let (revision, root) = (self.revision, bytes_of(&root));
        let mut rejections = self.rejections();
        if rejections.is_empty() {
            return FromClient::Ack(Ack { revision, root, apply_micros: 0 });
        }
        let message =
            format!("{} entries cannot be used; where there are last good copies, they stay", rejections.len());
        rejections.truncate(MAX_REJECTIONS);
        FromClient::Nack(Nack { revision, root, fault: Fault::None.into(), rejections, message, apply_micros: 0 })
    }

    /// What to answer when nothing was put into effect.
    pub fn nack(&self, refusal: &Refusal) -> Nack {
        Nack {
            revision: refusal.revision,
            root: self.root().as_ref().map(bytes_of).unwrap_or_default(),
            fault: refusal.fault.into(),
            rejections: Vec::new(),
            message: wire::cut(&refusal.message),
            apply_micros: 0,
        }
    }

    /// What to seal for times without an operator; none before the first table. Shares its rows.
    pub fn keep(&self, confirmed_ms: u64) -> Option<Kept> {
        let tables = self.tables.clone()?;
        let header = SealedHeader {
            schema: SCHEMA,
            epoch: self.epoch.clone(),
            source_vector: self.vector.to_wire(),
            root: bytes_of(&tables.root()),
            revision: self.revision,
            confirmed_ms,
            former_epochs: self.former.clone(),
        };
        let quarantine = |entry: (&(Number, Key), &Quarantined)| SealedQuarantine {
            good: entry.1.good.clone(),
            rejection: Some(rejection(entry)),
        };
        Some(Kept { header, urgent: self.urgent, tables, quarantine: self.quarantine.iter().map(quarantine).collect() })
    }

    /// A replica of what was sealed. Entries that could not be used are tried again: this may be a newer build.
    pub fn restore(
        header: SealedHeader,
        body: SealedBody,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Result<Self, Refusal> {
        let revision = header.revision;
        read_here(header.schema).map_err(|words| corrupt(revision, words))?;
        let rows = body.tables.into_iter().flat_map(|SealedTable { table, rows }| {
            rows.into_iter().map(move |RowItem { key, row }| Change { table, key: key.into(), row: Some(row) })
        });
        let tables = Tables::default().with(rows);
        if digest_of(&header.root) != Some(tables.root()) {
            return Err(corrupt(revision, "what was sealed has another root than was noted"));
        }
        let mut replica = Self { quarantine: draft::quarantined(body.quarantine), ..Self::default() };
        replica.former = header.former_epochs;
        let (epoch, vector) = (header.epoch, header.source_vector.into());
        replica.settle(Offer { tables, epoch, vector, revision, urgent: false }, apply)?;
        replica.restored = true;
        Ok(replica)
    }
}

fn rejection(((table, key), entry): (&(Number, Key), &Quarantined)) -> Rejection {
    Rejection { table: *table, key: key.to_string(), code: entry.code.clone(), message: wire::cut(&entry.message) }
}

fn corrupt(revision: u64, message: impl ToString) -> Refusal {
    Refusal { revision, fault: Fault::Corrupt, message: message.to_string() }
}

fn rollback(revision: u64, message: String) -> Refusal {
    Refusal { revision, fault: Fault::Rollback, message }
}
