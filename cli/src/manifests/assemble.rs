//! The objects of all files as one set of resources: two of one name cannot both stand.

use std::{collections::BTreeMap, sync::Arc};

use compiler::Resources;
use crds::Kind;
use table::ObjectRef;

use super::{
    Loaded, Place, Scope,
    document::{Manifests, Object},
    finding::{Finding, Severity},
};

/// The label that an API server puts on every namespace.
const NAMESPACE_LABEL: &str = "kubernetes.io/metadata.name";

/// Puts together what files say, in their order. Of two objects of one kind, namespace and name the first stands.
pub(crate) fn assemble<'a>(manifests: impl Iterator<Item = &'a Manifests>, scope: &Scope) -> Loaded {
    let mut loaded = Loaded::default();
    loaded.resources.catalog_namespace = scope.catalog().to_owned();
    let mut first: BTreeMap<(&'static str, ObjectRef), Place> = BTreeMap::new();
    for manifest in manifests {
        loaded.findings.extend(manifest.findings.iter().cloned());
        for (place, object) in &manifest.objects {
            let identity = object.identity();
            match first.get(&identity) {
                Some(earlier) => loaded.findings.push(repeated(place, earlier, &identity)),
                None => {
                    first.insert(identity, place.clone());
                    loaded.add(place, object);
                }
            }
        }
    }
    label_namespaces(&mut loaded.resources, first.keys().map(|(_, id)| id.namespace.as_str()), scope);
    loaded
}

fn repeated(place: &Place, earlier: &Place, (kind, id): &(&'static str, ObjectRef)) -> Finding {
    let message = format!(
        "metadata.name: `{}` is written a second time and this one is refused; the first is at {}: rename or remove one",
        id.name,
        earlier.shown()
    );
    Finding::of_field(place, "metadata.name", Severity::Refused, format!("{kind} {id}"), message)
}

/// Every namespace has the label of its name, as in a cluster, whether it has a manifest or not.
fn label_namespaces<'a>(resources: &mut Resources, used: impl Iterator<Item = &'a str>, scope: &'a Scope) {
    let names: Vec<String> = used
        .chain([scope.namespace.as_str(), scope.catalog()])
        .filter(|name| !name.is_empty())
        .map(str::to_owned)
        .collect();
    for name in names {
        let labels = resources.namespaces.entry(name.clone()).or_default();
        labels.insert(NAMESPACE_LABEL.to_owned(), name);
    }
}

impl Object {
    fn identity(&self) -> (&'static str, ObjectRef) {
        match self {
            Object::Host(id, _) => (Kind::Host.as_str(), id.clone()),
            Object::Model(id, _) => (Kind::Model.as_str(), id.clone()),
            Object::HostKey(id, _) => (Kind::HostKey.as_str(), id.clone()),
            Object::RelayKey(id, _) => (Kind::RelayKey.as_str(), id.clone()),
            Object::Policy(id, _) => (Kind::Policy.as_str(), id.clone()),
            Object::DataPlane(id) => (Kind::DataPlane.as_str(), id.clone()),
            Object::Malformed(malformed) => (malformed.kind.as_str(), malformed.id.clone()),
            Object::Secret(id, _) => ("Secret", id.clone()),
            Object::ConfigMap(id, _) => ("ConfigMap", id.clone()),
            Object::Namespace(name, _) => ("Namespace", ObjectRef::new("", name)),
        }
    }
}

impl Loaded {
    fn add(&mut self, place: &Place, object: &Object) {
        let (name, id) = object.identity();
        if let Some(kind) = Kind::from_name(name) {
            self.places.insert((kind, id), place.clone());
        }
        let resources = &mut self.resources;
        match object {
            Object::Host(id, host) => drop(resources.hosts.insert(id.clone(), host.clone())),
            Object::Model(id, model) => drop(resources.models.insert(id.clone(), model.clone())),
            Object::HostKey(id, key) => drop(resources.host_keys.insert(id.clone(), key.clone())),
            Object::RelayKey(id, key) => drop(resources.relay_keys.insert(id.clone(), key.clone())),
            Object::Policy(id, policy) => drop(resources.policies.insert(id.clone(), policy.clone())),
            Object::DataPlane(_) => {}
            Object::Malformed(malformed) => resources.malformed.push(malformed.clone()),
            Object::Secret(id, data) => drop(resources.secrets.insert(id.clone(), Arc::new(data.clone()))),
            Object::ConfigMap(id, data) => drop(resources.config_maps.insert(id.clone(), data.clone())),
            Object::Namespace(name, labels) => drop(resources.namespaces.insert(name.clone(), labels.clone())),
        }
    }
}
