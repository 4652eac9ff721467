//! A data plane as the operator sees it: a pod's token, one stream, and an answer to every table.

use std::{io, time::Duration};

use feed::{
    client::{About, Client, Times},
    connect::Connector,
    replica::Update,
};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use operator::push::AUDIENCE;
use plane::Plane;
use table::Secret;
use tokio::{net::TcpStream, time::timeout};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::support::{Operator, PATIENCE};

/// A data plane that takes everything, until it is dropped.
pub(crate) struct Pod {
    _stop: DropGuard,
}

/// A data plane as a pod of the operator's namespace.
pub(crate) async fn connected(plane: &Plane, operator: &Operator, namespace: &str, name: &str) -> Pod {
    let account = plane.service_account(namespace, "relay-dataplane").await;
    let pod = account.pod(name).await;
    let token = account.bound_token(&pod, AUDIENCE).await;
    let bundle = bundle(plane, namespace).await;
    let read = move || -> io::Result<Vec<u8>> { Ok(bundle.clone().into_bytes()) };
    let server = format!("relay-operator.{namespace}.svc");
    let at = operator.push;
    let connector =
        Connector::new(&server, move || TcpStream::connect(at), read, move || Ok(Secret::new(token.clone()))).unwrap();
    let about = About { pod: pod.name, pod_uid: pod.uid, namespace: namespace.to_owned(), ..About::default() };
    let times = Times { backoff_most: Duration::from_millis(500), ..Times::default() };
    let client = Client::new(about, times, connector, |_: Update| Ok(()));
    let stop = CancellationToken::new();
    tokio::spawn(client.run(stop.clone()));
    Pod { _stop: stop.drop_guard() }
}

/// Whom data planes of a namespace trust, once the operator says so.
async fn bundle(plane: &Plane, namespace: &str) -> String {
    let bundles: Api<ConfigMap> = Api::namespaced(plane.client().await, namespace);
    let look = async {
        loop {
            let found = bundles.get_opt("relay-push-ca").await.unwrap();
            match found.and_then(|found| found.data?.remove("ca.crt")) {
                Some(bundle) => return bundle,
                None => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, look).await.expect("the operator says whom to trust")
}
