//! Whether sidecars can trust the shared data planes that they forward to: the certificate that the operator keeps for them,
//! and the Service behind the name that it is for. The private key is never looked at.

use std::time::{Duration, SystemTime};

use crds::rights::{BUNDLE, SERVING};
use http::Uri;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ConfigMap, Secret, Service};
use kube::{Api, ResourceExt, api::ListParams};
use rustls::pki_types::{CertificateDer, UnixTime, pem::PemObject};
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{extensions::GeneralName, pem::Pem};

use super::{
    deployment,
    finding::Finding,
    site::{self, Site},
    trust::{AUTHORITIES, MANAGED},
};
use crate::cluster::{Cluster, Doing};

const CHECK: &str = "serving-certificate";
const PAGE: &str = "docs/sidecars.md#when-a-pod-does-not-start-or-asks-somebody-else";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// A certificate lives thirty days and is replaced after half of them: one that ends sooner was not.
const SOON_S: i64 = 10 * 24 * 3600;

pub(super) async fn findings(cluster: &Cluster, site: &Site, forward: Option<&str>) -> Vec<Finding> {
    let forward: Option<Uri> = forward.and_then(|address| address.parse().ok());
    let mut names = site.serving_names();
    if names.is_empty() {
        let said = "the operator makes no certificate for what sidecars forward to: --serving-names is not set";
        let remedy = "name what sidecars reach the shared data planes by, such as relay.relay-system.svc";
        return vec![Finding::failed(CHECK, said).hint(remedy).see(PAGE)];
    }
    names.extend(forward.as_ref().and_then(Uri::host).map(str::to_owned));
    let mut findings = vec![certificate(cluster, site, &names).await];
    if let Some(forward) = forward {
        findings.extend(service(cluster, site, &forward).await);
    }
    findings
}

async fn certificate(cluster: &Cluster, site: &Site, names: &std::collections::BTreeSet<String>) -> Finding {
    let namespace = &site.namespace;
    let secrets: Api<Secret> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "get", group: "", plural: "secrets", namespace: Some(namespace), name: Some(SERVING) };
    let found = match cluster.ask(doing, secrets.get_opt(SERVING)).await {
        Ok(found) => found,
        Err(fault) => return deployment::unknown(CHECK, &fault),
    };
    let bundles: Api<ConfigMap> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "get", group: "", plural: "configmaps", namespace: Some(namespace), name: Some(BUNDLE) };
    // What is wrong with the bundle itself is said where trust is.
    let bundle = cluster.ask(doing, bundles.get_opt(BUNDLE)).await.ok().flatten();
    let bundle = bundle.and_then(|bundle| bundle.data?.remove(AUTHORITIES));
    judged(namespace, found.as_ref(), bundle.as_deref(), names, Timestamp::now())
}

fn judged<'a>(
    namespace: &str,
    found: Option<&Secret>,
    bundle: Option<&str>,
    names: impl IntoIterator<Item = &'a String>,
    now: Timestamp,
) -> Finding {
    let id = format!("Secret `{namespace}/{SERVING}`");
    let logs = format!("kubectl -n {namespace} logs -l {} --tail=50", site::OPERATOR);
    let anew = format!("kubectl -n {namespace} delete secret {SERVING}  # the operator makes it anew");
    let failed = |said: String| Finding::failed(CHECK, said).see(PAGE);
    let Some(found) = found else {
        let said = format!("{id} is not there: sidecars answer 503 to what they cannot serve themselves");
        return failed(said).remedy(logs);
    };
    if found.labels().get(MANAGED).is_none_or(|value| value != "true") {
        let said =
            format!("{id} is not the operator's (it lacks the label {MANAGED}=true): the operator leaves it alone");
        return failed(said).remedy(anew);
    }
    let entry = |name: &str| found.data.as_ref().and_then(|data| data.get(name)).map(|entry| entry.0.as_slice());
    if entry(KEY).is_none_or(<[u8]>::is_empty) {
        return failed(format!("{id} has nothing under `{KEY}`")).remedy(anew);
    }
    let leaf = match Leaf::read(entry(CHAIN).unwrap_or_default()) {
        Ok(leaf) => leaf,
        Err(error) => return failed(format!("{id}: `{CHAIN}` cannot be read: {error}")).remedy(anew),
    };
    if leaf.ends <= now {
        return failed(format!("{id}: the certificate ended at {}: sidecars refuse it", leaf.ends)).remedy(logs);
    }
    if let Some(missing) = names.into_iter().find(|name| !leaf.names.contains(name)) {
        let said = format!(
            "{id} is not for `{missing}`, by which sidecars reach the shared data planes, but for {}",
            leaf.names.join(", ")
        );
        return failed(said).remedy(anew).hint("and see `--serving-names` of the operator, where it says another name");
    }
    if let Some(error) = bundle.and_then(|bundle| leaf.signed(bundle, now).err()) {
        let said =
            format!("{id}: nobody in ConfigMap `{namespace}/{BUNDLE}` vouches for it ({error}): sidecars refuse it");
        return failed(said).remedy(anew);
    }
    let said = format!("{id} is for what sidecars forward to, until {}", leaf.ends);
    if leaf.ends.duration_since(now).as_secs() < SOON_S {
        return Finding::warning(CHECK, said + ", and was not replaced after half of its time").remedy(logs).see(PAGE);
    }
    Finding::fine(CHECK, said)
}

/// The certificate of a server.
struct Leaf {
    der: Vec<u8>,
    names: Vec<String>,
    ends: Timestamp,
}

impl Leaf {
    fn read(pem: &[u8]) -> Result<Self, String> {
        let first = Pem::iter_from_buffer(pem).next().ok_or("it holds no certificate")?;
        let first = first.map_err(|error| error.to_string())?;
        let certificate = first.parse_x509().map_err(|error| error.to_string())?;
        let ends = certificate.validity().not_after.timestamp();
        let ends = Timestamp::from_second(ends).map_err(|error| error.to_string())?;
        let alternatives = certificate.subject_alternative_name().map_err(|error| error.to_string())?;
        let names = alternatives.iter().flat_map(|names| &names.value.general_names);
        let names = names.filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        });
        Ok(Self { names: names.collect(), ends, der: first.contents.clone() })
    }

    /// Errs where nobody of these authorities signed it for a server.
    fn signed(&self, bundle: &str, now: Timestamp) -> Result<(), String> {
        let der = CertificateDer::from(self.der.as_slice());
        let leaf = EndEntityCert::try_from(&der).map_err(|error| error.to_string())?;
        let authorities: Vec<CertificateDer<'_>> = CertificateDer::pem_slice_iter(bundle.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|error| error.to_string())?;
        let anchors: Result<Vec<_>, _> = authorities.iter().map(anchor_from_trusted_cert).collect();
        let anchors = anchors.map_err(|error| error.to_string())?;
        let at = SystemTime::from(now).duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let at = UnixTime::since_unix_epoch(at);
        leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, KeyUsage::server_auth(), None, None)
            .map(|_| ())
            .map_err(|error| error.to_string())
    }
}

/// A Service of this namespace that sidecars are told to forward to, and that cannot be what is meant.
async fn service(cluster: &Cluster, site: &Site, forward: &Uri) -> Option<Finding> {
    let check = "forward-address";
    let mut words = forward.host()?.splitn(3, '.');
    let (name, namespace, port) = (words.next()?, words.next()?, forward.port_u16()?);
    if namespace != site.namespace {
        return None;
    }
    let api: Api<Service> = Api::namespaced(cluster.client.clone(), namespace);
    let doing = Doing { verb: "list", group: "", plural: "services", namespace: Some(namespace), name: None };
    let found = match cluster.list_of(doing, &api, ListParams::default()).await {
        Ok(all) => all.into_iter().find(|service| service.name_any() == name),
        Err(fault) => return Some(deployment::unknown(check, &fault)),
    };
    let failed = |said: String| {
        let again = format!("helm upgrade relay charts/relay --namespace {namespace} --reset-then-reuse-values");
        Finding::failed(check, said).remedy(again).see(PAGE)
    };
    let Some(found) = found else {
        return Some(failed(format!("sidecars forward to {forward}, and there is no Service `{namespace}/{name}`")));
    };
    let ports: Vec<i32> =
        found.spec.iter().flat_map(|spec| spec.ports.iter().flatten()).map(|port| port.port).collect();
    if ports.contains(&i32::from(port)) {
        return Some(Finding::fine(
            check,
            format!("sidecars forward to {forward}, a port of Service `{namespace}/{name}`"),
        ));
    }
    let ports = ports.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(failed(format!("sidecars forward to {forward}, and Service `{namespace}/{name}` has only port {ports}")))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::ByteString;
    use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, date_time_ymd};

    use super::{super::finding::Mark, *};

    struct Authority(Issuer<'static, KeyPair>, String);

    fn authority() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(2040, 1, 1));
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Authority(Issuer::new(params, key), pem)
    }

    fn secret(authority: &Authority, of: &[&str], day: u8, label: &str) -> Secret {
        let names: Vec<String> = of.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        (params.not_before, params.not_after) = (date_time_ymd(2025, 1, 1), date_time_ymd(2025, 6, day));
        let key = KeyPair::generate().unwrap();
        let chain = params.signed_by(&key, &authority.0).unwrap().pem();
        let entry = |text: String| ByteString(text.into_bytes());
        let mut secret = Secret {
            data: Some([(CHAIN.to_owned(), entry(chain)), (KEY.to_owned(), entry(key.serialize_pem()))].into()),
            ..Secret::default()
        };
        secret.metadata.labels = Some([(MANAGED.to_owned(), label.to_owned())].into());
        secret
    }

    fn told(found: Option<&Secret>, bundle: &Authority) -> (Mark, String) {
        let names = ["relay.own.svc".to_owned()];
        let finding = judged("own", found, Some(&bundle.1), &names, "2025-06-10T00:00:00Z".parse().unwrap());
        (finding.mark, finding.text().to_owned())
    }

    #[test]
    fn a_certificate_is_right_that_is_the_operators_lasts_and_has_the_names() {
        let (own, names) = (authority(), ["relay.own.svc", "relay.own.svc.cluster.local"]);
        assert_eq!(told(Some(&secret(&own, &names, 30, "true")), &own).0, Mark::Fine);
        let (mark, said) = told(Some(&secret(&own, &names, 15, "true")), &own);
        assert_eq!(mark, Mark::Warning);
        assert!(said.ends_with("until 2025-06-15T00:00:00Z, and was not replaced after half of its time"), "{said}");
    }

    #[test]
    fn a_certificate_that_sidecars_refuse_is_told_with_the_reason() {
        let (own, names) = (authority(), ["relay.own.svc"]);
        let mut keyless = secret(&own, &names, 30, "true");
        keyless.data.as_mut().unwrap().remove(KEY);
        for (found, said) in [
            (None, "is not there: sidecars answer 503"),
            (Some(secret(&own, &names, 30, "false")), "is not the operator's"),
            (Some(keyless), "has nothing under `tls.key`"),
            (Some(secret(&own, &names, 9, "true")), "the certificate ended at 2025-06-09T00:00:00Z"),
            (Some(secret(&own, &["other.own.svc"], 30, "true")), "is not for `relay.own.svc`"),
            (Some(secret(&authority(), &names, 30, "true")), "vouches for it"),
        ] {
            let (mark, text) = told(found.as_ref(), &own);
            assert_eq!(mark, Mark::Failed);
            assert!(text.contains(said), "{text}");
            assert!(!text.contains("PRIVATE"), "{text}");
        }
    }
}
