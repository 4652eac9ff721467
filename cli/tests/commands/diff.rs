//! `relay diff`: what a change gives, takes and alters.

use serde_json::{Value, json};

use crate::support::{directory, path, run};

const BEFORE: &str = "\
apiVersion: llmrelay.io/v1alpha1
kind: Host
metadata: {name: openai}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com'}
---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: k}
spec: {hostRef: {name: openai}, source: {env: {name: RELAY_KEY_OPENAI}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: large}
spec: {hosts: [{name: one, hostRef: {name: openai}, upstreamModel: gpt}]}
---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: small}
spec: {aliases: [mini], hosts: [{name: one, hostRef: {name: openai}, upstreamModel: gpt-mini}]}
---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {name: team}
spec:
  models: {allow: [small]}
  limits: {rpm: 60}
  budgets: [{amount: '50', period: Month}]
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: app}
spec:
  policyRefs: [{name: team}]
  tokenHash: sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad
";

/// The lines and the exit code after these replacements.
fn diff(replacements: &[(&str, &str)]) -> (Vec<String>, i32) {
    let after = replacements.iter().fold(BEFORE.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replace(from, to)
    });
    let (before, after) = (directory(&[("a.yaml", BEFORE)]), directory(&[("other/b.yaml", &after)]));
    let said = run(&["diff", path(&before), path(&after), "--exit-code"]);
    (said.stdout.lines().map(str::to_owned).collect(), said.code)
}

#[test]
fn what_means_the_same_does_not_differ() {
    let reordered = BEFORE.split("---\n").collect::<Vec<_>>();
    let reordered = reordered.into_iter().rev().collect::<Vec<_>>().join("---\n");
    let (before, after) = (directory(&[("a.yaml", BEFORE)]), directory(&[("z.yaml", &reordered)]));
    let said = run(&["diff", path(&before), path(&after), "--exit-code"]);
    assert_eq!((said.stdout.as_str(), said.code), ("nothing differs\n", 0));
}

#[test]
fn a_wider_policy_is_told_by_the_models_that_each_key_gains() {
    let (lines, code) = diff(&[("allow: [small]", "allow: ['*']")]);
    let expected =
        ["RelayKey default/app gains model `large`", r#"Policy default/team: models.allow: ["small"] -> ["*"]"#];
    assert_eq!((lines, code), (expected.map(str::to_owned).to_vec(), 1));
}

#[test]
fn limits_and_budgets_are_told_with_both_values() {
    let (lines, _) = diff(&[("rpm: 60", "rpm: 600, tpm: 1000"), ("amount: '50'", "amount: '12.50'")]);
    let expected = [
        "Policy default/team: budgets[Month].amount: 50 USD -> 12.5 USD",
        "Policy default/team: limits.rpm: 60 -> 600",
        "Policy default/team: limits.tpm: none -> 1000",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_host_key_that_goes_takes_the_models_with_it() {
    let (lines, _) = diff(&[("kind: HostKey\nmetadata: {name: k}", "kind: HostKey\nmetadata: {name: other}")]);
    assert_eq!(lines, ["HostKey default/k vanishes", "HostKey default/other appears"]);
    let (lines, _) =
        diff(&[("spec: {hostRef: {name: openai}, source", "spec: {suspend: true, hostRef: {name: openai}, source")]);
    let expected = [
        "RelayKey default/app loses model `mini`",
        "RelayKey default/app loses model `small`",
        "HostKey default/k: suspended: false -> true",
    ];
    assert_eq!(lines, expected);
}

#[test]
fn a_revoked_key_and_a_refused_object_are_told_with_their_reasons() {
    let (lines, _) = diff(&[("spec:\n  policyRefs", "spec:\n  revoked: true\n  policyRefs")]);
    assert!(lines[0].starts_with("RelayKey default/app cannot be used: relay key `app` is revoked"), "{lines:?}");
    assert!(lines.contains(&"RelayKey default/app loses model `small`".to_owned()), "{lines:?}");
    let (lines, _) = diff(&[("rpm: 60", "rqm: 60")]);
    assert!(lines.iter().any(|line| line.starts_with("Policy default/team is refused: ")), "{lines:?}");
}

#[test]
fn the_same_differences_are_printed_as_json() {
    let (before, after) =
        (directory(&[("a.yaml", BEFORE)]), directory(&[("a.yaml", &BEFORE.replace("rpm: 60", "rpm: 6"))]));
    let said = run(&["diff", path(&before), path(&after), "--output", "json"]);
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    let expected = json!({"keys": [], "objects": [{
        "kind": "Policy", "id": "default/team", "change": "changes",
        "fields": [{"path": "limits.rpm", "before": 60, "after": 6}],
    }]});
    assert_eq!((value, said.code), (expected, 0));
}
