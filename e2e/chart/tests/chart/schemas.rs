//! What the API server itself makes of every combination: kubeconform by the schemas that it publishes, and a rehearsal of
//! applying it. Definitions of other projects' kinds are installed first, as a cluster has them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use chart::{Combination, Helm, NAMESPACE, definitions, kubeconform, objects};
use plane::Plane;
use serde_json::{Map, Value, json};
use tempfile::tempdir;

#[test]
fn every_combination_conforms_to_the_schemas_that_the_api_server_publishes() {
    let Some(plane) = defined() else { return };
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let rendered: Vec<(String, String)> =
        Combination::all().iter().map(|each| (each.name.clone(), each.rendered(&helm, &[]))).collect();
    let wanted: BTreeSet<(String, String)> =
        rendered.iter().flat_map(|(_, text)| objects(text)).map(|object| kind(&object)).collect();
    let folder = home.path().join("schemas");
    publish(plane, &wanted, &folder);
    let location =
        format!("{}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json", folder.display());
    for (name, text) in rendered {
        let said = kubeconform()
            .attempt(&["-strict", "-summary", "-output", "json", "-schema-location", &location, "-"], &text)
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let summary: Value = serde_json::from_str(&said).expect("it prints JSON");
        assert_eq!(summary["summary"]["valid"], objects(&text).len(), "{name}: {said}");
    }
}

#[test]
fn what_a_schema_forbids_is_found() {
    let Some(plane) = defined() else { return };
    let home = tempdir().expect("a folder is made");
    let folder = home.path().join("schemas");
    let wanted = [("monitoring.coreos.com/v1", "ServiceMonitor"), ("v1", "Service"), ("llmrelay.io/v1alpha1", "Host")];
    publish(plane, &wanted.map(|(version, kind)| (version.to_owned(), kind.to_owned())).into(), &folder);
    let location =
        format!("{}/{{{{.Group}}}}_{{{{.ResourceAPIVersion}}}}_{{{{.ResourceKind}}}}.json", folder.display());
    let wrong = [
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"port": 80}}),
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": {"ports": [{"port": "http"}]}}),
        json!({"apiVersion": "monitoring.coreos.com/v1", "kind": "ServiceMonitor", "metadata": {"name": "a"}, "spec": {}}),
        json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "Host", "metadata": {"name": "a"}, "spec": {"protocol": "Gopher"}}),
        json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "Guest", "metadata": {"name": "a"}}),
    ];
    for object in wrong {
        let refused = kubeconform().attempt(&["-strict", "-schema-location", &location, "-"], &object.to_string());
        refused.expect_err(&object.to_string());
    }
}

#[test]
fn the_api_server_would_take_every_object_of_every_combination() {
    let Some(plane) = defined() else { return };
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    for namespace in [NAMESPACE, "team-a", "team-b", "catalog"] {
        plane.apply(&json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}).to_string());
    }
    // A controller would make the first; the second is only rehearsed, and its pod needs it.
    for name in ["default", "relay-test"] {
        let account =
            json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": NAMESPACE}});
        plane.apply(&account.to_string());
    }
    let rehearse = ["apply", "--server-side", "--dry-run=server", "--validate=strict", "-f", "-"];
    for combination in Combination::all() {
        let text = combination.rendered(&helm, &[]);
        plane
            .try_kubectl(plane.kubeconfig(), &rehearse, &text)
            .unwrap_or_else(|error| panic!("{}: {error}", combination.name));
    }
}

/// The API server with all definitions that the chart's objects need.
fn defined() -> Option<&'static Plane> {
    let plane = Plane::shared()?;
    plane.install_crds();
    let folder = definitions().display().to_string();
    plane.kubectl(&["apply", "--server-side", "-f", &folder]);
    plane.kubectl(&["wait", "--for=condition=Established", "--timeout=60s", "-f", &folder]);
    Some(plane)
}

/// Version with group, and kind.
fn kind(object: &Value) -> (String, String) {
    let text = |value: &Value| value.as_str().expect("an object has a kind").to_owned();
    (text(&object["apiVersion"]), text(&object["kind"]))
}

/// Writes a file for each of these kinds, as kubeconform finds it. A definition is published some time after it is taken.
fn publish(plane: &Plane, wanted: &BTreeSet<(String, String)>, folder: &Path) {
    fs::create_dir_all(folder).expect("the folder is made");
    let mut by_version: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for (version, kind) in wanted {
        by_version.entry(version).or_default().push(kind);
    }
    for (version, kinds) in by_version {
        let path = if version.contains('/') { format!("apis/{version}") } else { format!("api/{version}") };
        let (group, short) = version.rsplit_once('/').unwrap_or(("", version));
        let deadline = Instant::now() + Duration::from_secs(60);
        loop {
            let published =
                plane.try_kubectl(plane.kubeconfig(), &["get", "--raw", &format!("/openapi/v3/{path}")], "");
            let document: Value =
                published.map_or(Value::Null, |text| serde_json::from_str(&text).expect("it is JSON"));
            let schemas: Vec<Option<Value>> = kinds.iter().map(|kind| schema(&document, group, short, kind)).collect();
            if schemas.iter().all(Option::is_some) {
                for (kind, schema) in kinds.iter().zip(schemas.into_iter().flatten()) {
                    // kubeconform takes the version of the core group for its name as well.
                    let first = if group.is_empty() { short } else { group };
                    let file = folder.join(format!("{first}_{short}_{}.json", kind.to_lowercase()));
                    fs::write(file, schema.to_string()).expect("the file is written");
                }
                break;
            }
            assert!(Instant::now() < deadline, "{version} of {kinds:?} is not published");
            thread::sleep(Duration::from_millis(50));
        }
    }
}

/// The JSON schema of a kind, with all that it refers to within.
fn schema(document: &Value, group: &str, version: &str, kind: &str) -> Option<Value> {
    let schemas = document["components"]["schemas"].as_object()?;
    let wanted = json!({"group": group, "version": version, "kind": kind});
    let is = |schema: &Value| {
        schema["x-kubernetes-group-version-kind"].as_array().is_some_and(|kinds| kinds.contains(&wanted))
    };
    let (name, _) = schemas.iter().find(|(_, schema)| is(schema))?;
    let closed: Map<String, Value> = schemas.iter().map(|(name, schema)| (name.clone(), closed(schema))).collect();
    Some(json!({"$ref": format!("#/components/schemas/{name}"), "components": {"schemas": closed}}))
}

/// The same schema, which takes no field that it does not name.
fn closed(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut fields: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), closed(value))).collect();
            let open = fields.get("x-kubernetes-preserve-unknown-fields") == Some(&json!(true));
            let object = fields
                .get("properties")
                .is_some_and(|properties| properties.is_object() && fields.get("type").is_none_or(|of| of == "object"));
            if object && !open && !fields.contains_key("additionalProperties") {
                fields.insert("additionalProperties".to_owned(), json!(false));
            }
            Value::Object(fields)
        }
        Value::Array(items) => items.iter().map(closed).collect(),
        other => other.clone(),
    }
}
