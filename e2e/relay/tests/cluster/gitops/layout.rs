//! What the example renders to: it is right, it becomes ready in a cluster, and both tools are told the same.

use std::{fs, process::Command};

use plane::Plane;
use serde_json::Value;
use site::{Programs, Site, secret, until};

use super::{argo, example, file, rendered};

const OVERLAYS: [&str; 2] = ["staging", "production"];

/// The key with which the made-up credential of an overlay is sealed.
fn sealing_key(overlay: &str) -> String {
    format!("not-for-production-gitops-{:<6.6}", overlay)
}

fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap_or_else(|error| panic!("{error}\n{text}"))
}

#[test]
fn relay_check_finds_nothing_in_any_overlay_and_what_is_sealed_opens() {
    let Some(plane) = Plane::shared() else { return };
    for overlay in OVERLAYS {
        let folder = tempfile::tempdir().expect("a folder is made");
        let into = |name: &str, text: &str| {
            fs::write(folder.path().join(name), text).expect("the folder is writable");
        };
        into("manifests.yaml", &rendered(plane.programs(), &format!("overlays/{overlay}")));
        into("namespaces.yaml", &file("namespaces/namespaces.yaml"));
        into("secrets.yaml", &file("ci/placeholders.yaml"));
        let keys = tempfile::tempdir().expect("a folder is made");
        let key = keys.path().join(format!("{overlay}-2026-a"));
        fs::write(&key, sealing_key(overlay)).expect("the folder is writable");
        let mut command = Command::new(&Programs::built().relay);
        command.arg("check").arg(folder.path()).args(["--catalog-namespace", "platform", "--key-file"]).arg(key);
        let output = command.output().expect("relay starts");
        let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{overlay}: {said}");
        assert!(said.contains("1 of 1 sealed credential open"), "{overlay}: {said}");
        assert!(said.contains("nothing refused, 0 warnings, 0 notes"), "{overlay}: {said}");
    }
}

#[test]
fn the_overlays_differ_in_the_sealed_credential_and_in_budgets_alone() {
    let Some(plane) = Plane::shared() else { return };
    let [staging, production] = OVERLAYS.map(|overlay| {
        let mut all = documents(&rendered(plane.programs(), &format!("overlays/{overlay}")));
        for object in &mut all {
            let spec = object["spec"].as_object_mut().expect("it has a spec");
            if let Some(budgets) = spec.remove("budgets") {
                assert_eq!(object["kind"], "Policy", "{budgets}");
            } else if spec.get("source").is_some_and(|source| !source["encrypted"].is_null()) {
                spec.remove("source");
            }
        }
        all
    });
    assert_eq!(staging, production);
    assert_eq!(staging.len(), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_then_an_overlay_become_ready_and_healthy() {
    let Some(plane) = Plane::start() else { return };
    let watched = ["platform", "team-search", "team-support"];
    // Relay's definitions come with the site, as they come with a chart of their own before everything that needs them.
    plane.kubectl(&["create", "-f", &example().join("namespaces/namespaces.yaml").display().to_string()]);
    let site = Site::on(&plane, &watched).await;
    plane.apply(&rendered(plane.programs(), "namespaces"));
    let _operator = site.operator("operator-0", &["--catalog-namespace", "platform"]).await;
    let pod = site.pod("relay-dataplane", "pod-0").await;
    let keys = pod.folder.join("sealing");
    fs::create_dir_all(&keys).expect("the pod's folder is writable");
    fs::write(keys.join("production-2026-a"), sealing_key("production")).expect("the pod's folder is writable");
    let keys = keys.display().to_string();
    let data_plane = site.data_plane_in(pod, &["--sealing-keys", &keys]).await;
    data_plane.daemon.ready().await;

    plane.apply(&rendered(plane.programs(), "overlays/production"));
    let provider = secret("openai", "api-key", "sk-made-by-hand");
    plane
        .try_kubectl(plane.kubeconfig(), &["apply", "--server-side", "--namespace", "platform", "-f", "-"], &provider)
        .expect("a Secret is made");
    let kinds = "hosts,models,hostkeys,policies,relaykeys";
    plane.kubectl(&["wait", "--for=condition=Ready", "--timeout=60s", kinds, "--all", "--all-namespaces"]);

    // Each was ready when it was its turn to be waited for; what came after may have touched it once more.
    let script = file("argocd/argocd-health.lua");
    let are_healthy = async || {
        let list = plane.kubectl(&["get", kinds, "--all-namespaces", "--output=json"]);
        let list: Value = serde_json::from_str(&list).expect("kubectl prints JSON");
        let objects = list["items"].as_array().expect("a list has items");
        assert_eq!(objects.len(), 11);
        objects.iter().all(|object| argo::health(&script, object).status == "Healthy").then_some(())
    };
    until("Argo CD takes all of them for healthy", are_healthy).await;
    let token = plane.kubectl(&["get", "secret", "search-backend", "--namespace=team-search", "--output=json"]);
    let token: Value = serde_json::from_str(&token).expect("kubectl prints JSON");
    assert!(token["data"]["token"].is_string(), "the operator makes the token");
}

#[test]
fn the_config_map_for_argo_holds_the_script_under_a_wildcard() {
    let map = &documents(&file("argocd/argocd-cm.yaml"))[0];
    let customizations = map["data"]["resource.customizations"].as_str().expect("wildcards are only taken there");
    let customizations = &documents(customizations)[0];
    assert_eq!(customizations["llmrelay.io/*"]["health.lua"], file("argocd/argocd-health.lua"));
}

#[test]
fn argo_and_flux_install_the_same_charts_with_the_same_values() {
    let of = |path: &str, kind: &str| {
        let found = documents(&file(path)).into_iter().find(|document| document["kind"] == kind);
        found.unwrap_or_else(|| panic!("{path} has a {kind}"))
    };
    for chart in ["relay-crds", "relay"] {
        let application = of(&format!("argocd/apps/{chart}.yaml"), "Application");
        let (source, path) = (&application["spec"]["source"], format!("flux/charts/{chart}.yaml"));
        let (repository, release) = (of(&path, "OCIRepository"), of(&path, "HelmRelease"));
        let url = format!("oci://{}/{}", source["repoURL"].as_str().expect("a registry"), chart);
        assert_eq!(source["chart"], chart);
        assert_eq!(repository["spec"]["url"], url);
        assert_eq!(repository["spec"]["ref"]["tag"], source["targetRevision"]);
        assert_eq!(release["spec"]["values"], source["helm"]["valuesObject"]);
    }
}

#[test]
fn waves_and_dependencies_put_definitions_before_the_operator_and_manifests_last() {
    let wave = |name: &str| {
        let application = &documents(&file(&format!("argocd/apps/{name}.yaml")))[0];
        let wave = application["metadata"]["annotations"]["argocd.argoproj.io/sync-wave"].as_str();
        wave.and_then(|wave| wave.parse::<i32>().ok()).expect("a wave is a number in quotes")
    };
    let waves = ["namespaces", "relay-crds", "relay", "manifests"].map(wave);
    assert!(waves.is_sorted_by(|one, next| one < next), "{waves:?}");
    let depends = |path: &str, at: usize| documents(&file(path))[at]["spec"]["dependsOn"][0]["name"].clone();
    assert_eq!(depends("flux/charts.yaml", 0), "relay-namespaces");
    assert_eq!(depends("flux/charts/relay.yaml", 1), "relay-crds");
    assert_eq!(depends("flux/manifests.yaml", 0), "relay-charts");
}

#[test]
fn what_both_tools_are_pointed_at_is_there() {
    let Some(plane) = Plane::shared() else { return };
    for folder in ["flux", "flux/charts", "namespaces", "overlays/staging", "overlays/production"] {
        assert!(!documents(&rendered(plane.programs(), folder)).is_empty());
    }
    for name in ["namespaces", "charts", "manifests"] {
        let path = documents(&file(&format!("flux/{name}.yaml")))[0]["spec"]["path"].clone();
        assert!(example().join(path.as_str().expect("a path")).join("kustomization.yaml").is_file(), "{path}");
    }
    for name in ["root", "apps/namespaces", "apps/manifests"] {
        let path = documents(&file(&format!("argocd/{name}.yaml")))[0]["spec"]["source"]["path"].clone();
        assert!(example().join(path.as_str().expect("a path")).is_dir(), "{path}");
    }
}
