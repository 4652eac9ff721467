//! The numbers and lists that each kind's status has besides its conditions, read off the routing table alone.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use compiler::Report;
use crds::{BindingStatus, Kind};
use serde_json::{Map, Value, json};
use table::{Auth, Binding, Glob, Host, Model, ObjectRef, Policy, RelayKey, Route, RoutingTable, Rows, Visibility};

/// How many bindings a status lists.
const MOST_BINDINGS: usize = 16;

/// What is said of every object, by kind and name.
#[derive(Debug, Default)]
pub struct Facts([HashMap<ObjectRef, Map<String, Value>>; Kind::ALL.len()]);

impl Facts {
    /// Reads the table. Policies also tell the patterns of theirs that match nothing, which their reports have.
    pub fn of(table: &RoutingTable, reports: &[Report]) -> Self {
        let view = View::of(table);
        let mut facts = Self::default();
        for (id, _) in usable(&table.hosts) {
            facts.put(Kind::Host, id, view.host(id));
        }
        for (id, model) in usable(&table.models) {
            facts.put(Kind::Model, id, view.model(model));
        }
        let mut granted: HashMap<(&str, &[ObjectRef]), usize> = HashMap::new();
        for (id, key) in usable(&table.relay_keys) {
            let known = granted.entry((&id.namespace, &key.policies)).or_insert_with(|| view.effective(id, key));
            facts.put(Kind::RelayKey, id, json!({"effectiveModels": *known}));
        }
        for (id, policy) in usable(&table.policies) {
            let keys = view.keys_of_policies.get(id).copied().unwrap_or(0);
            facts.put(Kind::Policy, id, json!({"keys": keys, "models": view.granted(&id.namespace, &[policy])}));
        }
        for report in reports.iter().filter(|report| !report.unmatched_globs.is_empty()) {
            let own = facts.0[report.kind as usize].entry(report.id.clone()).or_default();
            own.insert("unmatchedGlobs".to_owned(), json!(report.unmatched_globs));
        }
        facts
    }

    /// The fields of one object's status.
    pub fn fields(&self, kind: Kind, id: &ObjectRef) -> Map<String, Value> {
        self.0[kind as usize].get(id).cloned().unwrap_or_default()
    }

    fn put(&mut self, kind: Kind, id: &ObjectRef, fields: Value) {
        if let Value::Object(fields) = crds::without_nulls(&fields) {
            self.0[kind as usize].insert(id.clone(), fields);
        }
    }
}

fn usable<T>(rows: &Rows<T>) -> impl Iterator<Item = (&ObjectRef, &T)> {
    rows.iter().filter_map(|(id, row)| Some((id, row.usable()?)))
}

/// The table, counted.
struct View<'a> {
    table: &'a RoutingTable,
    /// By Host: all keys, and those that could be drawn.
    keys: BTreeMap<&'a ObjectRef, (usize, usize)>,
    models_of_hosts: BTreeMap<&'a ObjectRef, usize>,
    keys_of_policies: BTreeMap<&'a ObjectRef, usize>,
}

impl<'a> View<'a> {
    fn of(table: &'a RoutingTable) -> Self {
        let mut view =
            Self { table, keys: BTreeMap::new(), models_of_hosts: BTreeMap::new(), keys_of_policies: BTreeMap::new() };
        for (_, key) in usable(&table.host_keys) {
            let (total, ready) = view.keys.entry(&key.host).or_default();
            *total += 1;
            *ready += usize::from(!key.suspended);
        }
        for (_, model) in usable(&table.models) {
            let hosts: BTreeSet<&ObjectRef> = bindings(model).iter().map(|binding| &binding.host).collect();
            for host in hosts {
                *view.models_of_hosts.entry(host).or_default() += 1;
            }
        }
        for (_, key) in usable(&table.relay_keys) {
            for policy in &key.policies {
                *view.keys_of_policies.entry(policy).or_default() += 1;
            }
        }
        view
    }

    fn host(&self, id: &ObjectRef) -> Value {
        let (total, ready) = self.keys.get(id).copied().unwrap_or_default();
        let models = self.models_of_hosts.get(id).copied().unwrap_or(0);
        json!({"keys": {"total": total, "ready": ready}, "models": models})
    }

    fn model(&self, model: &Model) -> Value {
        let bindings: Vec<BindingStatus> = bindings(model).iter().map(|binding| self.binding(binding)).collect();
        if bindings.is_empty() {
            return json!({"modelName": model.model_name});
        }
        let ready = bindings.iter().filter(|binding| binding.ready).count();
        let listed = &bindings[..bindings.len().min(MOST_BINDINGS)];
        json!({"modelName": model.model_name, "bindings": listed, "hosts": ready})
    }

    fn binding(&self, binding: &Binding) -> BindingStatus {
        let reason = self.obstacle(binding);
        BindingStatus { name: binding.name.clone(), ready: reason.is_none(), reason: reason.map(str::to_owned) }
    }

    /// Why a binding cannot serve, as the compiler judges it in the Model's own conditions.
    fn obstacle(&self, binding: &Binding) -> Option<&'static str> {
        if binding.unusable.is_some() {
            return Some("Invalid");
        }
        if binding.suspended {
            return Some("Paused");
        }
        let host = self.table.hosts.get(&binding.host)?.usable()?;
        let has_key = self.keys.get(&binding.host).is_some_and(|(_, ready)| *ready > 0);
        match host {
            Host { suspended: true, .. } => Some("HostDisabled"),
            Host { auth: Auth::None, .. } => None,
            _ if has_key => None,
            _ => Some("NoHealthyKey"),
        }
    }

    fn effective(&self, id: &ObjectRef, key: &RelayKey) -> usize {
        if key.unusable.is_some() {
            return 0;
        }
        let policies = key.policies.iter().filter_map(|id| self.table.policies.get(id)?.usable());
        let policies: Vec<&Policy> = policies.collect();
        if policies.len() == key.policies.len() { self.granted(&id.namespace, &policies) } else { 0 }
    }

    /// How many Models callers of a namespace may use under all of these policies: as data planes judge each request.
    fn granted(&self, namespace: &str, policies: &[&Policy]) -> usize {
        let policies: Vec<Patterns<'_>> = policies.iter().map(|policy| Patterns::of(policy)).collect();
        let local = [namespace, self.table.settings.catalog_namespace.as_str()];
        let is_granted = |(id, model): &(&ObjectRef, &Model)| {
            model.visibility == Visibility::Public
                && model.allowed.permits(&id.namespace, namespace)
                && policies.iter().all(|policy| policy.grants(id, model, local))
        };
        usable(&self.table.models).filter(is_granted).count()
    }
}

fn bindings(model: &Model) -> &[Binding] {
    match &model.route {
        Route::Bindings(bindings) => bindings,
        Route::Virtual { .. } => &[],
    }
}

/// The patterns of a policy over Models, ready to match.
struct Patterns<'a> {
    policy: &'a Policy,
    allow: Vec<Glob>,
    deny: Vec<Glob>,
}

impl<'a> Patterns<'a> {
    fn of(policy: &'a Policy) -> Self {
        let read = |patterns: &[String]| patterns.iter().map(|pattern| Glob::new(pattern)).collect();
        Self { policy, allow: read(&policy.models.allow), deny: read(&policy.models.deny) }
    }

    /// Patterns allow Models of `local` namespaces alone; those of others have to be referred to. A denial holds anywhere.
    fn grants(&self, id: &ObjectRef, model: &Model, local: [&str; 2]) -> bool {
        let names = || model.aliases.iter().chain([&model.model_name]);
        let is_matched = |globs: &[Glob]| globs.iter().any(|glob| names().any(|name| glob.matches(name)));
        let is_allowed = local.contains(&id.namespace.as_str()) && is_matched(&self.allow);
        !is_matched(&self.deny) && (is_allowed || self.policy.model_refs.contains(id))
    }
}

#[cfg(test)]
mod tests;
