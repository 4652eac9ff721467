//! From manifests to answers, as the example for clusters has it.

use std::{fs, path::Path, process::Command};

use crate::scene::REPLICAS;
use serde_json::{Value, json};
use site::{DataPlane, Programs, Site, Upstream, secret};

const EXAMPLE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../examples/kubernetes/relay.yaml");
const KINDS: &str = "hosts,models,hostkeys,relaykeys,policies";

/// The example, with hosts that are at the upstream.
fn example(upstream: &Upstream) -> String {
    let text = fs::read_to_string(EXAMPLE).expect("the example is there");
    let documents: Vec<Value> = serde_saphyr::from_multiple(&text).expect("the example is YAML");
    let adapted = documents.into_iter().map(|mut document| {
        if document["kind"] == "Host" {
            let path = if document["spec"]["protocol"] == "OpenAI" { "/v1" } else { "" };
            document["spec"]["baseURL"] = json!(format!("{}{path}", upstream.url()));
            document["spec"]["allowPlaintext"] = json!(true);
            document["spec"]["network"] = json!({"allowPrivateAddresses": true});
        }
        format!("---\n{document}\n")
    });
    adapted.collect()
}

/// What both SDKs are answered by a data plane.
fn converse(data_plane: &DataPlane, token: &str) -> String {
    let python = plane::cache().join("clients/newest/bin/python");
    assert!(python.is_file(), "{} is missing: `e2e/clients/environments` makes it", python.display());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients/converse.py");
    let mut command = Command::new(python);
    command.arg(script).arg(format!("http://{}", data_plane.address)).args([token, "gpt-5-mini", "claude-sonnet-5"]);
    let output = command.output().expect("python starts");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("python prints UTF-8")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_becomes_ready_and_its_key_works_for_both_sdks_on_every_data_plane() {
    let Some(site) = Site::shared().await else { return };
    let upstream = Upstream::start().await;
    let _operators = site.operators(REPLICAS, &[]).await;
    let data_planes = [site.data_plane("pod-0").await, site.data_plane("pod-1").await];
    let secret = ["create", "secret", "generic", "providers"];
    site.kubectl(
        &[&secret[..], &["--from-literal=openai=sk-openai", "--from-literal=anthropic=sk-anthropic"]].concat(),
    );
    site.apply(&example(&upstream));
    site.wait("Ready", &[KINDS, "--all"]);

    let list = site.get(KINDS);
    let objects = list["items"].as_array().expect("a list has items");
    assert_eq!(objects.len(), 8);
    for object in objects {
        let generation = &object["metadata"]["generation"];
        assert_eq!(&object["status"]["observedGeneration"], generation, "{object:#}");
        let conditions = object["status"]["conditions"].as_array().expect("there are conditions");
        for condition in conditions {
            assert_eq!(
                (&condition["status"], &condition["observedGeneration"]),
                (&json!("True"), generation),
                "{object:#}"
            );
        }
        let types: Vec<_> = conditions.iter().filter_map(|condition| condition["type"].as_str()).collect();
        for of in ["Accepted", "ResolvedRefs", "Programmed", "Ready"] {
            assert!(types.contains(&of), "{object:#}");
        }
    }

    let token = site.secret("my-app-token", "token");
    assert!(token.starts_with("sk-relay-"));
    for data_plane in &data_planes {
        let answers = converse(data_plane, &token);
        let wanted: Vec<_> = ["gpt-5-mini", "claude-sonnet-5"]
            .iter()
            .flat_map(|model| ["openai", "anthropic"].map(|sdk| (sdk, model)))
            .flat_map(|(sdk, model)| {
                ["plain", "streamed"].map(|how| format!("{sdk} {model} {how}: hello from upstream"))
            })
            .collect();
        let mut answered: Vec<_> = answers.lines().collect();
        answered.sort_unstable();
        let mut wanted: Vec<_> = wanted.iter().map(String::as_str).collect();
        wanted.sort_unstable();
        assert_eq!(answered, wanted);
    }
    let seen = upstream.take();
    assert_eq!(seen.len(), 16);
    assert!(seen.iter().all(|request| match request.path.as_str() {
        "/v1/chat/completions" => request.credential == "sk-openai",
        "/v1/messages" => request.credential == "sk-anthropic",
        _ => false,
    }));
}

#[test]
fn relay_check_finds_nothing_in_the_example_once_its_secrets_are_there() {
    let folder = tempfile::tempdir().expect("a folder is made");
    fs::copy(EXAMPLE, folder.path().join("relay.yaml")).expect("the example is there");
    let secrets = secret("my-app-token", "token", &"t".repeat(32))
        + "---\napiVersion: v1\nkind: Secret\nmetadata: {name: providers}\nstringData: {openai: a, anthropic: b}\n";
    fs::write(folder.path().join("secrets.yaml"), secrets).expect("the folder is writable");
    let mut command = Command::new(&Programs::built().relay);
    let output = command.arg("check").arg(folder.path()).output().expect("relay starts");
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("nothing refused, 0 warnings"), "{said}");
}
