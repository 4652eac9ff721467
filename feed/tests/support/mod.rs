//! What several test files build: tables, and their publication.

use feed::{
    publisher::{Offer, Publisher},
    rows::Decoded,
};
use table::{Credential, Credentials, Digest, Limits, ObjectRef, RelayKey, RoutingTable, Row, Secret};

/// A relay key as compiled, of the token hash that `value` stands for.
pub(crate) fn relay_key(value: u64) -> RelayKey {
    RelayKey {
        token_sha256: ["one half", "the other"].map(|half| Digest::of(&(half, value)).to_string()).concat(),
        previous: None,
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
