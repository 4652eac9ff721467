//! Tokens that the operator makes: replaced, retired, revoked, expired, lost.

use std::time::Duration;

use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use site::until;

use crate::scene::{Scene, within_a_second};

fn patch(scene: &Scene, spec: &str) {
    scene.site.kubectl(&["patch", "relaykey", "app", "--type=merge", "--patch", &format!("{{\"spec\": {spec}}}")]);
}

/// The token in the Secret, once it is another.
async fn replaced(scene: &Scene, old: &str) -> String {
    let is_new = async || {
        let token = scene.site.try_kubectl(&["get", "secret", "app", "--template={{.data.token | base64decode}}"], "");
        token.ok().filter(|token| token != old)
    };
    until("the token is replaced", is_new).await
}

/// Waits until the status tells of tokens in these states.
async fn states(scene: &Scene, wanted: &[&str]) {
    let is_told = async || {
        let key = scene.site.get("relaykey/app");
        let tokens = key["status"]["tokens"].as_array()?.iter();
        let states: Vec<_> = tokens.filter_map(|token| token["state"].as_str()).collect();
        (states == wanted).then_some(())
    };
    until(&format!("the tokens are {wanted:?}"), is_told).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn both_tokens_work_during_the_overlap_and_the_old_one_is_refused_after_it() {
    let Some(scene) = Scene::new(2).await else { return };
    let old = scene.key("app");
    scene.all_answer(&old, 200).await;
    patch(&scene, "{\"rotation\": {\"trigger\": 1, \"overlap\": \"10s\"}}");
    let new = replaced(&scene, &old).await;
    assert_eq!(scene.site.secret("app", "token-previous"), old);
    let until_text = scene.site.secret("app", "token-previous-until");
    let ends: Timestamp = until_text.parse().expect("the Secret says until when the old token is good");

    scene.all_answer(&new, 200).await;
    let old_answers = scene.answers(&old).await;
    assert!(Timestamp::now() < ends, "the overlap was over before both tokens were tried");
    assert!(old_answers.iter().all(|answer| answer.status == 200));
    states(&scene, &["Active", "Retiring"]).await;
    scene.event("TokenRotated", "app").await;

    scene.all_answer(&old, 401).await;
    assert!(Timestamp::now() >= ends, "the old token was refused before its time");
    assert!(scene.answers(&new).await.iter().all(|answer| answer.status == 200));
    scene.event("TokenRetired", "app").await;
    states(&scene, &["Active"]).await;
    let secret = scene.site.get("secret/app");
    assert_eq!(secret["data"].as_object().expect("it has data").keys().collect::<Vec<_>>(), ["token"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_key_is_refused_on_every_data_plane_within_a_second() {
    let Some(scene) = Scene::new(3).await else { return };
    let keys = scene.keys().await;
    let revoked = Patch::Merge(json!({"spec": {"revoked": true}}));
    let mut rounds = Vec::new();
    for round in 0..5 {
        let name = format!("app-{round}");
        let token = scene.key(&name);
        scene.all_answer(&token, 200).await;
        let revoke = async || drop(keys.patch(&name, &PatchParams::default(), &revoked).await.expect("it is patched"));
        rounds.push(scene.times(&token, 401, revoke).await);
        assert!(scene.answers(&token).await.iter().all(|answer| answer.text().contains("is revoked")));
    }
    within_a_second("from the revocation of a key to its first refusal", &rounds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_refused_when_its_time_is_over() {
    let Some(scene) = Scene::new(2).await else { return };
    let token = scene.key("app");
    let ends = Timestamp::from_second(Timestamp::now().as_second() + 6).expect("it is a moment");
    patch(&scene, &format!("{{\"expiresAt\": \"{ends}\"}}"));
    let is_known = async || {
        let tables = [scene.data_planes[0].table().await, scene.data_planes[1].table().await];
        tables.iter().all(|table| table.to_string().contains(&ends.to_string())).then_some(())
    };
    until("the end is known to both data planes", is_known).await;
    let answers = scene.answers(&token).await;
    assert!(Timestamp::now() < ends, "the key had ended before it was tried");
    assert!(answers.iter().all(|answer| answer.status == 200));
    scene.all_answer(&token, 401).await;
    let late = Duration::try_from(Timestamp::now().duration_since(ends)).expect("not before its end");
    println!("refused on all data planes {late:?} after its end");
    assert!(scene.answers(&token).await.iter().all(|answer| answer.text().contains("has expired")));
    scene.site.wait("Expired", &["relaykey/app"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_secret_is_made_again_with_a_token_of_its_own() {
    let Some(scene) = Scene::new(2).await else { return };
    let old = scene.key("app");
    scene.all_answer(&old, 200).await;
    scene.site.kubectl(&["delete", "secret", "app"]);
    let new = replaced(&scene, &old).await;
    scene.event("TokenReissued", "app").await;
    scene.all_answer(&new, 200).await;
    scene.all_answer(&old, 401).await;
    scene.site.wait("Ready", &["relaykey/app"]);
}
