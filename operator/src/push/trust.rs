//! Keeps the authorities in a Secret and their bundle in ConfigMaps, while this replica leads, and the certificate of this
//! replica's port fresh, whoever leads.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use anyhow::Context;
use crds::rights::AUTHORITY;
use feed::tls::Certificate;
use jiff::Timestamp;
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, Client, api::PostParams};
use tokio::{sync::watch, time::timeout};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::{
    Settings,
    authority::{Authorities, Leaf},
    bundles::{self, Bundles},
    metrics::TrustMetrics,
    seal_key, serving,
};
use crate::{Published, lease::Standing};

/// The entry of the Secret.
const ENTRY: &str = "authorities.json";

/// How soon is looked again while there is no certificate, or after a failure.
const SOON: std::time::Duration = std::time::Duration::from_millis(500);

/// Longest time that the API server may take for one look.
const LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

pub(super) struct Trust {
    client: Client,
    secrets: Api<Secret>,
    settings: Settings,
    standing: watch::Receiver<Standing>,
    published: watch::Receiver<Option<Arc<Published>>>,
    bundles: Bundles,
    elsewhere: BTreeSet<String>,
    leaf: Option<Leaf>,
    certificate: watch::Sender<Option<Certificate>>,
    metrics: TrustMetrics,
    bundle: watch::Sender<Arc<str>>,
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
        published: watch::Receiver<Option<Arc<Published>>>,
        metrics: TrustMetrics,
    ) -> (Self, watch::Receiver<Option<Certificate>>) {
        let (certificate, shown) = watch::channel(None);
        let trust = Self {
            client: client.clone(),
            secrets: Api::namespaced(client.clone(), &settings.namespaces.own),
            settings: settings.clone(),
            standing,
            published,
            bundles: Bundles::default(),
            elsewhere: BTreeSet::new(),
            leaf: None,
            certificate,
            metrics,
            bundle: watch::Sender::new("".into()),
        };
        (trust, shown)
    }

    /// Whom to trust, PEM; empty until that is known.
    pub(super) fn bundle(&self) -> watch::Receiver<Arc<str>> {
        self.bundle.subscribe()
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        let mut failing = None;
        loop {
            let Some(looked) = stop.run_until_cancelled(self.look()).await else { return };
            let failed = looked.err().map(|error| format!("{error:#}"));
            if let Some(reason) = failed.as_ref().filter(|_| failed != failing) {
                warn!("what the push port stands on cannot be looked after: {reason}");
            }
            failing = failed;
            let look = self.settings.times.look;
            let pause = if failing.is_some() || self.leaf.is_none() { SOON.min(look) } else { look };
            let next = async {
                tokio::select! {
                    () = tokio::time::sleep(pause) => {}
                    () = self.needed_elsewhere() => {}
                }
            };
            if stop.run_until_cancelled(next).await.is_none() {
                return;
            }
        }
    }

    /// Waits until other namespaces than before have to know whom to trust.
    async fn needed_elsewhere(&mut self) {
        loop {
            if self.published.changed().await.is_err() {
                return std::future::pending().await;
            }
            let now = bundles::elsewhere(&self.settings, self.published.borrow_and_update().as_deref());
            if now != self.elsewhere {
                return;
            }
        }
    }

    async fn look(&mut self) -> anyhow::Result<()> {
        let found = timeout(LIMIT, self.authorities()).await??;
        let Some(authorities) = found else { return Ok(()) };
        self.bundle.send_replace(authorities.bundle().into());
        let renewed = self.renew(&authorities);
        self.elsewhere = bundles::elsewhere(&self.settings, self.published.borrow().as_deref());
        if !self.standing.borrow().is_leading() {
            self.metrics.bundles(0, 0);
            return renewed;
        }
        let said = self.bundles.publish(&self.client, &self.elsewhere, &authorities.bundle()).await;
        self.metrics.bundles(said + 1, self.bundles.failing());
        let kept = timeout(LIMIT, seal_key::keep(&self.secrets)).await?;
        let Settings { serving_names, times, .. } = &self.settings;
        let served = serving::keep(&self.secrets, &authorities, serving_names, times);
        renewed.and(kept).and(timeout(LIMIT, served).await?)
    }

    /// Who signs. While this replica leads, what is due of that is done.
    async fn authorities(&mut self) -> anyhow::Result<Option<Authorities>> {
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
        Ok(authorities)
    }

    async fn publish(&self, authorities: &Authorities) -> anyhow::Result<()> {
        bundles::say(&self.client, &self.settings.namespaces.own, &authorities.bundle()).await
    }

    fn due(&self, authorities: Option<&Authorities>) -> anyhow::Result<Option<Authorities>> {
        let now = Timestamp::now();
        match authorities {
            None => Authorities::new(now, &self.settings.times).map(Some),
            Some(authorities) => authorities.due(now, &self.settings.times),
        }
    }

    /// Creates the Secret, or replaces it as it was read: of two who lead for a moment, one is told of a conflict.
    async fn write(&self, found: Option<Secret>, authorities: &Authorities) -> anyhow::Result<()> {
        let entry = ByteString(serde_json::to_vec(authorities).context("writing down the authorities")?);
        let data = Some(BTreeMap::from([(ENTRY.to_owned(), entry)]));
        let written = match found {
            None => {
                let secret = Secret { metadata: bundles::ours(AUTHORITY), data, ..Secret::default() };
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

    fn renew(&mut self, authorities: &Authorities) -> anyhow::Result<()> {
        let now = Timestamp::now();
        self.metrics.authority_expires(authorities.expires());
        if self.leaf.as_ref().is_some_and(|leaf| !leaf.is_due(authorities, now)) {
            return Ok(());
        }
        let leaf = authorities.issue(&self.settings.names, now, &self.settings.times)?;
        let shown = self.certificate.borrow().clone();
        match shown {
            Some(shown) => shown.replace(leaf.chain.as_bytes(), leaf.key.as_bytes())?,
            None => {
                let first = Certificate::from_pem(leaf.chain.as_bytes(), leaf.key.as_bytes())?;
                self.certificate.send_replace(Some(first));
            }
        }
        info!(names = self.settings.names.join(","), renew_at = %leaf.renew_at, "the push port shows a new certificate");
        self.metrics.certificate_expires(leaf.expires);
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
