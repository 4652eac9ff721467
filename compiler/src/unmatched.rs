//! Patterns of Policies that match nothing, usually because of a typing mistake. Only a warning: what they match may come
//! later. Looks no further than the Policy's own namespace can see.

use std::collections::{BTreeMap, BTreeSet};

use crds::Kind;
use table::{Glob, Model, ObjectRef, Policy, Route, RoutingTable, Row};

use crate::{
    findings::Reports,
    resolve::{World, did_you_mean},
};

/// How many patterns a status lists, and how long each may be.
const MOST: usize = 16;
const LONGEST: usize = 320;

pub(crate) fn note(world: &World<'_>, table: &RoutingTable, reports: &mut Reports<'_>) {
    let mut seen: BTreeMap<&str, Visible<'_>> = BTreeMap::new();
    for (id, row) in &table.policies {
        let Row::Usable(policy) = row else { continue };
        let visible = seen.entry(&id.namespace).or_insert_with(|| Visible::from(world, table, &id.namespace));
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

fn words(field: &str, glob: &str, known: &BTreeSet<&str>) -> String {
    let plain = format!("{field} `{glob}`");
    let hinted = format!("{plain}{}", did_you_mean(glob, known.iter().copied()));
    let chosen = if hinted.len() <= LONGEST { hinted } else { plain };
    chosen.chars().take(LONGEST).collect()
}

/// What a namespace can see: its own Models and those of the catalog, and the Hosts that are open to it or serve these.
struct Visible<'a> {
    ids: BTreeSet<&'a str>,
    families: Vec<&'a str>,
    hosts: BTreeSet<&'a ObjectRef>,
    host_names: BTreeSet<&'a str>,
}

impl<'a> Visible<'a> {
    fn from(world: &World<'_>, table: &'a RoutingTable, namespace: &str) -> Self {
        let catalog = &world.resources.catalog_namespace;
        let models = table.models.iter().filter_map(|(id, row)| Some((id, row.usable()?)));
        let models: Vec<(&ObjectRef, &Model)> = models
            .filter(|(id, _)| id.namespace == namespace || id.namespace == *catalog)
            .filter(|(id, _)| world.is_open(Kind::Model, id, namespace))
            .collect();
        let names = models.iter().flat_map(|(_, model)| model.aliases.iter().chain([&model.model_name]));
        let ids = names.map(String::as_str).collect();
        let open = table.hosts.keys().filter(|id| world.is_open(Kind::Host, id, namespace));
        let mut hosts: BTreeSet<&ObjectRef> = open.collect();
        let families = hosts.iter().filter_map(|id| table.hosts.get(*id)?.usable());
        let families = families.flat_map(|host| &host.model_patterns).map(String::as_str).collect();
        for (_, model) in models {
            if let Route::Bindings(bindings) = &model.route {
                hosts.extend(bindings.iter().filter(|binding| binding.unusable.is_none()).map(|binding| &binding.host));
            }
        }
        let host_names = hosts.iter().map(|id| id.name.as_str()).collect();
        Self { ids, families, hosts, host_names }
    }

    fn has_model(&self, pattern: &str) -> bool {
        let has_id = match Glob::new(pattern) {
            Glob::Everything => return true,
            Glob::Exact(id) => self.ids.contains(id.as_str()),
            Glob::Prefix(prefix) => {
                self.ids.range(prefix.as_str()..).next().is_some_and(|id| id.starts_with(prefix.as_str()))
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
