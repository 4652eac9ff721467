//! Secrets of HostKeys that change while everything runs.

use std::time::{Duration, Instant};

use site::{Ask, secret, until};

use crate::{census::is_full, scene::Scene};

/// What a few seconds are, also where this is no measurement and the machine is busy.
fn few_seconds() -> Duration {
    Duration::from_secs(if is_full() { 5 } else { 30 })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_secret_is_used_within_seconds_and_the_old_value_never_again() {
    let Some(scene) = Scene::new(2).await else { return };
    let token = scene.key("app");
    scene.all_answer(&token, 200).await;
    assert!(scene.upstream.take().iter().all(|request| request.credential == "sk-provider-1"));

    let begin = Instant::now();
    scene.site.apply(&secret("provider", "key", "sk-provider-2"));
    let applied = begin.elapsed();
    for data_plane in &scene.data_planes {
        let ask = Ask::openai("openai", &token);
        let is_new = async || {
            assert_eq!(data_plane.ask(&ask).await.status, 200);
            scene.upstream.take().iter().any(|request| request.credential == "sk-provider-2").then_some(())
        };
        until("the new value is sent", is_new).await;
    }
    let took = begin.elapsed();
    println!(
        "from `kubectl apply` of a provider's Secret to its use on all data planes: {took:?}, kubectl {applied:?}"
    );
    assert!(took < few_seconds(), "{took:?}");
    for _ in 0..10 {
        assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 200));
    }
    let seen = scene.upstream.take();
    assert_eq!(seen.len(), 20);
    assert!(seen.iter().all(|request| request.credential == "sk-provider-2"), "{seen:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deleted_secret_is_told_by_a_condition_and_an_event_and_nothing_is_sent_with_it() {
    let Some(scene) = Scene::new(2).await else { return };
    let token = scene.key("app");
    scene.all_answer(&token, 200).await;
    assert_eq!(scene.events("SecretNotFound"), [""; 0]);

    scene.site.kubectl(&["delete", "secret", "provider"]);
    scene.site.wait("ResolvedRefs=False", &["hostkey/openai", "hostkey/anthropic"]);
    let (reason, message) = scene.condition("hostkey/openai", "ResolvedRefs");
    assert_eq!(reason, "SecretNotFound");
    assert!(message.contains("`provider`"), "{message}");
    scene.event("SecretNotFound", "openai").await;
    scene.event("SecretNotFound", "anthropic").await;
    scene.all_answer(&token, 503).await;
    scene.upstream.take();
    assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 503));
    assert_eq!(scene.upstream.take(), []);

    scene.site.apply(&secret("provider", "key", "sk-provider-3"));
    scene.site.wait("Ready", &["hostkey/openai", "hostkey/anthropic"]);
    scene.all_answer(&token, 200).await;
    assert!(scene.upstream.take().iter().all(|request| request.credential == "sk-provider-3"));
}

/// A second key of the same host, with a Secret of its own.
fn spare() -> String {
    secret("spare", "key", "sk-spare")
        + "---
apiVersion: llmrelay.io/v1alpha1
kind: HostKey
metadata: {name: spare}
spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: spare, key: key}}}
"
}

/// Asks all data planes until the spare key alone has been shown ten times in a row, and every answer was good.
async fn only_the_spare_is_used(scene: &Scene, token: &str) {
    let mut alone = 0;
    until("all requests go to the other key", async || {
        assert!(scene.answers(token).await.iter().all(|answer| answer.status == 200), "a caller saw a fault");
        let is_spare = scene.upstream.take().iter().all(|request| request.credential == "sk-spare");
        alone = if is_spare { alone + 1 } else { 0 };
        (alone == 10).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_moves_to_another_key_when_the_secret_of_one_is_deleted_and_comes_back_with_it() {
    let Some(scene) = Scene::new(2).await else { return };
    scene.site.apply(&spare());
    scene.site.wait("Ready", &["hostkey/spare"]);
    let token = scene.key("app");
    scene.all_answer(&token, 200).await;

    let begin = Instant::now();
    scene.site.kubectl(&["delete", "secret", "provider"]);
    scene.site.wait("ResolvedRefs=False", &["hostkey/openai"]);
    let condition = begin.elapsed();
    scene.event("SecretNotFound", "openai").await;
    let event = begin.elapsed();
    only_the_spare_is_used(&scene, &token).await;
    println!(
        "from `kubectl delete secret` to its condition {condition:?}, to its Event {event:?}, to the other key alone {:?}",
        begin.elapsed()
    );
    assert!(event < few_seconds(), "{event:?}");
    scene.site.wait("Ready", &["hostkey/spare", "model/openai"]);

    scene.site.apply(&secret("provider", "key", "sk-provider-2"));
    scene.site.wait("Ready", &["hostkey/openai"]);
    until("the key is drawn again", async || {
        assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 200));
        scene.upstream.take().iter().any(|request| request.credential == "sk-provider-2").then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_with_a_wrong_value_opens_the_breaker_of_its_key_and_the_right_one_closes_it() {
    let Some(scene) = Scene::new(2).await else { return };
    scene.site.apply(&spare());
    scene.site.wait("Ready", &["hostkey/spare"]);
    let token = scene.key("app");
    scene.all_answer(&token, 200).await;
    scene.upstream.refuse("sk-wrong");

    let begin = Instant::now();
    scene.site.apply(&secret("provider", "key", "sk-wrong"));
    until("the wrong value is shown, and no caller sees it", async || {
        assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 200), "a caller saw a fault");
        scene.upstream.take().iter().any(|request| request.credential == "sk-wrong").then_some(())
    })
    .await;
    let shown = begin.elapsed();
    until("the breaker opens on both data planes", async || {
        assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 200), "a caller saw a fault");
        let key = scene.site.get("hostkey/openai");
        let conditions = key["status"]["conditions"].as_array()?.iter();
        let healthy = conditions.into_iter().find(|condition| condition["type"] == "Healthy")?;
        (healthy["status"] == "False" && healthy["message"].as_str()?.contains("the provider refuses the credential"))
            .then_some(())
    })
    .await;
    let condition = begin.elapsed();
    scene.event("BreakerOpened", "openai").await;
    println!(
        "from `kubectl apply` of a wrong value to its first use {shown:?}, to the condition Healthy=False {condition:?}, to \
         the Event {:?}",
        begin.elapsed()
    );
    only_the_spare_is_used(&scene, &token).await;

    scene.site.apply(&secret("provider", "key", "sk-provider-2"));
    scene.site.wait("Healthy", &["hostkey/openai"]);
    until("the right value is shown", async || {
        assert!(scene.answers(&token).await.iter().all(|answer| answer.status == 200));
        scene.upstream.take().iter().any(|request| request.credential == "sk-provider-2").then_some(())
    })
    .await;
}
