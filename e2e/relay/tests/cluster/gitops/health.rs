//! Every state that the operator says of an object, provoked and taken as `kubectl get` gives it; what Argo CD and Flux make of
//! it is the table of the example's README. After a change, write it anew with `RELAY_BLESS=1`, and read it.

use std::{collections::BTreeSet, fs, net::Ipv4Addr};

use serde_json::Value;
use site::{Ask, Site, Upstream, relay_key, routes, secret, until};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::{
    argo, example, file,
    flux::{self, Expressions},
};

/// Objects that are not in effect, each for one reason.
const REFUSED: &str = "
kind: Host
metadata: {name: endpoint}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com/v1/chat/completions'}
---
kind: Model
metadata: {name: twin}
spec: {modelName: openai, hosts: [{name: only, hostRef: {name: openai}}]}
---
kind: RelayKey
metadata: {name: foreign-secret}
spec: {policyRefs: [{name: all}], secret: {name: provider}}
---
kind: Model
metadata: {name: dangling}
spec: {hosts: [{name: only, hostRef: {name: nowhere}}]}
---
kind: RelayKey
metadata: {name: elsewhere}
spec: {policyRefs: [{name: all, namespace: elsewhere}], secret: {name: elsewhere}}
---
kind: HostKey
metadata: {name: no-secret}
spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: nothing, key: key}}}
---
kind: HostKey
metadata: {name: no-entry}
spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: provider, key: other}}}
---
kind: HostKey
metadata: {name: empty}
spec: {hostRef: {name: openai}, source: {secretKeyRef: {name: empty, key: key}}}
---
kind: HostKey
metadata: {name: not-set}
spec: {hostRef: {name: openai}, source: {env: {name: RELAY_KEY_OF_NO_DATA_PLANE}}}
---
kind: Host
metadata: {name: unkeyed}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com/v1'}
---
kind: Host
metadata: {name: suspended}
spec: {protocol: OpenAI, baseURL: 'https://api.example.com/v1', suspend: true}
---
kind: HostKey
metadata: {name: of-suspended}
spec: {hostRef: {name: suspended}, source: {secretKeyRef: {name: provider, key: key}}}
---
kind: Model
metadata: {name: suspended}
spec: {suspend: true, hosts: [{name: only, hostRef: {name: openai}}]}
---
kind: RelayKey
metadata: {name: revoked}
spec: {policyRefs: [{name: all}], revoked: true, tokenHash: 'sha256:0000000000000000000000000000000000000000000000000000000000000001'}
---
kind: RelayKey
metadata: {name: expired}
spec: {policyRefs: [{name: all}], expiresAt: '2026-01-01T00:00:00Z', tokenHash: 'sha256:0000000000000000000000000000000000000000000000000000000000000002'}
---
kind: Policy
metadata: {name: frozen, annotations: {llmrelay.io/paused: 'true'}}
spec: {models: {allow: ['*']}}
";

/// [`REFUSED`], with what the operator says of the readiness of each, and how it came to that.
const REASONS: [(&str, &str, &str); 15] = [
    ("host/endpoint", "Invalid", "a field is wrong"),
    ("model/twin", "Conflicted", "an older Model has its name"),
    ("relaykey/foreign-secret", "Conflicted", "somebody else's Secret has the name"),
    ("model/dangling", "RefNotFound", "it names a Host that is not there"),
    ("relaykey/elsewhere", "RefNotPermitted", "it names a Policy that is not open to it"),
    ("hostkey/no-secret", "SecretNotFound", "its Secret is not there"),
    ("hostkey/no-entry", "SecretKeyMissing", "its Secret lacks the key"),
    ("hostkey/empty", "SecretEmpty", "the value in its Secret is empty"),
    ("hostkey/not-set", "Nacked", "a data plane cannot use its credential"),
    ("host/unkeyed", "NoHealthyKey", "no HostKey refers to it"),
    ("host/suspended", "HostDisabled", "it is suspended"),
    ("hostkey/of-suspended", "HostDisabled", "its Host is suspended"),
    ("model/suspended", "Paused", "it is suspended"),
    ("relaykey/revoked", "Revoked", "it is revoked"),
    ("relaykey/expired", "Expired", "it has expired"),
];

/// Objects as they were taken.
#[derive(Default)]
struct Album(Vec<(&'static str, Value)>);

impl Album {
    /// Takes an object as it is.
    fn take(&mut self, site: &Site<'_>, what: &str, state: &'static str) {
        let text = site.kubectl(&["get", what, "--output=json"]);
        self.0.push((state, serde_json::from_str(&text).expect("kubectl prints JSON")));
    }

    /// Takes an object once a condition of it has this status and reason.
    async fn await_and_take(&mut self, site: &Site<'_>, what: &str, wanted: [&str; 3], state: &'static str) {
        let [of, status, reason] = wanted;
        let is_so = async || {
            let object = site.get(what);
            let said = condition(&object, of)?;
            (said["status"] == status && said["reason"] == reason).then_some(())
        };
        until(&format!("{what} says {of}={status} {reason}"), is_so).await;
        self.take(site, what, state);
    }

    /// The reasons of all conditions.
    fn reasons(&self) -> BTreeSet<&str> {
        let conditions = self.0.iter().flat_map(|(_, object)| conditions(object));
        conditions.filter_map(|condition| condition["reason"].as_str()).collect()
    }
}

fn conditions(object: &Value) -> &[Value] {
    object["status"]["conditions"].as_array().map_or(&[], Vec::as_slice)
}

fn condition<'a>(object: &'a Value, of: &str) -> Option<&'a Value> {
    conditions(object).iter().find(|condition| condition["type"] == of)
}

/// A provider that accepts no credential.
async fn refusing() -> String {
    let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port is free");
    let url = format!("http://{}", socket.local_addr().expect("a bound socket has an address"));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = socket.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let answer = b"HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
            let _ = stream.write_all(answer).await;
        }
    });
    url
}

/// [`REFUSED`], with the group that all of them are of.
fn refused() -> String {
    let with_group = |document: &str| format!("---\napiVersion: llmrelay.io/v1alpha1{document}");
    REFUSED.split("---").map(with_group).collect::<String>() + &secret("empty", "key", "")
}

/// Provokes every state, one after the other, on a site of its own.
async fn provoke(site: &Site<'_>) -> Album {
    const READY: [&str; 3] = ["Ready", "True", "Ready"];
    let mut album = Album::default();
    let upstream = Upstream::start().await;
    let fleet = "---\napiVersion: llmrelay.io/v1alpha1\nkind: DataPlane\nmetadata: {name: default}\nspec: {}\n";
    site.apply(&(routes(&upstream.url()) + &relay_key("app") + fleet));
    album.take(site, "host/openai", "no operator has looked at it");

    let mut operator = site.operator("operator-0", &[]).await;
    for what in ["host/openai", "dataplane/default"] {
        album.await_and_take(site, what, ["Ready", "False", "NoDataPlane"], "no data plane is connected").await;
    }
    let data_planes = [site.data_plane("pod-0").await, site.data_plane("pod-1").await];
    for what in ["host/openai", "hostkey/openai", "model/openai", "policy/all", "relaykey/app", "dataplane/default"] {
        album.await_and_take(site, what, READY, "it is in effect").await;
    }

    site.apply(&refused());
    for (what, reason, state) in REASONS {
        album.await_and_take(site, what, ["Ready", "False", reason], state).await;
    }
    let nacked = ["Ready", "False", "Nacked"];
    album.await_and_take(site, "dataplane/default", nacked, "a data plane refuses a part of it").await;
    let paused = ["Reconciling", "False", "Paused"];
    album.await_and_take(site, "policy/frozen", paused, "its annotation says paused, from the beginning").await;
    for (what, state) in [
        ("policy/all", "its annotation says paused, since it was in effect"),
        ("model/dangling", "its annotation says paused, since it was refused"),
    ] {
        site.kubectl(&["annotate", what, "llmrelay.io/paused=true"]);
        album.await_and_take(site, what, paused, state).await;
    }

    site.apply(&routes(&refusing().await).replace("{name: openai}", "{name: refused}"));
    site.wait("Ready", &["hostkey/refused", "model/refused", "relaykey/app"]);
    let ask = Ask::openai("refused", &site.secret("app", "token"));
    for data_plane in &data_planes {
        until("the provider refuses the credential", async || (data_plane.ask(&ask).await.status != 200).then_some(()))
            .await;
    }
    let dead = ["Ready", "False", "NoHealthyKey"];
    album.await_and_take(site, "hostkey/refused", dead, "the provider refuses its credential").await;

    data_planes.iter().for_each(|data_plane| data_plane.daemon.process().freeze());
    let change = |limit: u32| {
        let patch = format!("{{\"spec\": {{\"maxOutputTokens\": {limit}}}}}");
        site.kubectl(&["patch", "model/openai", "--type=merge", "--patch", &patch]);
    };
    change(1024);
    album.await_and_take(site, "model/openai", ["Ready", "False", "Pending"], "no data plane has the change yet").await;
    data_planes[0].daemon.process().thaw();
    let partly = ["Ready", "False", "PartiallyProgrammed"];
    album.await_and_take(site, "model/openai", partly, "some data planes have the change").await;
    data_planes[1].daemon.process().thaw();
    album.await_and_take(site, "model/openai", READY, "all data planes have the change").await;

    operator.daemon.stop();
    change(2048);
    album.take(site, "model/openai", "it was changed while no operator runs");
    album
}

/// A line of the table.
fn row(state: &str, object: &Value, script: &str, expressions: &[(String, Expressions)]) -> String {
    let kind = object["kind"].as_str().expect("an object has a kind");
    let ready = condition(object, "Ready").map_or_else(
        || "absent".to_owned(),
        |ready| {
            format!(
                "{} `{}`",
                ready["status"].as_str().unwrap_or_default(),
                ready["reason"].as_str().unwrap_or_default()
            )
        },
    );
    let own = expressions.iter().find(|(of, _)| of == kind);
    let told = own.map_or_else(|| "by its chart".to_owned(), |(_, expressions)| expressions.judge(object).to_string());
    let argo = argo::health(script, object);
    assert!(
        argo.status == "Healthy" || !argo.message.is_empty(),
        "{state}: a person is told why it is {}",
        argo.status
    );
    format!("| {kind}: {state} | {ready} | {} | {} | {told} |\n", argo.status, flux::kstatus(object))
}

/// The headings of the page that are reasons.
fn documented() -> BTreeSet<String> {
    let page = fs::read_to_string(example().join("../../docs/troubleshooting.md")).expect("the page is there");
    page.lines().filter_map(|line| line.strip_prefix("### ")).map(str::to_owned).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn argo_and_flux_judge_every_state_that_an_operator_writes() {
    let Some(site) = Site::shared().await else { return };
    let album = provoke(&site).await;

    let page = documented();
    assert_eq!(
        album.reasons(),
        page.iter().map(String::as_str).collect(),
        "what occurs (left) is what the page explains"
    );

    let kustomization: Value = serde_saphyr::from_str(&file("flux/manifests.yaml")).expect("it is YAML");
    let items = kustomization["spec"]["healthCheckExprs"].as_array().expect("there are expressions").iter();
    let named =
        |item: &Value| (item["kind"].as_str().expect("they are for a kind").to_owned(), Expressions::read(item));
    let expressions: Vec<_> = items.map(named).collect();
    assert_eq!(
        expressions.iter().map(|(kind, _)| kind.as_str()).collect::<Vec<_>>(),
        ["Host", "HostKey", "Model", "Policy", "RelayKey"]
    );

    let script = file("argocd/argocd-health.lua");
    let mut table = "<!-- verdicts -->\n| object | Ready | Argo CD | Flux, by kstatus | Flux, by the expressions |\n|---|---|---|---|---|\n".to_owned();
    for (state, object) in &album.0 {
        table += &row(state, object, &script, &expressions);
    }
    let readme = file("README.md");
    let (start, end) =
        (readme.find("<!-- verdicts -->").expect("a mark"), readme.find("<!-- end -->").expect("a mark"));
    if std::env::var_os("RELAY_BLESS").is_some() {
        let text = format!("{}{table}{}", &readme[..start], &readme[end..]);
        fs::write(example().join("README.md"), text).expect("the README is writable");
        return;
    }
    assert_eq!(&readme[start..end], table, "the README is stale: run this test with RELAY_BLESS=1, and read the table");
}
