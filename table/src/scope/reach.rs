//! What requests of a relay key may come to by its policies, and whether all of it can be served with what is the
//! namespace's own. Looks at more than a request ever meets where that is simpler: a key that is left out is served
//! elsewhere. So what is suspended counts as if it were not, and denials count for what is asked for, not for what that
//! leads to.

use std::collections::{BTreeMap, BTreeSet};

use super::{is_bounded, is_counted, of_namespace};
use crate::{
    Auth, Credential, Credentials, Glob, Host, HostKey, Lists, Local, Model, NamespaceGrant, ObjectRef, Policy, Route,
    RoutingTable, Row, Subject, Visibility,
};

/// A table as one namespace sees it.
pub(super) struct View<'a> {
    pub(super) table: &'a RoutingTable,
    pub(super) credentials: &'a Credentials,
    pub(super) namespace: &'a str,
    /// The host keys that relay keys of the namespace may draw, by host.
    pub(super) pools: BTreeMap<&'a ObjectRef, Vec<(&'a ObjectRef, &'a HostKey)>>,
}

impl<'a> View<'a> {
    pub(super) fn new(table: &'a RoutingTable, credentials: &'a Credentials, namespace: &'a str) -> Self {
        let mut pools: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for (id, row) in &table.host_keys {
            if let Some(key) = row.usable().filter(|key| key.allowed.permits(&id.namespace, namespace)) {
                pools.entry(&key.host).or_default().push((id, key));
            }
        }
        Self { table, credentials, namespace, pools }
    }

    pub(super) fn is_own(&self, id: &ObjectRef) -> bool {
        id.namespace == self.namespace
    }

    pub(super) fn is_open(&self, id: &ObjectRef, allowed: &NamespaceGrant) -> bool {
        allowed.permits(&id.namespace, self.namespace)
    }

    /// The namespaces in which names are looked up.
    pub(super) fn local(&self) -> BTreeSet<&'a str> {
        [self.namespace, self.table.settings.catalog_namespace.as_str()].into()
    }

    /// Hosts that may take models which no Model names.
    pub(super) fn families(&self) -> impl Iterator<Item = (&'a ObjectRef, &'a Host)> {
        let hosts = self.local().into_iter().flat_map(|namespace| of_namespace(&self.table.hosts, namespace));
        let usable = hosts.filter_map(|(id, row)| Some((id, row.usable()?)));
        usable.filter(|(id, host)| !host.model_patterns.is_empty() && self.is_open(id, &host.allowed))
    }

    /// Whether relay keys of the namespace may name a Model.
    fn is_visible(&self, id: &ObjectRef, model: &Model) -> bool {
        model.visibility == Visibility::Public && self.is_open(id, &model.allowed)
    }

    fn visible(&self, namespace: &'a str) -> impl Iterator<Item = (&'a ObjectRef, &'a Model)> {
        let models = of_namespace(&self.table.models, namespace);
        let usable = models.filter_map(|(id, row)| Some((id, row.usable()?)));
        usable.filter(|(id, model)| self.is_visible(id, model))
    }
}

/// A model's id and aliases.
pub(super) fn names(model: &Model) -> impl Iterator<Item = &str> {
    std::iter::once(&model.model_name).chain(&model.aliases).map(String::as_str)
}

/// What requests may come to, where all of it can be served.
pub(super) struct Reach<'a> {
    /// Models that may be named, granted or not, or follow when one fails.
    pub(super) models: BTreeMap<&'a ObjectRef, &'a Model>,
    /// Hosts that may be asked.
    pub(super) hosts: BTreeSet<&'a ObjectRef>,
}

impl<'a> Reach<'a> {
    /// What requests under all of these policies may come to; absent: something of it is not the namespace's own, or has to
    /// be counted.
    pub(super) fn of(view: &View<'a>, policies: &'a [ObjectRef]) -> Option<Self> {
        let rules = policies.iter().map(|id| Rule::of(view, id)).collect::<Option<Vec<_>>>()?;
        let mut walk = Walk { view, rules: &rules, seen: BTreeSet::new(), hosts: BTreeSet::new() };
        let models = nameable(view, &rules)?;
        let local = Local { own: view.namespace, catalog: &view.table.settings.catalog_namespace };
        for (&id, &model) in &models {
            let subject = Subject { id: Some(id), name: &model.model_name, aliases: &model.aliases };
            if rules.iter().all(|rule| rule.models.grant_model(&rule.row.model_refs, &subject, local)) {
                walk.add(id, model)?;
            }
        }
        for (id, host) in view.families() {
            if rules.iter().all(|rule| rule.may_grant_of(host)) {
                walk.add_host(id, host)?;
            }
        }
        Some(Self { hosts: walk.hosts, models })
    }
}

/// A policy, its patterns ready to match.
struct Rule<'a> {
    row: &'a Policy,
    models: Lists,
    hosts: Lists,
}

impl<'a> Rule<'a> {
    /// Absent: it cannot be used by the namespace, or something of it has to be counted.
    fn of(view: &View<'a>, id: &ObjectRef) -> Option<Self> {
        let row = view.table.policies.get(id)?.usable()?;
        let is_fit = view.is_open(id, &row.allowed) && !is_counted(row);
        is_fit.then(|| Self { row, models: Lists::of_models(&row.models), hosts: Lists::of_hosts(&row.hosts) })
    }

    /// Whether it may grant a model that no Model names and a host takes by a pattern.
    fn may_grant_of(&self, host: &Host) -> bool {
        let patterns: Vec<Glob> = host.model_patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        self.models.allow.iter().filter(|allowed| allowed.namespace.is_none()).any(|allowed| match &allowed.glob {
            Glob::Exact(name) => patterns.iter().any(|pattern| pattern.matches(name)),
            Glob::Everything | Glob::Prefix(_) | Glob::General(_) => true,
        })
    }
}

/// The Models that keys under these policies may name, and those that may follow; absent: one of these is closed to the
/// namespace.
fn nameable<'a>(view: &View<'a>, rules: &[Rule<'a>]) -> Option<BTreeMap<&'a ObjectRef, &'a Model>> {
    let models = &view.table.models;
    let mut all: BTreeMap<_, _> = view.local().into_iter().flat_map(|namespace| view.visible(namespace)).collect();
    for rule in rules {
        let referred = rule.row.model_refs.iter().filter_map(|id| models.get_key_value(id));
        let referred = referred.filter_map(|(id, row)| Some((id, row.usable()?)));
        all.extend(referred.filter(|(id, model)| view.is_visible(id, model)));
        let elsewhere =
            rule.models.allow.iter().filter_map(|allowed| Some((allowed.namespace.as_deref()?, &allowed.glob)));
        for (namespace, glob) in elsewhere {
            let first = models.range(ObjectRef::new(namespace, "")..).next();
            let Some(namespace) = first.map(|(id, _)| id.namespace.as_str()).filter(|found| *found == namespace) else {
                continue;
            };
            all.extend(view.visible(namespace).filter(|(_, model)| names(model).any(|name| glob.matches(name))));
        }
        for id in rule.row.routing.fallbacks.iter().flat_map(|fallback| &fallback.to) {
            match models.get_key_value(id) {
                Some((id, Row::Usable(model))) if view.is_visible(id, model) => _ = all.insert(id, model),
                Some((id, Row::Invalid { .. })) if view.local().contains(id.namespace.as_str()) => {}
                Some(_) => return None,
                None => {}
            }
        }
    }
    Some(all)
}

/// Follows models to their hosts.
struct Walk<'a, 'v> {
    view: &'v View<'a>,
    rules: &'v [Rule<'a>],
    seen: BTreeSet<&'a ObjectRef>,
    hosts: BTreeSet<&'a ObjectRef>,
}

impl<'a> Walk<'a, '_> {
    /// All that a model leads to; absent where some of it cannot be served.
    fn add(&mut self, id: &'a ObjectRef, model: &'a Model) -> Option<()> {
        let mut left = vec![(id, model)];
        while let Some((id, model)) = left.pop() {
            if !self.seen.insert(id) {
                continue;
            }
            match &model.route {
                Route::Bindings(bindings) => {
                    for binding in bindings.iter().filter(|binding| binding.unusable.is_none()) {
                        if let Some((id, Row::Usable(host))) = self.view.table.hosts.get_key_value(&binding.host) {
                            self.add_host(id, host)?;
                        }
                    }
                }
                Route::Virtual { targets, .. } => {
                    for target in targets {
                        if let Some((id, Row::Usable(model))) = self.view.table.models.get_key_value(&target.model) {
                            self.view.is_open(id, &model.allowed).then_some(())?;
                            left.push((id, model));
                        }
                    }
                }
            }
        }
        Some(())
    }

    /// A host that may be asked, if the policies let it; absent where that takes more than the namespace has.
    fn add_host(&mut self, id: &'a ObjectRef, host: &'a Host) -> Option<()> {
        if self.rules.iter().all(|rule| rule.hosts.grant_host(id)) {
            (self.view.is_open(id, &host.allowed) && self.view.can_serve(id, host)).then_some(())?;
            self.hosts.insert(id);
        }
        Some(())
    }
}

impl View<'_> {
    /// Whether all that requests to a host need is the namespace's own. Who reaches a host without a key is decided by where
    /// requests come from, so one of another namespace is left to those who are let in.
    fn can_serve(&self, id: &ObjectRef, host: &Host) -> bool {
        let shows_foreign = self.credentials.client_certificates.contains_key(id) || host.auth == Auth::None;
        let is_drawable = |(id, key): &(&ObjectRef, &HostKey)| {
            let has_value = matches!(self.credentials.host_keys.get(*id), Some(Credential::Value(_)));
            self.is_own(id) && has_value && !is_bounded(&key.limits)
        };
        let pool = self.pools.get(id).map(Vec::as_slice).unwrap_or_default();
        !is_bounded(&host.limits) && (self.is_own(id) || !shows_foreign) && pool.iter().all(is_drawable)
    }
}
