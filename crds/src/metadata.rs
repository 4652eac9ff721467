//! What the API server asks of any object, whatever its kind: version, kind, name, labels.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::{Map, Value};

use crate::kind::Kind;
use crate::structure::{report, shortened};
use crate::suggest;
use crate::validate::Violation;
use crate::{GROUP, VERSION};

/// Fields at the root that are the API server's own.
pub(crate) const OWN: [&str; 3] = ["apiVersion", "kind", "metadata"];

const FIELDS: [&str; 15] = [
    "name",
    "namespace",
    "labels",
    "annotations",
    "generateName",
    "ownerReferences",
    "finalizers",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "managedFields",
    "selfLink",
];

static NAME: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").expect("the pattern is valid")
});
static LABEL: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").expect("the pattern is valid"));
static WORD: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$").expect("the pattern is valid"));

/// Reports what is wrong with `apiVersion`, `kind` and `metadata`.
pub(crate) fn check(kind: Kind, object: &Map<String, Value>, found: &mut Vec<Violation>) {
    check_word(object, "apiVersion", &format!("{GROUP}/{VERSION}"), found);
    check_word(object, "kind", kind.as_str(), found);
    match object.get("metadata") {
        Some(Value::Object(metadata)) => check_metadata(metadata, found),
        None | Some(Value::Null) => report(found, "metadata.name", "is required".to_owned()),
        Some(_) => report(found, "metadata", "must be a map of fields".to_owned()),
    }
}

fn check_word(object: &Map<String, Value>, field: &str, expected: &str, found: &mut Vec<Violation>) {
    match object.get(field).and_then(Value::as_str) {
        Some(word) if word == expected => {}
        Some(word) => report(found, field, format!("`{}` must be `{expected}`", shortened(word))),
        None => report(found, field, format!("must be `{expected}`")),
    }
}

fn check_metadata(metadata: &Map<String, Value>, found: &mut Vec<Violation>) {
    for field in metadata.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        let hint = suggest::nearest(field, FIELDS.into_iter());
        let hint = hint.map_or_else(String::new, |near| format!("; did you mean `{near}`?"));
        report(found, &format!("metadata.{field}"), format!("unknown field{hint}"));
    }
    check_name(metadata, found);
    if let Some(namespace) = metadata.get("namespace").filter(|value| !value.is_null()) {
        let fits = namespace.as_str().is_some_and(|text| text.len() <= 63 && LABEL.is_match(text));
        if !fits {
            let message = "must be a namespace: lower-case letters, digits and `-`, 63 characters at most";
            report(found, "metadata.namespace", message.to_owned());
        }
    }
    check_map(metadata, "labels", |value| value.len() <= 63 && (value.is_empty() || WORD.is_match(value)), found);
    check_map(metadata, "annotations", |_| true, found);
}

/// `generateName` is the server's business; a name that is given has to be one.
fn check_name(metadata: &Map<String, Value>, found: &mut Vec<Violation>) {
    match metadata.get("name") {
        None | Some(Value::Null) if metadata.get("generateName").is_some_and(Value::is_string) => {}
        None | Some(Value::Null) => report(found, "metadata.name", "is required".to_owned()),
        Some(Value::String(name)) if name.len() <= 253 && NAME.is_match(name) => {}
        Some(Value::String(name)) => {
            let message = format!(
                "`{}` must be a Kubernetes name: lower-case letters, digits, `-` and `.`, beginning and ending with a letter or digit",
                shortened(name)
            );
            report(found, "metadata.name", message);
        }
        Some(_) => report(found, "metadata.name", "must be text: put it in quotes".to_owned()),
    }
}

fn check_map(metadata: &Map<String, Value>, field: &str, fits: impl Fn(&str) -> bool, found: &mut Vec<Violation>) {
    let entries = match metadata.get(field) {
        None | Some(Value::Null) => return,
        Some(Value::Object(entries)) => entries,
        Some(_) => return report(found, &format!("metadata.{field}"), "must be a map of text".to_owned()),
    };
    for (key, value) in entries {
        let path = format!("metadata.{field}.{key}");
        if !is_qualified(key) {
            report(found, &path, "the key must be a word of 63 characters at most, or `domain/word`".to_owned());
        }
        match value.as_str() {
            Some(text) if fits(text) => {}
            Some(_) => report(
                found,
                &path,
                "must have 63 characters at most: letters, digits, `-`, `_` and `.`, beginning and ending with a letter or digit"
                    .to_owned(),
            ),
            None => report(found, &path, "must be text: put it in quotes".to_owned()),
        }
    }
}

fn is_qualified(key: &str) -> bool {
    let (domain, word) = key.split_once('/').map_or((None, key), |(domain, word)| (Some(domain), word));
    word.len() <= 63
        && WORD.is_match(word)
        && domain.is_none_or(|domain| domain.len() <= 253 && NAME.is_match(&domain.to_ascii_lowercase()))
}
