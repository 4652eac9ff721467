//! GitOps: what is applied again and again, by one manager or by two, changes nothing, and the operator does not either.

use futures::StreamExt;
use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind, WatchEvent, WatchParams},
};
use serde_json::Value;
use site::{relay_key, routes};

use crate::scene::Scene;

const KINDS: &str = "hosts,models,hostkeys,relaykeys,policies,dataplanes";

/// How long everything is looked at while nobody changes anything, in seconds.
const QUIET_S: u32 = 6;

fn apply(scene: &Scene, manifests: &str, manager: &str) {
    let manager = format!("--field-manager={manager}");
    let done = scene.site.try_kubectl(&["apply", "--server-side", &manager, "-f", "-"], manifests);
    done.unwrap_or_else(|error| panic!("{manager}: {error}"));
}

/// Everything that is stored: specs, statuses, versions, generations and managers with their times.
fn stored(scene: &Scene) -> Vec<Value> {
    let list = scene.site.get(KINDS);
    list["items"].as_array().expect("a list has items").clone()
}

/// Every change of an object of these kinds during some seconds, from the state that was read.
async fn changes(scene: &Scene) -> Vec<String> {
    let client = scene.site.plane.client().await;
    let kinds = [("Host", "hosts"), ("Model", "models"), ("HostKey", "hostkeys"), ("RelayKey", "relaykeys")];
    let kinds = kinds.into_iter().chain([("Policy", "policies"), ("DataPlane", "dataplanes")]);
    let watches = kinds.map(|(kind, plural)| {
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("llmrelay.io", "v1alpha1", kind), plural);
        let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &scene.site.namespace, &resource);
        async move {
            let list = api.list(&Default::default()).await.expect("a list is answered");
            let from = list.metadata.resource_version.expect("a list has a version");
            let events = api.watch(&WatchParams::default().timeout(QUIET_S), &from).await.expect("a watch begins");
            // A bookmark says how far one has heard.
            let is_change = |event: &Result<_, _>| std::future::ready(!matches!(event, Ok(WatchEvent::Bookmark(_))));
            events.filter(is_change).map(|event| format!("{plural}: {event:?}")).collect::<Vec<_>>().await
        }
    });
    futures::future::join_all(watches).await.concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn manifests_that_are_applied_again_change_nothing_whoever_applies_them() {
    let Some(scene) = Scene::new(2).await else { return };
    let fleet = "---\napiVersion: llmrelay.io/v1alpha1\nkind: DataPlane\nmetadata: {name: default}\nspec: {}\n";
    let manifests = routes(&scene.upstream.url()) + &relay_key("app") + fleet;
    for manager in ["argocd", "flux"] {
        apply(&scene, &manifests, manager);
    }
    scene.site.wait("Ready", &[KINDS, "--all"]);
    // Pods are counted now and then, and a fleet may be ready before the last one is.
    scene.site.kubectl(&["wait", "dataplane/default", "--for=jsonpath={.status.pods.current}=2", "--timeout=60s"]);
    let before = stored(&scene);
    assert_eq!(before.len(), 9);
    assert!(
        before.iter().all(|object| object["metadata"]["generation"] == 1),
        "a status is no change of what is wanted"
    );
    for manager in ["argocd", "argocd", "flux", "argocd", "flux"] {
        apply(&scene, &manifests, manager);
    }
    assert_eq!(stored(&scene), before, "generations, versions and managers are what they were");
    let managers = |object: &Value| {
        let entries = object["metadata"]["managedFields"].as_array().expect("fields have managers").iter();
        let mut names: Vec<_> = entries.filter_map(|entry| entry["manager"].as_str().map(str::to_owned)).collect();
        names.sort_unstable();
        names
    };
    let of_key = before.iter().find(|object| object["kind"] == "RelayKey").expect("it is there");
    assert_eq!(managers(of_key), ["argocd", "flux", "relay-operator"]);

    assert_eq!(changes(&scene).await, [""; 0], "nothing is written while nobody changes anything");
    assert_eq!(stored(&scene), before);
}
