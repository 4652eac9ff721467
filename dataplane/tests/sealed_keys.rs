//! Credentials that the operator never sees: sealed ones, and files and variables of the data plane. What cannot be used
//! is named to the operator, costs that key alone, and heals without a new table.

#[expect(dead_code, reason = "each file of tests uses a part of the harness")]
mod support;

use std::{fs, path::PathBuf};

use dataplane::{
    config::{Config, sealing::SealingConfig},
    sealing::{self, SealingKey},
};
use feed::sealed::{SealKey, open};
use prost::Message;
use support::{
    client::Ask,
    operator::{Follower, Operator, Site, ask, until},
    relay::config,
    tables::{Tables, named},
    upstream::Upstream,
    wire,
};
use table::{Credential, ObjectRef, Sealed, Secret, WireShape::OpenaiChat};

const CANARY: &str = "sk-canary-of-the-provider";
const OLD: [u8; 32] = *b"canary-old-canary-old-canary-old";
const NEW: [u8; 32] = *b"canary-new-canary-new-canary-new";

async fn upstream() -> Upstream {
    Upstream::start(|request| wire::good(OpenaiChat, request, "hi")).await
}

/// Where the data plane has its sealing keys.
struct Keys(PathBuf);

impl Keys {
    fn new(site: &Site) -> Self {
        let directory = site.path("sealing");
        fs::create_dir(&directory).unwrap();
        Self(directory)
    }

    /// As the kubelet does it: whole or not at all.
    fn put(&self, id: &str, bytes: &[u8]) {
        let hidden = self.0.join("..new");
        fs::write(&hidden, bytes).unwrap();
        fs::rename(hidden, self.0.join(id)).unwrap();
    }

    fn remove(&self, id: &str) {
        fs::remove_file(self.0.join(id)).unwrap();
    }

    fn config(&self) -> Config {
        let sealing = SealingConfig { directory: Some(self.0.clone()), ..SealingConfig::default() };
        Config { sealing, ..config() }
    }
}

/// The canary, sealed for HostKey `sealed` of Host `h`.
fn sealed(id: &str, key: [u8; 32]) -> Sealed {
    sealed_for(&named("sealed"), &named("h"), id, key)
}

fn sealed_for(host_key: &ObjectRef, host: &ObjectRef, id: &str, key: [u8; 32]) -> Sealed {
    let (value, key) = (Secret::new(CANARY.to_owned()), SealingKey::new(&key).unwrap());
    sealing::seal(&value, host_key, host, id, &key).unwrap()
}

/// Host `h` with HostKey `sealed`, which is drawn first, and HostKey `plain`; and a model that it serves.
fn tables(upstream: &Upstream, first: Credential) -> Tables {
    let mut tables = Tables::new().host("h", OpenaiChat, &upstream.url(), &["sealed", "plain"]).model("m", &["h"]);
    tables.credentials.host_keys.insert(named("sealed"), first);
    tables
}

/// Waits until the operator hears that `sealed` cannot be used, and gives why.
async fn fault(operator: &Operator, words: &str) -> String {
    let is_told = |pod: &feed::fleet::Pod| pod.rejections.iter().any(|one| one.message.contains(words));
    let pod = operator.pod(is_told).await;
    let [rejection] = &pod.rejections[..] else { panic!("{:?}", pod.rejections) };
    assert_eq!((rejection.key.as_str(), rejection.code.as_str()), ("team/sealed", "credential-unusable"));
    rejection.message.clone()
}

/// The credential that the upstream is shown.
async fn drawn(follower: &Follower, upstream: &Upstream) -> String {
    let answer = follower.ask("m").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    upstream.keys().pop().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_credential_reaches_the_upstream_alone() {
    let (site, upstream) = (Site::new(), upstream().await);
    let keys = Keys::new(&site);
    keys.put("old", &OLD);
    let operator = site.operator().await;
    let value = sealed("old", OLD);
    operator.publish(10, &tables(&upstream, Credential::Sealed(value.clone())));
    let follower = Follower::start_with(&site.follow(operator.address), keys.config()).await;
    follower.ready().await;
    let pod = operator.pod(|pod| pod.revision == 10).await;
    assert_eq!((drawn(&follower, &upstream).await.as_str(), pod.rejections.len()), (CANARY, 0));

    let standing = ask(follower.admin, &Ask::get("/debug/credentials")).await.json();
    let expected = serde_json::json!({"source": "sealed with old", "usable": true, "reason": null});
    assert_eq!(standing["hostKeys"]["team/sealed"], expected);
    assert_eq!(standing["sealingKeys"], serde_json::json!({"old": {"usable": true, "reason": null}}));
    for page in ["/debug/credentials", "/debug/table", "/debug/feed", "/metrics"] {
        let text = ask(follower.admin, &Ask::get(page)).await.text();
        assert!(!text.contains("canary"), "{page}: {text}");
    }

    follower.stop().await;
    let (_, body) = open(&fs::read(site.copy()).unwrap(), &SealKey::new(&[7; 32]).unwrap()).unwrap();
    let kept = body.encode_to_vec();
    let holds = |text: &str| kept.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(holds(&value.ciphertext) && !holds("canary"), "the copy holds the sealed value as it came");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_missing_costs_its_host_key_alone_and_is_healed_by_its_file() {
    let (site, upstream) = (Site::new(), upstream().await);
    let keys = Keys::new(&site);
    keys.put("old", &OLD);
    let operator = site.operator().await;
    operator.publish(10, &tables(&upstream, Credential::Sealed(sealed("new", NEW))));
    let follower = Follower::start_with(&site.follow(operator.address), keys.config()).await;
    follower.ready().await;
    let why = fault(&operator, "does not have").await;
    assert_eq!(why, "it is sealed with key `new`, which this data plane does not have; it has `old`");
    assert_eq!(drawn(&follower, &upstream).await, "plain");
    assert_eq!(follower.feed().await["rejections"][0]["key"], "team/sealed");
    let standing = ask(follower.admin, &Ask::get("/debug/credentials")).await.json();
    assert_eq!(standing["hostKeys"]["team/sealed"]["reason"], why.as_str());

    // Another key of that name opens nothing either.
    keys.put("new", &OLD);
    fault(&operator, "sealed with another key of that name").await;
    keys.put("new", &NEW);
    let pod = operator.pod(|pod| pod.rejections.is_empty()).await;
    assert_eq!((pod.revision, drawn(&follower, &upstream).await.as_str()), (10, CANARY));

    keys.remove("new");
    fault(&operator, "does not have").await;
    assert_eq!(drawn(&follower, &upstream).await, "plain");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_takes_over_from_another_without_a_gap() {
    let (site, upstream) = (Site::new(), upstream().await);
    let keys = Keys::new(&site);
    keys.put("old", &OLD);
    keys.put("new", &NEW);
    let operator = site.operator().await;
    let before = sealed("old", OLD);
    operator.publish(10, &tables(&upstream, Credential::Sealed(before.clone())));
    let follower = Follower::start_with(&site.follow(operator.address), keys.config()).await;
    follower.ready().await;
    assert_eq!(drawn(&follower, &upstream).await, CANARY);
    let [old, new] = [OLD, NEW].map(|key| SealingKey::new(&key).unwrap());
    let after = sealing::rewrap(&before, &named("sealed"), &old, "new", &new).unwrap();
    operator.publish(11, &tables(&upstream, Credential::Sealed(after)));
    let pod = operator.pod(|pod| pod.revision == 11).await;
    assert_eq!((pod.rejections.len(), drawn(&follower, &upstream).await.as_str()), (0, CANARY));
    keys.remove("old");
    until("the old key is gone", async || {
        let standing = ask(follower.admin, &Ask::get("/debug/credentials")).await.json();
        standing["sealingKeys"]["old"].is_null().then_some(())
    })
    .await;
    assert_eq!(drawn(&follower, &upstream).await, CANARY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sealed_value_of_another_object_is_refused_and_a_copy_is_opened_at_the_start() {
    let (site, upstream) = (Site::new(), upstream().await);
    let keys = Keys::new(&site);
    keys.put("old", &OLD);
    let operator = site.operator().await;
    let moved = sealed_for(&named("other"), &named("h"), "old", OLD);
    operator.publish(10, &tables(&upstream, Credential::Sealed(moved)));
    let follower = Follower::start_with(&site.follow(operator.address), keys.config()).await;
    follower.ready().await;
    fault(&operator, "for another HostKey or Host").await;
    let elsewhere = sealed_for(&named("sealed"), &named("other"), "old", OLD);
    let moved = Sealed { host: named("h"), ..elsewhere };
    operator.publish(11, &tables(&upstream, Credential::Sealed(moved)));
    operator.pod(|pod| pod.revision == 11).await;
    fault(&operator, "for another HostKey or Host").await;
    assert_eq!(drawn(&follower, &upstream).await, "plain");
    operator.publish(12, &tables(&upstream, Credential::Sealed(sealed("old", OLD))));
    operator.pod(|pod| pod.revision == 12 && pod.rejections.is_empty()).await;
    follower.stop().await;
    let address = operator.address;
    operator.kill().await;

    let follower = Follower::start_with(&site.follow(address), keys.config()).await;
    assert_eq!(drawn(&follower, &upstream).await, CANARY);
    follower.stop().await;
    keys.remove("old");
    let follower = Follower::start_with(&site.follow(address), keys.config()).await;
    assert_eq!(drawn(&follower, &upstream).await, "plain");
    assert_eq!(follower.feed().await["rejections"][0]["code"], "credential-unusable");
    keys.put("old", &OLD);
    until("it opens", async || follower.feed().await["rejections"][0].is_null().then_some(())).await;
    assert_eq!(drawn(&follower, &upstream).await, CANARY);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_missing_is_named_until_it_is_there_and_followed_when_it_changes() {
    let (site, upstream) = (Site::new(), upstream().await);
    let path = site.path("credential");
    let operator = site.operator().await;
    operator.publish(10, &tables(&upstream, Credential::File(path.display().to_string())));
    let follower = Follower::start(&site.follow(operator.address)).await;
    follower.ready().await;
    let why = fault(&operator, "cannot read").await;
    assert!(why.ends_with("there is no such file"), "{why}");
    assert_eq!(drawn(&follower, &upstream).await, "plain");

    fs::write(&path, format!("{CANARY}\n")).unwrap();
    let pod = operator.pod(|pod| pod.rejections.is_empty()).await;
    assert_eq!((pod.revision, drawn(&follower, &upstream).await.as_str()), (10, CANARY));
    fs::write(&path, "sk-rotated\n").unwrap();
    until("the file is read again", async || (drawn(&follower, &upstream).await == "sk-rotated").then_some(())).await;
    assert_eq!(operator.pod(|pod| pod.revision == 10).await.rejections, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_variable_that_is_not_set_is_named() {
    let (site, upstream) = (Site::new(), upstream().await);
    let operator = site.operator().await;
    operator.publish(10, &tables(&upstream, Credential::Env("RELAY_KEY_THAT_NOBODY_SET".into())));
    let follower = Follower::start(&site.follow(operator.address)).await;
    follower.ready().await;
    let why = fault(&operator, "is not set").await;
    assert_eq!(why, "the environment variable `RELAY_KEY_THAT_NOBODY_SET` is not set");
    assert_eq!(drawn(&follower, &upstream).await, "plain");
    // One that every process of these tests has.
    operator.publish(11, &tables(&upstream, Credential::Env("CARGO_PKG_NAME".into())));
    operator.pod(|pod| pod.revision == 11 && pod.rejections.is_empty()).await;
    assert_eq!(drawn(&follower, &upstream).await, env!("CARGO_PKG_NAME"));
}
