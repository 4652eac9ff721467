//! Patterns of Policies that match nothing, usually because of a typing mistake. Only a warning: what they match may come
//! later. Looks no further than the Policy's own namespace can see.

use std::{
    collections::{BTreeMap, HashMap},
    rc::Rc,
};

use crds::Kind;
use foldhash::fast::RandomState;
use table::{Binding, Glob, Host, NamespaceGrant, ObjectRef, Policy, Route, RoutingTable, Row};

use crate::{
    findings::Reports,
    resolve::{World, did_you_mean},
};

/// How many patterns a status lists, and how long each may be.
const MOST: usize = 16;
const LONGEST: usize = 320;

pub(crate) fn note(world: &World<'_>, table: &RoutingTable, reports: &mut Reports<'_>) {
    let all = Everything::of(table);
    let mut seen: BTreeMap<&str, Rc<Visible<'_>>> = BTreeMap::new();
    // What most namespaces see is the same.
    let mut parts: HashMap<Part, Rc<Visible<'_>>, RandomState> = HashMap::default();
    for (id, row) in &table.policies {
        let Row::Usable(policy) = row else { continue };
        let visible = seen.entry(&id.namespace).or_insert_with(|| {
            let part = all.visible_to(world, &id.namespace);
            let visible = parts.entry(part).or_insert_with_key(|part| Rc::new(all.part(part)));
            visible.clone()
        });
        let globs = unmatched(policy, visible);
        if !globs.is_empty() {
            reports.of(Kind::Policy, id).unmatched(globs);
        }
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
    allowed: &'a NamespaceGrant,
    is_in_catalog: bool,
    /// Places of the Hosts that serve it.
    hosts: Vec<usize>,
}

/// Which of all Hosts and Models somebody sees.
#[derive(PartialEq, Eq, Hash)]
struct Part {
    hosts: Vec<bool>,
    models: Vec<bool>,
}

impl<'a> Everything<'a> {
    fn of(table: &'a RoutingTable) -> Self {
        let hosts: Vec<_> = table.hosts.iter().collect();
        let places: HashMap<&ObjectRef, usize, RandomState> =
            hosts.iter().enumerate().map(|(at, (id, _))| (*id, at)).collect();
        let (mut models, mut ids) = (Vec::new(), Vec::new());
        for (id, model) in table.models.iter().filter_map(|(id, row)| Some((id, row.usable()?))) {
            let names = model.aliases.iter().chain([&model.model_name]);
            ids.extend(names.map(|name| (name.as_str(), models.len())));
            let bindings: &[Binding] = match &model.route {
                Route::Bindings(bindings) => bindings,
                Route::Virtual { .. } => &[],
            };
            let named = bindings.iter().filter(|binding| binding.unusable.is_none());
            let hosts = named.filter_map(|binding| places.get(&binding.host).copied()).collect();
            let is_in_catalog = id.namespace == table.settings.catalog_namespace;
            models.push(Seen { id, allowed: &model.allowed, is_in_catalog, hosts });
        }
        ids.sort_unstable();
        Self { hosts, models, ids }
    }

    fn visible_to(&self, world: &World<'_>, namespace: &str) -> Part {
        let is_visible = |Seen { id, allowed, is_in_catalog, .. }: &Seen<'_>| {
            (*is_in_catalog || id.namespace == namespace) && allowed.permits(&id.namespace, namespace)
        };
        let is_open = |(id, row): &(&ObjectRef, &Row<Host>)| match row {
            Row::Usable(host) => host.allowed.permits(&id.namespace, namespace),
            Row::Invalid { .. } => world.is_open(Kind::Host, id, namespace),
        };
        let (hosts, models) = (self.hosts.iter().map(is_open), self.models.iter().map(is_visible));
        Part { hosts: hosts.collect(), models: models.collect() }
    }

    fn part(&self, Part { hosts, models }: &Part) -> Visible<'a> {
        let mut ids: Vec<&str> = self.ids.iter().filter(|(_, at)| models[*at]).map(|(id, _)| *id).collect();
        ids.dedup();

        let mut hosts = hosts.clone();
        let open = self.hosts.iter().zip(&hosts).filter(|(_, is_open)| **is_open);
        let families = open.filter_map(|((_, row), _)| row.usable()).flat_map(|host| &host.model_patterns);
        let families = families.map(String::as_str).collect();
        for (model, _) in self.models.iter().zip(models).filter(|(_, is_visible)| **is_visible) {
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
