//! Definitions that are missing, older or newer. Each test has an API server of its own, because definitions are shared.

use plane::Plane;
use serde_json::json;

use crate::installed::{Installed, of};

const HOST_KEYS: &str = "crd/hostkeys.llmrelay.io";

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_not_those_of_this_program_are_told_of() {
    let Some(plane) = Plane::start() else { return };
    let installed = Installed::on(&plane, &[]).await;
    installed.fails(&[], &[]).await;
    assert_eq!(installed.found(), installed.site.namespace, "by the label of its Deployment");
    let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/weight";

    installed.patch(HOST_KEYS, &["--type=json"], &json!([{"op": "remove", "path": field}]));
    let failed = installed.fails(&["definitions-current"], &[]).await;
    let older = of(&failed, "definitions-current");
    assert!(
        older.message.contains("`hostkeys.llmrelay.io` is older than this program: it lacks `spec.weight`"),
        "{older:?}"
    );
    installed.run(&older.remedies[0]);
    installed.fails(&[], &[]).await;

    let region = json!([{"op": "add", "path": field.replace("weight", "region"), "value": {"type": "string"}}]);
    installed.patch(HOST_KEYS, &["--type=json"], &region);
    let warnings = installed.findings("warning", &[]);
    let newer = of(&warnings, "definitions-current");
    assert!(
        newer.message.contains("is newer than this program") && newer.message.contains("`spec.region`"),
        "{newer:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn definitions_that_are_missing_are_told_of_and_nothing_that_needs_them_is_judged() {
    let Some(plane) = Plane::start() else { return };
    let installed = Installed::on(&plane, &[]).await;
    installed.site.kubectl(&["delete", "crd", "-l", "!nothing"]);
    let failed = installed.fails(&["definitions-served"], &[]).await;
    assert_eq!(failed.len(), 6, "{failed:#?}");
    assert_eq!(failed[0].message, "the cluster does not know Host: definition `hosts.llmrelay.io` is not installed");
    assert_eq!(failed[0].remedies, ["relay crds | kubectl apply --server-side -f -"]);
    installed.run(&failed[0].remedies[0]);
    installed.site.plane.install_crds();
    let failed = installed.findings("failed", &[]);
    assert!(!failed.iter().any(|finding| finding.check == "definitions-served"), "{failed:#?}");
}
