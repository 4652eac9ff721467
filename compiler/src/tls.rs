//! How a Host proves who it is, and how Relay does. Certificates of authorities go into the table, private keys never do.

use table::{ClientCertificate, ObjectRef, Tls, TlsVerification, TlsVersion};

use crate::{
    findings::{Findings, Problem},
    reports::Reason,
    resolve::World,
};

const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const END: &str = "-----END CERTIFICATE-----";

pub(crate) fn tls(world: &World<'_>, id: &ObjectRef, spec: &crds::HostSpec, found: &mut Findings) -> Tls {
    let Some(tls) = &spec.tls else { return Tls::default() };
    if spec.base_url.starts_with("http://") {
        found.refuse("spec.tls is only for an https `spec.baseURL`: leave one of them out".to_owned());
    }
    if tls.verification == Some(crds::Verification::None) {
        found.note(
            "spec.tls.verification `None`: the certificate is not checked, and whoever stands between can read credentials"
                .to_owned(),
        );
    }
    Tls {
        verification: found.resolved(verification(world, id, tls)).unwrap_or_default(),
        server_name: tls.server_name.clone(),
        min_version: match tls.min_version {
            None | Some(crds::TlsVersion::V1_2) => TlsVersion::V1_2,
            Some(crds::TlsVersion::V1_3) => TlsVersion::V1_3,
        },
    }
}

/// The certificate that Relay shows to the host, where the manifest names one.
pub(crate) fn client_certificate(
    world: &World<'_>,
    id: &ObjectRef,
    written: Option<&crds::Tls>,
    found: &mut Findings,
) -> Option<ClientCertificate> {
    let name = &written?.client_certificate_ref.as_ref()?.name;
    let field = "spec.tls.clientCertificateRef";
    let chain = found.resolved(world.secret(field, &id.namespace, name, "tls.crt"))?;
    let key = found.resolved(world.secret(field, &id.namespace, name, "tls.key"))?;
    let Some(chain_pem) = certificates(chain.text.expose()) else {
        found.refuse(format!("{field}: key `tls.crt` of Secret `{name}` holds no PEM certificate"));
        return None;
    };
    if !key.text.expose().contains("PRIVATE KEY-----") {
        found.refuse(format!("{field}: key `tls.key` of Secret `{name}` holds no PEM private key"));
        return None;
    }
    Some(ClientCertificate { chain_pem, key_pem: key.text })
}

fn verification(world: &World<'_>, id: &ObjectRef, tls: &crds::Tls) -> Result<TlsVerification, Problem> {
    match (tls.verification, &tls.ca_ref) {
        (None | Some(crds::Verification::Custom), Some(reference)) => authority(world, &id.namespace, reference),
        (Some(crds::Verification::Custom), None) => {
            Err((Reason::Invalid, "spec.tls.caRef is missing: `verification: Custom` needs it".to_owned()))
        }
        (None | Some(crds::Verification::System), None) => Ok(TlsVerification::System),
        (Some(crds::Verification::None), None) => Ok(TlsVerification::None),
        (Some(crds::Verification::System | crds::Verification::None), Some(_)) => {
            Err((Reason::Invalid, "spec.tls.caRef needs `verification: Custom`".to_owned()))
        }
    }
}

fn authority(world: &World<'_>, namespace: &str, reference: &crds::CaRef) -> Result<TlsVerification, Problem> {
    let field = "spec.tls.caRef";
    let crds::CaRef { kind, name, key } = reference;
    let pem = match kind {
        crds::CaKind::Secret => world.secret(field, namespace, name, key)?.text.expose().clone(),
        crds::CaKind::ConfigMap => world.config(field, namespace, name, key)?,
    };
    let missing = || (Reason::Invalid, format!("{field}: key `{key}` of {kind} `{name}` holds no PEM certificate"));
    certificates(&pem).map(TlsVerification::Custom).ok_or_else(missing)
}

/// The certificates of a PEM text and nothing else of it: what stands beside them may be a private key.
fn certificates(pem: &str) -> Option<String> {
    let mut found = String::new();
    let mut rest = pem;
    while let Some((_, after)) = rest.split_once(BEGIN) {
        let (body, after) = after.split_once(END)?;
        if body.contains("-----") {
            return None;
        }
        found.extend([BEGIN, body, END, "\n"]);
        rest = after;
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_certificates_of_a_bundle_are_taken() {
        let pem = "comment\n-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n\
                   -----BEGIN PRIVATE KEY-----\ncanary\n-----END PRIVATE KEY-----\n\
                   -----BEGIN CERTIFICATE-----\nQg==\n-----END CERTIFICATE-----";
        let wanted = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n\
                      -----BEGIN CERTIFICATE-----\nQg==\n-----END CERTIFICATE-----\n";
        assert_eq!(certificates(pem).as_deref(), Some(wanted));
    }

    #[test]
    fn what_is_no_certificate_is_not_taken_for_one() {
        for pem in [
            "",
            "canary",
            "-----BEGIN CERTIFICATE-----\nQQ==",
            "-----BEGIN CERTIFICATE-----\n-----BEGIN PRIVATE KEY-----\ncanary\n-----END CERTIFICATE-----",
        ] {
            assert_eq!(certificates(pem), None, "{pem}");
        }
    }
}
