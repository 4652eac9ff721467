//! The rows of a scoped table: which they are, and what of each the namespace sees.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    of_namespace,
    reach::{Reach, View, names},
};
use crate::{
    Auth, Binding, Breaker, Credentials, Dialect, HeaderRules, HealthCheck, Host, HostKey, Http, KeySelection, Model,
    NamespaceGrant, ObjectRef, Policy, ProviderLimits, Route, Row, Rows, Timeouts, Tls, Traits,
};

/// What is said of a manifest of another namespace that is wrong.
const REFUSED: &str = "its manifest is refused";

/// What is said of a place that is closed to the namespace.
const CLOSED: &str = "it is not open to this namespace";

/// How deep requests follow virtual models to find a host that they are pinned to.
const DEPTH: usize = 8;

/// The models that relay keys may name, and those that these stand for.
pub(super) fn models<'a>(view: &View<'a>, reaches: &[Reach<'a>]) -> Rows<Model> {
    let mut left: Vec<&ObjectRef> = reaches.iter().flat_map(|reach| reach.models.keys().copied()).collect();
    for namespace in view.local() {
        left.extend(of_namespace(&view.table.models, namespace).map(|(id, _)| id));
    }
    let mut shown = Rows::new();
    while let Some(id) = left.pop() {
        if shown.contains_key(id) {
            continue;
        }
        let Some(row) = view.table.models.get(id).and_then(|row| model(view, id, row)) else { continue };
        if let Some((_, Row::Usable(Model { route: Route::Virtual { targets, .. }, .. }))) =
            view.table.models.get_key_value(id)
            && matches!(&row, Row::Usable(Model { route: Route::Virtual { .. }, .. }))
        {
            left.extend(targets.iter().map(|target| &target.model));
        }
        shown.insert(id.clone(), row);
    }
    shown
}

/// Whether a Model that is closed to the namespace has the name that a refused manifest goes by.
fn is_shadowed(view: &View<'_>, id: &ObjectRef) -> bool {
    let models = of_namespace(&view.table.models, &id.namespace);
    let closed = models.filter_map(|(id, row)| row.usable().filter(|model| !view.is_open(id, &model.allowed)));
    closed.flat_map(names).any(|name| name == id.name)
}

/// A model as the namespace sees it; absent: it does not.
fn model(view: &View<'_>, id: &ObjectRef, row: &Row<Model>) -> Option<Row<Model>> {
    let Row::Usable(model) = row else { return (!is_shadowed(view, id)).then(|| refused(view, id, row)) };
    if !view.is_open(id, &model.allowed) {
        return None;
    }
    let mut model = model.clone();
    if leads_to_closed(view, &model) {
        // No key of the namespace that is here comes to it; what is asked for with a pin has to be known all the same.
        model.route = Route::Bindings(hosts_behind(view, &model).into_iter().map(closed).collect());
    }
    model.allowed = grant(view, id);
    Some(Row::Usable(model))
}

/// Whether a model stands for one that the namespace does not see.
fn leads_to_closed(view: &View<'_>, model: &Model) -> bool {
    behind(view, model).iter().any(|(id, model)| !view.is_open(id, &model.allowed))
}

/// The models that a model stands for, as deep as requests follow, each once.
fn behind<'a>(view: &View<'a>, model: &Model) -> BTreeMap<&'a ObjectRef, &'a Model> {
    let targets = |model: &Model| -> Vec<(&'a ObjectRef, &'a Model)> {
        let Route::Virtual { targets, .. } = &model.route else { return Vec::new() };
        let rows = targets.iter().filter_map(|target| view.table.models.get_key_value(&target.model));
        rows.filter_map(|(id, row)| Some((id, row.usable()?))).collect()
    };
    let (mut all, mut level) = (BTreeMap::new(), targets(model));
    for _ in 0..DEPTH {
        level.retain(|(id, _)| !all.contains_key(id));
        all.extend(level.iter().copied());
        level = level.iter().flat_map(|(_, model)| targets(model)).collect();
    }
    all
}

fn hosts_behind<'a>(view: &View<'a>, model: &Model) -> BTreeSet<&'a ObjectRef> {
    let bindings = behind(view, model).into_values().flat_map(|model| match &model.route {
        Route::Bindings(bindings) => bindings.as_slice(),
        Route::Virtual { .. } => &[],
    });
    bindings.map(|binding| &binding.host).collect()
}

/// A place that is no candidate.
fn closed(host: &ObjectRef) -> Binding {
    Binding {
        name: host.name.clone(),
        host: host.clone(),
        upstream_model: String::new(),
        weight: 1,
        priority: 0,
        suspended: false,
        pricing: None,
        context_window: None,
        traits: Traits::default(),
        unusable: Some(CLOSED.to_owned()),
    }
}

/// The hosts of these models, and those that take models which no Model names.
pub(super) fn hosts(view: &View<'_>, models: &Rows<Model>) -> Rows<Host> {
    let bound = models.values().filter_map(Row::usable).flat_map(|model| match &model.route {
        Route::Bindings(bindings) => bindings.as_slice(),
        Route::Virtual { .. } => &[],
    });
    let mut ids: BTreeSet<&ObjectRef> = bound.map(|binding| &binding.host).collect();
    ids.extend(view.families().map(|(id, _)| id));
    let rows = ids.into_iter().filter_map(|id| view.table.hosts.get_key_value(id));
    rows.map(|(id, row)| (id.clone(), host(view, id, row))).collect()
}

fn host(view: &View<'_>, id: &ObjectRef, row: &Row<Host>) -> Row<Host> {
    match row {
        Row::Invalid { .. } => refused(view, id, row),
        Row::Usable(host) if view.is_open(id, &host.allowed) => {
            Row::Usable(Host { allowed: grant(view, id), ..host.clone() })
        }
        Row::Usable(host) => Row::Usable(veiled(host)),
    }
}

/// Of a host that is closed to the namespace its shape, and whether it is in service. The policies of the keys that are here
/// keep it out, or do not grant what leads to it, and there is no key for it.
fn veiled(host: &Host) -> Host {
    Host {
        shape: host.shape,
        base_url: "https://closed.invalid/v1".to_owned(),
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
        suspended: host.suspended,
        allowed: NamespaceGrant::Same,
    }
}

/// The policies, without a word of Models that are not here.
pub(super) fn policies(view: &View<'_>, ids: &BTreeSet<&ObjectRef>, models: &Rows<Model>) -> Rows<Policy> {
    let rows = ids.iter().filter_map(|id| Some((*id, view.table.policies.get(id)?.usable()?)));
    let seen = rows.map(|(id, policy)| {
        let mut policy = policy.clone();
        policy.model_refs.retain(|id| models.contains_key(id));
        policy.allowed = grant(view, id);
        (id.clone(), Row::Usable(policy))
    });
    seen.collect()
}

/// The host keys of the hosts that may be asked, and what opens these.
pub(super) fn host_keys(view: &View<'_>, reaches: &[Reach<'_>]) -> (Rows<HostKey>, Credentials) {
    let (mut keys, mut credentials) = (Rows::new(), Credentials::default());
    let hosts: BTreeSet<&ObjectRef> = reaches.iter().flat_map(|reach| &reach.hosts).copied().collect();
    for host in hosts {
        for (id, key) in view.pools.get(host).into_iter().flatten().filter(|(id, _)| view.is_own(id)) {
            let Some(credential) = view.credentials.host_keys.get(*id) else { continue };
            keys.insert((*id).clone(), Row::Usable(HostKey { allowed: NamespaceGrant::Same, ..(*key).clone() }));
            credentials.host_keys.insert((*id).clone(), credential.clone());
        }
        if let Some(certificate) = view.credentials.client_certificates.get(host).filter(|_| view.is_own(host)) {
            credentials.client_certificates.insert(host.clone(), certificate.clone());
        }
    }
    (keys, credentials)
}

/// What is wrong is told to those who wrote it.
fn refused<T: Clone>(view: &View<'_>, id: &ObjectRef, row: &Row<T>) -> Row<T> {
    if view.is_own(id) { row.clone() } else { Row::Invalid { reason: REFUSED.to_owned() } }
}

/// Whom a row is open to, as far as that is the namespace's to know.
fn grant(view: &View<'_>, id: &ObjectRef) -> NamespaceGrant {
    if view.is_own(id) { NamespaceGrant::Same } else { NamespaceGrant::Listed([view.namespace.to_owned()].into()) }
}
