//! Rows of the table as requests use them: with their references resolved and their patterns ready to match.

use std::{collections::BTreeMap, sync::Arc};

use foldhash::HashMap;
use http::HeaderValue;
use jiff::Timestamp;
use table::{Binding, Glob, Lists, ObjectRef, Pricing, Route, Scoped, token::TokenHash};

use super::{Found, scopes::CallerScopes};
use crate::{
    headers,
    limit::{claims::ScopeClaim, rule::Scope, terms::provider_scope},
    plan::Rules,
    upstream::credentials::KeyHash,
};

/// An upstream API surface with its keys.
#[derive(Debug)]
pub struct Host {
    /// Its name.
    pub id: ObjectRef,
    /// Its name as it is told, `namespace/name`.
    pub name: Arc<str>,
    /// The same, as a header tells it.
    pub header: HeaderValue,
    /// The row.
    pub row: table::Host,
    /// Ids of models that reach it though no Model names them.
    pub patterns: Vec<Glob>,
    /// Its keys, whoever may draw them, sorted by name.
    pub pool: Vec<Arc<HostKey>>,
    /// Its namespace, to be shared.
    pub domain: Arc<str>,
    /// What its provider allows, whatever the key, with nothing claimed; absent: nothing is limited.
    pub scope: Option<ScopeClaim>,
    /// Under which its health is kept without a key, and which is part of where that of its keys is kept.
    pub keyless: KeyHash,
}

impl Host {
    pub(super) fn new(id: ObjectRef, row: table::Host, pool: Vec<Arc<HostKey>>) -> Self {
        let patterns = row.model_patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        let (keyless, domain) = (KeyHash::keyless(&id), id.namespace.as_str().into());
        let scope = provider_scope(Scope::Host(id.clone()), &row.limits);
        let name = told(&id);
        Self { header: headers::told(&name), name, id, row, patterns, pool, domain, scope, keyless }
    }

    /// Whether a model that no Model names may be sent there by its own name.
    pub fn takes(&self, model: &str) -> bool {
        self.patterns.iter().any(|pattern| pattern.matches(model))
    }
}

/// A provider credential, without the credential: that is in the keyring.
#[derive(Debug)]
pub struct HostKey {
    /// Its name.
    pub id: ObjectRef,
    /// Its name as it is told, `namespace/name`.
    pub name: Arc<str>,
    /// The row.
    pub row: table::HostKey,
    /// Its namespace, to be shared.
    pub domain: Arc<str>,
    /// What its provider allows, with nothing claimed; absent: nothing is limited.
    pub scope: Option<ScopeClaim>,
    models: Lists,
}

impl HostKey {
    pub(super) fn new(id: ObjectRef, row: table::HostKey) -> Self {
        let (models, domain) = (Lists::of_models(&row.models), id.namespace.as_str().into());
        let scope = provider_scope(Scope::HostKey(id.clone()), &row.limits);
        Self { name: told(&id), id, row, domain, scope, models }
    }

    /// Whether the account is entitled to an upstream model.
    pub fn serves(&self, upstream_model: &str) -> bool {
        let listed = |list: &[Scoped]| list.iter().any(|scoped| scoped.glob.matches(upstream_model));
        !listed(&self.models.deny) && (self.models.allow.is_empty() || listed(&self.models.allow))
    }

    /// Why a relay key of `namespace` cannot draw it for an upstream model now; absent: it can.
    pub fn obstacle(&self, namespace: &str, upstream_model: &str, now: Timestamp) -> Option<&'static str> {
        if !self.row.allowed.permits(&self.id.namespace, namespace) {
            return Some("is not open to the caller's namespace");
        }
        if self.row.suspended {
            return Some("is suspended");
        }
        if self.row.expires_at.is_some_and(|at| at <= now) {
            return Some("has expired");
        }
        if self.serves(upstream_model) { None } else { Some("is not entitled to the model") }
    }
}

/// A public model id.
#[derive(Debug)]
pub struct Model {
    /// The name of its object.
    pub id: ObjectRef,
    /// The same as it is told, `namespace/name`.
    pub name: Arc<str>,
    /// The public id, as it is told.
    pub public: Arc<str>,
    /// The same, as a header tells it.
    pub header: HeaderValue,
    /// The row.
    pub row: table::Model,
    /// Of each binding.
    prices: Vec<Option<Arc<Price>>>,
    /// What hosts call it, of each binding, to be kept.
    upstream: Vec<Arc<str>>,
}

/// What an answer costs, and who says so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// The prices.
    pub pricing: Pricing,
    /// Where they come from.
    pub source: Arc<str>,
}

impl Model {
    pub(super) fn new(id: ObjectRef, row: table::Model) -> Self {
        let prices = bindings(&row).iter().map(|binding| price(&id, &row, binding).map(Arc::new)).collect();
        let upstream = bindings(&row).iter().map(|binding| binding.upstream_model.as_str().into()).collect();
        let (name, public, header) = (told(&id), row.model_name.as_str().into(), headers::told(&row.model_name));
        Self { name, public, header, prices, upstream, id, row }
    }

    /// Its id and its aliases.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        std::iter::once(&self.row.model_name).chain(&self.row.aliases).map(String::as_str)
    }

    /// Where it is served; empty for a virtual model.
    pub fn bindings(&self) -> &[Binding] {
        bindings(&self.row)
    }

    /// What the host of the binding with this index calls it.
    pub(crate) fn upstream_model(&self, binding: usize) -> &Arc<str> {
        &self.upstream[binding]
    }

    /// What it costs at the binding with this index: the binding's price, else the model's own.
    pub fn price(&self, binding: usize) -> Option<&Arc<Price>> {
        self.prices.get(binding)?.as_ref()
    }
}

fn bindings(model: &table::Model) -> &[Binding] {
    match &model.route {
        Route::Bindings(bindings) => bindings,
        Route::Virtual { .. } => &[],
    }
}

fn price(id: &ObjectRef, model: &table::Model, binding: &Binding) -> Option<Price> {
    let own = |pricing: &Pricing, place: String| Price {
        source: pricing.source.as_deref().unwrap_or(&place).into(),
        pricing: pricing.clone(),
    };
    let bound = binding.pricing.as_ref().map(|p| own(p, format!("Model/{id} binding {}", binding.name)));
    bound.or_else(|| model.pricing.as_ref().map(|p| own(p, format!("Model/{id}"))))
}

/// What a relay key may reach.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub id: ObjectRef,
    /// The row.
    pub row: table::Policy,
    /// Its lists of models.
    pub models: Lists,
    /// Its lists of hosts.
    pub hosts: Lists,
    /// The patterns of its limits by model, in their order.
    pub per_model: Vec<Glob>,
    /// Models that follow those which the pattern matches.
    pub fallbacks: Vec<(Glob, Vec<ObjectRef>)>,
}

impl Policy {
    pub(super) fn new(id: ObjectRef, row: table::Policy) -> Self {
        let fallbacks = row.routing.fallbacks.iter().map(|f| (Glob::new(&f.matches), f.to.clone())).collect();
        let per_model = row.per_model.iter().map(|limits| Glob::new(&limits.matches)).collect();
        let (models, hosts) = (Lists::of_models(&row.models), Lists::of_hosts(&row.hosts));
        Self { id, models, hosts, per_model, fallbacks, row }
    }
}

/// A bearer token of an application.
#[derive(Debug)]
pub struct RelayKey {
    /// Its name, to be shared.
    pub id: Arc<ObjectRef>,
    /// Who asks and who pays, as it is told.
    pub asker: Asker,
    /// The row.
    pub row: table::RelayKey,
    /// Its policies, in its order.
    pub policies: Vec<Arc<Policy>>,
    /// What its policies say together about routing.
    pub rules: Arc<Rules>,
    /// Its namespace, to be shared.
    pub domain: Arc<str>,
    pub(super) scopes: CallerScopes,
    /// Why it cannot be used although it is known.
    pub unusable: Option<String>,
}

/// A relay key as it is told.
#[derive(Debug)]
pub struct Asker {
    /// Its name, `namespace/name`.
    pub key: Arc<str>,
    /// Who pays: its cost label `team`, else its namespace.
    pub team: Arc<str>,
    /// Names of its policies.
    pub policies: Arc<[Arc<str>]>,
    /// Its cost labels.
    pub attributes: Arc<BTreeMap<String, String>>,
}

impl Asker {
    fn of(id: &ObjectRef, row: &table::RelayKey, policies: &[Arc<Policy>]) -> Self {
        Self {
            key: told(id),
            team: row.attributes.get("team").unwrap_or(&id.namespace).as_str().into(),
            policies: policies.iter().map(|policy| told(&policy.id)).collect(),
            attributes: Arc::new(row.attributes.clone()),
        }
    }
}

impl RelayKey {
    /// A key of which one policy is missing or invalid grants nothing: what that policy forbids is not known.
    pub(super) fn new(id: ObjectRef, row: table::RelayKey, all: &HashMap<ObjectRef, Found<Policy>>) -> Self {
        let mut unusable = row.unusable.clone();
        let mut policies = Vec::with_capacity(row.policies.len());
        for policy in &row.policies {
            match all.get(policy) {
                Some(Found::Usable(policy)) => policies.push(policy.clone()),
                Some(Found::Invalid(_)) => unusable = unusable.or(Some(format!("its policy `{policy}` is invalid"))),
                None => unusable = unusable.or(Some(format!("its policy `{policy}` is missing"))),
            }
        }
        if policies.is_empty() {
            unusable = unusable.or(Some("it has no policy".to_owned()));
        }
        let rules = Arc::new(Rules::of(&policies));
        let domain = id.namespace.as_str().into();
        let scopes = CallerScopes::of(&id, &row, &policies);
        let asker = Asker::of(&id, &row, &policies);
        Self { asker, id: Arc::new(id), row, policies, rules, domain, scopes, unusable }
    }

    /// What a request of this key may claim for itself, with nothing claimed yet. `model` is the public id of the model;
    /// absent: limits of single models are left out.
    pub fn scopes(&self, model: Option<&str>) -> Arc<[ScopeClaim]> {
        self.scopes.for_model(self, model)
    }

    /// The hashes of its tokens, as far as the table holds some that can be read.
    pub(super) fn token_hashes(&self) -> impl Iterator<Item = TokenHash> {
        let previous = self.row.previous.as_ref().map(|previous| &previous.token_sha256);
        previous.into_iter().chain([&self.row.token_sha256]).filter_map(|hash| TokenHash::parse(hash))
    }

    /// Since when a token of this key is refused because another has replaced it, if it is by `now`.
    pub fn replaced_at(&self, token: &TokenHash, now: Timestamp) -> Option<Timestamp> {
        let previous = self.row.previous.as_ref().filter(|previous| previous.until <= now)?;
        let is_current = TokenHash::parse(&self.row.token_sha256).is_some_and(|current| current == *token);
        (!is_current).then_some(previous.until)
    }
}

/// A name as records, metrics and headers tell it.
fn told(id: &ObjectRef) -> Arc<str> {
    id.to_string().into()
}
