//! Whether pods that ask for a data plane beside them get one that works: the policy that injects it, the certificate of those
//! whom it asks, and the namespaces that consent. Nothing is looked at where the operator serves no sidecars.

use super::{consenting, finding::Finding, policy, serving, site::Site};
use crate::cluster::Cluster;

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Vec<Finding> {
    if !site.serves_sidecars() {
        return Vec::new();
    }
    let mut findings = Vec::new();
    let policy = policy::findings(cluster, site).await;
    findings.extend(policy.findings);
    findings.extend(serving::findings(cluster, site, policy.forward.as_deref()).await);
    findings.extend(consenting::findings(cluster, site).await);
    findings
}
