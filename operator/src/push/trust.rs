//! Keeps the authorities in a Secret and their bundle in a ConfigMap, while this replica leads, and the certificate of
//! this replica's port fresh, whoever leads.

use std::collections::BTreeMap;

use anyhow::Context;
use feed::tls::Certificate;
use jiff::Timestamp;
use k8s_openapi::{
    ByteString,
    api::core::v1::{ConfigMap, Secret},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Settings,
    authority::{Authorities, Leaf, Times},
};
use crate::{
    lease::Standing,
    rbac::{AUTHORITY, BUNDLE},
};

/// The entry of the Secret.
const ENTRY: &str = "authorities.json";

/// The entry of the ConfigMap.
const BUNDLE_ENTRY: &str = "ca.crt";

/// How soon is looked again while there is no certificate, or after a failure.
const SOON: std::time::Duration = std::time::Duration::from_millis(500);

/// Longest time that the API server may take for one look.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) struct Trust {
    secrets: Api<Secret>,
    bundles: Api<ConfigMap>,
    names: Vec<String>,
    times: Times,
    standing: watch::Receiver<Standing>,
    leaf: Option<Leaf>,
    certificate: watch::Sender<Option<Certificate>>,
}

/// The first certificate, once there is one.
pub(super) async fn first(mut certificate: watch::Receiver<Option<Certificate>>) -> Option<Certificate> {
    certificate.wait_for(Option::is_some).await.ok()?.clone()
}

impl Trust {
    pub(super) fn new(
        client: &Client,
        settings: &Settings,
        standing: watch::Receiver<Standing>,
    ) -> (Self, watch::Receiver<Option<Certificate>>) {
        let (certificate, shown) = watch::channel(None);
        let trust = Self {
            secrets: Api::namespaced(client.clone(), &settings.namespace),
            bundles: Api::namespaced(client.clone(), &settings.namespace),
            names: settings.names.clone(),
            times: settings.times,
            standing,
            leaf: None,
            certificate,
        };
        (trust, shown)
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut has_failed = false;
        loop {
            let Some(looked) = stop.run_until_cancelled(timeout(LIMIT, self.look())).await else { return };
            let failed = looked.map_err(anyhow::Error::from).and_then(|looked| looked).err();
            if let Some(error) = failed.as_ref().filter(|_| !has_failed) {
                warn!(%error, "the certificate of the push port cannot be looked after: {error:#}");
            }
            has_failed = failed.is_some();
            let pause = if has_failed || self.leaf.is_none() { SOON.min(self.times.look) } else { self.times.look };
            if stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_none() {
                return;
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let secret = self.secrets.get_opt(AUTHORITY).await.with_context(|| format!("reading Secret `{AUTHORITY}`"))?;
        let mut authorities = secret.as_ref().map(read).transpose()?;
        if self.standing.borrow_and_update().is_leading() {
            // What is trusted is said before anybody signs: a step that needs the one before it finds it done.
            if let Some(authorities) = &authorities {
                self.publish(authorities).await?;
            }
            if let Some(due) = self.due(authorities.as_ref())? {
                self.write(secret, &due).await?;
                self.publish(&due).await?;
                authorities = Some(due);
            }
        }
        let Some(authorities) = authorities else { return Ok(()) };
        self.renew(&authorities)
    }

    fn due(&self, authorities: Option<&Authorities>) -> anyhow::Result<Option<Authorities>> {
        let now = Timestamp::now();
        match authorities {
            None => Authorities::new(now, &self.times).map(Some),
            Some(authorities) => authorities.due(now, &self.times),
        }
    }

    /// Creates the Secret, or replaces it as it was read: of two who lead for a moment, one is told of a conflict.
    async fn write(&self, found: Option<Secret>, authorities: &Authorities) -> anyhow::Result<()> {
        let entry = ByteString(serde_json::to_vec(authorities).context("writing down the authorities")?);
        let data = Some(BTreeMap::from([(ENTRY.to_owned(), entry)]));
        let written = match found {
            None => {
                let secret = Secret { metadata: metadata(AUTHORITY), data, ..Secret::default() };
                self.secrets.create(&PostParams::default(), &secret).await
            }
            Some(found) => {
                let secret = Secret { data, ..found };
                self.secrets.replace(AUTHORITY, &PostParams::default(), &secret).await
            }
        };
        written.with_context(|| format!("writing Secret `{AUTHORITY}`"))?;
        info!(?authorities, "the authorities of the push port have changed");
        Ok(())
    }

    async fn publish(&self, authorities: &Authorities) -> anyhow::Result<()> {
        let bundle = authorities.bundle();
        let found = self.bundles.get_opt(BUNDLE).await.with_context(|| format!("reading ConfigMap `{BUNDLE}`"))?;
        let data = Some(BTreeMap::from([(BUNDLE_ENTRY.to_owned(), bundle)]));
        let written = match found {
            Some(found) if found.data == data => return Ok(()),
            Some(found) => {
                let bundle = ConfigMap { data, ..found };
                self.bundles.replace(BUNDLE, &PostParams::default(), &bundle).await
            }
            None => {
                let bundle = ConfigMap { metadata: metadata(BUNDLE), data, ..ConfigMap::default() };
                self.bundles.create(&PostParams::default(), &bundle).await
            }
        };
        written.with_context(|| format!("writing ConfigMap `{BUNDLE}`")).map(drop)
    }

    fn renew(&mut self, authorities: &Authorities) -> anyhow::Result<()> {
        let now = Timestamp::now();
        if self.leaf.as_ref().is_some_and(|leaf| !leaf.is_due(authorities, now)) {
            return Ok(());
        }
        let leaf = authorities.issue(&self.names, now, &self.times)?;
        let shown = self.certificate.borrow().clone();
        match shown {
            Some(shown) => shown.replace(leaf.chain.as_bytes(), leaf.key.as_bytes())?,
            None => {
                let first = Certificate::from_pem(leaf.chain.as_bytes(), leaf.key.as_bytes())?;
                self.certificate.send_replace(Some(first));
            }
        }
        info!(names = self.names.join(","), renew_at = %leaf.renew_at, "the push port shows a new certificate");
        self.leaf = Some(leaf);
        Ok(())
    }
}

fn read(secret: &Secret) -> anyhow::Result<Authorities> {
    let entry = secret.data.as_ref().and_then(|data| data.get(ENTRY));
    let entry = entry.with_context(|| format!("Secret `{AUTHORITY}` has no `{ENTRY}`: delete it for a new one"))?;
    // What it says of the content stays here: it is a key.
    let read = serde_json::from_slice(&entry.0).ok();
    read.with_context(|| format!("`{ENTRY}` of Secret `{AUTHORITY}` cannot be read: delete the Secret for a new one"))
}

fn metadata(name: &str) -> ObjectMeta {
    let labels = [("app.kubernetes.io/name", "relay-operator"), ("app.kubernetes.io/part-of", "relay")];
    let labels = labels.map(|(key, value)| (key.to_owned(), value.to_owned()));
    ObjectMeta { name: Some(name.to_owned()), labels: Some(labels.into()), ..ObjectMeta::default() }
}
