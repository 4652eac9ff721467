//! Patterns of Policies that match nothing, usually because of a typing mistake. Only a warning: what they match may come
//! later. Looks no further than the Policy's own namespace can see.

use std::collections::BTreeMap;

use crds::Kind;
use table::{Binding, Glob, Host, ObjectRef, Policy, Route, RoutingTable, Row};

use crate::{
    findings::Reports,
    resolve::{World, did_you_mean},
};

/// How many patterns a status lists, and how long each may be.
const MOST: usize = 16;
const LONGEST: usize = 320;

pub(crate) fn note(world: &World<'_>, table: &RoutingTable, reports: &mut Reports<'_>) {
    let all = Everything::of(table);
    let mut seen: BTreeMap<&str, Visible<'_>> = BTreeMap::new();
    for (id, row) in &table.policies {
        let Row::Usable(policy) = row else { continue };
        let visible = seen.entry(&id.namespace).or_insert_with(|| all.visible_to(world, &id.namespace));
        reports.of(Kind::Policy, id).unmatched(unmatched(policy, visible));
    }
}

fn unmatched(policy: &Policy, visible: &Visible<'_>) -> Vec<String> {
    let models = [("spec.models.allow", &policy.models.allow), ("spec.models.deny", &policy.models.deny)];
    let hosts = [("spec.hosts.allow", &policy.hosts.allow), ("spec.hosts.deny", &policy.hosts.deny)];
    let mut found = Vec::new();
    for (field, globs) in models {
        let globs = globs.iter().enumerate().filter(|(_, glob)| !visible.has_model(glob));
        found.extend(globs.map(|(at, glob)| words(&format!("{field}[{at}]"), glob, &visible.ids)));
    }
    for (field, globs) in hosts {
        let globs = globs.iter().enumerate().filter(|(_, glob)| !visible.has_host(glob));
        found.extend(globs.map(|(at, glob)| words(&format!("{field}[{at}]"), glob, &visible.host_names)));
    }
    let limited = policy.per_model.iter().map(|own| &own.matches).enumerate();
    let limited = limited.filter(|(_, glob)| !visible.has_model(glob));
    found.extend(limited.map(|(at, glob)| words(&format!("spec.limits.perModel[{at}].match"), glob, &visible.ids)));
    let replaced = policy.routing.fallbacks.iter().map(|fallback| &fallback.matches).enumerate();
    let replaced = replaced.filter(|(_, glob)| !visible.has_model(glob));
    found.extend(replaced.map(|(at, glob)| words(&format!("spec.routing.fallbacks[{at}].match"), glob, &visible.ids)));
    found.truncate(MOST);
    found
}

fn words(field: &str, glob: &str, known: &[&str]) -> String {
    let plain = format!("{field} `{glob}`");
    let hinted = format!("{plain}{}", did_you_mean(glob, known.iter().copied()));
    let chosen = if hinted.len() <= LONGEST { hinted } else { plain };
    chosen.chars().take(LONGEST).collect()
}

/// What there is to be seen, in an order that each namespace's part of it keeps.
struct Everything<'a> {
    hosts: Vec<(&'a ObjectRef, &'a Row<Host>)>,
    models: Vec<Seen<'a>>,
    /// Ids of Models, sorted, each with the place of its Model.
    ids: Vec<(&'a str, usize)>,
}

/// A usable Model.
struct Seen<'a> {
    id: &'a ObjectRef,
    /// Places of the Hosts that serve it.
    hosts: Vec<usize>,
}

impl<'a> Everything<'a> {
    fn of(table: &'a RoutingTable) -> Self {
        let hosts: Vec<_> = table.hosts.iter().collect();
        let (mut models, mut ids) = (Vec::new(), Vec::new());
        for (id, model) in table.models.iter().filter_map(|(id, row)| Some((id, row.usable()?))) {
            let names = model.aliases.iter().chain([&model.model_name]);
            ids.extend(names.map(|name| (name.as_str(), models.len())));
            let bindings: &[Binding] = match &model.route {
                Route::Bindings(bindings) => bindings,
                Route::Virtual { .. } => &[],
            };
            let named = bindings.iter().filter(|binding| binding.unusable.is_none());
            let at = |binding: &Binding| hosts.binary_search_by_key(&&binding.host, |(id, _)| id).ok();
            models.push(Seen { id, hosts: named.filter_map(at).collect() });
        }
        ids.sort_unstable();
        Self { hosts, models, ids }
    }

    fn visible_to(&self, world: &World<'_>, namespace: &str) -> Visible<'a> {
        let catalog = &world.resources.catalog_namespace;
        let is_near = |id: &ObjectRef| id.namespace == namespace || id.namespace == *catalog;
        let is_visible = |model: &Seen<'_>| is_near(model.id) && world.is_open(Kind::Model, model.id, namespace);
        let models: Vec<bool> = self.models.iter().map(is_visible).collect();
        let mut ids: Vec<&str> = self.ids.iter().filter(|(_, at)| models[*at]).map(|(id, _)| *id).collect();
        ids.dedup();

        let mut hosts: Vec<bool> = self.hosts.iter().map(|(id, _)| world.is_open(Kind::Host, id, namespace)).collect();
        let open = self.hosts.iter().zip(&hosts).filter(|(_, is_open)| **is_open);
        let families = open.filter_map(|((_, row), _)| row.usable()).flat_map(|host| &host.model_patterns);
        let families = families.map(String::as_str).collect();
        for (model, _) in self.models.iter().zip(&models).filter(|(_, is_visible)| **is_visible) {
            model.hosts.iter().for_each(|at| hosts[*at] = true);
        }
        let hosts: Vec<_> =
            self.hosts.iter().zip(hosts).filter(|(_, is_seen)| *is_seen).map(|((id, _), _)| *id).collect();
        let mut host_names: Vec<&str> = hosts.iter().map(|id| id.name.as_str()).collect();
        host_names.sort_unstable();
        host_names.dedup();
        Visible { ids, families, hosts, host_names }
    }
}

/// What a namespace can see: its own Models and those of the catalog, and the Hosts that are open to it or serve these.
struct Visible<'a> {
    /// Sorted, as are the names of Hosts.
    ids: Vec<&'a str>,
    families: Vec<&'a str>,
    hosts: Vec<&'a ObjectRef>,
    host_names: Vec<&'a str>,
}

impl Visible<'_> {
    fn has_model(&self, pattern: &str) -> bool {
        let has_id = match Glob::new(pattern) {
            Glob::Everything => return true,
            Glob::Exact(id) => self.ids.binary_search(&id.as_str()).is_ok(),
            Glob::Prefix(prefix) => {
                let first = self.ids.partition_point(|id| *id < prefix.as_str());
                self.ids.get(first).is_some_and(|id| id.starts_with(prefix.as_str()))
            }
            glob @ Glob::General(_) => self.ids.iter().any(|id| glob.matches(id)),
        };
        has_id || self.families.iter().any(|family| may_overlap(pattern, family))
    }

    /// A pattern with a slash is about a namespace and a name.
    fn has_host(&self, pattern: &str) -> bool {
        match pattern.split_once('/') {
            Some((namespace, name)) => {
                let (namespace, name) = (Glob::new(namespace), Glob::new(name));
                self.hosts.iter().any(|id| namespace.matches(&id.namespace) && name.matches(&id.name))
            }
            None => {
                let glob = Glob::new(pattern);
                glob == Glob::Everything || self.host_names.iter().any(|name| glob.matches(name))
            }
        }
    }
}

/// Whether two patterns can match the same text, judged by what stands before their first wildcard.
fn may_overlap(one: &str, other: &str) -> bool {
    let stem = |pattern: &str| pattern.split(['*', '?']).next().unwrap_or_default().to_owned();
    match (one.contains(['*', '?']), other.contains(['*', '?'])) {
        (false, _) => Glob::new(other).matches(one),
        (true, false) => Glob::new(one).matches(other),
        (true, true) => {
            let (one, other) = (stem(one), stem(other));
            one.starts_with(&other) || other.starts_with(&one)
        }
    }
}
