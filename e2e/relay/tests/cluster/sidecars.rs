//! Data planes beside applications: they serve what is their namespace's own with its own provider keys, and pass on the rest.

use plane::Plane;
use serde_json::Value;
use site::{Ask, DataPlane, Site, Upstream, relay_key, routes, secret, until};

/// Applies manifests in a namespace.
#[track_caller]
fn apply(site: &Site<'_>, namespace: &str, manifests: &str) {
    let arguments = ["--namespace", namespace, "apply", "--server-side", "-f", "-"];
    let applied = site.plane.try_kubectl(site.plane.kubeconfig(), &arguments, manifests);
    applied.unwrap_or_else(|error| panic!("{error}\n{manifests}"));
}

/// A Policy that grants what a namespace can serve itself, and a RelayKey of it.
fn own(namespace: &str) -> String {
    format!(
        "---
apiVersion: llmrelay.io/v1alpha1
kind: Policy
metadata: {{name: own}}
spec: {{models: {{allow: ['*']}}, hosts: {{allow: ['{namespace}/*']}}}}
---
apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {{name: own}}
spec: {{policyRefs: [{{name: own}}], secret: {{name: own}}}}
"
    )
}

/// A Model of the catalog that everybody may ask for.
const EVERYBODYS: &str = "---
apiVersion: llmrelay.io/v1alpha1
kind: Model
metadata: {name: everybodys}
spec: {hosts: [{name: only, hostRef: {name: openai}, upstreamModel: demo}], allowedNamespaces: {from: All}}
";

fn token(site: &Site<'_>, namespace: &str, key: &str) -> String {
    let template = "--template={{.data.token | base64decode}}";
    site.plane.kubectl(&["--namespace", namespace, "get", "secret", key, template])
}

/// The rows of a kind in the table that a data plane routes by.
async fn rows(data_plane: &DataPlane, kind: &str) -> Vec<String> {
    let table = data_plane.table().await;
    table[kind].as_object().map(|rows| rows.keys().cloned().collect()).unwrap_or_default()
}

async fn is_refused(sidecar: &DataPlane, words: &str) {
    let says = async || {
        let trouble: Value = sidecar.feed().await["trouble"].clone();
        trouble.as_str().is_some_and(|trouble| trouble.contains(words)).then_some(())
    };
    until(&format!("{} is told `{words}`", sidecar.pod.name), says).await;
}

async fn credentials(upstream: &Upstream, sidecar: &DataPlane, ask: &Ask) -> Vec<String> {
    upstream.take();
    let answer = sidecar.ask(ask).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    upstream.take().into_iter().map(|request| request.credential).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sidecar_serves_what_is_its_namespaces_own_and_passes_on_the_rest() {
    let Some(plane) = Plane::shared() else { return };
    let [team, other] = [(); 2].map(|()| plane.namespace());
    let site = Site::on(plane, &[&team, &other]).await;
    let upstream = Upstream::start().await;
    let _operator = site.operator("operator-0", &["--sidecars"]).await;
    site.apply(&(routes(&upstream.url()) + EVERYBODYS));
    let open = r#"{"spec":{"allowedNamespaces":{"from":"All"}}}"#;
    site.kubectl(&["patch", "hostkey/openai", "--type=merge", "-p", open]);
    for namespace in [&team, &other] {
        let manifests = routes(&upstream.url()) + &own(namespace) + &relay_key("shared");
        apply(&site, namespace, &manifests);
        apply(&site, namespace, &secret("provider", "key", &format!("sk-of-{namespace}")));
    }
    plane.kubectl(&["label", "namespace", &team, "llmrelay.io/inject=enabled"]);
    let mut shared = site.data_plane("pod-0").await;
    let sidecar = site.sidecar(&team, "web-0", &shared).await;
    let stranger = site.sidecar(&other, "web-0", &shared).await;
    let all = ["relaykeys", "--all"];
    for namespace in [&team, &other] {
        plane.kubectl(&["--namespace", namespace, "wait", "--for=condition=Ready", "--timeout=60s", all[0], all[1]]);
    }

    let row = |name: &str| format!("{team}/{name}");
    until("its key is there", async || (rows(&sidecar, "relayKeys").await == [row("own")]).then_some(())).await;
    assert_eq!(rows(&sidecar, "hostKeys").await, [row("anthropic"), row("openai")]);
    let table = sidecar.table().await.to_string();
    assert!(!table.contains(&other), "{table}");
    is_refused(&stranger, "does not have the label `llmrelay.io/inject: enabled`").await;

    let [of_own, of_shared] = ["own", "shared"].map(|key| token(&site, &team, key));
    let (of_team, of_catalog) = (format!("sk-of-{team}"), "sk-provider-1".to_owned());
    let by_itself = Ask::openai("openai", &of_own);
    let passed_on = Ask::openai("everybodys", &of_shared);
    assert_eq!(credentials(&upstream, &sidecar, &by_itself).await, std::slice::from_ref(&of_team));
    assert_eq!(credentials(&upstream, &sidecar, &passed_on).await, [of_catalog]);
    let elsewhere = Ask::openai("openai", &token(&site, &other, "own"));
    assert_eq!(credentials(&upstream, &stranger, &elsewhere).await, [format!("sk-of-{other}")]);

    // What waits for nobody beside the fleet is in effect although a sidecar hangs.
    sidecar.daemon.process().freeze();
    apply(&site, &team, &relay_key("late"));
    plane.kubectl(&["--namespace", &team, "wait", "--for=condition=Programmed", "--timeout=60s", "relaykey/late"]);
    sidecar.daemon.process().thaw();

    // It needs nobody for what is its own, also when it has no right to a stream any more.
    plane.kubectl(&["label", "namespace", &team, "llmrelay.io/inject-"]);
    is_refused(&sidecar, "does not have the label `llmrelay.io/inject: enabled`").await;
    shared.daemon.kill();
    assert_eq!(credentials(&upstream, &sidecar, &by_itself).await, [of_team]);
    let answer = sidecar.ask(&passed_on).await;
    assert!(answer.status >= 500, "{}: {}", answer.status, answer.text());
}
