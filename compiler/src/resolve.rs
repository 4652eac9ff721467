//! References between objects: what exists, and who consents to be named from another namespace.

use std::collections::BTreeMap;

use crds::{AllowedNamespaces, GrantFrom, Kind, LabelOperator, LabelRequirement};
use table::{NamespaceGrant, ObjectRef, Secret};

use crate::{Resources, reports::Reason, suggest::did_you_mean};

/// The resources, with what consent to be named resolves to.
pub(crate) struct World<'a> {
    pub(crate) resources: &'a Resources,
    grants: BTreeMap<(Kind, &'a ObjectRef), NamespaceGrant>,
}

/// Why a reference cannot be followed.
pub(crate) type Problem = (Reason, String);

impl<'a> World<'a> {
    pub(crate) fn of(resources: &'a Resources) -> Self {
        let mut grants = BTreeMap::new();
        let mut add = |kind, id: &'a ObjectRef, allowed: &Option<AllowedNamespaces>| {
            grants.insert((kind, id), grant(resources, allowed.as_ref()));
        };
        resources.hosts.iter().for_each(|(id, host)| add(Kind::Host, id, &host.spec.allowed_namespaces));
        resources.models.iter().for_each(|(id, model)| add(Kind::Model, id, &model.spec.allowed_namespaces));
        resources.host_keys.iter().for_each(|(id, key)| add(Kind::HostKey, id, &key.spec.allowed_namespaces));
        resources.policies.iter().for_each(|(id, policy)| add(Kind::Policy, id, &policy.spec.allowed_namespaces));
        Self { resources, grants }
    }

    /// Who may name an object.
    pub(crate) fn grant(&self, kind: Kind, id: &ObjectRef) -> NamespaceGrant {
        self.grants.get(&(kind, id)).cloned().unwrap_or_default()
    }

    /// The object that `reference`, standing in `field` of an object of namespace `from`, names.
    ///
    /// In another namespace a missing object and one that does not consent get the same words: a reference must not
    /// tell what exists there.
    pub(crate) fn follow(
        &self,
        kind: Kind,
        field: &str,
        from: &str,
        reference: &crds::ObjectRef,
    ) -> Result<ObjectRef, Problem> {
        let namespace = reference.namespace.as_deref().unwrap_or(from);
        let target = ObjectRef::new(namespace, &reference.name);
        let known = self.grants.get(&(kind, &target));
        if namespace == from {
            return match known {
                Some(_) => Ok(target),
                None if self.is_malformed(kind, &target) => Ok(target),
                None => {
                    let names = self.grants.keys().filter(|(of, id)| *of == kind && id.namespace == from);
                    let hint = did_you_mean(&reference.name, names.map(|(_, id)| id.name.as_str()));
                    let name = &reference.name;
                    Err((Reason::RefNotFound, format!("{field} `{name}` names no {kind} in namespace `{from}`{hint}")))
                }
            };
        }
        if known.is_some_and(|grant| grant.permits(namespace, from)) {
            return Ok(target);
        }
        let name = &reference.name;
        Err((
            Reason::RefNotPermitted,
            format!(
                "{field}: no {kind} `{name}` of namespace `{namespace}` is open to namespace `{from}`; its owner can \
                 allow it with `spec.allowedNamespaces`"
            ),
        ))
    }

    fn is_malformed(&self, kind: Kind, id: &ObjectRef) -> bool {
        self.resources.malformed.iter().any(|malformed| malformed.kind == kind && malformed.id == *id)
    }

    /// A text of a Secret in `namespace`, and whether white space around it was cut off. The text is never in the error.
    pub(crate) fn secret(
        &self,
        field: &str,
        namespace: &str,
        name: &str,
        key: &str,
    ) -> Result<(Secret<String>, bool), Problem> {
        let id = ObjectRef::new(namespace, name);
        let Some(data) = self.resources.secrets.get(&id) else {
            let names = self.resources.secrets.keys().filter(|id| id.namespace == namespace);
            let hint = did_you_mean(name, names.map(|id| id.name.as_str()));
            let message = format!("{field}: there is no Secret `{name}` in namespace `{namespace}`{hint}");
            return Err((Reason::SecretNotFound, message));
        };
        let Some(value) = data.get(key) else {
            let hint = did_you_mean(key, data.keys().map(String::as_str));
            return Err((Reason::SecretKeyMissing, format!("{field}: Secret `{name}` has no key `{key}`{hint}")));
        };
        let Ok(text) = std::str::from_utf8(value.expose()) else {
            let message = format!("{field}: key `{key}` of Secret `{name}` is not text (UTF-8)");
            return Err((Reason::Invalid, message));
        };
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Err((Reason::SecretEmpty, format!("{field}: key `{key}` of Secret `{name}` is empty")));
        }
        Ok((Secret::new(trimmed.to_owned()), trimmed.len() != text.len()))
    }
}

fn grant(resources: &Resources, allowed: Option<&AllowedNamespaces>) -> NamespaceGrant {
    let Some(allowed) = allowed else { return NamespaceGrant::Same };
    match allowed.from {
        GrantFrom::Same => NamespaceGrant::Same,
        GrantFrom::All => NamespaceGrant::All,
        GrantFrom::Selector => {
            let Some(selector) = &allowed.selector else { return NamespaceGrant::Same };
            let matches = |labels: &BTreeMap<String, String>| {
                let equal = selector.match_labels.iter().flatten().all(|(name, value)| labels.get(name) == Some(value));
                equal && selector.match_expressions.iter().flatten().all(|requirement| meets(labels, requirement))
            };
            let chosen = resources.namespaces.iter().filter(|(_, labels)| matches(labels));
            NamespaceGrant::Listed(chosen.map(|(name, _)| name.clone()).collect())
        }
    }
}

fn meets(labels: &BTreeMap<String, String>, requirement: &LabelRequirement) -> bool {
    let value = labels.get(&requirement.key);
    let listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|wanted| wanted == value));
    match requirement.operator {
        LabelOperator::In => listed(),
        LabelOperator::NotIn => !listed(),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}
