//! How the feed stands, for the admin port: where the table comes from, how long ago it was confirmed, and what could not
//! be used.

use std::time::{Duration, SystemTime};

use feed::{client::State, rows::Kind, wire::Rejection};
use serde_json::{Value, json};
use tokio::sync::watch;

/// How the feed stands, now and later.
#[derive(Clone, Debug)]
pub struct Standing {
    state: watch::Receiver<State>,
    /// Copies of the last good table that were not used at the start, and why.
    refused: Vec<String>,
    /// No table is served that was confirmed longer ago, unless the fleet says otherwise.
    most: Option<Duration>,
}

impl Standing {
    pub(super) fn new(state: watch::Receiver<State>, refused: Vec<String>, most: Option<Duration>) -> Self {
        Self { state, refused, most }
    }

    /// How long ago an operator said that the table in effect is the newest; none: there was no table yet.
    pub fn age(&self) -> Option<Duration> {
        let confirmed = self.state.borrow().confirmed?;
        Some(SystemTime::now().duration_since(confirmed).unwrap_or_default())
    }

    /// Whether the table in effect is older than the settings allow. `fleet` is what its DataPlane says.
    pub fn is_too_old(&self, fleet: Option<Duration>) -> bool {
        most(fleet, self.most).is_some_and(|most| self.age().is_some_and(|age| age > most))
    }

    /// For people and scripts. Holds no secret.
    pub fn to_json(&self, fleet: Option<Duration>) -> Vec<u8> {
        let age = self.age().map(|age| age.as_secs());
        let state = self.state.borrow();
        let value = json!({
            "operator": state.server,
            "root": state.root.map(|root| root.to_string()),
            "revision": state.revision,
            "stale": is_stale(&state),
            "restored": state.restored,
            "ageSeconds": age,
            "maxStalenessSeconds": most(fleet, self.most).map(|most| most.as_secs()),
            "rejections": state.rejections.iter().map(rejection).collect::<Vec<_>>(),
            "trouble": state.trouble,
            "refusedCopies": self.refused,
            "streams": state.streams,
            "snapshots": state.snapshots,
            "snapshotRows": state.snapshot_rows,
            "deltas": state.deltas,
        });
        serde_json::to_vec_pretty(&value).unwrap_or_else(|error| error.to_string().into_bytes())
    }
}

/// How old a table may be: as the DataPlane of the fleet says, and else as the flag does.
pub(super) fn most(fleet: Option<Duration>, flag: Option<Duration>) -> Option<Duration> {
    fleet.or(flag)
}

/// Whether nobody says at the moment that the table in effect is the newest.
fn is_stale(state: &State) -> bool {
    state.root.is_some() && (state.restored || state.server.is_none())
}

fn rejection(rejection: &Rejection) -> Value {
    let Rejection { table, key, code, message } = rejection;
    json!({"table": Kind::of(*table).map(Kind::as_str), "key": key, "code": code, "message": message})
}

/// How long before `now` a moment was, given in milliseconds since 1970; zero where it is to come.
pub(super) fn age_of(millis: u64, now: SystemTime) -> Duration {
    now.duration_since(SystemTime::UNIX_EPOCH + Duration::from_millis(millis)).unwrap_or_default()
}
