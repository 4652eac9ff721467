//! `relay check --cluster`: whether an installation is as it should be, from the API server to one real request. Every
//! finding that is none of the good ones says what helps.

mod admin;
mod consenting;
mod data_planes;
mod definitions;
mod deployment;
mod finding;
mod kubernetes;
mod objects;
mod operator;
mod pods;
mod policy;
mod redis;
mod request;
mod rights;
mod role;
mod serving;
mod sidecars;
mod site;
mod trust;

use std::{env, path::PathBuf};

use clap::Args;
use http::Uri;

use self::{
    data_planes::DataPlanes,
    finding::{Finding, Mark, Section},
    objects::Objects,
    site::Site,
};
use crate::{
    cluster::{self, Access, Cluster},
    outcome::{self, Format, Outcome},
};

/// What of an installation is checked.
#[derive(Debug, Args)]
#[command(next_help_heading = "Checking a cluster")]
pub(crate) struct Checkup {
    /// Checks the installation in a cluster instead of a directory; -n is its namespace [default: where its Deployment is
    /// found, or relay-system]
    #[arg(long, conflicts_with_all = ["dir", "secrets_elsewhere", "key_file"])]
    pub(crate) cluster: bool,

    /// Reads the Secrets that HostKeys and RelayKeys name, instead of believing what the operator says of them
    #[arg(long, requires = "cluster")]
    read_secrets: bool,

    #[command(flatten)]
    asks: Asks,

    /// Prints the roles that a service account needs for this check, as `kubectl apply -f -` takes them, or their rules as
    /// JSON, and asks nobody
    #[arg(long, requires = "cluster")]
    rbac: bool,

    /// Service account that --rbac is for
    #[arg(long, requires = "rbac", default_value = role::NAME, value_name = "NAME")]
    service_account: String,

    /// Namespaces whose sidecars --rbac lets the check look at, separated by commas; `*`: all
    #[arg(long, requires = "rbac", value_delimiter = ',', value_name = "NAMES")]
    watch_namespaces: Vec<String>,
}

/// A real request.
#[derive(Debug, Args)]
struct Asks {
    /// Sends one short request as an application does, which some host answers and bills
    #[arg(long, requires = "cluster")]
    request: bool,

    /// RelayKey whose Secret holds the token of the request, as [NAMESPACE/]NAME; absent: the variable RELAY_TOKEN does
    #[arg(long, requires = "request", value_name = "KEY")]
    relay_key: Option<String>,

    /// Where the request is sent: scheme, host and port [default: inside the cluster, the Service of the data planes]
    #[arg(long, env = "RELAY_URL", value_name = "URL")]
    url: Option<Uri>,

    /// Model that the request asks; absent: the first that the key may use
    #[arg(long, requires = "request", value_name = "NAME")]
    model: Option<String>,

    /// Certificates (PEM) of the authorities that may vouch for --url; absent: those of the system
    #[arg(long, requires = "request", value_name = "FILE")]
    ca: Option<PathBuf>,
}

impl Checkup {
    pub(crate) fn run(self, access: &Access, output: Format) -> anyhow::Result<Outcome> {
        if self.rbac {
            let namespace = access.namespace.as_deref().unwrap_or(site::USUAL);
            let out = match output {
                Format::Human => role::manifests(namespace, &self.service_account, &self.watch_namespaces),
                Format::Json => outcome::json(&role::rules()),
            };
            return Ok(Outcome { out, ..Outcome::default() });
        }
        cluster::block_on(self.checked(access, output))
    }

    async fn checked(self, access: &Access, output: Format) -> anyhow::Result<Outcome> {
        let cluster = access.cluster().await?;
        let (namespace, sections) = self.sections(&cluster, access.namespace.as_deref()).await?;
        let out = match output {
            Format::Human => finding::text(&sections),
            Format::Json => outcome::json(&finding::document(&namespace, &sections)),
        };
        let code = u8::from(finding::number(&sections, Mark::Failed) > 0);
        Ok(Outcome { out, code, ..Outcome::default() })
    }

    /// In the order in which one thing needs the other. Where the API server does not answer, nothing else is asked.
    async fn sections(&self, cluster: &Cluster, named: Option<&str>) -> anyhow::Result<(String, Vec<Section>)> {
        let mut sections = vec![Section { name: "Kubernetes", findings: kubernetes::findings(cluster).await }];
        if finding::number(&sections, Mark::Failed) > 0 {
            return Ok((named.unwrap_or_default().to_owned(), sections));
        }
        let mut add = |name, findings| sections.push(Section { name, findings });
        let site = Site::find(cluster, named).await.map_err(anyhow::Error::msg)?;
        let (definitions, are_served) = definitions::findings(cluster).await;
        add("Definitions", definitions);
        add("Operator", operator::findings(cluster, &site).await);
        add("Rights of the operator", rights::findings(cluster, &site).await);
        add("Trust", trust::findings(cluster, &site).await);
        let is_inside = env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        let mut data_planes = DataPlanes::read(cluster, &site).await;
        if are_served {
            data_planes.add_fleets(cluster, &site).await;
        }
        let pages = admin::pages(cluster, &data_planes.pods, is_inside).await;
        data_planes.add_ages(&site, &pages);
        add("Data planes", data_planes.findings);
        add("Redis", redis::findings(&site, &pages));
        add("Sidecars", sidecars::findings(cluster, &site).await);
        if are_served {
            let objects = Objects::read(cluster, &site).await;
            add("Secrets", objects.secrets(cluster, self.read_secrets).await);
            add("Objects", objects.ready());
        } else {
            let said = "not looked at: some definitions are not served";
            add("Objects", vec![Finding::unseen("objects-ready", said)]);
        }
        if self.asks.request {
            add("A real request", request::findings(cluster, &site, &self.asks, is_inside).await);
        }
        Ok((site.namespace, sections))
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, fs, path::Path};

    /// The part of a link that names a heading.
    fn anchor(heading: &str) -> String {
        let kept = heading.trim_start_matches(['#', ' ']).to_lowercase();
        kept.chars().filter(|c| c.is_alphanumeric() || [' ', '-'].contains(c)).collect::<String>().replace(' ', "-")
    }

    #[test]
    fn every_page_that_a_finding_names_is_there() {
        let own = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut pages = BTreeSet::new();
        for entry in fs::read_dir(own.join("src/checkup")).unwrap() {
            let text = fs::read_to_string(entry.unwrap().path()).unwrap();
            let named = text
                .split('"')
                .filter(|word| word.starts_with("docs/") && word.contains(".md") && *word != "docs/x.md#y");
            pages.extend(named.map(str::to_owned));
        }
        assert!(pages.len() > 8, "{pages:?}");
        for page in pages {
            let (file, wanted) = page.split_once('#').unwrap_or((&page, ""));
            let text = fs::read_to_string(own.join("..").join(file)).unwrap_or_else(|error| panic!("{page}: {error}"));
            let mut headings = text.lines().filter(|line| line.starts_with('#')).map(anchor);
            assert!(wanted.is_empty() || headings.any(|heading| heading == wanted), "{page} is no heading");
        }
    }
}
