//! From manifests to answers.

use site::{Ask, Site, Upstream, relay_key, routes};

#[tokio::test(flavor = "multi_thread")]
async fn a_minted_key_works_on_every_data_plane() {
    let Some(site) = Site::shared().await else { return };
    let upstream = Upstream::start().await;
    let _operators = site.operators(2, &[]).await;
    let data_planes = [site.data_plane("pod-0").await, site.data_plane("pod-1").await];
    site.apply(&(routes(&upstream.url()) + &relay_key("app")));
    site.wait("Ready", &["relaykey/app", "model/openai", "model/anthropic"]);
    let token = site.secret("app", "token");
    for data_plane in &data_planes {
        for ask in [Ask::openai("openai", &token), Ask::anthropic("anthropic", &token)] {
            let answer = data_plane.ask(&ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert!(answer.text().contains("hello from upstream"), "{}", answer.text());
        }
    }
}
