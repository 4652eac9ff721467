//! Where an installation is, and how it was set: its namespace, and the Deployments of its operator and its data planes.

use std::collections::BTreeSet;

use k8s_openapi::api::{
    apps::v1::Deployment,
    core::v1::{Container, PodSpec},
};
use kube::{Api, ResourceExt, api::ListParams};

use crate::cluster::{Cluster, Doing, Fault, Home, Trouble};

/// Where Relay is installed unless somebody chose another namespace.
pub(super) const USUAL: &str = "relay-system";

/// What the chart, and whoever else installs Relay, labels the operator and its pods with.
pub(super) const OPERATOR: &str = "app.kubernetes.io/name=relay-operator";

/// The same of data planes.
pub(super) const DATA_PLANE: &str = "app.kubernetes.io/name=relay-dataplane";

/// An installation.
pub(super) struct Site {
    pub(super) namespace: String,
    /// The Deployments of the operator, or why they are not known: there should be one.
    pub(super) operators: Result<Vec<Deployment>, Fault>,
    /// The Deployments of data planes, or why they are not known.
    pub(super) data_planes: Result<Vec<Deployment>, Fault>,
}

impl Site {
    /// The installation in a namespace; absent: the one of the cluster. The error says that there are several.
    pub(super) async fn find(cluster: &Cluster, named: Option<&str>) -> Result<Self, String> {
        let namespace = match named {
            Some(name) => name.to_owned(),
            None => namespace(cluster).await?,
        };
        let operators = deployments(cluster, Some(&namespace), OPERATOR).await;
        let data_planes = deployments(cluster, Some(&namespace), DATA_PLANE).await;
        Ok(Self { namespace, operators, data_planes })
    }

    /// The operator's Deployment, where it is known.
    pub(super) fn operator(&self) -> Option<&Deployment> {
        self.operators.as_ref().ok()?.first()
    }

    /// The service account that the operator runs as: the chart's usual one where the Deployment is not known.
    pub(super) fn service_account(&self) -> String {
        self.operator().map_or_else(|| "relay-operator".to_owned(), service_account)
    }

    /// The namespaces that the operator watches, as its command line says; none: all.
    pub(super) fn watched(&self) -> BTreeSet<String> {
        let set = |flag, variable| self.operator().and_then(|operator| setting(operator, flag, variable));
        let listed = set("--watch-namespaces", "RELAY_WATCH_NAMESPACES").unwrap_or_default();
        let catalog = set("--catalog-namespace", "RELAY_CATALOG_NAMESPACE").unwrap_or_else(|| self.namespace.clone());
        let mut watched = words(&listed);
        if watched.contains("*") {
            return BTreeSet::new();
        }
        watched.insert(catalog);
        watched
    }

    /// The service accounts of data planes by the operator's command line, as namespace and name.
    pub(super) fn accounts(&self) -> BTreeSet<(String, String)> {
        let set = self
            .operator()
            .and_then(|operator| setting(operator, "--data-plane-accounts", "RELAY_DATA_PLANE_ACCOUNTS"));
        let set = set.unwrap_or_else(|| "relay-dataplane".to_owned());
        words(&set).into_iter().map(|account| qualified(&account, &self.namespace)).collect()
    }

    /// The namespaces whose data planes belong to a fleet: they have to know whom to trust.
    pub(super) fn trusting(&self) -> BTreeSet<String> {
        let accounts = self.accounts().into_iter().map(|(namespace, _)| namespace);
        accounts.chain([self.namespace.clone()]).collect()
    }

    /// Whether the operator serves data planes beside applications.
    pub(super) fn serves_sidecars(&self) -> bool {
        self.operator().is_some_and(|operator| is_switched_on(operator, "--sidecars", "RELAY_SIDECARS"))
    }

    /// The names that the operator makes the certificate of the shared data planes for.
    pub(super) fn serving_names(&self) -> BTreeSet<String> {
        let set = self.operator().and_then(|operator| setting(operator, "--serving-names", "RELAY_SERVING_NAMES"));
        words(&set.unwrap_or_default())
    }
}

/// A service account as `namespace/name`, or as a name in this namespace.
fn qualified(account: &str, namespace: &str) -> (String, String) {
    let (namespace, name) = account.split_once('/').unwrap_or((namespace, account));
    (namespace.to_owned(), name.to_owned())
}

fn words(list: &str) -> BTreeSet<String> {
    list.split(',').map(str::trim).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// Where the operator is: by its Deployment, else by its Lease, else where it usually is.
async fn namespace(cluster: &Cluster) -> Result<String, String> {
    let found = deployments(cluster, None, OPERATOR).await.unwrap_or_default();
    let places: BTreeSet<String> = found.iter().filter_map(ResourceExt::namespace).collect();
    let mut all = places.iter();
    match (all.next(), all.next()) {
        (Some(only), None) => Ok(only.clone()),
        (Some(_), Some(_)) => {
            let names: Vec<&str> = places.iter().map(String::as_str).collect();
            Err(format!("there are several installations: name the namespace of one by -n ({})", names.join(", ")))
        }
        (None, _) => Ok(by_lease(cluster).await.unwrap_or_else(|| USUAL.to_owned())),
    }
}

async fn by_lease(cluster: &Cluster) -> Option<String> {
    Home::default().leader(cluster).await.ok()?.ok().map(|leader| leader.namespace)
}

async fn deployments(cluster: &Cluster, namespace: Option<&str>, label: &str) -> Result<Vec<Deployment>, Fault> {
    let api: Api<Deployment> = match namespace {
        Some(name) => Api::namespaced(cluster.client.clone(), name),
        None => Api::all(cluster.client.clone()),
    };
    let doing = Doing { verb: "list", group: "apps", plural: "deployments", namespace, name: None };
    cluster.list_of(doing, &api, ListParams::default().labels(label)).await
}

/// The service account that the pods of a Deployment run as.
pub(super) fn service_account(of: &Deployment) -> String {
    let named = pod_spec(of).and_then(|spec| spec.service_account_name.clone());
    named.unwrap_or_else(|| "default".to_owned())
}

/// The tag of the image of a Deployment's first container; absent: it has none, or a digest instead.
pub(super) fn image_tag(of: &Deployment) -> Option<&str> {
    let image = pod_spec(of)?.containers.first()?.image.as_deref()?;
    let name = image.rsplit('/').next()?;
    if name.contains('@') { None } else { name.split_once(':').map(|(_, tag)| tag) }
}

/// A setting as the command line or the environment of a Deployment's containers gives it; absent: its default.
pub(super) fn setting(of: &Deployment, flag: &str, variable: &str) -> Option<String> {
    let containers = &pod_spec(of)?.containers;
    containers.iter().find_map(|container| argument(container, flag).or_else(|| environment(container, variable)))
}

/// Whether a setting is there, even where its value is in a Secret.
pub(super) fn is_set(of: &Deployment, flag: &str, variable: &str) -> bool {
    let named = |container: &Container| container.env.iter().flatten().any(|entry| entry.name == variable);
    setting(of, flag, variable).is_some_and(|value| !value.is_empty())
        || pod_spec(of).is_some_and(|spec| spec.containers.iter().any(named))
}

/// Whether a setting that is on or off is on: a flag without a value, or a variable that says so.
fn is_switched_on(of: &Deployment, flag: &str, variable: &str) -> bool {
    pod_spec(of).into_iter().flat_map(|spec| &spec.containers).any(|container| {
        let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
        words.any(|word| word == flag) || environment(container, variable).is_some_and(|value| is_yes(&value))
    })
}

/// As clap reads variables of flags without a value.
fn is_yes(value: &str) -> bool {
    !["", "0", "f", "false", "n", "no", "off"].contains(&value.to_lowercase().as_str())
}

fn pod_spec(of: &Deployment) -> Option<&PodSpec> {
    of.spec.as_ref()?.template.spec.as_ref()
}

/// Given as `--flag=value`, or as `--flag` and `value`.
fn argument(container: &Container, flag: &str) -> Option<String> {
    let mut words = container.command.iter().flatten().chain(container.args.iter().flatten());
    while let Some(word) = words.next() {
        match word.strip_prefix(flag) {
            Some("") => return words.next().cloned(),
            Some(rest) if rest.starts_with('=') => return Some(rest[1..].to_owned()),
            Some(_) | None => {}
        }
    }
    None
}

fn environment(container: &Container, variable: &str) -> Option<String> {
    container.env.iter().flatten().find(|entry| entry.name == variable)?.value.clone()
}

/// Whether somebody else can help: a right is missing. Else it is a fault of this cluster.
pub(super) fn is_forbidden(fault: &Fault) -> bool {
    fault.trouble == Trouble::Forbidden
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn deployment(container: Value) -> Deployment {
        let spec = json!({"selector": {}, "template": {"spec": {"containers": [container]}}});
        serde_json::from_value(json!({"metadata": {"name": "relay-operator", "namespace": "own"}, "spec": spec}))
            .unwrap()
    }

    fn site(container: Value) -> Site {
        Site { namespace: "own".to_owned(), operators: Ok(vec![deployment(container)]), data_planes: Ok(Vec::new()) }
    }

    #[test]
    fn settings_are_read_in_every_form_that_the_program_takes() {
        for container in [
            json!({"name": "x", "args": ["--watch-namespaces=team-a,team-b"]}),
            json!({"name": "x", "command": ["/relay-operator"], "args": ["--watch-namespaces", "team-a, team-b"]}),
            json!({"name": "x", "env": [{"name": "RELAY_WATCH_NAMESPACES", "value": "team-a,team-b"}]}),
        ] {
            let watched: Vec<String> = site(container).watched().into_iter().collect();
            assert_eq!(watched, ["own", "team-a", "team-b"]);
        }
        let other = json!({"name": "x", "args": ["--watch-namespaces-of=x", "--catalog-namespace=shared"]});
        assert_eq!(site(other).watched(), ["shared".to_owned()].into());
        assert!(site(json!({"name": "x", "args": ["--watch-namespaces=*"]})).watched().is_empty());
    }

    #[test]
    fn accounts_without_a_namespace_are_of_the_operators() {
        let account = |namespace: &str, name: &str| (namespace.to_owned(), name.to_owned());
        let named = site(json!({"name": "x", "args": ["--data-plane-accounts=red,edge/blue"]}));
        assert_eq!(named.accounts(), [account("own", "red"), account("edge", "blue")].into());
        assert_eq!(site(json!({"name": "x"})).accounts(), [account("own", "relay-dataplane")].into());
    }

    #[test]
    fn a_setting_in_a_secret_is_set_though_its_value_is_not_seen() {
        let secret = json!({"name": "RELAY_REDIS", "valueFrom": {"secretKeyRef": {"name": "redis", "key": "url"}}});
        let of = deployment(json!({"name": "x", "env": [secret]}));
        assert!(is_set(&of, "--redis", "RELAY_REDIS"));
        assert!(!is_set(&deployment(json!({"name": "x", "args": ["--redis="]})), "--redis", "RELAY_REDIS"));
    }

    #[test]
    fn sidecars_are_served_where_the_operator_was_told_to() {
        for container in [
            json!({"name": "x", "args": ["--sidecars", "--serving-names=a.own.svc,b.own.svc"]}),
            json!({"name": "x", "env": [{"name": "RELAY_SIDECARS", "value": "true"}], "args": ["--serving-names", "a.own.svc,b.own.svc"]}),
        ] {
            let site = site(container);
            assert!(site.serves_sidecars());
            assert_eq!(site.serving_names(), ["a.own.svc".to_owned(), "b.own.svc".to_owned()].into());
        }
        assert!(!site(json!({"name": "x", "args": ["--sidecars-of=x"]})).serves_sidecars());
    }

    #[test]
    fn an_image_by_digest_says_no_version() {
        let tag = |image: &str| image_tag(&deployment(json!({"name": "x", "image": image}))).map(str::to_owned);
        assert_eq!(tag("registry:5000/relay-operator:0.1.0").as_deref(), Some("0.1.0"));
        assert_eq!(tag("registry:5000/relay-operator"), None);
        assert_eq!(tag("relay-operator@sha256:00ff"), None);
    }
}
