//! Whether an object may be applied: the API server's verdict without an API server. Shape first, then the CEL rules, as
//! the server does it. What objects mean together is not looked at.

use std::sync::LazyLock;

use kube::core::cel::{CompiledSchema, ValidationErrors, compile_schema, validate_compiled};
use serde_json::Value;

use crate::definition::schema;
use crate::kind::Kind;
use crate::structure;

/// Something that is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Violation {
    /// The field, such as `spec.hosts[0].hostRef.name`.
    pub path: String,
    /// What is wrong with it and what would be right. Never holds the value of a field that could be a credential.
    pub message: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.path, self.message)
    }
}

static COMPILED: LazyLock<[CompiledSchema; 6]> = LazyLock::new(|| Kind::ALL.map(|kind| compile_schema(schema(kind))));

/// What is wrong with a whole manifest of that kind, `apiVersion` to `status`, when it is created. Empty: nothing. CEL
/// rules are looked at only when the shape is right.
pub fn validate_schema(kind: Kind, object: &Value) -> Vec<Violation> {
    judged(kind, object, None)
}

/// What is wrong with a manifest that replaces `old`: as [`validate_schema`], and what must not change.
pub fn validate_update(kind: Kind, object: &Value, old: &Value) -> Vec<Violation> {
    judged(kind, object, Some(old))
}

fn judged(kind: Kind, object: &Value, old: Option<&Value>) -> Vec<Violation> {
    let violations = structure::violations(kind, object);
    if !violations.is_empty() {
        return violations;
    }
    let object = named(structure::without_nulls(object));
    let old = old.map(structure::without_nulls);
    match validate_compiled(&COMPILED[kind as usize], &object, old.as_ref()) {
        Ok(()) => Vec::new(),
        Err(errors) => broken_rules(errors),
    }
}

/// The API server makes a name out of `generateName` before it looks at rules.
fn named(mut object: Value) -> Value {
    if let Some(metadata) = object["metadata"].as_object_mut().filter(|metadata| !metadata.contains_key("name")) {
        metadata.insert("name".to_owned(), "generated".into());
    }
    object
}

fn broken_rules(errors: ValidationErrors) -> Vec<Violation> {
    errors
        .into_iter()
        .map(|error| Violation {
            // Rules at the root can see no more of the metadata than the name.
            path: if error.field_path.is_empty() { "metadata.name".to_owned() } else { error.field_path },
            message: error.message,
        })
        .collect()
}
