//! Reads a token out of the Secret that holds it.

use anyhow::{Context, anyhow};
use k8s_openapi::api::core::v1::Secret as SecretObject;
use kube::Api;
use table::{ObjectRef, Secret};

use crate::cluster::{Cluster, Doing};

/// The text of an entry of a Secret.
pub(crate) async fn text(cluster: &Cluster, id: &ObjectRef, entry: &str) -> anyhow::Result<Secret<String>> {
    let api: Api<SecretObject> = Api::namespaced(cluster.client.clone(), &id.namespace);
    let doing =
        Doing { verb: "get", group: "", plural: "secrets", namespace: Some(&id.namespace), name: Some(&id.name) };
    let secret = cluster.ask(doing, api.get(&id.name)).await?;
    let value = secret.data.unwrap_or_default().remove(entry);
    let value = value.ok_or_else(|| anyhow!("Secret `{id}` has no key `{entry}` yet"))?;
    let text = String::from_utf8(value.0).ok();
    Ok(Secret::new(text.with_context(|| format!("key `{entry}` of Secret `{id}` is not text"))?))
}
