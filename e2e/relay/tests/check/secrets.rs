//! Secrets that are missing, and keys that are missing in them.

use serde_json::json;

use crate::installed::{Finding, Installed, of};

/// Makes what a remedy says, with this in the file that it leaves open.
fn remedied(installed: &Installed<'_>, finding: &Finding) {
    let remedy = finding.remedies[0].replace("=FILE ", "=/dev/stdin ");
    installed.run(&format!("printf sk-provider-2 | {remedy}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_secret_that_is_missing_is_told_of_and_the_remedy_makes_it() {
    let Some(installed) = Installed::new().await else { return };
    installed.site.kubectl(&["delete", "secret", "provider"]);
    let failed = installed.fails(&["secrets", "objects-ready"], &[]).await;
    let own = &installed.site.namespace;
    let missing = of(&failed, "secrets");
    assert!(missing.message.contains("SecretNotFound") && missing.message.contains("`provider`"), "{missing:?}");
    assert!(
        missing.remedies[0]
            .starts_with(&format!("kubectl -n {own} create secret generic provider --from-file=key=FILE"))
    );
    let read = installed.findings("failed", &["--read-secrets"]);
    let by_itself = format!("HostKey {own}/anthropic: SecretNotFound `provider` is no Secret in namespace `{own}`");
    assert_eq!(of(&read, "secrets").message, by_itself);
    remedied(&installed, missing);
    installed.fails(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_in_a_secret_is_told_of_and_the_remedy_adds_it() {
    let Some(installed) = Installed::new().await else { return };
    let renamed = json!([{"op": "move", "from": "/data/key", "path": "/data/token"}]);
    installed.patch("secret/provider", &["--type=json"], &renamed);
    let failed = installed.fails(&["secrets", "objects-ready"], &[]).await;
    let missing = of(&failed, "secrets");
    assert!(missing.message.contains("SecretKeyMissing") && missing.message.contains("`key`"), "{missing:?}");
    let read = installed.findings("failed", &["--read-secrets"]);
    assert!(of(&read, "secrets").message.ends_with("has no key `key`, only token"), "{read:#?}");
    remedied(&installed, missing);
    installed.fails(&[], &[]).await;
    assert_eq!(installed.site.secret("provider", "token"), "sk-provider-1", "what else was in it stays");
}
