//! Where objects have their pods.

use serde_json::Value;

use super::{
    pod::{Injected, injected},
    sidecar::Sidecar,
};

/// What was done to which object, for people; objects that do not ask are left out.
#[derive(Debug, Default)]
pub(super) struct Outcomes(pub(super) Vec<(String, String)>);

/// The object with a sidecar in its pods; `None` where nothing of it changes. The error names the object.
pub(super) fn object(value: &Value, sidecar: &Sidecar, outcomes: &mut Outcomes) -> Result<Option<Value>, String> {
    let word = |field: &str| value[field].as_str().unwrap_or_default();
    let pointer = match (word("apiVersion"), word("kind")) {
        ("v1", "List") => return list(value, sidecar, outcomes),
        ("v1", "Pod") => "",
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch/v1", "Job") => {
            "/spec/template"
        }
        ("batch/v1", "CronJob") => "/spec/jobTemplate/spec/template",
        _ => return Ok(None),
    };
    let Some(pod) = value.pointer(pointer) else { return Ok(None) };
    let shown = shown(value);
    let done = match injected(pod, sidecar).map_err(|error| format!("{shown}: {error}"))? {
        Injected::Unasked => return Ok(None),
        Injected::Unclear(label) => {
            let label = format!("the label {} is `{label}`, which asks for nothing", crds::INJECT_LABEL);
            outcomes.0.push((shown, format!("{label}; \"{}\" would ask for Relay", crds::INJECT_POD)));
            return Ok(None);
        }
        Injected::Already => {
            outcomes.0.push((shown, "has Relay beside it already".to_owned()));
            return Ok(None);
        }
        Injected::Pod(pod) => pod,
    };
    let mut new = value.clone();
    *new.pointer_mut(pointer).expect("it was read there") = done;
    outcomes.0.push((shown, "has Relay beside it".to_owned()));
    Ok(Some(new))
}

fn list(value: &Value, sidecar: &Sidecar, outcomes: &mut Outcomes) -> Result<Option<Value>, String> {
    let mut new = value.clone();
    let mut changed = false;
    for item in new["items"].as_array_mut().into_iter().flatten() {
        if let Some(with) = object(item, sidecar, outcomes)? {
            (*item, changed) = (with, true);
        }
    }
    Ok(changed.then_some(new))
}

/// `Kind namespace/name`, as far as it is written.
fn shown(value: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let metadata = &value["metadata"];
    let name = text(&metadata["name"])
        .or_else(|| text(&metadata["generateName"]))
        .unwrap_or_else(|| "without a name".to_owned());
    let kind = text(&value["kind"]).unwrap_or_default();
    match text(&metadata["namespace"]) {
        Some(namespace) => format!("{kind} {namespace}/{name}"),
        None => format!("{kind} {name}"),
    }
}
