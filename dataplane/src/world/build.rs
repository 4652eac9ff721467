//! Builders of small tables for the tests of all that routes.

use std::collections::BTreeSet;

use protocol::{Dialect, Traits, WireShape};
use table::{
    Auth, Binding, Breaker, Capability, Credential, Credentials, Fallback, Globs, HeaderRules, HealthCheck, Http,
    KeySelection, LimitMode, LimitScope, Limits, NamespaceGrant, ObjectRef, PartialTimeouts, ProviderLimits,
    RedisOutage, Retries, Route, Routing, RoutingTable, Row, Secret, Settings, Target, Timeouts, Tls, Translation,
    VirtualStrategy, Visibility,
};

use super::World;
use crate::auth::Caller;

/// `namespace/name`; without a slash the namespace is `team`.
pub(crate) fn id(text: &str) -> ObjectRef {
    text.parse().unwrap_or_else(|_| ObjectRef::new("team", text))
}

/// A table in the making. The catalog's namespace is `catalog`; relay keys have the token `token-of-<name>`.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub(crate) table: RoutingTable,
    pub(crate) credentials: Credentials,
}

impl Tables {
    pub(crate) fn new() -> Self {
        let settings = Settings { catalog_namespace: "catalog".to_owned(), ..Settings::default() };
        Self { table: RoutingTable { settings, ..RoutingTable::default() }, ..Self::default() }
    }

    /// A host with one key of the same name, open to all namespaces.
    pub(crate) fn host(self, name: &str, shape: WireShape) -> Self {
        self.bare_host(name, shape).host_key(name, name, |key| key.allowed = NamespaceGrant::All)
    }

    /// A host without a key.
    pub(crate) fn bare_host(mut self, name: &str, shape: WireShape) -> Self {
        self.table.hosts.insert(id(name), Row::Usable(host(shape)));
        self
    }

    pub(crate) fn edit_host(mut self, name: &str, edit: impl FnOnce(&mut table::Host)) -> Self {
        edit(usable(self.table.hosts.get_mut(&id(name))));
        self
    }

    pub(crate) fn host_key(mut self, name: &str, host: &str, edit: impl FnOnce(&mut table::HostKey)) -> Self {
        let mut key = table::HostKey {
            host: id(host),
            weight: 100,
            priority: 0,
            limits: ProviderLimits::default(),
            models: Globs::default(),
            expires_at: None,
            suspended: false,
            allowed: NamespaceGrant::Same,
        };
        edit(&mut key);
        self.table.host_keys.insert(id(name), Row::Usable(key));
        let secret = Secret::new(format!("secret-of-{name}"));
        self.credentials.host_keys.insert(id(name), Credential::Value(secret));
        self
    }

    /// A model bound to hosts, in this order, under its own name.
    pub(crate) fn model(self, name: &str, hosts: &[&str]) -> Self {
        let upstream_model = id(name).name;
        let bindings = hosts.iter().map(|host| binding(host, &upstream_model)).collect();
        self.insert_model(name, Route::Bindings(bindings))
    }

    pub(crate) fn virtual_model(self, name: &str, strategy: VirtualStrategy, targets: &[(&str, u32)]) -> Self {
        let target = |&(model, weight): &(&str, u32)| Target { model: id(model), weight, priority: 0, unusable: None };
        self.insert_model(name, Route::Virtual { strategy, targets: targets.iter().map(target).collect() })
    }

    fn insert_model(mut self, name: &str, route: Route) -> Self {
        let reference = id(name);
        let model = table::Model {
            model_name: reference.name.clone(),
            aliases: Vec::new(),
            route,
            capabilities: BTreeSet::new(),
            context_window: None,
            max_output_tokens: None,
            pricing: None,
            visibility: Visibility::Public,
            suspended: false,
            allowed: NamespaceGrant::All,
        };
        self.table.models.insert(reference, Row::Usable(model));
        self
    }

    pub(crate) fn edit_model(mut self, name: &str, edit: impl FnOnce(&mut table::Model)) -> Self {
        edit(usable(self.table.models.get_mut(&id(name))));
        self
    }

    pub(crate) fn edit_binding(self, name: &str, host: &str, edit: impl FnOnce(&mut Binding)) -> Self {
        let host = id(host);
        self.edit_model(name, |model| {
            let Route::Bindings(bindings) = &mut model.route else { panic!("the model is virtual") };
            edit(bindings.iter_mut().find(|binding| binding.host == host).expect("the model is bound to the host"));
        })
    }

    pub(crate) fn can(self, name: &str, capabilities: &[Capability]) -> Self {
        self.edit_model(name, |model| model.capabilities = capabilities.iter().copied().collect())
    }

    pub(crate) fn policy(mut self, name: &str, allow: &[&str], edit: impl FnOnce(&mut table::Policy)) -> Self {
        let mut policy = table::Policy {
            models: Globs { allow: texts(allow), deny: Vec::new() },
            model_refs: Vec::new(),
            hosts: Globs::default(),
            limits: Limits::default(),
            limit_scope: LimitScope::PerKey,
            limit_mode: LimitMode::Exact,
            redis_outage: RedisOutage::LocalShare,
            per_model: Vec::new(),
            budgets: Vec::new(),
            routing: Routing::default(),
            retries: Retries::default(),
            timeouts: PartialTimeouts::default(),
            translation: Translation::Lenient,
            allowed: NamespaceGrant::All,
        };
        edit(&mut policy);
        self.table.policies.insert(id(name), Row::Usable(policy));
        self
    }

    pub(crate) fn relay_key(mut self, name: &str, policies: &[&str], edit: impl FnOnce(&mut table::RelayKey)) -> Self {
        let mut key = table::RelayKey {
            token_sha256: table::token::TokenHash::of(&token(name)).to_string(),
            previous: None,
            policies: policies.iter().map(|policy| id(policy)).collect(),
            expires_at: None,
            revoked: false,
            suspended: false,
            limits: Limits::default(),
            budget: None,
            allowed_cidrs: Vec::new(),
            attributes: Default::default(),
            unusable: None,
        };
        edit(&mut key);
        self.table.relay_keys.insert(id(name), Row::Usable(key));
        self
    }

    /// A policy `all` that allows every model, and a relay key `app` with it.
    pub(crate) fn open(self) -> Self {
        self.policy("all", &["*"], |_| ()).relay_key("app", &["all"], |_| ())
    }

    pub(crate) fn world(self) -> World {
        World::load(self.table, self.credentials)
    }
}

/// The token of a relay key.
pub(crate) fn token(name: &str) -> String {
    format!("token-of-{name}")
}

pub(crate) fn texts(patterns: &[&str]) -> Vec<String> {
    patterns.iter().map(|pattern| (*pattern).to_owned()).collect()
}

pub(crate) fn fallback(matches: &str, to: &[&str]) -> Fallback {
    Fallback { matches: matches.to_owned(), to: to.iter().map(|model| id(model)).collect() }
}

pub(crate) fn host(shape: WireShape) -> table::Host {
    table::Host {
        shape,
        base_url: "https://upstream.example/v1".to_owned(),
        auth: Auth::Bearer,
        allow_private_addresses: false,
        headers: HeaderRules::default(),
        tls: Tls::default(),
        dialect: Dialect::default(),
        model_patterns: Vec::new(),
        timeouts: Timeouts::default(),
        http: Http::default(),
        breaker: Breaker::default(),
        key_selection: KeySelection::default(),
        health_check: HealthCheck::default(),
        limits: ProviderLimits::default(),
        suspended: false,
        allowed: NamespaceGrant::All,
    }
}

fn binding(host: &str, upstream_model: &str) -> Binding {
    Binding {
        name: id(host).name,
        host: id(host),
        upstream_model: upstream_model.to_owned(),
        weight: 100,
        priority: 0,
        suspended: false,
        pricing: None,
        context_window: None,
        traits: Traits::default(),
        unusable: None,
    }
}

fn usable<T>(row: Option<&mut Row<T>>) -> &mut T {
    match row {
        Some(Row::Usable(object)) => object,
        Some(Row::Invalid { .. }) | None => panic!("the object was added before"),
    }
}

/// The caller who holds a relay key.
pub(crate) fn caller(world: &World, name: &str) -> Caller {
    let key = world.relay_key(&id(name)).expect("the key was added before").clone();
    Caller { key, address: std::net::Ipv4Addr::LOCALHOST.into() }
}

/// What a chat request asks for.
pub(crate) fn ask(body: serde_json::Value) -> protocol::ask::Ask {
    protocol::ask::read(WireShape::OpenaiChat, body.to_string().as_bytes()).expect("the request is valid")
}

/// What a request asks for that needs nothing in particular.
pub(crate) fn plain_ask() -> protocol::ask::Ask {
    ask(serde_json::json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]}))
}
