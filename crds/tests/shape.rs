//! Objects of the wrong shape are refused with the path of the field, what it is and what it should be.

mod support;

use crds::{Kind, validate_schema};
use serde_json::{Value, json};
use support::{least, with, yaml};

/// `path: message` of everything that is wrong.
fn found(kind: Kind, object: &Value) -> Vec<String> {
    validate_schema(kind, object).iter().map(ToString::to_string).collect()
}

#[track_caller]
fn assert_refused(kind: Kind, patch: &str, expected: &[&str]) {
    assert_eq!(found(kind, &with(kind, patch)), expected, "{kind} {patch}");
}

#[test]
fn the_least_of_every_kind_is_enough() {
    for kind in Kind::ALL {
        assert_eq!(found(kind, &least(kind)), [""; 0]);
    }
}

#[test]
fn an_object_with_every_field_is_accepted_and_survives_its_type() {
    let full: [(Kind, &str); 6] = [
        (Kind::Host, include_str!("full/host.yaml")),
        (Kind::Model, include_str!("full/model.yaml")),
        (Kind::HostKey, include_str!("full/hostkey.yaml")),
        (Kind::RelayKey, include_str!("full/relaykey.yaml")),
        (Kind::Policy, include_str!("full/policy.yaml")),
        (Kind::DataPlane, include_str!("full/dataplane.yaml")),
    ];
    for (kind, text) in full {
        let object = yaml(text);
        assert_eq!(found(kind, &object), [""; 0]);
        assert_eq!(typed(kind, &object)["spec"], object["spec"], "{kind}");
        assert_all_fields(crds::schema(kind), &object, kind.as_str());
    }
}

fn typed(kind: Kind, object: &Value) -> Value {
    macro_rules! through {
        ($kind:ty) => {
            serde_json::to_value(serde_json::from_value::<$kind>(object.clone()).expect("it is of its type"))
        };
    }
    let through = match kind {
        Kind::Host => through!(crds::Host),
        Kind::Model => through!(crds::Model),
        Kind::HostKey => through!(crds::HostKey),
        Kind::RelayKey => through!(crds::RelayKey),
        Kind::Policy => through!(crds::Policy),
        Kind::DataPlane => through!(crds::DataPlane),
    };
    through.expect("it is JSON")
}

/// Fields that exclude one another stand in other tests.
fn assert_all_fields(schema: &Value, value: &Value, path: &str) {
    const ELSEWHERE: [&str; 7] = ["virtual", "file", "env", "encrypted", "tokenHash", "tokenSecretRef", "status"];
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        let path = format!("{path}.{name}");
        if ELSEWHERE.contains(&name.as_str()) {
            continue;
        }
        let below = value.get(name).unwrap_or_else(|| panic!("{path} is not in the full object"));
        assert_all_fields(inner, below, &path);
        if let Some(items) = inner.get("items") {
            assert_all_fields(items, &below[0], &path);
        }
    }
}

#[test]
fn unknown_fields_are_refused_with_their_path_and_the_nearest_known() {
    assert_refused(Kind::Host, "baseUrl: x", &["spec.baseUrl: unknown field; did you mean `baseURL`?"]);
    assert_refused(
        Kind::Host,
        "timeouts: {firstbyte: 3s}",
        &["spec.timeouts.firstbyte: unknown field; did you mean `firstByte`?"],
    );
    assert_refused(
        Kind::Model,
        "hosts: [{name: a, hostRef: {name: b, kind: Host}}]",
        &["spec.hosts[0].hostRef.kind: unknown field; fields here are name, namespace"],
    );
    assert_refused(
        Kind::RelayKey,
        "ttl: 1h",
        &["spec.ttl: unknown field; fields here are allowedCIDRs, attributes, budget, expiresAt, limits, policyRefs, \
           revoked, rotation, secret, suspend, tokenHash, tokenSecretRef"],
    );
}

#[test]
fn fields_that_are_planned_are_not_taken() {
    for (kind, field) in [
        (Kind::Host, "catalogRef"),
        (Kind::Host, "regions"),
        (Kind::Model, "quality"),
        (Kind::Model, "tokenizer"),
        (Kind::HostKey, "budget"),
        (Kind::HostKey, "previousSecretKey"),
        (Kind::RelayKey, "ttl"),
        (Kind::RelayKey, "owner"),
        (Kind::Policy, "cache"),
        (Kind::Policy, "guardrails"),
        (Kind::Policy, "shadow"),
    ] {
        let found = found(kind, &with(kind, &format!("{field}: x")));
        assert!(found[0].starts_with(&format!("spec.{field}: unknown field")), "{found:?}");
    }
}

#[test]
fn required_fields_are_asked_for() {
    assert_refused(Kind::Host, "baseURL: null", &["spec.baseURL: is required"]);
    assert_refused(
        Kind::HostKey,
        "source: {secretKeyRef: {key: null}}",
        &["spec.source.secretKeyRef.key: is required"],
    );
    assert_eq!(
        found(
            Kind::Policy,
            &json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": "Policy", "metadata": {"name": "a"}})
        ),
        ["spec: is required"]
    );
}

#[test]
fn a_null_is_an_absent_field() {
    let mut object = least(Kind::Host);
    object["spec"]["tls"] = Value::Null;
    object["spec"]["auth"] = json!({"scheme": "Bearer", "name": null});
    object["status"] = Value::Null;
    assert_eq!(crds::without_nulls(&json!({"a": {"b": null, "c": [{"d": null}]}})), json!({"a": {"c": [{}]}}));
    assert_eq!(found(Kind::Host, &object), [""; 0]);
    object["spec"]["protocol"] = Value::Null;
    assert_eq!(found(Kind::Host, &object), ["spec.protocol: is required"]);
    object = least(Kind::Host);
    object["spec"]["modelPatterns"] = json!([null]);
    assert_eq!(found(Kind::Host, &object), ["spec.modelPatterns[0]: must be text, not empty"]);
}

#[test]
fn types_are_named_in_a_users_words() {
    assert_refused(
        Kind::Host,
        "tls: {minVersion: 1.2}",
        &["spec.tls.minVersion: must be text, not the number 1.2: put it in quotes"],
    );
    assert_refused(
        Kind::Policy,
        "retries: {on: [429, 5xx]}",
        &["spec.retries.on[0]: must be text, not the number 429: put it in quotes"],
    );
    assert_refused(
        Kind::Policy,
        "limits: {rpm: '60'}",
        &["spec.limits.rpm: must be a whole number, not text: write it without quotes"],
    );
    assert_refused(
        Kind::Policy,
        "limits: {rpm: 1.5}",
        &["spec.limits.rpm: must be a whole number, not the number 1.5"],
    );
    assert_refused(
        Kind::Host,
        "suspend: 'yes'",
        &["spec.suspend: must be true or false, not text: write it without quotes"],
    );
    assert_refused(Kind::Policy, "models: ['*']", &["spec.models: must be a map of fields, not a list"]);
    assert_refused(Kind::Policy, "models: {allow: '*'}", &["spec.models.allow: must be a list, not text"]);
}

#[test]
fn words_outside_a_closed_set_are_refused_with_the_set() {
    assert_refused(
        Kind::Host,
        "protocol: openai",
        &["spec.protocol: `openai` is not one of OpenAI, Anthropic; did you mean `OpenAI`?"],
    );
    assert_refused(
        Kind::Policy,
        "routing: {strategy: Random}",
        &["spec.routing.strategy: `Random` is not one of Priority, Weighted, LeastLatency, Cheapest, LeastBusy"],
    );
    assert_refused(
        Kind::Policy,
        "budgets: [{amount: '5', period: Day, onExceeded: Downgrade}]",
        &["spec.budgets[0].onExceeded: `Downgrade` is not one of Block, Alert"],
    );
}

#[test]
fn bounds_hold() {
    assert_refused(
        Kind::Policy,
        "limits: {rpm: 0}",
        &["spec.limits.rpm: 0 is out of range: it must be from 1 to 1000000000000"],
    );
    assert_refused(
        Kind::Policy,
        "routing: {maxAttempts: 9}",
        &["spec.routing.maxAttempts: 9 is out of range: it must be from 1 to 8"],
    );
    assert_refused(
        Kind::Policy,
        "limits: {tpd: 99999999999999999999999}",
        &["spec.limits.tpd: must be a whole number, not the number 1e+23"],
    );
    assert_refused(
        Kind::Policy,
        "limits: {tpd: 18446744073709551615}",
        &["spec.limits.tpd: 18446744073709551615 is out of range: it must be from 1 to 1000000000000"],
    );
    assert_refused(Kind::RelayKey, "policyRefs: []", &["spec.policyRefs: has 0 entries, 1 at least are needed"]);
    assert_refused(
        Kind::RelayKey,
        "policyRefs: [{name: a}, {name: b}, {name: c}, {name: d}, {name: e}]",
        &["spec.policyRefs: has 5 entries, 4 at most are allowed"],
    );
    assert_refused(Kind::Model, "modelName: ''", &["spec.modelName: must not be empty"]);
    let long = "a".repeat(254);
    assert_refused(
        Kind::Model,
        &format!("modelName: {long}"),
        &["spec.modelName: has 254 characters, 253 at most are allowed"],
    );
    let many: Vec<_> = (0..17).map(|n| format!("a{n}: b")).collect();
    assert_refused(
        Kind::RelayKey,
        &format!("attributes: {{{}}}", many.join(", ")),
        &["spec.attributes: has 17 entries, 16 at most are allowed"],
    );
}

#[test]
fn grammars_are_explained() {
    assert_refused(
        Kind::Host,
        "timeouts: {connect: 3 seconds}",
        &["spec.timeouts.connect: `3 seconds` must be a span of time such as `250ms`, `30s` or `1h30m`"],
    );
    assert_refused(
        Kind::HostKey,
        "source: {secretKeyRef: null, file: {path: /etc/passwd-of-relay}}",
        &["spec.source.file.path: `/etc/passwd-of-relay` must be a path below `/var/run/relay/`"],
    );
    assert_refused(
        Kind::HostKey,
        "source: {secretKeyRef: null, file: {path: /var/run/relay/../../x}}",
        &["spec.source.file.path: `/var/run/relay/../../x` must be a path below `/var/run/relay/`"],
    );
    assert_refused(
        Kind::RelayKey,
        "expiresAt: tomorrow",
        &["spec.expiresAt: `tomorrow` must be an instant such as `2030-01-31T00:00:00Z`"],
    );
    for instant in [
        "2030-01-31",
        "2030-01-31 00:00:00Z",
        "2030-01-31T00:00Z",
        "2030-01-31t00:00:00z",
        "2030-02-31T00:00:00Z",
        "2030-01-31T00:00:60Z",
    ] {
        assert_eq!(
            found(Kind::RelayKey, &with(Kind::RelayKey, &format!("expiresAt: '{instant}'"))).len(),
            1,
            "{instant}"
        );
    }
    for amount in ["9000001", "1.0000001", "-1", "1e3"] {
        let found =
            found(Kind::RelayKey, &with(Kind::RelayKey, &format!("budget: {{amount: '{amount}', period: Day}}")));
        assert_eq!(found.len(), 1, "{amount}");
    }
}

#[test]
fn every_grammar_has_words() {
    fn walk(schema: &Value, patterns: &mut Vec<String>) {
        patterns.extend(schema["pattern"].as_str().map(str::to_owned));
        let properties = schema["properties"].as_object().into_iter().flat_map(|map| map.values());
        let below = ["items", "additionalProperties"].into_iter().filter_map(|keyword| schema.get(keyword));
        properties.chain(below).for_each(|inner| walk(inner, patterns));
    }
    let mut patterns = Vec::new();
    Kind::ALL.iter().for_each(|kind| walk(crds::schema(*kind), &mut patterns));
    for pattern in patterns {
        assert!(crds::pattern_in_words(&pattern).is_some(), "{pattern}");
    }
}

#[test]
fn what_may_be_a_credential_is_not_repeated() {
    let token = "sk-relay-canary-canary-canary";
    for (kind, patch) in [
        (Kind::RelayKey, format!("{{secret: null, tokenHash: {token}}}")),
        (Kind::Host, format!("headers: {{set: [{{name: x-a, value: \"{token}\\n\"}}]}}")),
        (Kind::HostKey, format!("source: {token}")),
        (Kind::HostKey, format!("source: {{value: {token}}}")),
        (Kind::HostKey, format!("source: {{secretKeyRef: null, encrypted: {{keyID: a, ciphertext: {token}}}}}")),
    ] {
        let found = found(kind, &with(kind, &patch));
        assert!(!found.is_empty(), "{patch}");
        assert!(!found.join("\n").contains("canary"), "{found:?}");
    }
}

#[test]
fn sets_and_list_maps_hold_nothing_twice() {
    assert_refused(
        Kind::Policy,
        "models: {allow: [a, b, a]}",
        &["spec.models.allow[2]: repeats \"a\" of spec.models.allow[0]"],
    );
    assert_refused(
        Kind::Model,
        "hosts: [{name: a, hostRef: {name: one}}, {name: a, hostRef: {name: two}}]",
        &["spec.hosts[1]: repeats name \"a\" of spec.hosts[0]"],
    );
    assert_refused(
        Kind::Policy,
        "budgets: [{amount: '5', period: Day}, {amount: '6', period: Day}]",
        &["spec.budgets[1]: repeats period \"Day\" of spec.budgets[0]"],
    );
}

#[test]
fn every_fault_is_reported_at_once() {
    assert_refused(
        Kind::Host,
        "{protocol: Grok, baseURL: 5, surprise: 1}",
        &[
            "spec.protocol: `Grok` is not one of OpenAI, Anthropic",
            "spec.baseURL: must be text, not the number 5: put it in quotes",
            &format!("spec.surprise: {}", unknown_host_field()),
        ],
    );
}

fn unknown_host_field() -> String {
    let names: Vec<_> =
        crds::schema(Kind::Host)["properties"]["spec"]["properties"].as_object().unwrap().keys().collect();
    let names: Vec<_> = names.into_iter().map(String::as_str).collect();
    format!("unknown field; fields here are {}", names.join(", "))
}

#[test]
fn metadata_is_what_the_api_server_takes() {
    let refused = |metadata: &str| {
        let mut object = least(Kind::Policy);
        object["metadata"] = yaml(metadata);
        found(Kind::Policy, &object)
    };
    assert_eq!(
        refused("{name: a, labels: {app.kubernetes.io/name: x, empty: ''}, annotations: {a/b: any text}}"),
        [""; 0]
    );
    assert_eq!(refused("{generateName: a-}"), [""; 0]);
    assert_eq!(refused("{namespace: a}"), ["metadata.name: is required"]);
    assert_eq!(refused("{name: 5}"), ["metadata.name: must be text: put it in quotes"]);
    assert_eq!(refused("{name: a, lables: {}}"), ["metadata.lables: unknown field; did you mean `labels`?"]);
    assert!(refused("{name: Team_A}")[0].starts_with("metadata.name: `Team_A` must be a Kubernetes name"));
    assert!(refused("{name: a, namespace: a.b}")[0].starts_with("metadata.namespace: must be a namespace"));
    assert!(refused("{name: a, labels: {a: 'b c'}}")[0].starts_with("metadata.labels.a: must have 63 characters"));
    assert!(refused("{name: a, labels: {a: 1}}")[0].starts_with("metadata.labels.a: must be text"));
    assert!(refused("{name: a, annotations: {'a b': c}}")[0].starts_with("metadata.annotations.a b: the key"));
}

#[test]
fn version_and_kind_must_be_ours() {
    let mut object = least(Kind::Policy);
    object["apiVersion"] = "llmrelay.io/v1".into();
    object["kind"] = "Polcy".into();
    object["data"] = json!({});
    assert_eq!(
        found(Kind::Policy, &object),
        [
            "apiVersion: `llmrelay.io/v1` must be `llmrelay.io/v1alpha1`",
            "kind: `Polcy` must be `Policy`",
            "data: unknown field; fields here are spec, status, apiVersion, kind, metadata",
        ]
    );
    assert_eq!(found(Kind::Policy, &json!([])), [": must be a map of fields, not a list"]);
}
