//! Kubernetes' own kinds that Relay's refer to: Secrets, ConfigMaps, and the labels of Namespaces. Values of Secrets are
//! never in what is said of them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde_json::{Map, Value};
use table::Secret;

use super::document::did_you_mean;

/// Fields with what is wrong with them.
pub(super) type Problems = Vec<(String, String)>;

const COMMON: [&str; 4] = ["apiVersion", "kind", "metadata", "immutable"];

/// The data of a `v1/Secret`; `stringData` wins over `data`, as in a cluster.
pub(super) fn secret(value: &Value, problems: &mut Problems) -> BTreeMap<String, Secret<Vec<u8>>> {
    check_fields(value, &["type", "data", "stringData"], problems);
    let mut secret = BTreeMap::new();
    for (key, text) in texts(value, "data", problems) {
        let packed: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
        match BASE64.decode(packed.as_bytes()) {
            Ok(bytes) => _ = secret.insert(key, Secret::new(bytes)),
            Err(_) => problems.push((
                format!("data.{key}"),
                "is not base64: encode it, or write it as it is under `stringData`".to_owned(),
            )),
        }
    }
    let plain = texts(value, "stringData", problems).into_iter();
    secret.extend(plain.map(|(key, text)| (key, Secret::new(text.into_bytes()))));
    secret
}

/// The data of a `v1/ConfigMap`.
pub(super) fn config_map(value: &Value, problems: &mut Problems) -> BTreeMap<String, String> {
    check_fields(value, &["data", "binaryData"], problems);
    texts(value, "data", problems).into_iter().collect()
}

/// The labels of an object.
pub(super) fn labels(value: &Value) -> BTreeMap<String, String> {
    let labels = value["metadata"]["labels"].as_object().into_iter().flatten();
    labels.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect()
}

fn check_fields(value: &Value, known: &[&str], problems: &mut Problems) {
    let known = || COMMON.iter().chain(known).copied();
    for field in value.as_object().into_iter().flat_map(Map::keys) {
        if !known().any(|name| name == field) {
            problems.push((field.clone(), format!("unknown field{}", did_you_mean(field, known()))));
        }
    }
}

fn texts(value: &Value, field: &str, problems: &mut Problems) -> Vec<(String, String)> {
    let entries = match &value[field] {
        Value::Null => return Vec::new(),
        Value::Object(entries) => entries,
        _ => {
            problems.push((field.to_owned(), "must be a map of text".to_owned()));
            return Vec::new();
        }
    };
    let mut texts = Vec::new();
    for (key, value) in entries {
        match value {
            Value::String(text) => texts.push((key.clone(), text.clone())),
            Value::Null => texts.push((key.clone(), String::new())),
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                problems.push((format!("{field}.{key}"), "must be text: put it in quotes".to_owned()));
            }
        }
    }
    texts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plain_text_wins_over_base64_as_in_a_cluster() {
        let value = json!({"data": {"a": "b25l", "b": "dH\ndv"}, "stringData": {"a": "plain"}});
        let mut problems = Vec::new();
        let secret = secret(&value, &mut problems);
        let values: Vec<_> = secret.values().map(|value| value.expose().as_slice()).collect();
        assert_eq!(values, [b"plain".as_slice(), b"two"]);
        assert_eq!(problems, []);
    }

    #[test]
    fn a_faulty_secret_is_explained_without_its_value() {
        let value = json!({"data": {"a": "sk-canary!"}, "stringData": {"b": 12345}, "stringdata": {}});
        let mut problems = Vec::new();
        assert!(secret(&value, &mut problems).is_empty());
        let paths: Vec<_> = problems.iter().map(|(path, _)| path.as_str()).collect();
        assert_eq!(paths, ["stringdata", "data.a", "stringData.b"]);
        let text = format!("{problems:?}");
        assert!(text.contains("did you mean `stringData`?") && !text.contains("canary") && !text.contains("12345"));
    }
}
