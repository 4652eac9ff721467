use std::sync::Arc;

use compiler::Resources;
use serde_json::json;

use super::*;

/// The objects of a cluster, each `(namespace, name, spec)`.
#[derive(Default)]
struct Cluster(Resources);

impl Cluster {
    fn with(mut self, kind: &str, namespace: &str, name: &str, spec: Value) -> Self {
        let manifest = json!({
            "apiVersion": "llmrelay.io/v1alpha1", "kind": kind,
            "metadata": {"name": name, "namespace": namespace}, "spec": spec,
        });
        let id = ObjectRef::new(namespace, name);
        let read = "the manifest is one of its kind";
        match kind {
            "Host" => drop(self.0.hosts.insert(id, Arc::new(serde_json::from_value(manifest).expect(read)))),
            "Model" => drop(self.0.models.insert(id, Arc::new(serde_json::from_value(manifest).expect(read)))),
            "HostKey" => drop(self.0.host_keys.insert(id, Arc::new(serde_json::from_value(manifest).expect(read)))),
            "RelayKey" => drop(self.0.relay_keys.insert(id, Arc::new(serde_json::from_value(manifest).expect(read)))),
            "Policy" => drop(self.0.policies.insert(id, Arc::new(serde_json::from_value(manifest).expect(read)))),
            other => panic!("no kind {other}"),
        }
        self
    }

    fn fields(mut self, kind: Kind, namespace: &str, name: &str) -> Value {
        self.0.catalog_namespace = "catalog".to_owned();
        let compilation = compiler::compile(&self.0);
        let facts = Facts::of(&compilation.table, &compilation.reports);
        Value::Object(facts.fields(kind, &ObjectRef::new(namespace, name)))
    }
}

fn cluster() -> Cluster {
    let host = json!({"protocol": "OpenAI", "baseURL": "https://api.example.com/v1"});
    let key = |suspend: bool| json!({"hostRef": {"name": "openai"}, "source": {"env": {"name": "RELAY_KEY_A"}}, "suspend": suspend});
    let model = |host: &str| json!({"hosts": [{"name": "main", "hostRef": {"name": host}}], "allowedNamespaces": {"from": "All"}});
    let hash = format!("sha256:{}", "a".repeat(64));
    Cluster::default()
        .with("Host", "catalog", "openai", host.clone())
        .with("Host", "catalog", "keyless", host)
        .with("HostKey", "catalog", "one", key(false))
        .with("HostKey", "catalog", "two", key(true))
        .with("Model", "catalog", "gpt-5", model("openai"))
        .with("Model", "catalog", "gpt-mini", model("openai"))
        .with("Model", "catalog", "claude", model("keyless"))
        .with("Model", "team-b", "gpt-own", model("nowhere"))
        .with("Policy", "team-a", "gpt", json!({"models": {"allow": ["gpt-*", "claud"], "deny": ["gpt-mini"]}}))
        .with("Policy", "team-a", "all", json!({"models": {"allow": ["*"]}}))
        .with("RelayKey", "team-a", "app", json!({"policyRefs": [{"name": "gpt"}, {"name": "all"}], "tokenHash": hash}))
}

#[test]
fn a_host_counts_its_keys_and_models() {
    let expected = json!({"keys": {"total": 2, "ready": 1}, "models": 2});
    assert_eq!(cluster().fields(Kind::Host, "catalog", "openai"), expected);
}

#[test]
fn a_model_tells_of_each_binding_whether_it_can_serve() {
    let ready = json!({"modelName": "gpt-5", "bindings": [{"name": "main", "ready": true}], "hosts": 1});
    assert_eq!(cluster().fields(Kind::Model, "catalog", "gpt-5"), ready);
    let keyless = json!({
        "modelName": "claude", "bindings": [{"name": "main", "ready": false, "reason": "NoHealthyKey"}], "hosts": 0,
    });
    assert_eq!(cluster().fields(Kind::Model, "catalog", "claude"), keyless);
}

#[test]
fn a_policy_counts_its_keys_and_models_and_lists_what_matches_nothing() {
    let told = cluster().fields(Kind::Policy, "team-a", "gpt");
    assert_eq!((&told["keys"], &told["models"]), (&json!(1), &json!(1)));
    let globs = told["unmatchedGlobs"].as_array().expect("`claud` matches nothing");
    assert!(globs.len() == 1 && globs[0].as_str().is_some_and(|glob| glob.contains("claud")), "{globs:?}");
}

#[test]
fn a_relay_key_counts_the_models_that_all_of_its_policies_allow() {
    assert_eq!(cluster().fields(Kind::RelayKey, "team-a", "app"), json!({"effectiveModels": 1}));
}

#[test]
fn an_object_that_cannot_be_used_has_no_numbers() {
    let broken = cluster().with("Model", "catalog", "twin", json!({"modelName": "gpt-5", "hosts": []}));
    assert_eq!(broken.fields(Kind::Model, "catalog", "twin"), json!({}));
}
