//! A bundle of authorities that is not the operator's, or that is too old.

use rcgen::{CertificateParams, DnType, KeyPair, date_time_ymd};
use serde_json::json;

use crate::installed::{Installed, of};

fn authority(name: &str, ends: i32) -> String {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    (params.not_before, params.not_after) = (date_time_ymd(2020, 1, 1), date_time_ymd(ends, 1, 1));
    let key = KeyPair::generate().expect("a key is made");
    params.self_signed(&key).expect("a certificate is made").pem()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_of_somebody_else_is_told_of_and_the_remedy_makes_it_anew() {
    let Some(installed) = Installed::new().await else { return };
    let foreign =
        json!({"metadata": {"labels": {"llmrelay.io/managed": null}}, "data": {"ca.crt": authority("somebody", 2099)}});
    installed.patch("configmap/relay-push-ca", &["--type=merge"], &foreign);
    let failed = installed.fails(&["push-trust"], &[]).await;
    let trust = of(&failed, "push-trust");
    assert!(trust.message.contains("is not the operator's (it lacks the label llmrelay.io/managed=true)"), "{trust:?}");
    installed.run(&trust.remedies[0]);
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_whose_last_authority_has_ended_is_told_of() {
    let Some(mut installed) = Installed::new().await else { return };
    // One that runs would put it right.
    installed.operator.daemon.stop();
    let ended = json!({"data": {"ca.crt": authority("relay push authority of 2020", 2021)}});
    installed.patch("configmap/relay-push-ca", &["--type=merge"], &ended);
    let failed = installed.fails(&["push-trust", "lease-held"], &[]).await;
    let trust = of(&failed, "push-trust");
    assert!(trust.message.contains("the last authority ended at 2021-01-01T00:00:00Z"), "{trust:?}");
    installed.operator.daemon.restart().await;
    installed.fails(&[], &[]).await;
}
