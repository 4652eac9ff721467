//! The certificate that shared data planes show to the sidecars which forward to them: kept in a Secret while this replica
//! leads, of the same authority as that of the push port, so that whoever has the bundle trusts it.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context, ensure};
use crds::rights::SERVING;
use feed::tls::Certificate;
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::{ByteString, api::core::v1::Secret};
use kube::{Api, ResourceExt, api::PostParams};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject};
use tracing::info;
use webpki::{ALL_VERIFICATION_ALGS, EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use super::{
    authority::{Authorities, Leaf, Times},
    bundles::ours,
};
use crate::mint::MANAGED;

const TYPE: &str = "kubernetes.io/tls";
const CHAIN: &str = "tls.crt";
const KEY: &str = "tls.key";

/// Makes the Secret, or makes it anew where what is in it is not good for all of these names, and for no other, for half of
/// its time. Does nothing where there are no names. Errs where the Secret is somebody else's; it is left as it is.
pub(super) async fn keep(
    secrets: &Api<Secret>,
    authorities: &Authorities,
    names: &[String],
    times: &Times,
) -> anyhow::Result<()> {
    if names.is_empty() {
        return Ok(());
    }
    let found = secrets.get_opt(SERVING).await.with_context(|| format!("reading Secret `{SERVING}`"))?;
    let now = Timestamp::now();
    let Some(reason) = due(found.as_ref(), authorities, names, now, times)? else { return Ok(()) };
    let leaf = authorities.issue_for("relay-dataplane", names, now, times.serving);
    let leaf = leaf.context("a certificate for shared data planes (setting `--serving-names`)")?;
    let (data, params) = (Some(entries(&leaf)), PostParams::default());
    let written = match found {
        None => secrets.create(&params, &made(data)).await,
        // As the version that was looked at, so that of two who lead for a moment one is told of a conflict.
        Some(found) => secrets.replace(SERVING, &params, &Secret { data, ..found }).await,
    };
    written.with_context(|| format!("writing Secret `{SERVING}`"))?;
    info!(names = names.join(","), reason, expires = %leaf.expires, "Secret `{SERVING}` has a new certificate: {reason}");
    Ok(())
}

fn made(data: Option<BTreeMap<String, ByteString>>) -> Secret {
    Secret { metadata: ours(SERVING), data, type_: Some(TYPE.to_owned()), ..Secret::default() }
}

fn entries(leaf: &Leaf) -> BTreeMap<String, ByteString> {
    let bytes = |text: &str| ByteString(text.as_bytes().to_vec());
    [(CHAIN.to_owned(), bytes(&leaf.chain)), (KEY.to_owned(), bytes(&leaf.key))].into()
}

/// Why another certificate is to be made; absent: the one that is there is good.
fn due(
    found: Option<&Secret>,
    authorities: &Authorities,
    names: &[String],
    now: Timestamp,
    times: &Times,
) -> anyhow::Result<Option<String>> {
    let Some(found) = found else { return Ok(Some("there was none".to_owned())) };
    ensure!(
        found.labels().get(MANAGED).is_some_and(|value| value == "true"),
        "a Secret `{SERVING}` is there that lacks the label `{MANAGED}=true`: it is left alone; delete it, and it is made anew"
    );
    let entry = |name: &str| found.data.as_ref().and_then(|data| data.get(name)).map(|entry| entry.0.as_slice());
    let (Some(chain), Some(key)) = (entry(CHAIN), entry(KEY)) else {
        return Ok(Some(format!("`{CHAIN}` or `{KEY}` was missing")));
    };
    if Certificate::from_pem(chain, key).is_err() {
        return Ok(Some(format!("`{CHAIN}` and `{KEY}` did not belong together")));
    }
    // Nothing that an authority signs outlives it.
    let left = authorities.expires().duration_since(now).min(SignedDuration::try_from(times.serving)?);
    Ok(fault(chain, authorities, names, now + left / 2).err().map(|error| format!("{error:#}")))
}

/// Errs where a chain is not good for these names, and for no other, at that time.
fn fault(chain: &[u8], authorities: &Authorities, names: &[String], at: Timestamp) -> anyhow::Result<()> {
    let leaf = CertificateDer::from_pem_slice(chain).context("it could not be read")?;
    let leaf = EndEntityCert::try_from(&leaf).context("it could not be read")?;
    let signer = CertificateDer::from_pem_slice(authorities.signer().as_bytes()).context("the authority")?;
    let anchors = [anchor_from_trusted_cert(&signer).context("the authority")?];
    let at = UnixTime::since_unix_epoch(Duration::try_from(at.as_duration())?);
    leaf.verify_for_usage(ALL_VERIFICATION_ALGS, &anchors, &[], at, KeyUsage::server_auth(), None, None)
        .context("half of its time was over, or another authority signs now")?;
    for name in names {
        let server =
            ServerName::try_from(name.as_str()).with_context(|| format!("`{name}` is not the name of a server"))?;
        leaf.verify_is_valid_for_subject_name(&server).ok().with_context(|| format!("it was not for `{name}`"))?;
    }
    let other = leaf.valid_dns_names().find(|known| !names.iter().any(|name| name == known));
    ensure!(other.is_none(), "it was for `{}` too", other.unwrap_or_default());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + hours * 3600).unwrap()
    }

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn issued(authorities: &Authorities, of: &[&str]) -> Secret {
        let leaf = authorities.issue_for("relay-dataplane", &names(of), at(0), Times::default().serving).unwrap();
        made(Some(entries(&leaf)))
    }

    fn reason(found: &Secret, authorities: &Authorities, of: &[&str], hours: i64) -> Option<String> {
        due(Some(found), authorities, &names(of), at(hours), &Times::default()).unwrap()
    }

    #[test]
    fn it_is_made_anew_at_half_of_its_time_with_its_authority_and_when_names_change() {
        let authorities = Authorities::new(at(0), &Times::default()).unwrap();
        let of = ["relay.test.svc", "relay.test.svc.cluster.local"];
        let found = issued(&authorities, &of);
        let said = |authorities, of: &[&str], hours| reason(&found, authorities, of, hours).unwrap_or_default();
        assert_eq!(said(&authorities, &of, 0), "");
        assert_eq!(said(&authorities, &of, 15 * 24 - 1), "");
        assert!(said(&authorities, &of, 15 * 24 + 1).starts_with("half of its time was over"));
        let other = Authorities::new(at(0), &Times::default()).unwrap();
        assert!(said(&other, &of, 0).contains("another authority signs now"));
        assert_eq!(said(&authorities, &["other.test.svc"], 0), "it was not for `other.test.svc`");
        assert_eq!(said(&authorities, &of[..1], 0), "it was for `relay.test.svc.cluster.local` too");
    }

    #[test]
    fn at_the_end_of_an_authority_it_is_not_made_anew_over_and_over() {
        let authorities = Authorities::new(at(0), &Times::default()).unwrap();
        let late = 364 * 24;
        let leaf = authorities.issue_for("relay-dataplane", &names(&["a.test"]), at(late), Times::default().serving);
        let leaf = leaf.unwrap();
        assert_eq!(leaf.expires, authorities.expires());
        assert_eq!(reason(&made(Some(entries(&leaf))), &authorities, &["a.test"], late), None);
    }

    #[test]
    fn what_somebody_broke_is_put_right_and_what_is_somebody_elses_is_left_alone() {
        let authorities = Authorities::new(at(0), &Times::default()).unwrap();
        let mut mixed = issued(&authorities, &["a.test"]);
        let key = issued(&authorities, &["a.test"]).data.unwrap().remove(KEY).unwrap();
        mixed.data.as_mut().unwrap().insert(KEY.to_owned(), key);
        let said = reason(&mixed, &authorities, &["a.test"], 0).unwrap();
        assert_eq!(said, "`tls.crt` and `tls.key` did not belong together");
        let mut foreign = issued(&authorities, &["a.test"]);
        foreign.metadata.labels = None;
        let error = due(Some(&foreign), &authorities, &names(&["a.test"]), at(0), &Times::default()).unwrap_err();
        assert!(error.to_string().contains("lacks the label `llmrelay.io/managed=true`"), "{error}");
    }
}
