//! Puts an update into effect, or names its entries that this data plane cannot use. Files and variables with credentials
//! are not judged here: they are this machine's, and may be right a moment later.

use feed::{
    replica::{Refused, Update},
    rows::Kind,
};
use table::{Credential, Credentials, ObjectRef};

use crate::{
    relay::Relay,
    upstream::credentials::{CredentialError, HostSecret},
};

/// Puts an update into effect whole, or names entries and puts nothing into effect.
pub(super) fn apply(relay: &Relay, update: Update) -> Result<(), Vec<Refused>> {
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
        return Ok(());
    }
    Err(refused)
}

/// Credentials that no header can carry.
fn unsendable(credentials: &Credentials) -> Vec<Refused> {
    let fault = |credential: &Credential| -> Option<CredentialError> {
        match credential {
            Credential::Value(secret) => HostSecret::new(secret.expose()).err(),
            Credential::File(_) | Credential::Env(_) => None,
        }
    };
    let refused = credentials.host_keys.iter().filter_map(|(key, credential)| Some((key, fault(credential)?)));
    refused.map(|(key, error)| entry(Kind::Credentials, key, "credential-unusable", error.to_string())).collect()
}

fn entry(kind: Kind, key: &ObjectRef, code: &str, message: String) -> Refused {
    Refused { kind, key: key.to_string(), code: code.to_owned(), message }
}
