//! Whether data planes can know whom to trust, and have a key for their copies: what the operator makes for them.

use crds::rights::{BUNDLE, SEAL_KEY};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, ResourceExt};
use x509_parser::pem::Pem;

use super::{
    deployment,
    finding::Finding,
    site::{self, Site},
};
use crate::cluster::{Cluster, Doing};

/// The entries of the ConfigMap and of the Secret.
pub(super) const AUTHORITIES: &str = "ca.crt";
const KEY: &str = "key";

/// What the operator labels as its own.
pub(super) const MANAGED: &str = "llmrelay.io/managed";

/// What the names of the operator's authorities begin with.
const AUTHORITY: &str = "relay push authority";

/// Length of the key in bytes.
const BYTES: usize = 32;

/// An authority lives a year and is replaced after half of it: one that ends sooner was not.
const SOON_S: i64 = 30 * 24 * 3600;

const PAGE: &str = "docs/runbooks.md#relaypushcertificateends";
const KEY_PAGE: &str = "docs/running.md#in-a-cluster";

pub(super) async fn findings(cluster: &Cluster, site: &Site) -> Vec<Finding> {
    let mut findings = Vec::new();
    for namespace in site.trusting() {
        findings.push(bundle(cluster, site, &namespace).await);
    }
    findings.push(seal_key(cluster, &site.namespace).await);
    findings
}

/// Whom data planes of a namespace are to trust.
pub(super) async fn bundle(cluster: &Cluster, site: &Site, namespace: &str) -> Finding {
    let check = "push-trust";
    let api: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "get", group: "", plural: "configmaps", namespace: Some(namespace), name: Some(BUNDLE) };
    match cluster.ask(doing, api.get_opt(BUNDLE)).await {
        Ok(found) => judged(site, namespace, found.as_ref(), Timestamp::now()),
        Err(fault) => deployment::unknown(check, &fault),
    }
}

fn judged(site: &Site, namespace: &str, found: Option<&ConfigMap>, now: Timestamp) -> Finding {
    let id = format!("ConfigMap `{namespace}/{BUNDLE}`");
    let anew = format!("kubectl -n {namespace} delete configmap {BUNDLE}  # the operator makes it anew");
    let failed = |said: String| Finding::failed("push-trust", said).see(PAGE);
    let Some(found) = found else {
        let logs = format!("kubectl -n {} logs -l {} --tail=50", site.namespace, site::OPERATOR);
        let said = format!("{id} is not there: data planes cannot know whom to trust, and their pods do not start");
        return failed(said).remedy(logs);
    };
    if found.labels().get(MANAGED).is_none_or(|value| value != "true") {
        let said =
            format!("{id} is not the operator's (it lacks the label {MANAGED}=true): the operator leaves it alone");
        return failed(said).remedy(anew);
    }
    let text = found.data.as_ref().and_then(|data| data.get(AUTHORITIES)).map_or("", String::as_str);
    let authorities = match read(text) {
        Ok(authorities) => authorities,
        Err(error) => return failed(format!("{id}: `{AUTHORITIES}` cannot be read: {error}")).remedy(anew),
    };
    let Some(last) = authorities.iter().filter(|one| one.is_ours && one.begins <= now).map(|one| one.ends).max() else {
        let names: Vec<&str> = authorities.iter().map(|one| one.name.as_str()).collect();
        let said = format!("{id} vouches for nobody that is an operator's: it holds {}", names.join("; "));
        return failed(said).remedy(anew);
    };
    if last <= now {
        return failed(format!("{id}: the last authority ended at {last}: no data plane can connect anew"))
            .remedy(anew);
    }
    let said = format!("{id} names who vouches for operators, until {last}");
    if last.duration_since(now).as_secs() < SOON_S {
        let lease = format!("kubectl -n {} get lease {}", site.namespace, crds::rights::LEASE);
        return Finding::warning("push-trust", said + ", and the next is not there yet").remedy(lease).see(PAGE);
    }
    Finding::fine("push-trust", said)
}

/// Who vouches for operators.
struct Authority {
    name: String,
    is_ours: bool,
    begins: Timestamp,
    ends: Timestamp,
}

fn read(pem: &str) -> Result<Vec<Authority>, String> {
    let mut all = Vec::new();
    for entry in Pem::iter_from_buffer(pem.as_bytes()) {
        let entry = entry.map_err(|error| error.to_string())?;
        let certificate = entry.parse_x509().map_err(|error| error.to_string())?;
        let at = |seconds: i64| Timestamp::from_second(seconds).map_err(|error| error.to_string());
        let name = certificate.subject().to_string();
        all.push(Authority {
            is_ours: name.contains(AUTHORITY),
            begins: at(certificate.validity().not_before.timestamp())?,
            ends: at(certificate.validity().not_after.timestamp())?,
            name,
        });
    }
    if all.is_empty() { Err("it holds no certificate".to_owned()) } else { Ok(all) }
}

async fn seal_key(cluster: &Cluster, namespace: &str) -> Finding {
    let check = "seal-key";
    let api: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "get", group: "", plural: "secrets", namespace: Some(namespace), name: Some(SEAL_KEY) };
    let id = format!("Secret `{namespace}/{SEAL_KEY}`");
    let anew = format!("kubectl -n {namespace} delete secret {SEAL_KEY}  # the operator makes it anew");
    match cluster.ask(doing, api.get_opt(SEAL_KEY)).await {
        Ok(None) => {
            let logs = format!("kubectl -n {namespace} logs -l {} --tail=50", site::OPERATOR);
            let said = format!("{id} is not there: pods of data planes that mount it do not start");
            Finding::failed(check, said).remedy(logs).see(KEY_PAGE)
        }
        // Its length is all that is looked at.
        Ok(Some(found)) => match found.data.unwrap_or_default().get(KEY).map(|key| key.0.len()) {
            Some(BYTES) => Finding::fine(check, format!("{id} has the key of the copies of the last good table")),
            Some(length) => {
                Finding::failed(check, format!("{id} has {length} bytes under `{KEY}`, and {BYTES} would be right"))
                    .remedy(anew)
                    .see(KEY_PAGE)
            }
            None => Finding::failed(check, format!("{id} has nothing under `{KEY}`")).remedy(anew).see(KEY_PAGE),
        },
        Err(fault) => deployment::unknown(check, &fault),
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};

    use super::{super::finding::Mark, *};

    fn certificate(name: &str, until: i32) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(until, 1, 1));
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()
    }

    fn told(text: &str, label: &str) -> (Mark, String) {
        let found = ConfigMap {
            metadata: kube::core::ObjectMeta {
                labels: Some([(MANAGED.to_owned(), label.to_owned())].into()),
                ..kube::core::ObjectMeta::default()
            },
            data: Some([(AUTHORITIES.to_owned(), text.to_owned())].into()),
            ..ConfigMap::default()
        };
        let site = Site { namespace: "own".to_owned(), operators: Ok(Vec::new()), data_planes: Ok(Vec::new()) };
        let finding = judged(&site, "n", Some(&found), "2025-06-01T00:00:00Z".parse().unwrap());
        (finding.mark, finding.text().to_owned())
    }

    #[test]
    fn a_bundle_is_right_while_one_of_its_authorities_is_good() {
        let (ended, good) = (certificate(AUTHORITY, 2025), certificate("relay push authority 2", 2026));
        assert_eq!(told(&(ended.clone() + &good), "true").0, Mark::Fine);
        let (mark, said) = told(&ended, "true");
        assert_eq!(mark, Mark::Failed);
        assert!(said.contains("the last authority ended at 2025-01-01T00:00:00Z"), "{said}");
    }

    #[test]
    fn what_is_not_the_operators_is_foreign() {
        let (_, said) = told(&certificate("somebody", 2030), "true");
        assert!(said.contains("nobody that is an operator's: it holds CN=somebody"), "{said}");
        assert!(told(&certificate(AUTHORITY, 2030), "false").1.contains("lacks the label llmrelay.io/managed=true"));
        assert!(told("nonsense", "true").1.contains("it holds no certificate"));
    }
}
