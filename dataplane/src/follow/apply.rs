//! Puts an update into effect, or names its entries that this data plane cannot use. Files and variables with credentials,
//! and keys of sealed ones, are this machine's, and may be right a moment later: entries that need them are put into effect
//! and named for as long as they cannot be used.

use std::sync::Arc;

use feed::{
    replica::{Refused, Update},
    rows::Kind,
};
use table::{Credential, Credentials, ObjectRef};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    relay::Relay,
    upstream::credentials::{CredentialError, HostSecret},
};

/// Puts an update into effect whole, or names entries and puts nothing into effect.
pub(super) fn apply(relay: &Relay, update: Update, told: &watch::Sender<Vec<Refused>>) -> Result<(), Vec<Refused>> {
    let Update { table, credentials, .. } = update;
    let mut refused = unsendable(&credentials);
    for (host, reason) in relay.unreachable(&table, &credentials) {
        let has_certificate = credentials.client_certificates.contains_key(&host);
        refused.push(if has_certificate && relay.reaches_without_certificate(&table, &host) {
            entry(Kind::ClientCertificates, &host, "certificate-unusable", reason)
        } else {
            entry(Kind::Hosts, &host, "host-unusable", reason)
        });
    }
    if refused.is_empty() {
        relay.install(table, credentials);
        tell(relay, told);
        return Ok(());
    }
    Err(refused)
}

/// Credentials that no header can carry.
fn unsendable(credentials: &Credentials) -> Vec<Refused> {
    let fault = |credential: &Credential| -> Option<CredentialError> {
        match credential {
            Credential::Value(secret) => HostSecret::new(secret.expose()).err(),
            Credential::File(_) | Credential::Env(_) | Credential::Sealed(_) => None,
        }
    };
    let refused = credentials.host_keys.iter().filter_map(|(key, credential)| Some((key, fault(credential)?)));
    refused.map(|(key, error)| unusable(key, &error)).collect()
}

/// Names the credentials in effect that cannot be used here at the moment, where they are others than before.
pub(super) fn tell(relay: &Relay, told: &watch::Sender<Vec<Refused>>) {
    // Asked for while nobody else can tell, so that what is told last is what holds.
    told.send_if_modified(|told| {
        let now: Vec<_> = relay.credential_faults().iter().map(|(key, error)| unusable(key, error)).collect();
        let is_news = *told != now;
        *told = now;
        is_news
    });
}

/// Tells whenever credentials change, until `stop`.
pub(super) async fn watch(relay: Arc<Relay>, told: watch::Sender<Vec<Refused>>, stop: CancellationToken) {
    let mut changes = relay.credential_changes();
    while let Some(Ok(())) = stop.run_until_cancelled(changes.changed()).await {
        tell(&relay, &told);
    }
}

fn unusable(key: &ObjectRef, error: &CredentialError) -> Refused {
    entry(Kind::Credentials, key, "credential-unusable", error.to_string())
}

fn entry(kind: Kind, key: &ObjectRef, code: &str, message: String) -> Refused {
    Refused { kind, key: key.to_string(), code: code.to_owned(), message }
}
