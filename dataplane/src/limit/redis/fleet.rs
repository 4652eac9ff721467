//! What is known of the fleet's host keys: translates between breakers of this process and the records that all
//! processes keep in Redis, and says what has to be told and what was heard.
//!
//! A record is kept under the namespace of the host key, so that the call that decides a request of that namespace reads
//! it too. Processes that found different things without knowing of each other agree: whoever hears what is less than it
//! knows tells again. Whether a host can be reached at all is not shared: what one process cannot reach another may.

mod board;
pub mod probes;
mod record;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::info;

use self::{board::Board, record::Record};
use super::clock::RedisClock;
use crate::{
    heal::{
        Ward,
        peers::{Probe, Purpose},
    },
    limit::{claims::BreakerClaim, window::Millis},
    pool::{news::Turn, signals::Signals},
    upstream::credentials::KeyHash,
};

/// What is missing in Redis is told again if it is not older, in milliseconds. Shorter than `breakers.lua` keeps it: what
/// was forgotten there must not come back.
const RETOLD: Millis = 12 * 60 * 60 * 1000;

/// News of the breakers of a namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct News {
    /// Outgoing: the last version that was heard of. Incoming: the present one.
    pub version: u64,
    /// Outgoing: records to write, by field. Incoming: all of them if the version is another, or none.
    pub records: Vec<(String, String)>,
}

/// What is known of the fleet's host keys.
pub struct Fleet {
    signals: Arc<Signals>,
    clock: Arc<RedisClock>,
    board: Mutex<Board>,
}

/// The field under which a key's record is kept.
pub fn field(key: KeyHash) -> String {
    hex::encode(key.as_bytes())
}

impl Fleet {
    /// Nothing is known; `signals` are those that requests and probes of this process use.
    pub fn new(signals: Arc<Signals>, clock: Arc<RedisClock>) -> Self {
        Self { signals, clock, board: Mutex::default() }
    }

    /// Takes in all keys of the current table; only of these is anything told or heard.
    pub fn know(&self, wards: &[Ward]) {
        self.board.lock().know(wards);
    }

    /// The namespaces of these keys: of each there may be news.
    pub fn domains(&self) -> Vec<String> {
        self.board.lock().domains().cloned().collect()
    }

    /// Resolves when this process has found something that others should know soon.
    pub async fn turned(&self) {
        self.signals.news().await;
    }

    /// What an exchange about a namespace has to tell. It is told until an exchange has heard it back, so that nothing is
    /// lost where one fails.
    pub fn outgoing(&self, domain: &str) -> News {
        let mut board = self.board.lock();
        for key in board.keys(domain) {
            self.gather(&mut board, key);
        }
        let told = |(key, record): (KeyHash, Record)| (field(key), record.to_string());
        News { version: board.version(domain), records: board.pending(domain).into_iter().map(told).collect() }
    }

    /// What an exchange about a namespace has heard.
    pub fn incoming(&self, domain: &str, news: &News) {
        let mut board = self.board.lock();
        if news.version == board.version(domain) {
            return;
        }
        let heard: HashMap<_, _> = news.records.iter().map(|(field, record)| (&**field, &**record)).collect();
        for key in board.keys(domain) {
            match heard.get(&*field(key)) {
                Some(record) => self.hear(&mut board, domain, key, record),
                None => board.missing(domain, key, self.clock.millis().saturating_sub(RETOLD)),
            }
        }
        board.heard_all(domain, news.version);
    }

    /// A call that decided a request met the key out; `class` as it stands in the record.
    pub fn heard(&self, breaker: &BreakerClaim, class: &str, until: Millis) {
        let record = format!("o {until} {class}");
        self.hear(&mut self.board.lock(), &breaker.domain, breaker.key, &record);
    }

    /// What processes that want to send the same probe all call it: an opening is probed by one of them.
    pub fn probe_name(&self, probe: &Probe) -> String {
        let key = field(probe.key);
        match probe.purpose {
            Purpose::Check => format!("{key}:check"),
            Purpose::Heal => {
                let mut board = self.board.lock();
                self.gather(&mut board, probe.key);
                let opening = match board.record(&probe.domain, probe.key) {
                    Some(Record::Opened { until, .. }) => until,
                    Some(Record::Closed { .. }) | None => 0,
                };
                format!("{key}:{opening}")
            }
        }
    }

    /// Takes in what this process found of a key.
    fn gather(&self, board: &mut Board, key: KeyHash) {
        if let Some(turn) = self.signals.key(key).take_news() {
            board.found(key, self.record(turn));
        }
    }

    /// Takes in what others found of a key.
    fn hear(&self, board: &mut Board, domain: &str, key: KeyHash, record: &str) {
        let Some(heard) = Record::read(record) else { return };
        loop {
            self.gather(board, key);
            let known = board.record(domain, key);
            let Some(joined) = board.joined(domain, key, heard) else { return };
            // Should this process find something at this very moment, that comes first.
            if known == Some(joined) || self.signals.key(key).adopt(self.turn(joined), now()) {
                board.stands(domain, key, joined, heard);
                tell(board, key, known, joined);
                return;
            }
        }
    }

    fn record(&self, turn: Turn) -> Record {
        match turn {
            Turn::Opened { class, at, until } => {
                Record::Opened { at: self.millis(at), until: self.millis(until), class }
            }
            Turn::Closed { at } => Record::Closed { at: self.millis(at) },
        }
    }

    fn turn(&self, record: Record) -> Turn {
        let instant = |millis| self.clock.instant(millis).into_std();
        match record {
            Record::Opened { at, until, class } => Turn::Opened { class, at: instant(at), until: instant(until) },
            Record::Closed { at } => Turn::Closed { at: instant(at) },
        }
    }

    /// How late it is in Redis at a moment of this process.
    fn millis(&self, at: Instant) -> Millis {
        let (now, then) = (now(), self.clock.millis());
        let whole = |span: Duration| Millis::try_from(span.as_millis()).unwrap_or(Millis::MAX);
        match at.checked_duration_since(now) {
            Some(ahead) => then.saturating_add(whole(ahead)),
            None => then.saturating_sub(whole(now.saturating_duration_since(at))),
        }
    }
}

/// Says in the log what others found.
fn tell(board: &Board, key: KeyHash, known: Option<Record>, joined: Record) {
    let Some(name) = board.name(key) else { return };
    match (known, joined) {
        (Some(Record::Opened { .. }), Record::Closed { .. }) => {
            info!(host_key = %name, "host key `{name}` is back: another data plane found it well");
        }
        (None | Some(Record::Closed { .. }), Record::Opened { class, .. }) => {
            info!(host_key = %name, reason = ?class, "host key `{name}` is taken out: another data plane found it failing");
        }
        (Some(Record::Opened { .. }), Record::Opened { .. })
        | (None | Some(Record::Closed { .. }), Record::Closed { .. }) => {}
    }
}

fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
