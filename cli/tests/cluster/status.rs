//! `relay status`: what the operator wrote, for a person.

use plane::Plane;

use crate::{
    pod::connected,
    support::{KINDS, Operator, User, manifests, wait},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_overview_shows_the_operator_the_fleets_and_what_is_not_ready() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    let fleet = "{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {name: default, namespace: NS}, spec: {}}\n---\n";
    plane.apply(&(fleet.replace("NS", &namespace) + &manifests(&namespace)));
    let user = User::administrator(plane, &namespace);
    let elsewhere = User::administrator(plane, &plane.namespace());
    let nothing = elsewhere.relay(&["status", "--operator-namespace", &namespace]).stdout;
    let sentence = format!("There is no Relay object in namespace `{}` (-A looks in all).\n", elsewhere.namespace);
    assert!(nothing.ends_with(&sentence), "{nothing}");
    let before = user.relay(&["status", "-o", "json", "--operator-namespace", &namespace]);
    assert_eq!(before.code, 1);
    let reasons = before.json()["notReady"].as_array().unwrap().clone();
    assert!(reasons.iter().all(|told| told["message"].as_str().unwrap().contains("no operator")), "{reasons:?}");

    let operator = Operator::start(plane, &namespace).await;
    let _pod = connected(plane, &operator, &namespace, "pod-0").await;
    wait(plane, &namespace, KINDS, "Ready");
    wait(plane, &namespace, "dataplanes", "Ready");
    let home = ["--operator-namespace", &namespace];
    let said = user.relay(&[&["status"], &home[..]].concat());
    assert_eq!((said.code, said.stderr.as_str()), (0, ""), "{said:#?}");
    let (leading, rest) = said.stdout.split_once('\n').unwrap();
    assert!(
        leading.starts_with(&format!("Operator: `operator-0` leads in namespace `{namespace}` (renewed ")),
        "{leading}"
    );
    let fleet = format!("{namespace}/default");
    let expected = format!(
        "
{head:<width$}   CONNECTED   CURRENT   LAGGING   NACKED   READY
{fleet}   1           1         0         0        true

KIND       OBJECTS   READY   NOT-READY   OFF
Host       1         1       0           0
Model      1         1       0           0
HostKey    1         1       0           0
RelayKey   1         1       0           0
Policy     1         1       0           0

Everything that should be in effect is.
",
        head = "FLEET",
        width = fleet.len()
    );
    assert_eq!(rest, expected);

    let broken = format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: Model, metadata: {{name: lost, namespace: {namespace}}}, \
         spec: {{hosts: [{{name: a, hostRef: {{name: opnai}}, upstreamModel: gpt-5}}]}}}}"
    );
    plane.apply(&broken);
    plane.kubectl(&["patch", "hostkey/main", "-n", &namespace, "--type=merge", "-p", r#"{"spec":{"suspend":true}}"#]);
    plane.kubectl(&["wait", "model/lost", "-n", &namespace, "--for=condition=ResolvedRefs=False", "--timeout=60s"]);
    plane.kubectl(&["wait", "hostkey/main", "-n", &namespace, "--for=condition=Ready=False", "--timeout=60s"]);
    let said = user.relay(&[&["status", "-o", "wide"], &home[..]].concat());
    assert_eq!(said.code, 1);
    let line = format!("  Model {namespace}/lost: ResolvedRefs=False RefNotFound: spec.hosts[0].hostRef `opnai` ");
    assert!(said.stdout.contains(&line) && said.stdout.contains("did you mean `openai`?"), "{}", said.stdout);
    let off = format!("Off:\n  HostKey {namespace}/main: Ready=False Paused");
    assert!(said.stdout.contains(&off), "{}", said.stdout);
    operator.stop().await;
    let said = user.relay(&[&["status"], &home[..]].concat());
    assert!(said.stdout.starts_with(&format!("Operator: nobody leads in namespace `{namespace}`")), "{}", said.stdout);
    assert_eq!(said.code, 1);
}

#[test]
fn fleets_are_shown_as_their_status_counts_them() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    for name in ["default", "edge"] {
        plane.apply(&format!(
            "{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: {name}, namespace: {namespace}}}, spec: {{}}}}"
        ));
    }
    let status = r#"{"status": {"observedGeneration": 1, "pods": {"connected": 3, "current": 1, "lagging": 1, "nacked": 1},
        "conditions": [{"type": "Ready", "status": "False", "reason": "Nacked", "message": "pod-2 refuses Host a/b",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}]}}"#;
    plane.kubectl(&["patch", "rdp/default", "-n", &namespace, "--subresource=status", "--type=merge", "-p", status]);
    let user = User::administrator(plane, &namespace);
    let said = user.relay(&["status", "--operator-namespace", &namespace]);
    assert_eq!(said.code, 1, "{said:#?}");
    let lines: Vec<Vec<&str>> = said.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let at = lines.iter().position(|line| line.first() == Some(&"FLEET")).expect("there is a table of fleets");
    let (default, edge) = (format!("{namespace}/default"), format!("{namespace}/edge"));
    assert_eq!(lines[at], ["FLEET", "CONNECTED", "CURRENT", "LAGGING", "NACKED", "READY"]);
    assert_eq!(lines[at + 1], [&default, "3", "1", "1", "1", "false"]);
    assert_eq!(lines[at + 2], [&edge, "-", "-", "-", "-", "false"]);
    let line = format!("  DataPlane {default}: Ready=False Nacked: pod-2 refuses Host a/b\n");
    assert!(said.stdout.contains(&line), "{}", said.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_object_is_shown_with_its_conditions_and_events() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&manifests(&namespace));
    let operator = Operator::start(plane, &namespace).await;
    wait(plane, &namespace, "policies", "Programmed=False");
    let user = User::administrator(plane, &namespace);
    let said = user.relay(&["status", "rkey/app"]);
    assert_eq!(said.code, 1);
    let head =
        format!("RelayKey {namespace}/app is not in effect (generation 1, seen 1)\n\nCONDITION      STATUS   REASON");
    assert!(said.stdout.starts_with(&head), "{}", said.stdout);
    let words = ["Ready          False    ", "effectiveModels: 1\n"];
    assert!(words.iter().all(|word| said.stdout.contains(word)), "{}", said.stdout);
    let document = user.relay(&["status", "relaykey/app", "-o", "json"]).json();
    assert_eq!((&document["ready"], &document["status"]["effectiveModels"]), (&false.into(), &1.into()));

    plane.kubectl(&["delete", "secret", "provider", "-n", &namespace]);
    plane.kubectl(&["wait", "hostkey/main", "-n", &namespace, "--for=condition=ResolvedRefs=False", "--timeout=60s"]);
    let missing = user.relay(&["status", "hostkey/main", "-o", "yaml"]);
    assert!(missing.stdout.contains("reason: SecretNotFound"), "{}", missing.stdout);
    operator.stop().await;
}
