//! Which namespaces an object consents to be named from.

use std::collections::BTreeMap;

use crds::{AllowedNamespaces, GrantFrom, LabelOperator, LabelRequirement, NamespaceSelector};
use table::NamespaceGrant;

use crate::Resources;

/// The label that Kubernetes puts on every namespace.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// The labels of every namespace that is known or has an object.
pub(crate) fn labels(resources: &Resources) -> BTreeMap<&str, BTreeMap<String, String>> {
    let mut all: BTreeMap<&str, BTreeMap<String, String>> =
        resources.namespaces.iter().map(|(name, labels)| (name.as_str(), labels.clone())).collect();
    // Objects are sorted, so those of a namespace stand together.
    let mut last = None;
    for (_, id) in resources.ids() {
        if last.replace(id.namespace.as_str()) != Some(&id.namespace) {
            all.entry(&id.namespace).or_default();
        }
    }
    for (namespace, labels) in &mut all {
        labels.insert(NAME_LABEL.to_owned(), (*namespace).to_owned());
    }
    all
}

/// What `allowedNamespaces` resolves to.
pub(crate) fn grant(
    labels: &BTreeMap<&str, BTreeMap<String, String>>,
    allowed: Option<&AllowedNamespaces>,
) -> NamespaceGrant {
    let Some(allowed) = allowed else { return NamespaceGrant::Same };
    match (allowed.from, &allowed.selector) {
        (GrantFrom::Same, _) | (GrantFrom::Selector, None) => NamespaceGrant::Same,
        (GrantFrom::All, _) => NamespaceGrant::All,
        (GrantFrom::Selector, Some(selector)) => {
            let chosen = labels.iter().filter(|(_, labels)| selects(selector, labels));
            NamespaceGrant::Listed(chosen.map(|(name, _)| (*name).to_owned()).collect())
        }
    }
}

/// Whether a selector matches. One without any condition matches nothing: a typing mistake must not open what is closed.
fn selects(selector: &NamespaceSelector, labels: &BTreeMap<String, String>) -> bool {
    let equals = selector.match_labels.iter().flatten();
    let requirements = selector.match_expressions.iter().flatten();
    let has_conditions = equals.clone().next().is_some() || requirements.clone().next().is_some();
    has_conditions
        && equals.into_iter().all(|(name, value)| labels.get(name) == Some(value))
        && requirements.into_iter().all(|requirement| meets(labels, requirement))
}

fn meets(labels: &BTreeMap<String, String>, requirement: &LabelRequirement) -> bool {
    let value = labels.get(&requirement.key);
    let is_listed = || value.is_some_and(|value| requirement.values.iter().flatten().any(|wanted| wanted == value));
    match requirement.operator {
        LabelOperator::In => is_listed(),
        LabelOperator::NotIn => !is_listed(),
        LabelOperator::Exists => value.is_some(),
        LabelOperator::DoesNotExist => value.is_none(),
    }
}
