//! What is published to the data planes of one fleet: the newest table, with bytes that all streams share.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use table::{Credentials, Digest, RoutingTable};
use tokio::sync::watch;

use crate::{
    delta::{self, EncodedOps},
    fleet::{Census, Fleet},
    parts::{self, Digests, EncodedPart, Needed},
    rows,
    tables::Tables,
    vector::SourceVector,
    wire::{FromServer, ServerMessage, SnapshotBegin, SnapshotEnd, bytes_of},
};

/// So many pairs of states keep their operations: streams that are equally far behind share them.
const DELTAS: usize = 16;

/// So many parts of one state stay packed. Streams that resume from the same state need the same parts.
const PARTS: usize = 64;

/// A change of more rows than this, and of more than a quarter of all, goes as a snapshot.
const FEW: usize = 16;

/// What to publish.
#[derive(Clone, Debug)]
pub struct Offer<'a> {
    /// A number that rises with each offer.
    pub revision: u64,
    /// The history that the source vector belongs to.
    pub epoch: &'a str,
    /// How new the sources are that the table was made of.
    pub vector: SourceVector,
    /// It takes something away that must not wait.
    pub urgent: bool,
    /// The table.
    pub table: &'a RoutingTable,
    /// The secrets beside it.
    pub credentials: &'a Credentials,
}

/// A published state.
pub struct Published {
    /// Its number.
    pub revision: u64,
    /// The history that the source vector belongs to.
    pub epoch: String,
    /// How new it is.
    pub vector: SourceVector,
    /// Its rows.
    pub tables: Tables,
    /// The newest revision up to this that was urgent; 0: none.
    pub(crate) urgent: u64,
    packed: Mutex<BTreeMap<(Needed, bool), EncodedPart>>,
}

impl Published {
    /// The digest of everything.
    pub fn root(&self) -> Digest {
        self.tables.root()
    }

    /// A part of it, packed once for all streams that need it.
    fn part(&self, needed: &Needed, zstd: bool) -> EncodedPart {
        // Held while packing: of a thousand streams that come at once, one packs and the others wait for it.
        let mut packed = self.packed.lock();
        if packed.len() >= PARTS {
            packed.clear();
        }
        let encode = || parts::encode(&self.tables, needed, zstd);
        packed.entry((needed.clone(), zstd)).or_insert_with(encode).clone()
    }

    /// The messages that bring somebody who has `held` to this state; none: whatever it has counts for nothing. Packs
    /// what was not packed before.
    pub fn snapshot(&self, held: Option<&Digests>, urgent: bool, zstd: bool, max_frame: usize) -> Vec<ServerMessage> {
        let nothing = Digests::default();
        let needed = parts::needed(held.unwrap_or(&nothing), &self.tables);
        let parts: Vec<_> = needed.iter().map(|needed| self.part(needed, zstd)).collect();
        let begin = SnapshotBegin {
            revision: self.revision,
            epoch: self.epoch.clone(),
            source_vector: self.vector.to_wire(),
            root: bytes_of(&self.root()),
            parts: parts.iter().map(|part| part.part.clone()).collect(),
            urgent,
            whole: held.is_none(),
        };
        let mut messages = vec![FromServer::Begin(begin).into()];
        for (index, part) in (0..).zip(&parts) {
            let chunks = parts::chunks(self.revision, index, &part.bytes, max_frame);
            messages.extend(chunks.map(|chunk| ServerMessage::from(FromServer::Chunk(chunk))));
        }
        messages.push(FromServer::End(SnapshotEnd { revision: self.revision }).into());
        messages
    }
}

/// Publishes to the data planes of one fleet. A handle: clones publish to the same.
#[derive(Clone)]
pub struct Publisher(Arc<Inner>);

/// A handle that does not keep what it is of: that is gone when no stream hangs on it and nobody else has it.
#[derive(Clone)]
pub struct WeakPublisher(Weak<Inner>);

impl WeakPublisher {
    /// The publisher; absent: it is gone.
    pub fn upgrade(&self) -> Option<Publisher> {
        self.0.upgrade().map(Publisher)
    }
}

/// The operations from one root to another.
type Way = ((Digest, Digest), Arc<EncodedOps>);

struct Inner {
    current: watch::Sender<Option<Arc<Published>>>,
    deltas: Mutex<VecDeque<Way>>,
    fleet: Fleet,
}

impl Default for Publisher {
    fn default() -> Self {
        Self::new()
    }
}

impl Publisher {
    /// Without a table: streams wait for the first.
    pub fn new() -> Self {
        let (current, deltas, fleet) = (watch::Sender::new(None), Mutex::default(), Fleet::default());
        Self(Arc::new(Inner { current, deltas, fleet }))
    }

    /// Publishes a table. Says whether data planes get anything new: the same rows are not sent again, only how new they
    /// are. Packs nothing; encodes all rows.
    pub fn offer(&self, offer: Offer<'_>) -> bool {
        let Offer { revision, epoch, vector, urgent, table, credentials } = offer;
        let tables = rows::encode(table, credentials);
        let mut is_new = true;
        self.0.current.send_modify(|current| {
            let before = current.as_deref();
            is_new = before.is_none_or(|before| before.tables != tables || before.epoch != epoch);
            let urgent = if urgent { revision } else { before.map_or(0, |before| before.urgent) };
            // Moved and not cloned: rows of what is held twice are not shared.
            let tables = match before {
                Some(before) => tables.sharing(&before.tables),
                None => tables,
            };
            let (epoch, packed) = (epoch.to_owned(), Mutex::default());
            *current = Some(Arc::new(Published { revision, epoch, vector, tables, urgent, packed }));
        });
        is_new
    }

    /// What was published last.
    pub fn current(&self) -> Option<Arc<Published>> {
        self.0.current.borrow().clone()
    }

    /// How many data planes hang on these streams, and what they hold.
    pub fn census(&self) -> Census {
        self.0.fleet.census(self.current().map(|current| current.root()))
    }

    /// Data planes that hang on these streams, and what they answered.
    pub fn fleet(&self) -> &Fleet {
        &self.0.fleet
    }

    /// A handle that does not keep it.
    pub fn downgrade(&self) -> WeakPublisher {
        WeakPublisher(Arc::downgrade(&self.0))
    }

    /// Whether the other handle is of the same publisher.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Option<Arc<Published>>> {
        self.0.current.subscribe()
    }

    /// The operations between two states, packed once for all streams; none where a snapshot is the shorter way.
    pub fn ops(&self, from: &Published, to: &Published, zstd: bool, max_frame: usize) -> Option<Arc<EncodedOps>> {
        let pair = (from.root(), to.root());
        let mut deltas = self.0.deltas.lock();
        let known = deltas.iter().find(|(key, ops)| *key == pair && (zstd || ops.is_plain()));
        let ops = match known {
            Some((_, ops)) => ops.clone(),
            None => {
                let changes = to.tables.changes_since(&from.tables);
                if changes.len() > FEW.max(to.tables.rows() / 4) {
                    return None;
                }
                let ops = Arc::new(delta::encode(changes, zstd));
                deltas.truncate(DELTAS - 1);
                deltas.push_front((pair, ops.clone()));
                ops
            }
        };
        (ops.bytes.len() <= max_frame && ops.raw_bytes <= delta::MAX_BYTES).then_some(ops)
    }
}
