//! The clients of all hosts: one each, kept while the host's row says the same, replaced when it changes. A request that
//! runs on a replaced client keeps it until it has ended.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;
use table::{ClientCertificate, Host, ObjectRef};
use tokio_util::task::TaskTracker;

use super::{client::Client, resolver::Resolve};

/// The clients of all hosts.
pub struct Clients {
    resolver: Arc<dyn Resolve>,
    clients: Mutex<HashMap<ObjectRef, Entry>>,
    tasks: TaskTracker,
}

struct Entry {
    built_for: BuiltFor,
    client: Result<Arc<Client>, String>,
}

/// What a client depends on; everything else of a Host may change under it.
#[derive(PartialEq)]
struct BuiltFor {
    base_url: String,
    allow_private_addresses: bool,
    tls: table::Tls,
    http: table::Http,
    connect: std::time::Duration,
    certificate: Option<ClientCertificate>,
}

impl Clients {
    /// No client yet; names are resolved by `resolver`.
    pub fn new(resolver: Arc<dyn Resolve>) -> Self {
        Self { resolver, clients: Mutex::default(), tasks: TaskTracker::new() }
    }

    /// The client of a host. Errs, in words for the Host's owner, when its URL or certificates are unusable. Needs a
    /// Tokio runtime. Meant to be asked when a table is loaded, and its answer kept with the row.
    pub fn for_host(
        &self,
        name: &ObjectRef,
        host: &Host,
        certificate: Option<&ClientCertificate>,
    ) -> Result<Arc<Client>, String> {
        let built_for = BuiltFor::of(host, certificate);
        let mut clients = self.clients.lock();
        if let Some(entry) = clients.get(name).filter(|entry| entry.built_for == built_for) {
            return entry.client.clone();
        }
        let client = Client::new(host, certificate, self.resolver.clone(), self.tasks.clone()).map(Arc::new);
        clients.insert(name.clone(), Entry { built_for, client: client.clone() });
        client
    }

    /// Whether a host could have a client; errs as [`Clients::for_host`], and leaves the client that it has.
    pub fn check(&self, name: &ObjectRef, host: &Host, certificate: Option<&ClientCertificate>) -> Result<(), String> {
        let built_for = BuiltFor::of(host, certificate);
        if let Some(entry) = self.clients.lock().get(name).filter(|entry| entry.built_for == built_for) {
            return entry.client.as_ref().map(drop).map_err(Clone::clone);
        }
        Client::new(host, certificate, self.resolver.clone(), self.tasks.clone()).map(drop)
    }

    /// Drops the clients of hosts that are gone.
    pub fn retain(&self, keep: impl Fn(&ObjectRef) -> bool) {
        self.clients.lock().retain(|name, _| keep(name));
    }

    /// The connections' tasks, each of which ends with its connection.
    pub fn tasks(&self) -> &TaskTracker {
        &self.tasks
    }
}

/// The row of a server at `url` that is no Host: whoever runs the process chose it, so it may be anywhere.
pub(crate) fn row_of(url: &str) -> Host {
    Host {
        shape: table::WireShape::OpenaiChat,
        base_url: url.trim_end_matches('/').to_owned(),
        auth: table::Auth::None,
        allow_private_addresses: true,
        headers: table::HeaderRules::default(),
        tls: table::Tls::default(),
        dialect: table::Dialect::default(),
        model_patterns: Vec::new(),
        timeouts: table::Timeouts::default(),
        http: table::Http::default(),
        breaker: table::Breaker::default(),
        key_selection: table::KeySelection::default(),
        health_check: table::HealthCheck::default(),
        limits: table::ProviderLimits::default(),
        suspended: false,
        allowed: table::NamespaceGrant::default(),
    }
}

impl BuiltFor {
    fn of(host: &Host, certificate: Option<&ClientCertificate>) -> Self {
        Self {
            base_url: host.base_url.clone(),
            allow_private_addresses: host.allow_private_addresses,
            tls: host.tls.clone(),
            http: host.http.clone(),
            connect: host.timeouts.connect,
            certificate: certificate.cloned(),
        }
    }
}
