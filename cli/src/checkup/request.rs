//! One real request, as an application sends it.

use std::time::{Duration, Instant};

use crds::Kind;
use http::Uri;
use k8s_openapi::api::core::v1::Service;
use kube::{Api, ResourceExt, api::ListParams};
use table::{ObjectRef, Secret};
use tokio::time::timeout;

use super::{
    Asks,
    finding::Finding,
    site::{self, Site},
};
use crate::{
    ask::{Refused, Relay},
    cluster::{Cluster, Doing},
    keys::secrets,
};

/// Longest time for a short answer.
const PATIENCE: Duration = Duration::from_secs(60);

const CHECK: &str = "request";
const PAGE: &str = "docs/kubectl.md#check---cluster";

pub(super) async fn findings(cluster: &Cluster, site: &Site, asks: &Asks, is_inside: bool) -> Vec<Finding> {
    let url = match &asks.url {
        Some(url) => Ok(url.clone()),
        None => service(cluster, site, is_inside).await,
    };
    let token = token(cluster, site, asks).await;
    match (url, token) {
        (Ok(url), Ok(token)) => vec![asked(site, asks, url, token).await],
        (Err(finding), Ok(_)) | (Ok(_), Err(finding)) => vec![finding],
        (Err(first), Err(second)) => vec![first, second],
    }
}

async fn asked(site: &Site, asks: &Asks, url: Uri, token: Secret<String>) -> Finding {
    let begun = Instant::now();
    let asking = async {
        let relay = Relay::new(url.clone(), token.expose().clone(), asks.ca.as_ref())?;
        relay.once(asks.model.as_deref()).await
    };
    let failed = |said: String| Finding::failed(CHECK, said);
    let pods = format!("kubectl -n {} get pods -l {} -o wide", site.namespace, site::DATA_PLANE);
    match timeout(PATIENCE, asking).await {
        Err(_) => failed(format!("{url} gave no answer within {PATIENCE:?}")).remedy(pods),
        Ok(Err(error)) => failed(format!("{error:#}")).remedy(pods).see(PAGE),
        Ok(Ok(Err(refused))) => told(site, asks, &url, &refused),
        Ok(Ok(Ok(answered))) => {
            let by = answered.host.map_or_else(String::new, |host| format!(" by host {host}"));
            let took = begun.elapsed().as_millis();
            Finding::fine(CHECK, format!("{url} answers a request for `{}`{by} in {took} ms", answered.model))
        }
    }
}

fn told(site: &Site, asks: &Asks, url: &Uri, refused: &Refused) -> Finding {
    let finding = Finding::failed(CHECK, format!("{url} refuses the request: {} {}", refused.status, refused.message));
    let key = asks.relay_key.as_ref().map(|name| key_id(site, name));
    let place = key.as_ref().map_or_else(|| "-A".to_owned(), |id| format!("-n {}", id.namespace));
    let name = key.as_ref().map_or("NAME", |id| id.name.as_str());
    let finding = match refused.status.as_u16() {
        401 => finding.remedy(format!("relay keys list {place}")).remedy(format!(
            "relay keys create ANOTHER-NAME --policy POLICY -n {}",
            key.as_ref().map_or("NAMESPACE", |id| &id.namespace)
        )),
        429 => finding.remedy(format!("relay status relaykey/{name} {place}")),
        _ => finding
            .remedy(format!("relay explain --key {name} --model {} {place}", asks.model.as_deref().unwrap_or("MODEL"))),
    };
    finding.see(PAGE)
}

/// Where the data planes are reached from inside the cluster.
async fn service(cluster: &Cluster, site: &Site, is_inside: bool) -> Result<Uri, Finding> {
    let namespace = &site.namespace;
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "list", group: "", plural: "services", namespace: Some(namespace), name: None };
    let found = cluster.list_of(doing, &api, ListParams::default().labels(site::DATA_PLANE)).await;
    let found = found
        .map_err(|fault| Finding::failed(CHECK, format!("where Relay is: {fault}")).hint("or name it by --url"))?;
    let inner = found
        .iter()
        .find(|service| service.spec.as_ref().is_some_and(|spec| spec.type_.as_deref() != Some("LoadBalancer")));
    let Some((service, scheme, port)) = inner.or(found.first()).and_then(reached) else {
        let said = format!("no Service of data planes in namespace `{namespace}` (label {})", site::DATA_PLANE);
        return Err(Finding::failed(CHECK, said).hint("name where Relay is by --url"));
    };
    if !is_inside {
        let said = format!("where is Relay? Service `{namespace}/{service}` is reached from inside the cluster alone");
        let forward = format!(
            "kubectl -n {namespace} port-forward service/{service} 8080:{port}  # and then --url {scheme}://127.0.0.1:8080"
        );
        return Err(Finding::failed(CHECK, said).remedy(forward).see(PAGE));
    }
    let url = format!("{scheme}://{service}.{namespace}:{port}");
    url.parse().map_err(|_| Finding::failed(CHECK, format!("`{url}` is no URL")))
}

/// Its name, scheme and port.
fn reached(service: &Service) -> Option<(String, &'static str, i32)> {
    let port = service.spec.as_ref()?.ports.as_ref()?.first()?;
    let is_tls = port.name.as_deref() == Some("https") || port.app_protocol.as_deref() == Some("https");
    Some((service.name_any(), if is_tls { "https" } else { "http" }, port.port))
}

/// The token: of the Secret of the relay key that is named, else of the environment.
async fn token(cluster: &Cluster, site: &Site, asks: &Asks) -> Result<Secret<String>, Finding> {
    let Some(name) = &asks.relay_key else {
        return match std::env::var("RELAY_TOKEN") {
            Ok(token) => Ok(Secret::new(token.trim().to_owned())),
            Err(_) => Err(Finding::failed(CHECK, "which relay key shall ask?")
                .hint("set RELAY_TOKEN, or name a RelayKey by --relay-key [NAMESPACE/]NAME")),
        };
    };
    let id = key_id(site, name);
    let key = cluster.get(Kind::RelayKey, &id).await.map_err(|fault| {
        Finding::failed(CHECK, format!("--relay-key: {fault}")).remedy(format!("relay keys list -n {}", id.namespace))
    })?;
    let spec = &key.data["spec"];
    let (made, brought) = (&spec["secret"], &spec["tokenSecretRef"]);
    let named = made["name"].as_str().map(|name| (name, made["key"].as_str().unwrap_or("token")));
    let named = named.or_else(|| Some((brought["name"].as_str()?, brought["key"].as_str()?)));
    let Some((secret, entry)) = named else {
        let said = format!("RelayKey `{id}` has its token in no Secret, only its hash");
        return Err(Finding::failed(CHECK, said).hint("set RELAY_TOKEN instead of --relay-key"));
    };
    let read = secrets::text(cluster, &ObjectRef::new(&id.namespace, secret), entry).await;
    read.map_err(|error| {
        let status = format!("relay status relaykey/{} -n {}", id.name, id.namespace);
        Finding::failed(CHECK, format!("the token of RelayKey `{id}`: {error:#}")).remedy(status)
    })
}

fn key_id(site: &Site, name: &str) -> ObjectRef {
    match name.split_once('/') {
        Some((namespace, name)) => ObjectRef::new(namespace, name),
        None => ObjectRef::new(&site.namespace, name),
    }
}
