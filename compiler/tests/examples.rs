//! The examples of the repository mean what they claim to: nothing in them is refused, and all their patterns match.

mod support;

use std::{fs, path::Path};

/// The Secrets that the first lines of an example, and the operator, make.
const MADE_IN_THE_CLUSTER: &[(&str, &str)] = &[
    (
        "kubernetes/relay.yaml",
        "
---
apiVersion: v1
kind: Secret
metadata: {name: providers}
stringData: {openai: sk-one, anthropic: sk-two}
---
apiVersion: v1
kind: Secret
metadata: {name: my-app-token}
stringData: {token: a-token-that-is-long-enough-to-be-one}
",
    ),
    (
        "sidecar/relay.yaml",
        "
---
apiVersion: v1
kind: Secret
metadata: {name: openai, namespace: team-a}
stringData: {key: sk-one}
---
apiVersion: v1
kind: Secret
metadata: {name: shop-token, namespace: team-a}
stringData: {token: a-token-that-is-long-enough-to-be-one}
",
    ),
];

#[test]
fn nothing_in_the_examples_is_refused() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let manifest = entry.unwrap().path().join("relay.yaml");
        let Ok(mut text) = fs::read_to_string(&manifest) else { continue };
        let made = MADE_IN_THE_CLUSTER.iter().filter(|(example, _)| manifest.ends_with(example));
        made.for_each(|(_, secrets)| text += secrets);
        let compilation = compiler::compile(&support::resources(&text));
        for report in compilation.reports {
            let wrong = report.is_refused() || !report.unmatched_globs.is_empty();
            assert!(!wrong, "{}: {report:?}", manifest.display());
            seen += 1;
        }
    }
    assert!(seen > 0, "there are examples");
}
