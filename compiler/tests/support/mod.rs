//! Manifests as a user writes them, made into resources the way a directory of them is.

use std::{collections::BTreeMap, sync::Arc};

use compiler::{Malformed, Resources};
use crds::Kind;
use k8s_openapi::api::core::v1;
use serde::de::DeserializeOwned;
use serde_json::Value;
use table::{ObjectRef, Secret};

/// Where objects are that do not say.
pub(crate) const NAMESPACE: &str = "team-a";

/// The namespace that all share.
pub(crate) const CATALOG: &str = "catalog";

/// The resources of a YAML text with any number of documents. Where the first line is `# unchecked`, the schema does not
/// judge them: an API server keeps objects that were let in by an older schema.
pub(crate) fn resources(text: &str) -> Resources {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).expect("the case is YAML");
    let mut resources = Resources { catalog_namespace: CATALOG.to_owned(), ..Resources::default() };
    let is_checked = !text.starts_with("# unchecked");
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        add(&mut resources, document, is_checked);
    }
    resources
}

fn add(resources: &mut Resources, document: Value, is_checked: bool) {
    let name = document["kind"].as_str().unwrap_or_default().to_owned();
    let id = id(&document);
    let Some(kind) = Kind::from_name(&name) else { return add_builtin(resources, &name, id, document) };
    let violations = if is_checked { crds::validate_schema(kind, &document) } else { Vec::new() };
    if !violations.is_empty() {
        let reasons: Vec<String> = violations.iter().map(ToString::to_string).collect();
        return resources.malformed.push(Malformed { kind, id, reason: reasons.join("; ") });
    }
    match kind {
        Kind::Host => insert(&mut resources.hosts, id, document),
        Kind::Model => insert(&mut resources.models, id, document),
        Kind::HostKey => insert(&mut resources.host_keys, id, document),
        Kind::RelayKey => insert(&mut resources.relay_keys, id, document),
        Kind::Policy => insert(&mut resources.policies, id, document),
        Kind::DataPlane => {}
    }
}

fn add_builtin(resources: &mut Resources, kind: &str, id: ObjectRef, document: Value) {
    match kind {
        "Secret" => {
            let secret: v1::Secret = read(document);
            let bytes = secret.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0));
            let texts = secret.string_data.unwrap_or_default().into_iter().map(|(key, text)| (key, text.into_bytes()));
            let data = bytes.chain(texts).map(|(key, value)| (key, Secret::new(value))).collect();
            resources.secrets.insert(id, Arc::new(data));
        }
        "ConfigMap" => {
            let map: v1::ConfigMap = read(document);
            resources.config_maps.insert(id, map.data.unwrap_or_default());
        }
        "Namespace" => {
            let namespace: v1::Namespace = read(document);
            resources.namespaces.insert(id.name, namespace.metadata.labels.unwrap_or_default());
        }
        other => panic!("the case has a `{other}`"),
    }
}

fn id(document: &Value) -> ObjectRef {
    let metadata = &document["metadata"];
    let text = |field: &str| metadata[field].as_str().map(str::to_owned);
    ObjectRef::new(text("namespace").unwrap_or_else(|| NAMESPACE.to_owned()), text("name").unwrap_or_default())
}

fn insert<T: DeserializeOwned>(objects: &mut BTreeMap<ObjectRef, T>, id: ObjectRef, document: Value) {
    let earlier = objects.insert(id.clone(), read(crds::without_nulls(&document)));
    assert!(earlier.is_none(), "the case has {id} twice");
}

fn read<T: DeserializeOwned>(document: Value) -> T {
    serde_json::from_value(document).expect("what the schema lets through can be read")
}
