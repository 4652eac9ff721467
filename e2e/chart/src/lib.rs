//! Relay's Helm charts as helm renders and installs them, for tests. The programs are those that `e2e/chart/environment`
//! builds and fetches. Everything here panics with what went wrong, as assertions do.

mod combinations;
mod helm;
mod programs;
mod tool;

pub use combinations::{Combination, NAMESPACE, RELEASE};
pub use helm::Helm;
pub use programs::{charts, definitions, kubeconform, promtool};
pub use tool::Tool;

use serde_json::Value;

/// The objects of a file of YAML.
pub fn objects(text: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error} in {text}"));
    documents.into_iter().filter(|document| !document.is_null()).collect()
}

/// What an object is called among others, as `Deployment/relay-operator`.
pub fn name(object: &Value) -> String {
    let text = |value: &Value| value.as_str().map(str::to_owned).unwrap_or_else(|| panic!("no name in {object:#}"));
    format!("{}/{}", text(&object["kind"]), text(&object["metadata"]["name"]))
}
