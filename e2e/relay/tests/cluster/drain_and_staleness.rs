//! Settings of a DataPlane take effect in data planes that run: how they stop, and how long they serve alone.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use site::{Answer, Ask, DAWDLER, DataPlane, Operator, Site, Upstream, relay_key, routes, until};
use tokio::time::sleep;

const FLEET: &str = "
---
apiVersion: llmrelay.io/v1alpha1
kind: DataPlane
metadata: {name: edge}
spec: {serviceAccounts: [{name: relay-dataplane}]}
";

/// A fleet of one data plane with these flags, an operator, an upstream and a key.
struct Scene {
    data_plane: DataPlane,
    operator: Operator,
    upstream: Upstream,
    site: Site<'static>,
}

impl Scene {
    async fn new(flags: &[&str]) -> Option<Self> {
        let site = Site::shared().await?;
        let upstream = Upstream::start().await;
        let operator = site.operator("operator-0", &[]).await;
        site.apply(&(routes(&upstream.url()) + &relay_key("app") + FLEET));
        let pod = site.pod("relay-dataplane", "pod-0").await;
        let data_plane = site.data_plane_in(pod, flags).await;
        data_plane.daemon.ready().await;
        site.wait("Ready", &["relaykey/app"]);
        Some(Self { data_plane, operator, upstream, site })
    }

    /// Changes the settings, and waits until they are in the table that the data plane routes by.
    async fn set(&self, spec: Value, row: Value) {
        self.site.kubectl(&["patch", "dataplane", "edge", "--type=merge", "-p", &json!({"spec": spec}).to_string()]);
        let what = format!("{row} is in the table");
        let is_there = async || (self.data_plane.table().await["settings"]["pods"] == row).then_some(());
        until(&what, is_there).await;
        self.site.wait("Ready", &["dataplane/edge"]);
    }

    fn ask(&self) -> Ask {
        Ask::openai("openai", &self.site.secret("app", "token"))
    }

    /// Begins a stream that never ends, and gives what it was in the end.
    async fn dawdle(&self) -> tokio::task::JoinHandle<Result<Answer, String>> {
        let (ask, to) = (self.ask().with("stream", json!(true)).with("user", json!(DAWDLER)), self.data_plane.address);
        self.upstream.take();
        let asking = tokio::spawn(async move { ask.send(to).await });
        until("the stream is open", async || (!self.upstream.take().is_empty()).then_some(())).await;
        asking
    }
}

/// The flags leave streams ten minutes, which is longer than anything here waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_stream_is_ended_after_the_grace_that_was_patched_last() {
    let Some(mut scene) = Scene::new(&["--drain-grace", "600s", "--stop-within", "625s"]).await else { return };
    let process = scene.data_plane.daemon.process().id();
    scene.set(json!({"drain": {"grace": "1h"}}), json!({"drainGrace": 3_600_000})).await;
    assert!(scene.data_plane.daemon.process().log().contains("is killed 625s after"), "a longer drain is cut");
    scene.set(json!({"drain": {"grace": "2s"}}), json!({"drainGrace": 2_000})).await;
    assert_eq!(scene.data_plane.daemon.process().id(), process, "it was not started anew");
    let stream = scene.dawdle().await;

    let told = Instant::now();
    let status = scene.data_plane.daemon.stop();
    let took = told.elapsed();
    println!("the process ended {took:?} after SIGTERM");
    assert!(status.success(), "{status}");
    assert!(took >= Duration::from_secs(2) && took < Duration::from_secs(300), "{took:?}");
    let answer = stream.await.expect("no panic").expect("the answer is whole");
    let last = answer.text().lines().rfind(|line| line.starts_with("data: {")).unwrap_or_default().to_owned();
    assert!(answer.status == 200 && last.contains("\"error\"") && last.contains("shutting down"), "{}", answer.text());
}

/// Two minutes are the least that can be set, and so what this takes.
#[tokio::test(flavor = "multi_thread")]
async fn a_data_plane_refuses_once_it_was_alone_for_as_long_as_was_patched() {
    let Some(mut scene) = Scene::new(&["--max-staleness", "1h"]).await else { return };
    assert_eq!(scene.data_plane.feed().await["maxStalenessSeconds"], 3_600);
    scene.set(json!({"push": {"maxStaleness": "2m"}}), json!({"maxStaleness": 120_000})).await;
    assert_eq!(scene.data_plane.feed().await["maxStalenessSeconds"], 120);
    let ask = scene.ask();
    assert_eq!(scene.data_plane.ask(&ask).await.status, 200);

    scene.operator.daemon.kill();
    let gone = Instant::now();
    let refused = loop {
        let answer = scene.data_plane.ask(&ask).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(gone.elapsed() < Duration::from_secs(300), "it is still served");
        sleep(Duration::from_millis(500)).await;
    };
    println!("requests were refused {:?} after the operator was gone", gone.elapsed());
    // The operator had confirmed the table at most a heartbeat before.
    assert!(gone.elapsed() > Duration::from_secs(90), "{:?}", gone.elapsed());
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert!(refused.text().contains("push.maxStaleness"), "{}", refused.text());
    let readiness = scene.data_plane.daemon.admin("/readyz").await.expect("the admin port answers");
    assert_eq!(readiness.status, 503, "{}", readiness.text());

    scene.operator.daemon.restart().await;
    scene.data_plane.daemon.ready().await;
    assert_eq!(scene.data_plane.ask(&ask).await.status, 200);
}
