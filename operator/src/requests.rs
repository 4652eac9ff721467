//! Counts what the operator asks of the API server, by verb and resource, as the API server itself would name it.

use http::{Method, Request};
use kube::{Client, client::ClientBuilder};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::Registry,
};
use tower::util::MapRequestLayer;

/// Requests so far. A handle: clones count the same.
#[derive(Clone, Debug, Default)]
pub struct Requests(Family<Asked, Counter>);

/// What one request asks for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Asked {
    verb: &'static str,
    resource: String,
}

impl Requests {
    /// A client of a cluster whose requests are counted here.
    pub fn client(&self, cluster: kube::Config) -> kube::Result<Client> {
        let counted = self.clone();
        let count = move |request: Request<kube::client::Body>| {
            counted.0.get_or_create(&asked(request.method(), request.uri())).inc();
            request
        };
        Ok(ClientBuilder::try_from(cluster)?.with_layer(&MapRequestLayer::new(count)).build())
    }

    /// Adds them to what is scraped.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("api_requests", "Requests to the API server, by verb and resource", self.0.clone());
    }
}

/// What a request asks for. Names of objects are no part of it.
fn asked(method: &Method, uri: &http::Uri) -> Asked {
    let path: Vec<&str> = uri.path().split('/').filter(|part| !part.is_empty()).collect();
    let after_version = match path.first() {
        Some(&"api") => path.get(2..),
        Some(&"apis") => path.get(3..),
        Some(_) | None => None,
    };
    let within = match after_version.unwrap_or_default() {
        ["namespaces", _, within @ ..] if !within.is_empty() => within,
        all => all,
    };
    let is_watch = uri.query().is_some_and(|query| query.split('&').any(|part| part == "watch=true"));
    let verb = match (method.as_str(), within.len()) {
        ("GET", _) if is_watch => "watch",
        ("GET", 1) => "list",
        ("GET", _) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", _) => "delete",
        _ => "other",
    };
    let resource = match within {
        [] => "other".to_owned(),
        [resource] | [resource, _] => (*resource).to_owned(),
        [resource, _, part, ..] => format!("{resource}/{part}"),
    };
    Asked { verb, resource }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_named_as_the_api_server_names_them() {
        let named = |method: Method, uri: &str| {
            let Asked { verb, resource } = asked(&method, &uri.parse().unwrap());
            format!("{verb} {resource}")
        };
        assert_eq!(named(Method::GET, "/api/v1/namespaces/team/secrets/a?"), "get secrets");
        assert_eq!(named(Method::GET, "/api/v1/secrets?limit=500"), "list secrets");
        assert_eq!(named(Method::GET, "/api/v1/namespaces?limit=500"), "list namespaces");
        assert_eq!(named(Method::GET, "/api/v1/namespaces/team"), "get namespaces");
        let watched = "/apis/llmrelay.io/v1alpha1/relaykeys?&watch=true&timeoutSeconds=290";
        assert_eq!(named(Method::GET, watched), "watch relaykeys");
        let status = "/apis/llmrelay.io/v1alpha1/namespaces/team/relaykeys/a/status?&force=true";
        assert_eq!(named(Method::PATCH, status), "patch relaykeys/status");
        assert_eq!(named(Method::POST, "/apis/authentication.k8s.io/v1/tokenreviews?"), "create tokenreviews");
        assert_eq!(named(Method::GET, "/version"), "get other");
    }
}
