//! The real request: refused, or without an address.

use serde_json::json;

use crate::installed::{Installed, of};

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_key_that_is_revoked_is_told_of_by_the_request() {
    let Some(installed) = Installed::new().await else { return };
    let url = format!("http://{}", installed.data_planes[0].address);
    let request = ["--request", "--relay-key", "app", "--url", &url];
    installed.fails(&[], &request).await;
    installed.patch("relaykey/app", &["--type=merge"], &json!({"spec": {"revoked": true}}));
    let failed = installed.fails(&["request"], &request).await;
    let refused = of(&failed, "request");
    assert!(
        refused.message.contains("refuses the request: 401") && refused.message.contains("is revoked"),
        "{refused:?}"
    );
    installed.run(&refused.remedies[0]);
    let another = refused.remedies[1].replace("ANOTHER-NAME", "other").replace("POLICY", "all");
    installed.run(&another);
    installed.fails(&[], &["--request", "--relay-key", "other", "--url", &url]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_needs_a_key_and_a_place() {
    let Some(installed) = Installed::new().await else { return };
    let failed = installed.fails(&["request"], &["--request", "--relay-key", "ap"]).await;
    assert_eq!(failed.len(), 2, "{failed:#?}");
    assert!(failed[0].message.starts_with("no Service of data planes in namespace"), "{failed:#?}");
    assert!(failed[1].message.contains("\"ap\" not found"), "{failed:#?}");
    assert_eq!(failed[1].remedies, [format!("relay keys list -n {}", installed.site.namespace)]);
}
