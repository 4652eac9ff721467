//! What the operator makes for data planes: whom they trust, in every namespace of theirs, and what they seal copies with.

use std::{collections::BTreeMap, time::Duration};

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, api::DeleteParams};
use operator::{config, push::authority::Times, rbac};
use plane::Plane;
use rustls_pki_types::ServerName;
use serde_json::json;
use tokio::time::timeout;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use crate::{
    pushing::bundle,
    support::{config as settings, manifests, start, start_as},
};

const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until the answer is such.
async fn until<T: std::fmt::Debug, A: Future<Output = T>>(
    what: &str,
    ask: impl Fn() -> A,
    is_such: impl Fn(&T) -> bool,
) -> T {
    let look = async {
        loop {
            let answer = ask().await;
            if is_such(&answer) {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    match timeout(PATIENCE, look).await {
        Ok(answer) => answer,
        Err(_) => panic!("waited in vain until {what}: {:?}", ask().await),
    }
}

/// The operator may do what its printed roles say and nothing else; it watches two namespaces, and others are of data
/// planes.
#[tokio::test(flavor = "multi_thread")]
async fn whom_to_trust_is_said_and_kept_right_where_data_planes_are_and_nowhere_else() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let [own, team, named, fleet, unasked, unwatched] = [(); 6].map(|()| plane.namespace());
    let mut config = settings(&[&own, &team, &unasked]);
    config.data_plane_accounts = vec!["relay-dataplane".to_owned(), format!("{named}/edge")];
    config.push_times = Times { look: Duration::from_millis(100), ..Times::default() };
    let account = plane.service_account(&own, "relay-operator").await;
    // Fleets may be anywhere: who prints the roles names their accounts.
    let accounts = [config.data_plane_accounts.clone(), vec![format!("{fleet}/pods")]].concat();
    let namespaces = config.namespaces(&own).unwrap();
    let accounts = config::accounts(&own, &accounts).unwrap();
    plane.apply(&rbac::yaml(&rbac::Subject::new(&namespaces, "relay-operator".to_owned(), &accounts)));
    plane.apply(&manifests(&own));
    for namespace in [&team, &unwatched] {
        plane.kubectl(&["label", "namespace", namespace, "llmrelay.io/inject=enabled"]);
    }
    plane.kubectl(&["label", "namespace", &unasked, "llmrelay.io/inject=disabled"]);
    plane.apply(&format!(
        "{{apiVersion: llmrelay.io/v1alpha1, kind: DataPlane, metadata: {{name: edge, namespace: {own}}}, \
         spec: {{serviceAccounts: [{{name: pods, namespace: {fleet}}}]}}}}"
    ));
    let operator = start_as(&account.kubeconfig().await, config).await;
    let said = bundle(plane, &own, |_| true).await;
    for namespace in [&team, &named, &fleet] {
        bundle(plane, namespace, |bundle| *bundle == said).await;
    }
    let maps = |namespace: &str| {
        let namespace = namespace.to_owned();
        async move { Api::<ConfigMap>::namespaced(plane.client().await, &namespace) }
    };

    // Somebody changes one and deletes another.
    let changed = json!({"data": {"ca.crt": "mine", "other": "more"}}).to_string();
    plane.kubectl(&["patch", "configmap", "relay-push-ca", "-n", &team, "--type=merge", "-p", &changed]);
    maps(&named).await.delete("relay-push-ca", &DeleteParams::default()).await.unwrap();
    bundle(plane, &named, |bundle| *bundle == said).await;
    bundle(plane, &team, |bundle| *bundle == said).await;
    let team_map = maps(&team).await.get("relay-push-ca").await.unwrap();
    assert_eq!(team_map.data, Some(BTreeMap::from([("ca.crt".to_owned(), said.clone())])));

    // One that opts in later gets it; what stood there before under that name is left alone.
    for namespace in [&unasked, &unwatched] {
        assert!(maps(namespace).await.get_opt("relay-push-ca").await.unwrap().is_none(), "{namespace}");
    }
    plane.apply(&format!(
        "{{apiVersion: v1, kind: ConfigMap, metadata: {{name: relay-push-ca, namespace: {unasked}}}, data: {{ca.crt: mine}}}}"
    ));
    plane.kubectl(&["label", "namespace", &unasked, "llmrelay.io/inject=enabled", "--overwrite"]);
    let failing = || async { operator.ask("/metrics").await.1 };
    until("it fails", failing, |text| text.contains("relay_operator_push_bundles{state=\"failing\"} 1")).await;
    let foreign = maps(&unasked).await.get("relay-push-ca").await.unwrap();
    assert_eq!(foreign.data, Some(BTreeMap::from([("ca.crt".to_owned(), "mine".to_owned())])));
    maps(&unasked).await.delete("relay-push-ca", &DeleteParams::default()).await.unwrap();
    bundle(plane, &unasked, |bundle| *bundle == said).await;
    assert!(maps(&unwatched).await.get_opt("relay-push-ca").await.unwrap().is_none());
    let told = "relay_operator_push_bundles{state=\"said\"} 5";
    until("all are told", failing, |text| text.contains(told)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_to_trust_changes_everywhere_with_who_signs() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let [own, edge] = [(); 2].map(|()| plane.namespace());
    let mut config = settings(&[&own]);
    config.data_plane_accounts = vec![format!("{edge}/pods")];
    config.push_times = Times {
        authority: Duration::from_secs(24),
        leaf: Duration::from_secs(12),
        serving: Duration::from_secs(12),
        overlap: Duration::from_secs(2),
        look: Duration::from_millis(100),
    };
    let operator = start_as(plane.kubeconfig(), config).await;
    let first = bundle(plane, &edge, |_| true).await;
    let both = bundle(plane, &edge, |bundle| bundle.matches("BEGIN").count() == 2).await;
    assert!(both.contains(&first), "who signs now is trusted on");
    bundle(plane, &edge, |bundle| !bundle.contains(&first)).await;
    operator.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_that_copies_are_sealed_with_is_made_once_and_left_as_it_is() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let own = plane.namespace();
    let api: Api<Secret> = Api::namespaced(plane.client().await, &own);
    let key = || async { api.get_opt("relay-lkg-key").await.unwrap().and_then(|found| found.data?.remove("key")) };
    let first = start(plane.kubeconfig(), &[&own]).await;
    let made = until("there is a key", key, Option::is_some).await;
    assert_eq!(made.as_ref().map(|key| key.0.len()), Some(32));
    first.stop().await;

    let short = json!({"data": {"key": "c2hvcnQ="}}).to_string();
    plane.kubectl(&["patch", "secret", "relay-lkg-key", "-n", &own, "--type=merge", "-p", &short]);
    let mut config = settings(&[&own]);
    config.push_times = Times { look: Duration::from_millis(100), ..Times::default() };
    let second = start_as(plane.kubeconfig(), config).await;
    until("it leads", || async { second.ask("/metrics").await.1 }, |text| text.contains("relay_operator_leading 1"))
        .await;
    // Later looks come after this one, and still leave it.
    api.delete("relay-push-authority", &DeleteParams::default()).await.unwrap();
    let bundles =
        || async { plane.kubectl(&["get", "secret", "relay-push-authority", "-n", &own, "--ignore-not-found"]) };
    until("the leader has looked", bundles, |text| !text.is_empty()).await;
    assert_eq!(key().await.map(|key| key.0), Some(b"short".to_vec()), "what somebody put there is left");
    api.delete("relay-lkg-key", &DeleteParams::default()).await.unwrap();
    let again = until("there is another", key, Option::is_some).await;
    assert_ne!(again, made);
    second.stop().await;
}

/// The operator may do what its printed roles say and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_of_shared_data_planes_is_kept_for_their_names_and_by_who_is_trusted() {
    let Some(plane) = Plane::shared() else { return };
    plane.install_crds();
    let own = plane.namespace();
    let account = plane.service_account(&own, "relay-operator").await;
    let settings = |names: &[&str]| {
        let mut config = settings(&[&own]);
        config.serving_names = names.iter().map(|name| (*name).to_owned()).collect();
        config.push_times = Times { look: Duration::from_millis(100), ..Times::default() };
        config
    };
    let namespaces = settings(&[]).namespaces(&own).unwrap();
    plane.apply(&rbac::yaml(&rbac::Subject::new(&namespaces, "relay-operator".to_owned(), &[])));
    let api: Api<Secret> = Api::namespaced(plane.client().await, &own);
    let found = || async { api.get_opt("relay-serving").await.unwrap() };
    let kubeconfig = account.kubeconfig().await;
    let first = start_as(&kubeconfig, settings(&["relay.test.svc"])).await;
    let made = until("there is one", found, Option::is_some).await.unwrap();
    assert_eq!(made.type_.as_deref(), Some("kubernetes.io/tls"));
    let bundle = bundle(plane, &own, |_| true).await;
    greets(&made, &bundle, "relay.test.svc").await.unwrap();
    let stranger = greets(&made, &bundle, "relay.other.svc").await.unwrap_err().to_string();
    assert!(stranger.contains("relay.other.svc"), "{stranger}");

    // Somebody breaks it, and somebody deletes it.
    let broken = json!({"data": {"tls.crt": "bWluZQ=="}}).to_string();
    plane.kubectl(&["patch", "secret", "relay-serving", "-n", &own, "--type=merge", "-p", &broken]);
    let is_another = |found: &Option<Secret>, than: &Secret| {
        let chain = |of: &Secret| of.data.as_ref().unwrap()["tls.crt"].0.clone();
        found.as_ref().is_some_and(|found| chain(found) != b"mine" && chain(found) != chain(than))
    };
    let mended = until("it is mended", found, |found| is_another(found, &made)).await.unwrap();
    greets(&mended, &bundle, "relay.test.svc").await.unwrap();
    api.delete("relay-serving", &DeleteParams::default()).await.unwrap();
    let again = until("it is made again", found, |found| is_another(found, &mended)).await.unwrap();
    first.stop().await;

    let second = start_as(&kubeconfig, settings(&["relay.test.svc", "relay.other.svc"])).await;
    let both = until("it is for both names", found, |found| is_another(found, &again)).await.unwrap();
    for name in ["relay.test.svc", "relay.other.svc"] {
        greets(&both, &bundle, name).await.unwrap();
    }
    second.stop().await;
}

/// A TLS handshake between who shows what a Secret holds, and who trusts a bundle and looks for a name.
async fn greets(secret: &Secret, bundle: &str, name: &str) -> anyhow::Result<()> {
    let data = secret.data.as_ref().unwrap();
    let shown = feed::tls::Certificate::from_pem(&data["tls.crt"].0, &data["tls.key"].0)?;
    let (client, server) = tokio::io::duplex(1 << 16);
    let accepting = TlsAcceptor::from(shown.server_config()?).accept(server);
    let trusting = TlsConnector::from(feed::tls::client_config(bundle.as_bytes())?);
    let (_, greeted) = tokio::join!(accepting, trusting.connect(ServerName::try_from(name.to_owned())?, client));
    Ok(greeted.map(drop)?)
}
