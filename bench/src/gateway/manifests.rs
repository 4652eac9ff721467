//! The manifests of the measurements, and what they are as resources.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context, bail};
use compiler::Resources;
use serde_json::Value;
use table::{ObjectRef, Secret};

const MANIFESTS: &str = include_str!("relay.yaml");

/// The manifests, before an upstream.
pub(super) fn manifests(upstream: SocketAddr) -> String {
    MANIFESTS.replace("UPSTREAM", &upstream.to_string())
}

/// What the manifests say, for programs that are given a table.
pub fn resources(upstream: SocketAddr) -> anyhow::Result<Resources> {
    let mut resources = Resources::default();
    for document in serde_saphyr::from_multiple::<Value>(&manifests(upstream)).context("the manifests are YAML")? {
        let text = |value: &Value| value.as_str().map(str::to_owned).with_context(|| format!("{value} is no text"));
        let id = ObjectRef::new("default", text(&document["metadata"]["name"])?);
        match text(&document["kind"])?.as_str() {
            "Host" => drop(resources.hosts.insert(id, read(document)?)),
            "Model" => drop(resources.models.insert(id, read(document)?)),
            "HostKey" => drop(resources.host_keys.insert(id, read(document)?)),
            "RelayKey" => drop(resources.relay_keys.insert(id, read(document)?)),
            "Policy" => drop(resources.policies.insert(id, read(document)?)),
            "Secret" => {
                let texts = document["stringData"].as_object().context("the Secret holds text")?;
                let data =
                    texts.iter().map(|(key, value)| anyhow::Ok((key.clone(), Secret::new(text(value)?.into_bytes()))));
                resources.secrets.insert(id, Arc::new(data.collect::<Result<_, _>>()?));
            }
            other => bail!("the manifests have a `{other}`"),
        }
    }
    Ok(resources)
}

fn read<T: serde::de::DeserializeOwned>(document: Value) -> anyhow::Result<T> {
    serde_json::from_value(document).context("the manifests are what the kinds say")
}
