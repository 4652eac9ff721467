//! What to send next on one stream. Knows what the client has and what is on its way, keeps at most one unacknowledged
//! change there (two where the second is urgent), and never sends what the client would refuse as older. No I/O.

use std::{collections::VecDeque, sync::Arc};

use table::Digest;

use crate::{
    delta::EncodedOps,
    parts::Digests,
    publisher::Published,
    vector::{Regression, SourceVector},
    wire::{Ack, Codec, Delta, Fault, FromServer, Hello, Nack, Ping, Resume, ServerMessage, bytes_of, digest_of},
};

/// Damaged arrivals in a row after which the stream is given up.
const DAMAGED: u32 = 3;

/// What a client has.
#[derive(Clone)]
enum Base {
    /// What that is cannot be relied upon.
    Unknown,
    /// What it named at the beginning.
    Named { digests: Digests, root: Option<Digest> },
    /// What it acknowledged.
    At(Arc<Published>),
}

/// What a client could not put into effect.
struct Refused {
    root: Digest,
    /// The history and how new it was, where that was the reason.
    sources: Option<(String, SourceVector)>,
}

impl Refused {
    fn is(&self, published: &Published) -> bool {
        let is_as_new =
            |(epoch, vector): &(String, SourceVector)| *epoch == published.epoch && *vector == published.vector;
        self.root == published.root() && self.sources.as_ref().is_none_or(is_as_new)
    }
}

/// What to do now.
pub enum Plan {
    /// Nothing.
    Wait,
    /// Nothing: the client has seen newer sources than we have.
    Ahead(Regression),
    /// Send this message.
    Delta(ServerMessage),
    /// Send what makes somebody with these digests have the current state.
    Snapshot {
        /// What the client has; none: everything is sent.
        held: Option<Digests>,
        /// Something is taken away that must not wait.
        urgent: bool,
    },
}

/// The stream was given up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{DAMAGED} snapshots in a row arrived damaged")]
pub struct GivenUp;

/// The state of one stream.
pub struct Session {
    base: Base,
    in_flight: VecDeque<Arc<Published>>,
    /// The history and the sources that the client has seen.
    seen: (String, SourceVector),
    /// What the client could not put into effect: it is not sent again.
    refused: Option<Refused>,
    damaged: u32,
    pings: u64,
    zstd: bool,
}

impl Session {
    /// The state of a stream that was just opened.
    pub fn open(hello: &Hello) -> Self {
        let named = |resume: &Resume| Base::Named {
            digests: Digests::from_wire(&resume.tables),
            root: digest_of(&resume.root),
        };
        let base = hello.resume.as_ref().map_or(Base::Unknown, named);
        let resume = hello.resume.clone().unwrap_or_default();
        Self {
            base,
            in_flight: VecDeque::new(),
            seen: (resume.epoch, resume.source_vector.into()),
            refused: None,
            damaged: 0,
            pings: 0,
            zstd: hello.codecs.contains(&Codec::Zstd.into()),
        }
    }

    /// Whether the client reads packed bytes.
    pub fn reads_zstd(&self) -> bool {
        self.zstd
    }

    /// What to do now that `current` is the newest. `ops` gives the way from one state to another, if it is short.
    pub fn plan(
        &mut self,
        current: &Arc<Published>,
        ops: impl FnOnce(&Published, &Published) -> Option<Arc<EncodedOps>>,
    ) -> Plan {
        if self.refused.as_ref().is_some_and(|refused| refused.is(current)) || !self.has_room(current) {
            return Plan::Wait;
        }
        if let Some(regression) = self.ahead_of(current) {
            return Plan::Ahead(regression);
        }
        let from = match self.in_flight.back() {
            Some(published) => published.clone(),
            None => match &self.base {
                Base::At(published) => published.clone(),
                // What it has missed is not known, so neither is whether something was taken away.
                Base::Named { digests, .. } => return Plan::Snapshot { held: Some(digests.clone()), urgent: true },
                Base::Unknown => return Plan::Snapshot { held: None, urgent: false },
            },
        };
        if from.root() == current.root() && from.epoch == current.epoch {
            if self.in_flight.is_empty() {
                self.base = Base::At(current.clone());
            }
            return Plan::Wait;
        }
        let urgent = current.urgent > from.revision;
        let ops = if from.epoch == current.epoch { ops(&from, current) } else { None };
        match ops {
            Some(ops) => Plan::Delta(self.delta(&from, current, &ops, urgent)),
            // What is on its way may yet be refused, so the digests of the next state are not known.
            None if !self.in_flight.is_empty() => Plan::Wait,
            None => Plan::Snapshot { held: Some(Digests::of(&from.tables)), urgent },
        }
    }

    fn has_room(&self, current: &Published) -> bool {
        match self.in_flight.len() {
            0 => true,
            1 => current.urgent > self.in_flight[0].revision,
            _ => false,
        }
    }

    fn ahead_of(&self, current: &Published) -> Option<Regression> {
        let root = match &self.base {
            Base::Unknown => None,
            Base::Named { root, .. } => *root,
            Base::At(published) => Some(published.root()),
        };
        let (epoch, vector) = &self.seen;
        if root? == current.root() || *epoch != current.epoch { None } else { vector.regression(&current.vector) }
    }

    fn delta(&self, from: &Published, to: &Published, ops: &EncodedOps, urgent: bool) -> ServerMessage {
        let delta = Delta {
            revision: to.revision,
            from_root: bytes_of(&from.root()),
            root: bytes_of(&to.root()),
            source_vector: to.vector.moved_since(&self.seen.1).to_wire(),
            urgent,
            codec: ops.codec.into(),
            raw_bytes: u32::try_from(ops.raw_bytes).expect("deltas are bounded"),
            ops: ops.bytes.clone(),
        };
        FromServer::Delta(delta).into()
    }

    /// A state is on its way.
    pub fn sent(&mut self, published: Arc<Published>) {
        self.in_flight.push_back(published);
    }

    /// Whether something is on its way and not answered.
    pub fn is_waiting(&self) -> bool {
        !self.in_flight.is_empty()
    }

    /// The client has a revision in effect. False where it was not on its way.
    pub fn on_ack(&mut self, ack: &Ack) -> bool {
        self.arrived(ack.revision)
    }

    /// Whether the client has, and is known to have, what this is the root of: then it may answer again what of it cannot
    /// be used.
    pub fn holds(&self, root: &[u8]) -> bool {
        matches!(&self.base, Base::At(published) if digest_of(root) == Some(published.root()))
    }

    fn arrived(&mut self, revision: u64) -> bool {
        let Some(index) = self.in_flight.iter().position(|published| published.revision == revision) else {
            return false;
        };
        let published = self.in_flight.drain(..=index).next_back().expect("at least one was in flight");
        self.saw(&published);
        self.base = Base::At(published);
        (self.refused, self.damaged) = (None, 0);
        true
    }

    fn saw(&mut self, published: &Published) {
        if self.seen.0 == published.epoch {
            self.seen.1.advance(&published.vector);
        } else {
            self.seen = (published.epoch.clone(), published.vector.clone());
        }
    }

    /// The client has not, or not wholly, a revision in effect. False where it was not on its way. Errs when the stream
    /// is of no use.
    pub fn on_nack(&mut self, nack: &Nack) -> Result<bool, GivenUp> {
        let revision = nack.revision;
        let Some(published) = self.in_flight.iter().find(|published| published.revision == revision).cloned() else {
            return Ok(false);
        };
        match nack.fault() {
            Fault::None => return Ok(self.arrived(revision)),
            Fault::Rollback => {
                let sources = Some((published.epoch.clone(), published.vector.clone()));
                self.refused = Some(Refused { root: published.root(), sources });
            }
            Fault::Unusable => self.refused = Some(Refused { root: published.root(), sources: None }),
            Fault::Corrupt => {
                self.damaged += 1;
                self.base = Base::Unknown;
                if self.damaged >= DAMAGED {
                    return Err(GivenUp);
                }
            }
        }
        // What was sent after it was made for a client that has it.
        self.in_flight.clear();
        Ok(true)
    }

    /// A heartbeat; tells how new the state is that the client has.
    pub fn ping(&mut self) -> ServerMessage {
        self.pings += 1;
        let mut ping = Ping { number: self.pings, ..Ping::default() };
        if let (Base::At(published), true) = (&self.base, self.in_flight.is_empty()) {
            let published = published.clone();
            ping.epoch.clone_from(&published.epoch);
            ping.root = bytes_of(&published.root());
            ping.source_vector = published.vector.to_wire();
            self.saw(&published);
        }
        FromServer::Ping(ping).into()
    }
}
