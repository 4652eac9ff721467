//! What values there are, what is said of them, and what is refused.

use std::{collections::BTreeMap, fs};

use chart::{Helm, charts};
use serde_json::Value;
use tempfile::tempdir;

const CHARTS: [&str; 2] = ["relay", "relay-crds"];

/// What a value may be that charts do not know the inside of.
const OPEN: &str = "additionalProperties";

#[test]
fn every_value_is_described_and_every_description_has_a_value() {
    for chart in CHARTS {
        let (values, schema) = (values(chart), schema(chart));
        let mut described = BTreeMap::new();
        describe(&schema, "", &mut described);
        let mut there = Vec::new();
        enumerate(&values, &schema, "", &mut there);
        for path in &there {
            assert!(described.contains_key(path), "{chart}: `{path}` is not in values.schema.json");
        }
        for (path, description) in described {
            assert!(path == "global" || there.contains(&path), "{chart}: `{path}` is not in values.yaml");
            assert!(description.len() > 5, "{chart}: `{path}` is described as `{description}`");
        }
    }
}

#[test]
fn a_value_that_there_is_not_is_refused_by_its_name() {
    let home = tempdir().expect("a folder is made");
    let helm = Helm::alone(home.path());
    let chart = charts().join("relay").display().to_string();
    let wrong = [
        ("dataPlane.replica=3", "replica"),
        ("redis.mode=sharded", "redis"),
        ("dataPlane.drainSeconds=ten", "drainSeconds"),
        ("dataPlane.autoscaling.inFlight.enabled=maybe", "inFlight"),
        ("dataPlane.lastGoodTable.maxStaleness=soon", "maxStaleness"),
        ("dataPlane.usage.otlp.endpoint=collector:4318", "endpoint"),
        ("dataPlane.usage.otlp.enabled=true", "dataPlane.usage.otlp.endpoint"),
        ("operator.replicas=-1", "replicas"),
        ("redis.url=redis.example:6379", "redis"),
        ("redis.timeout=40", "timeout"),
        ("log.format=xml", "format"),
        ("sidecars.port=80", "port"),
        ("sidecars.resources.limit.memory=64Mi", "limit"),
        ("networkPolicy.upstreams.cidrs={everywhere}", "cidrs"),
    ];
    for (value, named) in wrong {
        let rendered = helm.attempt(&["template", "relay", &chart, "--set", value]);
        let error = rendered.err().unwrap_or_else(|| panic!("`{value}` is taken"));
        assert!(error.contains(named), "{value}: {error}");
    }
}

fn values(chart: &str) -> Value {
    let text = fs::read_to_string(charts().join(chart).join("values.yaml")).expect("there are values");
    serde_saphyr::from_str(&text).expect("they are YAML")
}

fn schema(chart: &str) -> Value {
    let text = fs::read_to_string(charts().join(chart).join("values.schema.json")).expect("there is a schema");
    serde_json::from_str(&text).expect("it is JSON")
}

/// The description of every value below.
fn describe(schema: &Value, path: &str, into: &mut BTreeMap<String, String>) {
    let Some(properties) = schema["properties"].as_object() else { return };
    assert_eq!(schema[OPEN], false, "`{path}` takes values that nobody knows");
    for (name, value) in properties {
        let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
        let description = value["description"].as_str().unwrap_or_else(|| panic!("`{path}` is not described"));
        assert!(
            value["type"].is_string() || value["enum"].is_array() || value["type"].is_array(),
            "`{path}` has no type"
        );
        into.insert(path.clone(), description.to_owned());
        describe(value, &path, into);
    }
}

/// Every value below, but not what is inside of those whose inside is not the chart's.
fn enumerate(values: &Value, schema: &Value, path: &str, into: &mut Vec<String>) {
    let Some(values) = values.as_object() else { return };
    if !path.is_empty() && schema["properties"].is_null() {
        return;
    }
    for (name, value) in values {
        let path = format!("{path}.{name}").trim_start_matches('.').to_owned();
        into.push(path.clone());
        enumerate(value, &schema["properties"][name], &path, into);
    }
}
