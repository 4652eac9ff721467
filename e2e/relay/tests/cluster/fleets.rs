//! Two fleets with different selectors.

use crate::scene::REPLICAS;
use serde_json::Value;
use site::{Ask, DataPlane, Site, Upstream, relay_key, routes};

/// A DataPlane that takes what bears a label, and the pods of the service account of its name.
fn fleet(name: &str) -> String {
    format!(
        "---
apiVersion: llmrelay.io/v1alpha1
kind: DataPlane
metadata: {{name: {name}}}
spec: {{serviceAccounts: [{{name: {name}}}], selector: {{matchLabels: {{{name}: 'yes'}}}}}}
"
    )
}

async fn keys_of(data_plane: &DataPlane) -> Vec<String> {
    let table = data_plane.table().await;
    let keys: &Value =
        ["relay_keys", "relayKeys"].iter().find_map(|name| table.get(*name)).expect("a table has relay keys");
    keys.as_object().expect("rows have names").keys().cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn two_fleets_get_different_tables_and_refuse_the_keys_of_each_other() {
    let Some(site) = Site::shared().await else { return };
    let upstream = Upstream::start().await;
    let _operators = site.operators(REPLICAS, &["--data-plane-accounts", "red,blue"]).await;
    site.apply(
        &(fleet("red") + &fleet("blue") + &routes(&upstream.url()) + &relay_key("for-red") + &relay_key("for-blue")),
    );
    site.kubectl(&["label", "hosts,models,hostkeys,policies", "--all", "red=yes", "blue=yes"]);
    site.kubectl(&["label", "relaykey/for-red", "red=yes"]);
    site.kubectl(&["label", "relaykey/for-blue", "blue=yes"]);
    let mut fleets = Vec::new();
    for name in ["red", "blue"] {
        let pod = site.pod(name, &format!("{name}-0")).await;
        let data_plane = site.data_plane_in(pod, &["--fleet", name]).await;
        data_plane.daemon.ready().await;
        fleets.push(data_plane);
    }
    site.wait("Ready", &["relaykeys", "--all"]);
    site.wait("Ready", &["dataplanes", "--all"]);

    for (data_plane, own, foreign) in [(&fleets[0], "for-red", "for-blue"), (&fleets[1], "for-blue", "for-red")] {
        assert_eq!(keys_of(data_plane).await, [format!("{}/{own}", site.namespace)]);
        let ask = |key: &str| Ask::anthropic("openai", &site.secret(key, "token"));
        assert_eq!(data_plane.ask(&ask(own)).await.status, 200);
        let refused = data_plane.ask(&ask(foreign)).await;
        assert_eq!(refused.status, 401, "{}", refused.text());
        assert!(refused.text().contains("unknown"), "{}", refused.text());
    }

    // What changes its fleet leaves the one and comes to the other.
    site.kubectl(&["label", "relaykey/for-red", "red-", "blue=yes"]);
    let ask = Ask::openai("openai", &site.secret("for-red", "token"));
    for (data_plane, status) in [(&fleets[0], 401), (&fleets[1], 200)] {
        site::until("the key has moved", async || (data_plane.ask(&ask).await.status == status).then_some(())).await;
    }
}
