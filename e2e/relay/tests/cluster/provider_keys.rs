//! Secrets of HostKeys that change while everything runs.

use std::time::{Duration, Instant};

use site::{Ask, secret, until};

use crate::scene::Scene;

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
    assert!(took < Duration::from_secs(5), "{took:?}");
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
