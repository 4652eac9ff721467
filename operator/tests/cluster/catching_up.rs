//! A replica that has not heard of how new things are is believed once it has looked.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use plane::Plane;
use table::ObjectRef;

use crate::{
    pushing::{DataPlane, follower},
    support::{has_key, manifests, secret, start},
};

fn brought(namespace: &str) -> String {
    let key = "apiVersion: llmrelay.io/v1alpha1
kind: RelayKey
metadata: {name: brought, namespace: NS}
spec: {policyRefs: [{name: all}], tokenSecretRef: {name: brought, key: token}}
";
    format!("{}---\n{}", secret(namespace, "brought", "rk-a-token-that-somebody-brought"), key.replace("NS", namespace))
}

async fn until_key(data_plane: &mut DataPlane, key: &ObjectRef, is_there: bool) {
    let what = format!("`{key}` is {}", if is_there { "there" } else { "gone" });
    data_plane.until(&what, |_, table| has_key(table, key) == is_there).await;
}

/// The second replica lists later, and so knows all Secrets to be as they are at a newer version. What the first one
/// compiles after a RelayKey is gone, and with it the interest in a Secret, is not older for that.
#[tokio::test(flavor = "multi_thread")]
async fn deletions_arrive_from_a_replica_that_listed_earlier_than_another() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let namespace = plane.namespace();
    plane.apply(&(manifests(&namespace) + "---\n" + &brought(&namespace)));
    let key = ObjectRef::new(&namespace, "brought");
    let mut early = start(plane.kubeconfig(), &[&namespace]).await;
    early.until("the key is in the table", |published| has_key(&published.table, &key)).await;
    plane.kubectl(&["create", "configmap", "passes-time", "-n", &namespace]);
    let mut late = start(plane.kubeconfig(), &[&namespace]).await;
    late.until("the key is in the table", |published| has_key(&published.table, &key)).await;

    let place: Arc<Mutex<SocketAddr>> = Arc::new(Mutex::new(late.push));
    let mut data_plane = follower(plane, &place, &namespace, "follower").await;
    until_key(&mut data_plane, &key, true).await;
    *place.lock().unwrap() = early.push;
    late.kill();
    data_plane.until("it hangs on the first replica", |state, _| state.streams == 2 && state.server.is_some()).await;
    plane.kubectl(&["delete", "relaykey", "brought", "-n", &namespace]);
    until_key(&mut data_plane, &key, false).await;
    // The Secret of the first is out of interest from the next change on.
    plane.kubectl(&["delete", "relaykey", "app", "-n", &namespace]);
    until_key(&mut data_plane, &ObjectRef::new(&namespace, "app"), false).await;
    plane.apply(&brought(&namespace));
    until_key(&mut data_plane, &key, true).await;
    early.stop().await;
}
