//! Says whom data planes trust in every namespace whose pods may be some: which namespaces these are, and what is done
//! about the ConfigMap in each. One that is not ours is left alone; one that somebody changed is put right.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use anyhow::{Context, ensure};
use crds::rights::BUNDLE;
use futures::{StreamExt, stream};
use k8s_openapi::{api::core::v1::ConfigMap, apimachinery::pkg::apis::meta::v1::ObjectMeta};
use kube::{Api, Client, ResourceExt, api::PostParams};
use tokio::time::timeout;
use tracing::{info, warn};

use super::{Settings, sidecars::opted_in};
use crate::{Published, mint::MANAGED};

/// The entry of the ConfigMap.
const ENTRY: &str = "ca.crt";

/// How many namespaces are looked at, at the same time.
const AT_ONCE: usize = 8;

/// Longest time that the API server may take for one of them.
const LIMIT: Duration = Duration::from_secs(10);

/// The namespaces other than the operator's own whose pods have to know whom to trust: those of service accounts that the
/// settings or a DataPlane name, and those that are watched and opted in.
pub(super) fn elsewhere(settings: &Settings, published: Option<&Published>) -> BTreeSet<String> {
    let named = settings.accounts.iter().map(|(namespace, _)| namespace.clone());
    let mut all: BTreeSet<String> = named.collect();
    if let Some(published) = published {
        for (id, fleet) in &published.fleets {
            let accounts = fleet.data_plane.spec.service_accounts.iter().flatten();
            all.extend(accounts.map(|account| account.namespace.clone().unwrap_or_else(|| id.namespace.clone())));
        }
        all.extend(opted_in(published, &settings.namespaces).map(str::to_owned));
    }
    all.remove(&settings.namespaces.own);
    all
}

/// What became of the bundle in namespaces other than the operator's own, as far as it is known.
#[derive(Default)]
pub(super) struct Bundles {
    failing: BTreeMap<String, String>,
}

impl Bundles {
    /// Says the bundle in these namespaces. What fails in one is told of once, and costs only that one. Gives how many
    /// have it.
    pub(super) async fn publish(&mut self, client: &Client, namespaces: &BTreeSet<String>, bundle: &str) -> usize {
        let said = namespaces.iter().map(|namespace| fault(client.clone(), namespace.clone(), bundle.to_owned()));
        let said = stream::iter(said.collect::<Vec<_>>());
        let said: Vec<_> = said.buffer_unordered(AT_ONCE).collect().await;
        self.failing.retain(|namespace, _| namespaces.contains(namespace));
        for (namespace, failed) in said {
            let Some(reason) = failed else {
                self.failing.remove(&namespace);
                continue;
            };
            if self.failing.get(&namespace) != Some(&reason) {
                warn!(%namespace, "namespace `{namespace}` is not told whom data planes trust: {reason}");
                self.failing.insert(namespace, reason);
            }
        }
        namespaces.len() - self.failing.len()
    }

    /// In how many namespaces it could not be said.
    pub(super) fn failing(&self) -> usize {
        self.failing.len()
    }
}

/// Says the bundle in one namespace. Gives why it cannot be said, if so.
async fn fault(client: Client, namespace: String, bundle: String) -> (String, Option<String>) {
    let said = timeout(LIMIT, say(&client, &namespace, &bundle)).await;
    let fault = match said {
        Ok(said) => said.err().map(|error| format!("{error:#}")),
        Err(_) => Some(format!("no answer within {LIMIT:?}")),
    };
    (namespace, fault)
}

/// Says the bundle in one namespace, unless it is said there. Errs where a ConfigMap of somebody else's has the name.
pub(super) async fn say(client: &Client, namespace: &str, bundle: &str) -> anyhow::Result<()> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let found = api.get_opt(BUNDLE).await.with_context(|| format!("reading ConfigMap `{namespace}/{BUNDLE}`"))?;
    let params = PostParams::default();
    let written = match due(found, bundle)? {
        Due::Nothing => return Ok(()),
        Due::Create(new) => api.create(&params, &new).await,
        // As the version that was looked at, so that of two who lead for a moment one is told of a conflict.
        Due::Replace(new) => api.replace(BUNDLE, &params, &new).await,
    };
    written.with_context(|| format!("writing ConfigMap `{namespace}/{BUNDLE}`"))?;
    info!(namespace, "namespace `{namespace}` is told whom data planes trust");
    Ok(())
}

/// What is to be done about a ConfigMap.
#[derive(Debug, PartialEq)]
enum Due {
    Nothing,
    Create(ConfigMap),
    Replace(ConfigMap),
}

fn due(found: Option<ConfigMap>, bundle: &str) -> anyhow::Result<Due> {
    let data = Some(BTreeMap::from([(ENTRY.to_owned(), bundle.to_owned())]));
    let Some(found) = found else {
        return Ok(Due::Create(ConfigMap { metadata: ours(BUNDLE), data, ..ConfigMap::default() }));
    };
    ensure!(
        found.labels().get(MANAGED).is_some_and(|value| value == "true"),
        "a ConfigMap `{BUNDLE}` is there that lacks the label `{MANAGED}=true`: it is left alone; delete it, and it is made anew"
    );
    if found.data == data && found.binary_data.is_none() {
        return Ok(Due::Nothing);
    }
    Ok(Due::Replace(ConfigMap { data, binary_data: None, ..found }))
}

/// The metadata of what the operator makes for data planes.
pub(super) fn ours(name: &str) -> ObjectMeta {
    let labels =
        [("app.kubernetes.io/name", "relay-operator"), ("app.kubernetes.io/part-of", "relay"), (MANAGED, "true")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn created(bundle: &str) -> ConfigMap {
        match due(None, bundle).unwrap() {
            Due::Create(new) => new,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_somebody_changed_is_put_right_and_what_is_right_is_left() {
        let right = created("pem");
        assert_eq!(due(Some(right.clone()), "pem").unwrap(), Due::Nothing);
        assert_eq!(due(Some(right.clone()), "next").unwrap(), Due::Replace(created("next")));
        let mut changed = right.clone();
        changed.data = Some([("ca.crt".to_owned(), "mine".to_owned())].into());
        assert_eq!(due(Some(changed), "pem").unwrap(), Due::Replace(right));
    }

    #[test]
    fn one_of_somebody_else_is_left_alone() {
        let mut foreign = created("mine");
        foreign.metadata.labels = None;
        let error = due(Some(foreign), "pem").unwrap_err().to_string();
        assert!(error.contains("lacks the label `llmrelay.io/managed=true`"), "{error}");
    }
}
