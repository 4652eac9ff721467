//! What rows mean: a routing table and its credentials as rows of JSON, and back, row by row.
//!
//! JSON, because both sides may be of different versions: unknown fields are passed over and a row that cannot be read
//! costs only itself. It packs well.

use std::str::FromStr;

use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use table::{ClientCertificate, Credential, Credentials, ObjectRef, RoutingTable, Row, Rows, Sealed, Secret};

use crate::{
    tables::{Key, Number, Tables},
    wire::SealedBody,
};

/// The tables that this version knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// One row, under [`SETTINGS_KEY`].
    Settings,
    /// Upstream API surfaces.
    Hosts,
    /// Public model ids.
    Models,
    /// Provider credentials, without the credential.
    HostKeys,
    /// Bearer tokens of applications, by hash.
    RelayKeys,
    /// What relay keys may reach.
    Policies,
    /// Secrets, by host key.
    Credentials,
    /// Certificates that Relay shows, with their keys, by host.
    ClientCertificates,
}

/// The key of the one row of [`Kind::Settings`].
pub const SETTINGS_KEY: &str = "settings";

impl Kind {
    /// All tables.
    pub const ALL: [Kind; 8] = [
        Kind::Settings,
        Kind::Hosts,
        Kind::Models,
        Kind::HostKeys,
        Kind::RelayKeys,
        Kind::Policies,
        Kind::Credentials,
        Kind::ClientCertificates,
    ];

    /// As it travels. Never 0; a number once given is never given to another table.
    pub const fn number(self) -> Number {
        match self {
            Kind::Settings => 1,
            Kind::Hosts => 2,
            Kind::Models => 3,
            Kind::HostKeys => 4,
            Kind::RelayKeys => 5,
            Kind::Policies => 6,
            Kind::Credentials => 7,
            Kind::ClientCertificates => 8,
        }
    }

    /// The table of a number, if this version knows it.
    pub fn of(number: Number) -> Option<Kind> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// For people.
    pub const fn as_str(self) -> &'static str {
        match self {
            Kind::Settings => "settings",
            Kind::Hosts => "hosts",
            Kind::Models => "models",
            Kind::HostKeys => "host keys",
            Kind::RelayKeys => "relay keys",
            Kind::Policies => "policies",
            Kind::Credentials => "credentials",
            Kind::ClientCertificates => "client certificates",
        }
    }

    const fn is_secret(self) -> bool {
        matches!(self, Kind::Credentials | Kind::ClientCertificates)
    }
}

/// A row that this version cannot read. Holds nothing of a secret row.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the row cannot be read: {0}")]
pub struct Unreadable(String);

/// A credential as it travels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum CredentialRow<T> {
    Value(T),
    File(T),
    Env(T),
    Sealed(SealedRow<T>),
}

/// A sealed credential as it travels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct SealedRow<T> {
    host: ObjectRef,
    key_id: T,
    wrapped_key: T,
    nonce: T,
    ciphertext: T,
}

/// A client certificate as it travels.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CertificateRow<T> {
    chain_pem: T,
    key_pem: T,
}

/// A routing table and its credentials as rows. Equal inputs give equal bytes.
pub fn encode(table: &RoutingTable, credentials: &Credentials) -> Tables {
    let RoutingTable { settings, hosts, models, host_keys, relay_keys, policies } = table;
    let Credentials { host_keys: secrets, client_certificates } = credentials;
    let mut rows = vec![(Kind::Settings.number(), Key::from(SETTINGS_KEY), json(settings))];
    put_all(Kind::Hosts, hosts, &mut rows);
    put_all(Kind::Models, models, &mut rows);
    put_all(Kind::HostKeys, host_keys, &mut rows);
    put_all(Kind::RelayKeys, relay_keys, &mut rows);
    put_all(Kind::Policies, policies, &mut rows);
    for (key, credential) in secrets {
        rows.push((Kind::Credentials.number(), key.to_string().into(), json(&credential_row(credential))));
    }
    for (host, ClientCertificate { chain_pem, key_pem }) in client_certificates {
        let row = CertificateRow { chain_pem: chain_pem.as_str(), key_pem: key_pem.expose().as_str() };
        rows.push((Kind::ClientCertificates.number(), host.to_string().into(), json(&row)));
    }
    Tables::of(rows)
}

/// Bytes that almost every row fits into.
const ROOM: usize = 1024;

fn put_all<T: Serialize>(kind: Kind, from: &Rows<T>, rows: &mut Vec<(Number, Key, Bytes)>) {
    rows.extend(from.iter().map(|(key, row)| (kind.number(), key.to_string().into(), json(row))));
}

fn json(row: &impl Serialize) -> Bytes {
    let mut json = Vec::with_capacity(ROOM);
    serde_json::to_writer(&mut json, row).expect("rows have string keys and no failing serializer");
    // Tens of thousands are held, so none keeps room that it does not need.
    Bytes::copy_from_slice(&json)
}

fn credential_row(credential: &Credential) -> CredentialRow<&str> {
    match credential {
        Credential::Value(value) => CredentialRow::Value(value.expose()),
        Credential::File(path) => CredentialRow::File(path),
        Credential::Env(name) => CredentialRow::Env(name),
        Credential::Sealed(Sealed { host, key_id, wrapped_key, nonce, ciphertext }) => {
            CredentialRow::Sealed(SealedRow { host: host.clone(), key_id, wrapped_key, nonce, ciphertext })
        }
    }
}

fn credential(row: CredentialRow<String>) -> Credential {
    match row {
        CredentialRow::Value(value) => Credential::Value(Secret::new(value)),
        CredentialRow::File(path) => Credential::File(path),
        CredentialRow::Env(name) => Credential::Env(name),
        CredentialRow::Sealed(SealedRow { host, key_id, wrapped_key, nonce, ciphertext }) => {
            Credential::Sealed(Sealed { host, key_id, wrapped_key, nonce, ciphertext })
        }
    }
}

/// What a sealed copy says of its whole fleet, before it is put into effect. Absent: it says nothing that can be read.
pub fn sealed_settings(body: &SealedBody) -> Option<table::Settings> {
    let table = body.tables.iter().find(|table| table.table == Kind::Settings.number())?;
    let item = table.rows.iter().find(|item| item.key == SETTINGS_KEY)?;
    read(Kind::Settings, &item.row).ok()
}

/// What rows were read into.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decoded {
    /// The routing table.
    pub table: RoutingTable,
    /// The credentials beside it.
    pub credentials: Credentials,
}

impl Decoded {
    /// Reads a row into its place. Leaves the place as it was where the row cannot be read.
    pub fn put(&mut self, kind: Kind, key: &str, row: &[u8]) -> Result<(), Unreadable> {
        match kind {
            Kind::Settings => self.table.settings = read(kind, row)?,
            Kind::Hosts => put(&mut self.table.hosts, kind, key, row)?,
            Kind::Models => put(&mut self.table.models, kind, key, row)?,
            Kind::HostKeys => put(&mut self.table.host_keys, kind, key, row)?,
            Kind::RelayKeys => put(&mut self.table.relay_keys, kind, key, row)?,
            Kind::Policies => put(&mut self.table.policies, kind, key, row)?,
            Kind::Credentials => {
                let credential = credential(read(kind, row)?);
                self.credentials.host_keys.insert(reference(key)?, credential);
            }
            Kind::ClientCertificates => {
                let CertificateRow { chain_pem, key_pem } = read(kind, row)?;
                let certificate = ClientCertificate { chain_pem, key_pem: Secret::new(key_pem) };
                self.credentials.client_certificates.insert(reference(key)?, certificate);
            }
        }
        Ok(())
    }

    /// Takes a row out of its place.
    pub fn remove(&mut self, kind: Kind, key: &str) {
        let Ok(id) = reference(key) else {
            if kind == Kind::Settings {
                self.table.settings = table::Settings::default();
            }
            return;
        };
        match kind {
            Kind::Settings => {}
            Kind::Hosts => drop(self.table.hosts.remove(&id)),
            Kind::Models => drop(self.table.models.remove(&id)),
            Kind::HostKeys => drop(self.table.host_keys.remove(&id)),
            Kind::RelayKeys => drop(self.table.relay_keys.remove(&id)),
            Kind::Policies => drop(self.table.policies.remove(&id)),
            Kind::Credentials => drop(self.credentials.host_keys.remove(&id)),
            Kind::ClientCertificates => drop(self.credentials.client_certificates.remove(&id)),
        }
    }

    /// Puts into a place that its object cannot be used, so that a request which meets it gets an explained error.
    /// Credentials and settings have no such form: they go.
    pub fn invalidate(&mut self, kind: Kind, key: &str, reason: &str) {
        let Ok(id) = reference(key) else { return self.remove(kind, key) };
        let reason = format!("this data plane cannot use it: {reason}");
        match kind {
            Kind::Hosts => drop(self.table.hosts.insert(id, Row::Invalid { reason })),
            Kind::Models => drop(self.table.models.insert(id, Row::Invalid { reason })),
            Kind::HostKeys => drop(self.table.host_keys.insert(id, Row::Invalid { reason })),
            Kind::RelayKeys => drop(self.table.relay_keys.insert(id, Row::Invalid { reason })),
            Kind::Policies => drop(self.table.policies.insert(id, Row::Invalid { reason })),
            Kind::Settings | Kind::Credentials | Kind::ClientCertificates => self.remove(kind, key),
        }
    }
}

fn put<T: DeserializeOwned>(rows: &mut Rows<T>, kind: Kind, key: &str, row: &[u8]) -> Result<(), Unreadable> {
    rows.insert(reference(key)?, read(kind, row)?);
    Ok(())
}

fn reference(key: &str) -> Result<ObjectRef, Unreadable> {
    ObjectRef::from_str(key).map_err(Unreadable)
}

/// What is wrong with a secret row is not said: serde's words quote the value.
fn read<T: DeserializeOwned>(kind: Kind, row: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(row).map_err(|error| {
        let words = if kind.is_secret() { "it is of a form unknown here".to_owned() } else { error.to_string() };
        Unreadable(words)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::{RowItem, SealedTable};

    fn sealed() -> Sealed {
        Sealed {
            host: ObjectRef::new("team", "host"),
            key_id: "key-1".into(),
            wrapped_key: "wrapped".into(),
            nonce: "nonce".into(),
            ciphertext: "ciphertext".into(),
        }
    }

    fn credentials() -> Credentials {
        let of = |name: &str, credential| (ObjectRef::new("team", name), credential);
        let certificate = ClientCertificate { chain_pem: "chain".into(), key_pem: Secret::new("private".into()) };
        Credentials {
            host_keys: [
                of("a", Credential::Value(Secret::new("sk-canary".into()))),
                of("b", Credential::File("/run/key".into())),
                of("c", Credential::Env("KEY".into())),
                of("d", Credential::Sealed(sealed())),
            ]
            .into(),
            client_certificates: [(ObjectRef::new("team", "host"), certificate)].into(),
        }
    }

    #[test]
    fn credentials_and_settings_read_back_as_they_were_written() {
        let mut table = RoutingTable::default();
        table.settings.catalog_namespace = "catalog".into();
        table.models.insert(ObjectRef::new("team", "m"), Row::Invalid { reason: "no host".into() });
        let tables = encode(&table, &credentials());
        let mut decoded = Decoded::default();
        for (number, rows) in tables.tables() {
            for (key, row) in rows.rows() {
                decoded.put(Kind::of(number).unwrap(), key, row).unwrap();
            }
        }
        assert_eq!(decoded, Decoded { table, credentials: credentials() });
    }

    #[test]
    fn the_settings_of_a_sealed_copy_are_known_before_it_is_in_effect() {
        let sealed = |rows: &[(&str, &str)]| {
            let item = |(key, row): &(&str, &str)| RowItem { key: (*key).into(), row: row.as_bytes().to_vec().into() };
            let table = SealedTable { table: Kind::Settings.number(), rows: rows.iter().map(item).collect() };
            SealedBody { tables: vec![table], quarantine: Vec::new() }
        };
        let row = r#"{"catalogNamespace":"c","pods":{"maxStaleness":120000}}"#;
        let settings = sealed_settings(&sealed(&[(SETTINGS_KEY, row)])).unwrap();
        assert_eq!(settings.pods.max_staleness, Some(std::time::Duration::from_secs(120)));
        for nothing in [&[][..], &[("other", row)], &[(SETTINGS_KEY, "no JSON")]] {
            assert_eq!(sealed_settings(&sealed(nothing)), None);
        }
    }

    #[test]
    fn what_is_wrong_with_a_secret_row_shows_nothing_of_it() {
        let mut decoded = Decoded::default();
        for row in [r#""sk-canary""#, r#"{"value":{"sk-canary":1}}"#, r#"{"sk-canary":"x"}"#] {
            for kind in [Kind::Credentials, Kind::ClientCertificates] {
                let error = decoded.put(kind, "team/a", row.as_bytes()).unwrap_err();
                assert!(!error.to_string().contains("canary"), "{error}");
            }
        }
    }

    #[test]
    fn numbers_are_the_tables_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::of(kind.number()), Some(kind));
        }
        assert_eq!(Kind::of(0), None);
    }
}
