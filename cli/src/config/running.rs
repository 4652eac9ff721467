//! The table of a running operator or data plane, as its admin port shows it.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, ResourceExt};
use table::{ObjectRef, RoutingTable};
use tokio::net::TcpStream;

use crate::cluster::{Cluster, Doing};

/// Where an admin port shows its table.
const PATH: &str = "/debug/table";

/// The admin ports, unless somebody set others.
const OF_OPERATOR: u16 = 9091;
const OF_DATA_PLANE: u16 = 9090;

/// Of an admin port that can be reached from here.
pub(super) async fn of_url(url: &str, timeout: Duration) -> anyhow::Result<RoutingTable> {
    let asking = async { read(&asked(url).await?, url) };
    match timeout.is_zero() {
        true => asking.await,
        false => tokio::time::timeout(timeout, asking)
            .await
            .map_err(|_| anyhow!("`{url}` did not answer within {timeout:?} (--request-timeout)"))?,
    }
}

/// Of a pod, through the API server.
pub(super) async fn of_pod(cluster: &Cluster, id: &ObjectRef, port: Option<u16>) -> anyhow::Result<RoutingTable> {
    let ObjectRef { namespace, name } = id;
    let port = match port {
        Some(port) => port,
        None => default_port(cluster, id).await?,
    };
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy{PATH}");
    let request = Request::get(path).body(Vec::new()).context("asking for the table")?;
    let doing = Doing { verb: "get", group: "", plural: "pods/proxy", namespace: Some(namespace), name: Some(name) };
    let text = cluster.ask(doing, cluster.client.request_text(request)).await.with_context(|| {
        format!(
            "asking port {port} of pod `{id}` (--admin-port); an admin port that listens on 127.0.0.1 alone is reached by \
             `kubectl port-forward -n {namespace} pod/{name} {port}` and --admin http://127.0.0.1:{port}"
        )
    })?;
    read(&text, &format!("pod `{id}`"))
}

async fn default_port(cluster: &Cluster, id: &ObjectRef) -> anyhow::Result<u16> {
    let api: Api<Pod> = Api::namespaced(cluster.client.clone(), &id.namespace);
    let doing = Doing { verb: "get", group: "", plural: "pods", namespace: Some(&id.namespace), name: Some(&id.name) };
    let pod = cluster.ask(doing, api.get(&id.name)).await?;
    let is_operator = pod.labels().get("app.kubernetes.io/name").is_some_and(|name| name == "relay-operator");
    Ok(if is_operator { OF_OPERATOR } else { OF_DATA_PLANE })
}

async fn asked(url: &str) -> anyhow::Result<String> {
    let uri: Uri = url.trim_end_matches('/').parse().with_context(|| format!("`{url}` is not a URL"))?;
    let authority = uri.authority().with_context(|| format!("`{url}` names no host"))?;
    let address = format!("{}:{}", authority.host(), authority.port_u16().unwrap_or(80));
    let stream = TcpStream::connect(&address).await.with_context(|| format!("connecting to the admin port `{url}`"))?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let request = Request::get(PATH).header(header::HOST, authority.as_str()).body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        let body = answer.into_body().collect().await?.to_bytes();
        // Ends the connection.
        drop(sender);
        anyhow::Ok((status, body))
    };
    let (answer, _) = tokio::join!(answer, connection);
    let (status, body) = answer.with_context(|| format!("asking the admin port `{url}`"))?;
    if status != StatusCode::OK {
        bail!("`{url}{PATH}` answers {status}: is it the admin port of an operator or of a data plane?");
    }
    String::from_utf8(body.to_vec()).with_context(|| format!("`{url}{PATH}` does not answer with text"))
}

fn read(text: &str, from: &str) -> anyhow::Result<RoutingTable> {
    let table: Option<RoutingTable> = serde_json::from_str(text).with_context(|| {
        format!("reading the table of {from}: is it an admin port, and of the same version as this program?")
    })?;
    table.with_context(|| format!("{from} has no table yet: is it ready?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_without_a_table_is_told_from_one_with_an_empty_table() {
        let empty = serde_json::to_string(&RoutingTable::default()).unwrap();
        assert_eq!(read(&empty, "x").unwrap(), RoutingTable::default());
        assert!(read("null", "pod `a/b`").unwrap_err().to_string().contains("pod `a/b` has no table yet"));
        assert!(read("ok", "x").unwrap_err().to_string().contains("same version"));
    }
}
