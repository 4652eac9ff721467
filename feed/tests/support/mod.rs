//! What several test files build: tables, and a stream in process without a connection.

use std::sync::Arc;

use feed::{
    publisher::{Offer, Published, Publisher},
    replica::{Refusal, Refused, Replica, Update},
    rows::Decoded,
    session::{Plan, Session},
    wire::{Codec, FromClient, FromServer, Hello, ServerMessage},
};
use table::{Credential, Credentials, Limits, ObjectRef, RelayKey, RoutingTable, Row, Secret};

/// A relay key as compiled, of the token hash that `value` stands for.
pub(crate) fn relay_key(value: u64) -> RelayKey {
    RelayKey {
        token_sha256: format!("{:064x}", u128::from(value).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)),
        policies: vec![ObjectRef::new("team", "default")],
        expires_at: None,
        revoked: false,
        suspended: false,
        limits: Limits { rpm: Some(600), ..Limits::default() },
        budget: None,
        allowed_cidrs: Vec::new(),
        attributes: [("team".to_owned(), format!("team-{}", value % 40))].into(),
        unusable: None,
    }
}

/// A table with relay keys of these names and values.
pub(crate) fn keys(keys: impl IntoIterator<Item = (u64, u64)>) -> Decoded {
    let mut decoded = Decoded::default();
    for (name, value) in keys {
        decoded.table.relay_keys.insert(ObjectRef::new("team", format!("key-{name}")), Row::Usable(relay_key(value)));
    }
    decoded
}

/// A credential of this name and value beside the table.
pub(crate) fn with_credential(mut decoded: Decoded, name: u64, value: u64) -> Decoded {
    let secret = Credential::Value(Secret::new(format!("sk-canary-{value}")));
    decoded.credentials.host_keys.insert(ObjectRef::new("team", format!("host-key-{name}")), secret);
    decoded
}

/// Publishes a table whose sources are at `version`.
pub(crate) fn offer(publisher: &Publisher, revision: u64, version: u64, decoded: &Decoded) -> bool {
    offer_in("epoch", publisher, revision, version, false, decoded)
}

/// As [`offer`], in a history, and urgent or not.
pub(crate) fn offer_in(
    epoch: &str,
    publisher: &Publisher,
    revision: u64,
    version: u64,
    urgent: bool,
    of: &Decoded,
) -> bool {
    let (table, credentials): (&RoutingTable, &Credentials) = (&of.table, &of.credentials);
    let vector = [("relaykeys", version)].into_iter().collect();
    publisher.offer(Offer { revision, epoch, vector, urgent, table, credentials })
}

/// Takes everything.
pub(crate) fn content(_: Update) -> Result<(), Vec<Refused>> {
    Ok(())
}

/// A stream between a publisher and a replica, message by message.
pub(crate) struct Line {
    pub(crate) publisher: Publisher,
    pub(crate) session: Session,
    pub(crate) max_frame: usize,
    /// Messages that were sent and not yet delivered.
    pub(crate) on_the_way: std::collections::VecDeque<ServerMessage>,
}

impl Line {
    pub(crate) fn open(publisher: &Publisher, replica: &mut Replica, zstd: bool, max_frame: usize) -> Self {
        let codecs = if zstd { vec![Codec::Zstd.into()] } else { Vec::new() };
        let hello = Hello { resume: replica.resume(), codecs, ..Hello::default() };
        let (publisher, session) = (publisher.clone(), Session::open(&hello));
        Self { publisher, session, max_frame, on_the_way: Default::default() }
    }

    /// Sends what the session plans; says whether that was anything.
    pub(crate) fn send(&mut self) -> bool {
        let Some(current) = self.publisher.current() else { return false };
        match self.plan(&current) {
            Plan::Wait | Plan::Ahead(_) => return false,
            Plan::Delta(message) => self.on_the_way.push_back(message),
            Plan::Snapshot { held, urgent } => {
                let messages = current.snapshot(held.as_ref(), urgent, self.session.reads_zstd(), self.max_frame);
                self.on_the_way.extend(messages);
            }
        }
        self.session.sent(current);
        true
    }

    pub(crate) fn plan(&mut self, current: &Arc<Published>) -> Plan {
        let (publisher, zstd, max_frame) = (self.publisher.clone(), self.session.reads_zstd(), self.max_frame);
        self.session.plan(current, |from, to| publisher.ops(from, to, zstd, max_frame))
    }

    /// Delivers one message and its answer.
    pub(crate) fn deliver(
        &mut self,
        replica: &mut Replica,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Option<FromClient> {
        let message = self.on_the_way.pop_front()?;
        let answer = receive(replica, message, apply)?;
        match &answer {
            FromClient::Ack(ack) => drop(self.session.on_ack(ack)),
            FromClient::Nack(nack) => drop(self.session.on_nack(nack).unwrap()),
            other => panic!("{other:?} is no answer"),
        }
        Some(answer)
    }

    /// Delivers everything until nothing more is sent; gives the answers.
    pub(crate) fn settle(
        &mut self,
        replica: &mut Replica,
        apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
    ) -> Vec<FromClient> {
        let mut answers = Vec::new();
        loop {
            self.send();
            if self.on_the_way.is_empty() {
                return answers;
            }
            answers.extend(self.deliver(replica, apply));
        }
    }
}

/// What a replica answers to a message.
pub(crate) fn receive(
    replica: &mut Replica,
    message: ServerMessage,
    apply: &mut dyn FnMut(Update) -> Result<(), Vec<Refused>>,
) -> Option<FromClient> {
    let answered = match message.kind.unwrap() {
        FromServer::Begin(begin) => replica.begin(begin).map(|()| None),
        FromServer::Chunk(chunk) => replica.chunk(chunk).map(|()| None),
        FromServer::End(end) => match replica.end(end) {
            Ok(Some(offer)) => replica.settle(offer, apply).map(Some),
            Ok(None) => Ok(None),
            Err(refusal) => Err(refusal),
        },
        FromServer::Delta(delta) => replica.delta(delta).and_then(|offer| replica.settle(offer, apply)).map(Some),
        FromServer::Ping(ping) => {
            replica.ping(&ping);
            Ok(None)
        }
        FromServer::Welcome(_) | FromServer::Rebalance(_) => Ok(None),
    };
    answered.unwrap_or_else(|refusal: Refusal| Some(FromClient::Nack(replica.nack(&refusal))))
}
