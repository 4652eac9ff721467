//! Small routing tables: one relay key with one policy that grants all, and what a test adds.

use std::collections::{BTreeMap, BTreeSet};

use table::{
    Auth, Binding, Credential, Credentials, Globs, Host, HostKey, Limits, Model, NamespaceGrant, ObjectRef,
    PartialTimeouts, Policy, ProviderLimits, Retries, Route, Routing, RoutingTable, Row, Secret, Timeouts, Traits,
    Translation, Visibility, WireShape, token,
};

/// The token of the relay key that every table has.
pub(crate) const TOKEN: &str = "token-of-the-tests-0123456789-abcdefghij";

/// The namespace of everything.
pub(crate) const NAMESPACE: &str = "team";

/// A routing table and its credentials in the making.
#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) table: RoutingTable,
    pub(crate) credentials: Credentials,
}

/// The object `name` in [`NAMESPACE`].
pub(crate) fn named(name: &str) -> ObjectRef {
    ObjectRef::new(NAMESPACE, name)
}

impl Tables {
    /// Relay key `key` with token [`TOKEN`] and policy `all`.
    pub(crate) fn new() -> Self {
        let (table, credentials) = (RoutingTable::default(), Credentials::default());
        let mut tables = Self { table, credentials }.relay_key("key", TOKEN, |_| {});
        tables.table.policies.insert(named("all"), Row::Usable(policy()));
        tables
    }

    /// A host at `url` with the keys `keys`, drawn in this order.
    pub(crate) fn host(self, name: &str, shape: WireShape, url: &str, keys: &[&str]) -> Self {
        self.host_with(name, shape, url, keys, |_| {})
    }

    /// As [`Self::host`], with changes to the host.
    pub(crate) fn host_with(
        mut self,
        name: &str,
        shape: WireShape,
        url: &str,
        keys: &[&str],
        edit: impl FnOnce(&mut Host),
    ) -> Self {
        let mut row = host(shape, url);
        edit(&mut row);
        self.table.hosts.insert(named(name), Row::Usable(row));
        for (priority, key) in keys.iter().enumerate() {
            self = self.host_key(name, key, |row| row.priority = priority as u32);
        }
        self
    }

    /// A key of `host`, whose secret is its name; priority 0 unless `edit` changes it.
    pub(crate) fn host_key(mut self, host: &str, secret: &str, edit: impl FnOnce(&mut HostKey)) -> Self {
        let mut row = HostKey {
            host: named(host),
            weight: 100,
            priority: 0,
            limits: ProviderLimits::default(),
            models: Globs::default(),
            expires_at: None,
            suspended: false,
            allowed: NamespaceGrant::Same,
        };
        edit(&mut row);
        self.table.host_keys.insert(named(secret), Row::Usable(row));
        self.credentials.host_keys.insert(named(secret), Credential::Value(Secret::new(secret.to_owned())));
        self
    }

    /// A model at `hosts`, tried in this order, whose upstream name is `up-` and its own.
    pub(crate) fn model(self, name: &str, hosts: &[&str]) -> Self {
        self.model_with(name, hosts, |_| {})
    }

    /// As [`Self::model`], with changes to the model.
    pub(crate) fn model_with(mut self, name: &str, hosts: &[&str], edit: impl FnOnce(&mut Model)) -> Self {
        let bindings = hosts.iter().enumerate().map(|(priority, host)| binding(name, host, priority as u32));
        let mut row = Model {
            model_name: name.to_owned(),
            aliases: Vec::new(),
            route: Route::Bindings(bindings.collect()),
            capabilities: BTreeSet::new(),
            context_window: None,
            max_output_tokens: None,
            pricing: None,
            visibility: Visibility::Public,
            suspended: false,
            allowed: NamespaceGrant::Same,
        };
        edit(&mut row);
        self.table.models.insert(named(name), Row::Usable(row));
        self
    }

    /// Changes the policy.
    pub(crate) fn policy(mut self, edit: impl FnOnce(&mut Policy)) -> Self {
        if let Some(Row::Usable(policy)) = self.table.policies.get_mut(&named("all")) {
            edit(policy);
        }
        self
    }

    /// A relay key with the policy `all`.
    pub(crate) fn relay_key(mut self, name: &str, token: &str, edit: impl FnOnce(&mut table::RelayKey)) -> Self {
        let mut row = table::RelayKey {
            token_sha256: token::TokenHash::of(token).to_string(),
            previous: None,
            policies: vec![named("all")],
            expires_at: None,
            revoked: false,
            suspended: false,
            limits: Limits::default(),
            budget: None,
            allowed_cidrs: Vec::new(),
            attributes: BTreeMap::new(),
            unusable: None,
        };
        edit(&mut row);
        self.table.relay_keys.insert(named(name), Row::Usable(row));
        self
    }
}

fn host(shape: WireShape, url: &str) -> Host {
    Host {
        shape,
        base_url: url.to_owned(),
        auth: match shape {
            WireShape::OpenaiChat => Auth::Bearer,
            WireShape::AnthropicMessages => Auth::Header("x-api-key".to_owned()),
        },
        allow_private_addresses: true,
        headers: table::HeaderRules::default(),
        tls: table::Tls::default(),
        dialect: table::Dialect::default(),
        model_patterns: Vec::new(),
        timeouts: Timeouts::default(),
        http: table::Http::default(),
        breaker: table::Breaker::default(),
        key_selection: table::KeySelection::RoundRobin,
        health_check: table::HealthCheck::default(),
        limits: ProviderLimits::default(),
        suspended: false,
        allowed: NamespaceGrant::Same,
    }
}

fn binding(model: &str, host: &str, priority: u32) -> Binding {
    let upstream_model = format!("up-{model}");
    Binding {
        name: host.to_owned(),
        host: named(host),
        traits: Traits::for_model(&upstream_model),
        upstream_model,
        weight: 100,
        priority,
        suspended: false,
        pricing: None,
        context_window: None,
        unusable: None,
    }
}

fn policy() -> Policy {
    Policy {
        models: Globs { allow: vec!["*".to_owned()], deny: Vec::new() },
        model_refs: Vec::new(),
        hosts: Globs::default(),
        limits: Limits::default(),
        limit_scope: table::LimitScope::PerKey,
        limit_mode: table::LimitMode::Exact,
        redis_outage: table::RedisOutage::LocalShare,
        per_model: Vec::new(),
        budgets: Vec::new(),
        routing: Routing::default(),
        retries: Retries::default(),
        timeouts: PartialTimeouts::default(),
        translation: Translation::Lenient,
        allowed: NamespaceGrant::Same,
    }
}
