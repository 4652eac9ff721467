//! A live cluster: how it is reached, and what is asked of its API server. Who asks decides what to make of the answer.

mod fault;
mod home;
mod live;
mod objects;
mod ownership;
mod said;

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use clap::Args;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig, KubeconfigError},
};

pub(crate) use self::{
    fault::{Doing, Fault, Trouble},
    home::{Home, Leader},
    live::{Live, Reading, Width, source},
    objects::{Within, id},
    ownership::{manager_of, owner},
    said::{Said, Standing, Why},
};

/// How a cluster is reached, as kubectl has it.
#[derive(Clone, Debug, Default, Args)]
#[command(next_help_heading = "Cluster")]
pub(crate) struct Access {
    /// Namespace [default: the one of the kubeconfig's context; of a directory: default]
    #[arg(short, long, env = "RELAY_NAMESPACE", value_name = "NAME")]
    pub(crate) namespace: Option<String>,

    /// Context of the kubeconfig [default: its current one]
    #[arg(long, value_name = "NAME")]
    pub(crate) context: Option<String>,

    /// Kubeconfig file [default: those of the variable KUBECONFIG, or ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub(crate) kubeconfig: Option<PathBuf>,

    /// How long the API server may take to answer one request; 0 waits for ever
    #[arg(long, default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub(crate) request_timeout: Duration,
}

/// A cluster that can be asked.
#[derive(Clone)]
pub(crate) struct Cluster {
    pub(crate) client: Client,
    /// The namespace that is meant where none is said.
    pub(crate) namespace: String,
    url: String,
    timeout: Option<Duration>,
}

impl Access {
    /// Prepares to ask; nothing is sent yet. Errs where it is not said which cluster is meant.
    pub(crate) async fn cluster(&self) -> anyhow::Result<Cluster> {
        let mut config = self.config().await?;
        let timeout = Some(self.request_timeout).filter(|timeout| !timeout.is_zero());
        config.connect_timeout = timeout;
        config.read_timeout = timeout;
        let url = config.cluster_url.to_string();
        let namespace = self.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let client = Client::try_from(config).with_context(|| format!("preparing to connect to {url}"))?;
        Ok(Cluster { client, namespace, url, timeout })
    }

    /// Errs where a cluster is meant although there is a directory.
    pub(crate) fn refuse_beside_directory(&self) -> anyhow::Result<()> {
        let named = [("--context", self.context.is_some()), ("--kubeconfig", self.kubeconfig.is_some())];
        match named.into_iter().find(|(_, is_set)| *is_set) {
            Some((flag, _)) => bail!("{flag} names a cluster, but a directory is read: leave out one of the two"),
            None => Ok(()),
        }
    }

    async fn config(&self) -> anyhow::Result<Config> {
        let options = KubeConfigOptions { context: self.context.clone(), ..KubeConfigOptions::default() };
        if let Some(file) = &self.kubeconfig {
            let of_file = || format!("--kubeconfig `{}`", file.display());
            let kubeconfig =
                Kubeconfig::read_from(file).map_err(|error| self.explained(&error)).with_context(of_file)?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &options).await;
            return config.map_err(|error| self.explained(&error)).with_context(of_file);
        }
        match Config::from_kubeconfig(&options).await {
            Ok(config) => Ok(config),
            Err(error) => match Config::incluster() {
                Ok(config) if self.context.is_none() => Ok(config),
                Ok(_) | Err(_) => Err(self.explained(&error)),
            },
        }
    }

    fn explained(&self, error: &KubeconfigError) -> anyhow::Error {
        let context = self.context.as_deref().unwrap_or_default();
        let remedy = match error {
            KubeconfigError::ReadConfig(..) | KubeconfigError::FindPath => {
                "no cluster is known: name a kubeconfig by --kubeconfig or the variable KUBECONFIG".to_owned()
            }
            KubeconfigError::CurrentContextNotSet => {
                "the kubeconfig has no current context: name one by --context, or set it by `kubectl config use-context`"
                    .to_owned()
            }
            KubeconfigError::LoadContext(name) if name == context => {
                format!("--context `{name}` is not in the kubeconfig: `kubectl config get-contexts` lists those that are")
            }
            _ => "the kubeconfig cannot be used".to_owned(),
        };
        anyhow::anyhow!("{remedy} ({error})")
    }
}

impl Cluster {
    /// Where its API server is.
    pub(crate) fn url(&self) -> &str {
        &self.url
    }

    /// Asks for something, no longer than the user wants to wait, and explains what goes wrong.
    pub(crate) async fn ask<T>(
        &self,
        doing: Doing<'_>,
        answer: impl Future<Output = kube::Result<T>>,
    ) -> Result<T, Fault> {
        let answer = match self.timeout {
            None => answer.await,
            Some(timeout) => {
                tokio::time::timeout(timeout, answer).await.map_err(|_| Fault::late(&doing, &self.url, timeout))?
            }
        };
        answer.map_err(|error| Fault::of(&error, &doing, &self.url))
    }
}

/// Runs what asks a cluster to its end.
pub(crate) fn block_on<T>(asking: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting")?;
    runtime.block_on(asking)
}

/// A duration as manifests have it; `0` is none.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let written = crds::Duration::from(text);
    written.to_std().ok_or_else(|| "write a number and a unit, such as `30s` or `2m`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_zero_needs_none() {
        assert_eq!(duration("0"), Ok(Duration::ZERO));
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert!(duration("30").unwrap_err().contains("such as `30s`"));
    }

    #[test]
    fn a_cluster_beside_a_directory_is_refused_by_its_flag() {
        assert!(Access::default().refuse_beside_directory().is_ok());
        let access = Access { context: Some("prod".to_owned()), ..Access::default() };
        assert!(access.refuse_beside_directory().unwrap_err().to_string().contains("--context"));
    }
}
