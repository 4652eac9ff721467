//! Data planes that are not connected, that refuse something, or that are without Redis.

use plane::Plane;
use serde_json::json;

use crate::installed::{Installed, of};

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_that_is_not_connected_is_told_of() {
    let Some(mut installed) = Installed::new().await else { return };
    installed.data_planes[1].daemon.stop();
    let failed = installed.fails(&["streams"], &[]).await;
    let streams = of(&failed, "streams");
    assert!(streams.message.starts_with("1 of 2 data planes are connected to an operator"), "{streams:?}");
    assert!(streams.remedies[0].contains("logs -l app.kubernetes.io/name=relay-dataplane"), "{streams:?}");
    installed.data_planes[1].daemon.restart().await;
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_whose_account_the_operator_does_not_know_is_told_of() {
    let Some(installed) = Installed::new().await else { return };
    let account = json!({"spec": {"template": {"spec": {"serviceAccountName": "default"}}}});
    installed.patch("deployment/relay-dataplane", &["--type=merge"], &account);
    let failed = installed.fails(&["data-plane-account"], &[]).await;
    let found = of(&failed, "data-plane-account");
    assert!(found.message.contains("it refuses their streams"), "{found:?}");
    installed.run(&found.remedies[0]);
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_that_data_planes_refuse_is_told_of_with_its_object() {
    let Some(installed) = Installed::new().await else { return };
    let source = json!({"spec": {"source": {"secretKeyRef": null, "env": {"name": "RELAY_KEY_NOWHERE"}}}});
    installed.patch("hostkey/openai", &["--type=merge"], &source);
    let failed = installed.fails(&["nacked", "objects-ready"], &[]).await;
    let nacked = of(&failed, "nacked");
    let own = &installed.site.namespace;
    let begin = format!("2 data planes of fleet `default` refuse HostKey {own}/openai: ");
    assert!(nacked.message.starts_with(&begin) && nacked.message.contains("RELAY_KEY_NOWHERE"), "{nacked:?}");
    assert_eq!(nacked.remedies, [format!("relay status hostkey/openai -n {own}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_is_away_is_told_of() {
    let Some(plane) = Plane::shared() else { return };
    let redis = servers::Redis::start();
    let installed = Installed::on(plane, &["--redis", &redis.url()]).await;
    installed.fails(&[], &[]).await;
    redis.kill();
    let failed = installed.fails(&["redis"], &[]).await;
    let found = of(&failed, "redis");
    assert!(
        found
            .message
            .starts_with("2 of 2 data planes cannot use Redis, or a part of its cluster: relay-dataplane-pod-0"),
        "{found:?}"
    );
    assert!(found.remedies[0].contains("logs relay-dataplane-pod-0"), "{found:?}");
}
