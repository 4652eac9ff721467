//! The CRDs as they are installed: what is derived from the types, tidied. Optional fields are absent rather than null,
//! nothing has a default, numbers have the formats that Kubernetes knows.

use std::sync::LazyLock;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::yaml::document;

static DEFINITIONS: LazyLock<[Value; 6]> = LazyLock::new(|| Kind::ALL.map(tidied));

/// The definition of one kind.
pub fn definition(kind: Kind) -> CustomResourceDefinition {
    serde_json::from_value(value(kind).clone()).expect("tidying keeps the shape of a definition")
}

/// The definitions of all kinds, in the order of [`Kind::ALL`].
pub fn all() -> Vec<CustomResourceDefinition> {
    Kind::ALL.map(definition).into()
}

/// The structural schema of one kind, `openAPIV3Schema` of its definition. It has `spec` and `status`; `apiVersion`, `kind`
/// and `metadata` are the API server's own.
pub fn schema(kind: Kind) -> &'static Value {
    &value(kind)["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
}

/// The definition of one kind as a YAML file, ready to be applied. The same on every run.
pub fn yaml(kind: Kind) -> String {
    format!("# Generated from the types by `relay crds`. Do not edit.\n{}", document(value(kind)))
}

/// Name of the file that holds the definition of a kind, such as `hosts.yaml`.
pub fn file_name(kind: Kind) -> String {
    format!("{}.yaml", kind.plural())
}

fn value(kind: Kind) -> &'static Value {
    &DEFINITIONS[kind as usize]
}

fn tidied(kind: Kind) -> Value {
    let mut definition = serde_json::to_value(kind.derived()).expect("definitions are JSON");
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    tidy(schema.as_object_mut().expect("every version has a schema"));
    definition
}

fn tidy(schema: &mut Map<String, Value>) {
    for unwanted in ["nullable", "default", "title"] {
        schema.shift_remove(unwanted);
    }
    if let Some(Value::Array(words)) = schema.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    if let Some(Value::String(format)) = schema.get_mut("format") {
        *format = known_format(format).to_owned();
    }
    for bound in ["minimum", "maximum"] {
        if let Some(number) = schema.get_mut(bound) {
            *number = whole(number);
        }
    }
    tidy_below(schema);
}

fn tidy_below(schema: &mut Map<String, Value>) {
    if let Some(Value::Object(properties)) = schema.get_mut("properties") {
        properties.values_mut().filter_map(Value::as_object_mut).for_each(tidy);
    }
    for below in ["items", "additionalProperties"] {
        if let Some(Value::Object(inner)) = schema.get_mut(below) {
            tidy(inner);
        }
    }
}

/// Kubernetes has no formats for unsigned numbers; their bounds say the rest.
fn known_format(format: &str) -> &str {
    match format {
        "uint8" | "uint16" => "int32",
        "uint32" | "uint64" => "int64",
        other => other,
    }
}

/// Bounds are floats in the API; all of ours are whole.
fn whole(number: &Value) -> Value {
    match number.as_f64() {
        Some(float) if float.fract() == 0.0 && float.abs() < 9e15 => Value::from(float as i64),
        _ => number.clone(),
    }
}
