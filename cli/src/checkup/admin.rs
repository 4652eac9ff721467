//! What data planes say of themselves on their admin ports: asked directly from inside the cluster, else through the API
//! server.

use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use tokio::net::TcpStream;

use crate::cluster::{Cluster, Doing};

/// The admin port of a data plane whose pod names none `admin`.
const PORT: i32 = 9090;

/// How many pods are asked at the same time, and how long one may take.
const AT_ONCE: usize = 8;
const PATIENCE: Duration = Duration::from_secs(5);

/// A page of metrics is far shorter.
const LARGEST: usize = 64 << 20;

/// The metrics of a pod, or why they cannot be seen.
pub(super) struct Page {
    pub(super) pod: String,
    pub(super) text: Result<String, String>,
}

/// The metrics of each of these pods.
pub(super) async fn pages(cluster: &Cluster, pods: &[Pod], is_inside: bool) -> Vec<Page> {
    let asked = pods.iter().map(|pod| async move {
        let text = if is_inside { directly(pod).await } else { proxied(cluster, pod).await };
        Page { pod: pod.name_any(), text }
    });
    stream::iter(asked.collect::<Vec<_>>()).buffered(AT_ONCE).collect().await
}

impl Page {
    /// The value of a metric without labels; absent: the page has none of that name.
    pub(super) fn value(&self, name: &str) -> Option<f64> {
        let lines = self.text.as_ref().ok()?.lines();
        lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).find_map(|value| value.parse().ok())
    }
}

fn port(pod: &Pod) -> i32 {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports.find(|port| port.name.as_deref() == Some("admin")).map_or(PORT, |port| port.container_port)
}

async fn proxied(cluster: &Cluster, pod: &Pod) -> Result<String, String> {
    let (name, namespace, port) = (pod.name_any(), pod.namespace().unwrap_or_default(), port(pod));
    let path = format!("/api/v1/namespaces/{namespace}/pods/{name}:{port}/proxy/metrics");
    let request = Request::get(path).body(Vec::new()).map_err(|error| error.to_string())?;
    let doing = Doing { verb: "get", group: "", plural: "pods/proxy", namespace: Some(&namespace), name: Some(&name) };
    let asking = cluster.ask(doing, cluster.client.request_text(request));
    let answer = tokio::time::timeout(PATIENCE, asking).await;
    answer.map_err(|_| late(&name))?.map_err(|fault| fault.to_string())
}

async fn directly(pod: &Pod) -> Result<String, String> {
    let name = pod.name_any();
    let ip = pod.status.as_ref().and_then(|status| status.pod_ip.clone());
    let ip = ip.ok_or_else(|| format!("pod `{name}` has no address"))?;
    let host = if ip.contains(':') { format!("[{ip}]:{}", port(pod)) } else { format!("{ip}:{}", port(pod)) };
    let asked = tokio::time::timeout(PATIENCE, metrics(&host)).await;
    asked.map_err(|_| late(&name))?.map_err(|error| format!("admin port {host} of pod `{name}`: {error:#}"))
}

fn late(pod: &str) -> String {
    format!("pod `{pod}` did not answer within {PATIENCE:?}")
}

async fn metrics(host: &str) -> anyhow::Result<String> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(TcpStream::connect(host).await?)).await?;
    let request = Request::get("/metrics").header(header::HOST, host).body(Empty::<Bytes>::new())?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        anyhow::ensure!(answer.status() == StatusCode::OK, "it answers {}", answer.status());
        let body = Limited::new(answer.into_body(), LARGEST).collect().await.map_err(|error| anyhow::anyhow!(error))?;
        // Ends the connection.
        drop(sender);
        Ok(String::from_utf8(body.to_bytes().to_vec())?)
    };
    tokio::select! {
        answer = answer => answer,
        // Whoever closes the connection first has perhaps answered; what is left is then a broken answer.
        Err(error) = connection => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_that_of_the_whole_name() {
        let text = "# TYPE relay_redis_up gauge\nrelay_redis_up_since 7\nrelay_redis_up 0\n".to_owned();
        let page = Page { pod: "x".to_owned(), text: Ok(text) };
        assert_eq!(page.value("relay_redis_up"), Some(0.0));
        assert_eq!(page.value("relay_redis"), None);
    }
}
