//! What is deleted is refused at once, and what comes back works again.

use kube::api::DeleteParams;
use site::relay_key;

use crate::scene::{Scene, within_a_second};

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_key_is_refused_on_every_data_plane_within_a_second_and_works_when_it_is_made_again() {
    let Some(scene) = Scene::new(3).await else { return };
    let keys = scene.keys().await;
    let (mut rounds, mut tokens) = (Vec::new(), Vec::new());
    for round in 0..5 {
        let name = format!("app-{round}");
        let token = scene.key(&name);
        scene.all_answer(&token, 200).await;
        let delete = async || drop(keys.delete(&name, &DeleteParams::default()).await.expect("it is deleted"));
        rounds.push(scene.times(&token, 401, delete).await);
        assert!(scene.answers(&token).await.iter().all(|answer| answer.text().contains("unknown")));
        tokens.push(token);
    }
    within_a_second("from the deletion of a key to its first refusal", &rounds);

    // Whether or not its Secret was collected meanwhile, its token is not the new key's.
    let old = &tokens[0];
    let new = scene.key("app-0");
    assert_ne!(*old, new);
    scene.all_answer(&new, 200).await;
    scene.all_answer(old, 401).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_whose_policy_is_gone_grants_nothing_and_says_so() {
    let Some(scene) = Scene::new(2).await else { return };
    let token = scene.key("app");
    scene.all_answer(&token, 200).await;
    let policy = scene.site.kubectl(&["get", "policy", "all", "--output=yaml"]);
    let times = scene.times(&token, 403, async || drop(scene.site.kubectl(&["delete", "policy", "all"]))).await;
    println!("from `kubectl delete policy` to the first refusal: {times:?}");
    scene.site.wait("ResolvedRefs=False", &["relaykey/app"]);
    scene.site.wait("Ready=False", &["relaykey/app"]);
    let (reason, message) = scene.condition("relaykey/app", "ResolvedRefs");
    assert_eq!(reason, "RefNotFound");
    assert!(message.contains("spec.policyRefs[0]") && message.contains("`all`"), "{message}");
    scene.upstream.take();
    assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 403));
    assert_eq!(scene.upstream.take(), []);

    scene.site.try_kubectl(&["create", "-f", "-"], &without_identity(&policy)).expect("it is made again");
    scene.site.wait("Ready", &["relaykey/app", "policy/all"]);
    scene.all_answer(&token, 200).await;
}

/// What was read, as something new.
fn without_identity(manifest: &str) -> String {
    let mut object: serde_json::Value = serde_saphyr::from_str(manifest).expect("kubectl prints YAML");
    object["metadata"] = serde_json::json!({"name": object["metadata"]["name"]});
    object.as_object_mut().expect("it is an object").remove("status");
    object.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_kubectl_prunes_is_refused() {
    let Some(scene) = Scene::new(2).await else { return };
    let labelled = |name: &str| {
        relay_key(name).replace(&format!("name: {name}}}\n"), &format!("name: {name}, labels: {{set: a}}}}\n"))
    };
    let both = labelled("kept") + &labelled("pruned");
    let apply = ["apply", "--prune", "--selector=set=a", "--prune-allowlist=llmrelay.io/v1alpha1/RelayKey", "-f", "-"];
    scene.site.try_kubectl(&apply, &both).expect("both are applied");
    scene.site.wait("Ready", &["relaykey/kept", "relaykey/pruned"]);
    let [kept, pruned] = ["kept", "pruned"].map(|name| scene.site.secret(name, "token"));
    scene.all_answer(&pruned, 200).await;
    let said = scene.site.try_kubectl(&apply, &labelled("kept")).expect("one is applied");
    assert!(said.contains("relaykey.llmrelay.io/pruned pruned"), "{said}");
    scene.all_answer(&pruned, 401).await;
    scene.all_answer(&kept, 200).await;
}
