//! Judges objects as Flux does: by kstatus, the rules that need to know nothing of a kind, or by expressions in CEL for it.

use std::{collections::HashMap, fmt};

use cel::{Context, Program};
use serde_json::Value;

/// What Flux waits for, or does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Status {
    /// It is as it should be.
    Current,
    /// It is waited for until the timeout.
    InProgress,
    /// It will not become right by waiting.
    Failed,
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// `Compute` of kstatus, for a kind that it does not know.
pub(super) fn kstatus(object: &Value) -> Status {
    if is_behind(object) {
        return Status::InProgress;
    }
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    for condition in conditions.iter().filter(|condition| condition["status"] == "True") {
        match condition["type"].as_str() {
            Some("Reconciling") => return Status::InProgress,
            Some("Stalled") => return Status::Failed,
            _ => {}
        }
    }
    match conditions.iter().find(|condition| condition["type"] == "Ready") {
        Some(ready) if ready["status"] == "True" => Status::Current,
        Some(_) => Status::InProgress,
        None => Status::Current,
    }
}

/// The expressions for one kind: an item of `spec.healthCheckExprs`.
#[derive(Debug)]
pub(super) struct Expressions {
    in_progress: Program,
    failed: Program,
    current: Program,
}

impl Expressions {
    pub(super) fn read(item: &Value) -> Self {
        let compiled = |field: &str| {
            let text = item[field].as_str().unwrap_or_else(|| panic!("`{field}` is an expression"));
            Program::compile(text).unwrap_or_else(|error| panic!("{text}: {error}"))
        };
        Self { in_progress: compiled("inProgress"), failed: compiled("failed"), current: compiled("current") }
    }

    /// The first that holds, in the order of Flux. Where one cannot be evaluated, Flux waits.
    pub(super) fn judge(&self, object: &Value) -> Status {
        if is_behind(object) {
            return Status::InProgress;
        }
        let mut context = Context::default();
        for (name, value) in object.as_object().expect("an object has fields") {
            context.add_variable_from_value(name.clone(), in_cel(value));
        }
        let steps =
            [(&self.in_progress, Status::InProgress), (&self.failed, Status::Failed), (&self.current, Status::Current)];
        for (expression, status) in steps {
            match expression.execute(&context) {
                Ok(cel::Value::Bool(true)) => return status,
                Ok(cel::Value::Bool(false)) => {}
                Ok(other) => panic!("an expression is true or false, not {other:?}"),
                Err(_) => return Status::InProgress,
            }
        }
        Status::InProgress
    }
}

/// Whether the status is about another generation. One that names none is not behind.
fn is_behind(object: &Value) -> bool {
    let observed = &object["status"]["observedGeneration"];
    !observed.is_null() && *observed != object["metadata"]["generation"]
}

fn in_cel(value: &Value) -> cel::Value {
    match value {
        Value::Null => cel::Value::Null,
        Value::Bool(value) => cel::Value::Bool(*value),
        Value::Number(number) => match number.as_i64() {
            Some(number) => cel::Value::Int(number),
            None => cel::Value::Float(number.as_f64().expect("a number of JSON is a float")),
        },
        Value::String(text) => text.as_str().into(),
        Value::Array(items) => items.iter().map(in_cel).collect::<Vec<_>>().into(),
        Value::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), in_cel(value)));
            fields.collect::<HashMap<_, _>>().into()
        }
    }
}
