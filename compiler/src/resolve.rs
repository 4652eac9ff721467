//! References between objects: what exists, and who consents to be named from another namespace.

use std::{
    cell::RefCell,
    collections::{BTreeMap, HashMap, HashSet},
    fmt::Display,
    sync::Arc,
};

use crds::{AllowedNamespaces, Kind};
use foldhash::fast::RandomState;
use table::{NamespaceGrant, ObjectRef, Row, Rows, Traits};

use crate::{
    Resources,
    findings::{Findings, Problem, Reports},
    grants::{self, grant},
    reports::Reason,
};

/// The resources, with what consent to be named resolves to.
pub(crate) struct World<'a> {
    pub(crate) resources: &'a Resources,
    grants: HashMap<(Kind, &'a ObjectRef), NamespaceGrant, RandomState>,
    malformed: HashSet<(Kind, &'a ObjectRef), RandomState>,
    /// What models take, by their upstream names: few names, many bindings.
    traits: RefCell<HashMap<String, Traits, RandomState>>,
}

impl<'a> World<'a> {
    pub(crate) fn of(resources: &'a Resources) -> Self {
        let labels = grants::labels(resources);
        let mut grants = HashMap::default();
        let mut add = |kind, id: &'a ObjectRef, allowed: &Option<AllowedNamespaces>| {
            grants.insert((kind, id), grant(&labels, allowed.as_ref()));
        };
        resources.hosts.iter().for_each(|(id, host)| add(Kind::Host, id, &host.spec.allowed_namespaces));
        resources.models.iter().for_each(|(id, model)| add(Kind::Model, id, &model.spec.allowed_namespaces));
        resources.host_keys.iter().for_each(|(id, key)| add(Kind::HostKey, id, &key.spec.allowed_namespaces));
        resources.policies.iter().for_each(|(id, policy)| add(Kind::Policy, id, &policy.spec.allowed_namespaces));
        let malformed = resources.malformed.iter().map(|malformed| (malformed.kind, &malformed.id)).collect();
        Self { resources, grants, malformed, traits: RefCell::default() }
    }

    /// What a model takes, by its upstream name.
    pub(crate) fn traits(&self, upstream_model: &str) -> Traits {
        let mut known = self.traits.borrow_mut();
        if let Some(traits) = known.get(upstream_model) {
            return traits.clone();
        }
        let traits = Traits::for_model(upstream_model);
        known.insert(upstream_model.to_owned(), traits.clone());
        traits
    }

    /// Who may name an object.
    pub(crate) fn grant(&self, kind: Kind, id: &ObjectRef) -> NamespaceGrant {
        self.grants.get(&(kind, id)).cloned().unwrap_or_default()
    }

    /// Whether an object exists that namespace `from` may name.
    pub(crate) fn is_open(&self, kind: Kind, id: &ObjectRef, from: &str) -> bool {
        let is_malformed = self.malformed.contains(&(kind, id));
        match self.grants.get(&(kind, id)) {
            Some(grant) if !is_malformed => grant.permits(&id.namespace, from),
            Some(_) | None => is_malformed && id.namespace == from,
        }
    }

    /// All rows of a kind: what `row` makes of each object that could be read, and those that could not be.
    pub(crate) fn rows<O, T>(
        &self,
        kind: Kind,
        objects: &'a BTreeMap<ObjectRef, Arc<O>>,
        reports: &mut Reports<'_>,
        mut row: impl FnMut(&'a ObjectRef, &'a O, &mut Findings) -> Row<T>,
    ) -> Rows<T> {
        let readable = objects.iter().zip(reports.in_order(kind));
        let readable = readable.filter(|((id, _), _)| !self.malformed.contains(&(kind, *id)));
        // Collected at once, because sorted rows make a map faster than one insertion after the other.
        let mut sorted = Vec::with_capacity(objects.len());
        sorted.extend(readable.map(|((id, object), found)| (id.clone(), row(id, object, found))));
        let mut rows: Rows<T> = sorted.into_iter().collect();
        for malformed in self.resources.malformed.iter().filter(|malformed| malformed.kind == kind) {
            rows.insert(malformed.id.clone(), Row::Invalid { reason: malformed.reason.clone() });
        }
        rows
    }

    /// The object that `reference`, standing in `field` of an object of namespace `from`, names.
    ///
    /// In another namespace a missing object and one that does not consent get the same words: a reference must not
    /// tell what exists there.
    pub(crate) fn follow(
        &self,
        kind: Kind,
        field: impl Display,
        from: &str,
        reference: &crds::ObjectRef,
    ) -> Result<ObjectRef, Problem> {
        let target = self.target(from, reference);
        if self.is_open(kind, &target, from) {
            return Ok(target);
        }
        let ObjectRef { namespace, name } = target;
        if namespace == from {
            let hint = self.hint(kind, from, &name);
            return Err((Reason::RefNotFound, format!("{field} `{name}` names no {kind} in namespace `{from}`{hint}")));
        }
        Err((
            Reason::RefNotPermitted,
            format!(
                "{field}: no {kind} `{name}` of namespace `{namespace}` is open to namespace `{from}`; its owner can \
                 open it with `spec.allowedNamespaces`"
            ),
        ))
    }

    /// What a reference means, whether or not it exists.
    pub(crate) fn target(&self, from: &str, reference: &crds::ObjectRef) -> ObjectRef {
        ObjectRef::new(reference.namespace.as_deref().unwrap_or(from), &reference.name)
    }

    /// A name that may have been meant: the same one of the catalog where it is open to `from`, or a near one.
    fn hint(&self, kind: Kind, from: &str, name: &str) -> String {
        let catalog = &self.resources.catalog_namespace;
        if catalog != from && self.is_open(kind, &ObjectRef::new(catalog, name), from) {
            return format!("; namespace `{catalog}` has one: add `namespace: {catalog}` to the reference");
        }
        did_you_mean_object(name, self.resources.names(kind, from))
    }
}

/// Among the names of more objects than this none is suggested. Ten thousand keys whose Secrets are still to be made would
/// each be compared with all that are there, which takes seconds.
const MOST_OBJECTS: usize = 256;

/// As [`did_you_mean`], of objects.
pub(crate) fn did_you_mean_object<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.take(MOST_OBJECTS + 1).collect();
    if known.len() > MOST_OBJECTS { String::new() } else { did_you_mean(written, known.into_iter()) }
}

/// A half-sentence that names the nearest of `known`, or nothing where none is near.
pub(crate) fn did_you_mean<'a>(written: &str, known: impl Iterator<Item = &'a str>) -> String {
    crds::nearest(written, known).map_or_else(String::new, |near| format!("; did you mean `{near}`?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_suggested_among_very_many() {
        let names: Vec<String> = (0..=MOST_OBJECTS).map(|n| format!("app-{n}")).collect();
        let known = || names.iter().map(String::as_str);
        assert_eq!(did_you_mean_object("app-x", known().take(MOST_OBJECTS)), "; did you mean `app-0`?");
        assert_eq!(did_you_mean_object("app-x", known()), "");
    }
}
