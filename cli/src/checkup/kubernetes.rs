//! Whether the API server answers, and is new enough.

use super::finding::Finding;
use crate::cluster::{Cluster, Doing};

/// The oldest minor version of Kubernetes 1 that Relay's definitions and the chart are for.
const OLDEST: u32 = 30;

/// The first whose MutatingAdmissionPolicies put data planes beside applications.
const INJECTING: u32 = 36;

const PAGE: &str = "docs/kubectl.md#check---cluster";

pub(super) async fn findings(cluster: &Cluster) -> Vec<Finding> {
    let doing = Doing { verb: "get", group: "", plural: "/version", namespace: None, name: None };
    match cluster.ask(doing, cluster.client.apiserver_version()).await {
        Ok(version) => {
            let answers = format!("the API server at {} answers", cluster.url());
            vec![Finding::fine("api-server", answers), judged(&version.major, &version.minor, &version.git_version)]
        }
        Err(fault) => {
            let failed = Finding::failed("api-server", fault.to_string());
            vec![failed.remedy("kubectl cluster-info").remedy("kubectl config get-contexts").see(PAGE)]
        }
    }
}

/// Distributions write minors as `36+`.
fn judged(major: &str, minor: &str, whole: &str) -> Finding {
    let number: Option<u32> = minor.trim_end_matches(|letter: char| !letter.is_ascii_digit()).parse().ok();
    match number.filter(|_| major == "1") {
        Some(minor) if minor < OLDEST => {
            Finding::failed("api-version", format!("Kubernetes {whole} is older than 1.{OLDEST}, which Relay needs"))
                .hint(format!("upgrade the cluster to 1.{OLDEST} or newer"))
        }
        Some(minor) if minor < INJECTING => Finding::fine(
            "api-version",
            format!("Kubernetes {whole} (injection of sidecars needs 1.{INJECTING}; the rest 1.{OLDEST})"),
        ),
        Some(_) => Finding::fine("api-version", format!("Kubernetes {whole}, which can also inject sidecars")),
        None => Finding::warning("api-version", format!("Kubernetes `{whole}` is no version that is known here"))
            .remedy("kubectl version"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::finding::Mark, *};

    #[test]
    fn versions_are_judged_by_their_minor() {
        assert_eq!(judged("1", "29", "v1.29.1").mark, Mark::Failed);
        assert_eq!(judged("1", "30+", "v1.30.4-eks").mark, Mark::Fine);
        assert_eq!(judged("1", "36", "v1.36.4").mark, Mark::Fine);
        assert_eq!(judged("2", "0", "v2.0.0").mark, Mark::Warning);
    }
}
