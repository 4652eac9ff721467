//! Credentials that the operator never sees: sealed with `relay seal`, or in a file or a variable of data planes. Its
//! statuses say what data planes make of them.

use std::{
    fs,
    io::Write,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;
use site::{Ask, Programs, Site, Upstream, relay_key, routes, until};

const CANARY: &str = "sk-canary-sealed";

/// Runs `relay seal` with this on its input, and gives what it prints.
fn seal(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(&Programs::built().relay);
    command.arg("seal").args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("relay starts");
    // Where it reads nothing, nobody takes what is written.
    let _ = child.stdin.take().expect("its input is a pipe").write_all(input.as_bytes());
    let output = child.wait_with_output().expect("relay ends");
    assert!(output.status.success(), "relay seal {arguments:?}");
    String::from_utf8(output.stdout).expect("relay prints UTF-8")
}

/// The path of a new key with this id.
fn new_key(directory: &Path, id: &str) -> String {
    let path = directory.join(id).display().to_string();
    seal(&["--generate-key", &path], "");
    path
}

fn condition<'a>(object: &'a Value, of: &str) -> &'a Value {
    let conditions = object["status"]["conditions"].as_array().map_or(&[][..], Vec::as_slice);
    conditions.iter().find(|condition| condition["type"] == of).unwrap_or(&Value::Null)
}

/// Waits until an object is not programmed because a data plane says so, in these words; its references are resolved.
async fn nacked(site: &Site<'_>, what: &str, words: &str) {
    let is_so = || {
        let object = site.get(what);
        let (programmed, resolved) = (condition(&object, "Programmed"), condition(&object, "ResolvedRefs"));
        let said = programmed["message"].as_str().unwrap_or_default();
        (programmed["reason"] == "Nacked" && resolved["status"] == "True" && said.contains(words)).then(|| {
            assert!(said.contains("credential-unusable"), "{said}");
            assert_eq!(condition(&object, "Accepted")["status"], "True", "{object:#}");
            assert_eq!(condition(&object, "Ready")["status"], "False", "{object:#}");
        })
    };
    until(&format!("{what} is named because {words}"), async || is_so()).await;
}

/// Replaces an object; again where its status was written meanwhile.
async fn replace(site: &Site<'_>, manifest: &str) {
    until("the object is replaced", async || site.try_kubectl(&["replace", "-f", "-"], manifest).ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_host_key_is_ready_once_data_planes_can_open_it() {
    let Some(site) = Site::shared().await else { return };
    let upstream = Upstream::start().await;
    let operator = site.operator("operator-0", &[]).await;
    let pod = site.pod("relay-dataplane", "pod-0").await;
    let [mounted, elsewhere] = ["sealing", "elsewhere"].map(|name| pod.folder.join(name));
    fs::create_dir_all(&mounted).expect("the pod's folder is writable");
    fs::create_dir_all(&elsewhere).expect("the pod's folder is writable");
    let (first, second) = (new_key(&elsewhere, "first"), new_key(&elsewhere, "second"));
    let keys = mounted.display().to_string();
    let data_plane = site.data_plane_in(pod, &["--sealing-keys", &keys]).await;

    let named = ["--key-file", &first, "--namespace", &site.namespace, "--name", "openai", "--host", "openai"];
    let sealed = seal(&named, CANARY);
    assert!(!sealed.contains(CANARY), "{sealed}");
    site.apply(&(routes(&upstream.url()) + &relay_key("app")));
    replace(&site, &sealed).await;
    site.wait("Ready", &["hostkey/anthropic"]);
    nacked(&site, "hostkey/openai", "sealed with key `first`, which this data plane does not have").await;
    let token = site.secret("app", "token");
    assert_eq!(data_plane.ask(&Ask::anthropic("anthropic", &token)).await.status, 200, "it costs nothing else");
    upstream.take();

    // As a Secret's volume changes: whole or not at all.
    let mount = |key: &str, id: &str| {
        fs::copy(key, mounted.join("..next")).expect("the key is there");
        fs::rename(mounted.join("..next"), mounted.join(id)).expect("the folder is writable");
    };
    mount(&first, "first");
    site.wait("Ready", &["hostkey/openai"]);
    let answer = data_plane.ask(&Ask::openai("openai", &token)).await;
    assert_eq!((answer.status, upstream.take()[0].credential.as_str()), (200, CANARY), "{}", answer.text());

    // Another key takes over.
    mount(&second, "second");
    let file = elsewhere.join("hostkey.yaml");
    fs::write(&file, sealed).expect("the pod's folder is writable");
    let manifest = file.display().to_string();
    seal(&["--rewrap", "--old-key-file", &first, "--key-file", &second, "--manifest", &manifest], "");
    let before = data_plane.feed().await["root"].clone();
    replace(&site, &fs::read_to_string(&file).expect("it is there")).await;
    until("the new table is in effect", async || (data_plane.feed().await["root"] != before).then_some(())).await;
    fs::remove_file(mounted.join("first")).expect("it is there");
    until("the first key is gone", async || {
        let page = data_plane.daemon.admin("/debug/credentials").await.ok()?.json();
        page["sealingKeys"]["first"].is_null().then_some(())
    })
    .await;
    site.wait("Ready", &["hostkey/openai"]);
    assert_eq!(data_plane.ask(&Ask::openai("openai", &token)).await.status, 200);
    assert_eq!(upstream.take()[0].credential, CANARY);

    for page in ["/debug/table", "/debug/credentials", "/debug/feed", "/metrics"] {
        let text = data_plane.daemon.admin(page).await.expect("the admin port answers").text();
        assert!(!text.contains(CANARY), "{page}: {text}");
    }
    let statuses = site.kubectl(&["get", "hostkeys,hosts", "--output=yaml"]);
    assert!(!statuses.contains(CANARY));
    drop(operator);
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_variables_that_data_planes_do_not_have_are_named_in_statuses() {
    let Some(site) = Site::shared().await else { return };
    let upstream = Upstream::start().await;
    let _operator = site.operator("operator-0", &[]).await;
    let all = routes(&upstream.url());
    let secret = "source: {secretKeyRef: {name: provider, key: key}}";
    let file = "source: {file: {path: /var/run/relay/of-no-data-plane}}";
    let variable = "source: {env: {name: RELAY_KEY_OF_NO_DATA_PLANE}}";
    site.apply(&(all.replacen(secret, file, 1).replacen(secret, variable, 1) + &relay_key("app")));
    let _data_plane = site.data_plane("pod-0").await;
    nacked(&site, "hostkey/openai", "cannot read the credential file `/var/run/relay/of-no-data-plane`").await;
    nacked(&site, "hostkey/anthropic", "the environment variable `RELAY_KEY_OF_NO_DATA_PLANE` is not set").await;
    // The operator needs nothing of them.
    site.wait("Ready", &["policy/all", "relaykey/app"]);
    site.apply(&all);
    site.wait("Ready", &["hostkey/openai", "hostkey/anthropic"]);
}
