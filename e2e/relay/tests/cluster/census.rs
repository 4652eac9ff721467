//! All objects of an installation as they are stored, and what is said on them.

use std::{
    fmt,
    time::{Duration, Instant},
};

use futures::{StreamExt, TryStreamExt};
use kube::{
    Api, Client,
    api::{ApiResource, DynamicObject, GroupVersionKind, ListParams, PostParams},
};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// The kinds that requests are answered by.
pub(crate) const KINDS: [&str; 5] = ["Host", "HostKey", "Model", "Policy", "RelayKey"];

/// How long a change of thousands of objects may take until all is said of it. Far more than it does.
const PATIENCE: Duration = Duration::from_secs(180);

/// Whether tests run at the size that their promises are about, which takes minutes.
pub(crate) fn is_full() -> bool {
    std::env::var_os("RELAY_E2E_FULL").is_some_and(|value| value == "1")
}

/// The objects of one kind.
pub(crate) fn api(client: &Client, namespace: &str, kind: &str) -> Api<DynamicObject> {
    let plural = match kind {
        "Policy" => "policies".to_owned(),
        other => format!("{}s", other.to_lowercase()),
    };
    let kind = GroupVersionKind::gvk("llmrelay.io", "v1alpha1", kind);
    Api::namespaced_with(client.clone(), namespace, &ApiResource::from_gvk_with_plural(&kind, &plural))
}

/// What is said on an object at a moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    pub(crate) object: String,
    pub(crate) uid: String,
    pub(crate) generation: i64,
    /// The generation that its status is about.
    pub(crate) observed: Option<i64>,
    /// Whether it is ready, and at which generation that was said.
    pub(crate) ready: Option<(bool, i64)>,
    /// All conditions, for people.
    conditions: Value,
}

impl Said {
    pub(crate) fn of(kind: &str, object: &DynamicObject) -> Self {
        let (metadata, status) = (&object.metadata, &object.data["status"]);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        let ready = conditions.iter().find(|condition| condition["type"] == "Ready");
        Self {
            object: format!("{kind}/{}", metadata.name.as_deref().unwrap_or_default()),
            uid: metadata.uid.clone().unwrap_or_default(),
            generation: metadata.generation.unwrap_or(0),
            observed: status["observedGeneration"].as_i64(),
            ready: ready
                .map(|ready| (ready["status"] == "True", ready["observedGeneration"].as_i64().unwrap_or_default())),
            conditions: status["conditions"].clone(),
        }
    }

    /// Whether all that is said is about the object as it is.
    pub(crate) fn is_current(&self) -> bool {
        let said = self.conditions.as_array().into_iter().flatten();
        let is_current = |condition: &Value| condition["observedGeneration"].as_i64() == Some(self.generation);
        self.observed == Some(self.generation) && self.ready.is_some() && said.into_iter().all(is_current)
    }

    pub(crate) fn is_ready(&self) -> bool {
        self.is_current() && self.ready.is_some_and(|(is_ready, _)| is_ready)
    }

    /// Reason and message of a condition.
    pub(crate) fn condition(&self, of: &str) -> Option<(&str, &str)> {
        let condition = self.conditions.as_array()?.iter().find(|condition| condition["type"] == of)?;
        Some((condition["reason"].as_str()?, condition["message"].as_str()?))
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, generation, observed, conditions, .. } = self;
        write!(f, "{object} at {generation}, said of {observed:?}: {conditions}")
    }
}

/// All objects of a namespace.
pub(crate) async fn all(client: &Client, namespace: &str) -> Vec<Said> {
    let mut said = Vec::new();
    for kind in KINDS {
        let list = api(client, namespace, kind).list(&ListParams::default()).await.expect("objects are listed");
        said.extend(list.items.iter().map(|object| Said::of(kind, object)));
    }
    said
}

/// Waits until each object is as it should be: ready, unless `else_is` takes it as it is.
pub(crate) async fn converged(client: &Client, namespace: &str, else_is: impl Fn(&Said) -> bool) -> Vec<Said> {
    let begun = Instant::now();
    loop {
        let all = all(client, namespace).await;
        let late: Vec<&Said> = all.iter().filter(|said| !said.is_ready() && !else_is(said)).collect();
        if late.is_empty() {
            return all;
        }
        let shown: Vec<String> = late.iter().take(5).map(ToString::to_string).collect();
        assert!(begun.elapsed() < PATIENCE, "{} objects are not ready:\n{}", late.len(), shown.join("\n"));
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Creates objects, many at a time.
pub(crate) async fn create(client: &Client, namespace: &str, objects: Vec<Value>) {
    const AT_ONCE: usize = 32;
    let created = objects.into_iter().map(|object| async move {
        let object: DynamicObject = serde_json::from_value(object).expect("it is an object");
        let kind = object.types.clone().expect("it says its kind").kind;
        api(client, namespace, &kind).create(&PostParams::default(), &object).await
    });
    let done: Result<Vec<_>, _> = futures::stream::iter(created).buffer_unordered(AT_ONCE).try_collect().await;
    done.expect("objects are created");
}

fn object(kind: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": "llmrelay.io/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec})
}

/// A Host that speaks OpenAI's shape.
pub(crate) fn host(name: &str, url: &str) -> Value {
    let network = json!({"allowPrivateAddresses": true});
    object("Host", name, json!({"protocol": "OpenAI", "baseURL": url, "allowPlaintext": true, "network": network}))
}

/// A HostKey with the entry `key` of a Secret.
pub(crate) fn host_key(name: &str, host: &str, secret: &str) -> Value {
    let source = json!({"secretKeyRef": {"name": secret, "key": "key"}});
    object("HostKey", name, json!({"hostRef": {"name": host}, "source": source}))
}

/// A Model at one Host.
pub(crate) fn model(name: &str, host: &str) -> Value {
    let binding = json!({"name": "only", "hostRef": {"name": host}, "upstreamModel": "demo"});
    object("Model", name, json!({"hosts": [binding], "maxOutputTokens": 4096}))
}

/// A Policy that grants these models.
pub(crate) fn policy(name: &str, models: &[&str]) -> Value {
    object("Policy", name, json!({"models": {"allow": models}}))
}

/// A RelayKey with a token of its own making.
pub(crate) fn relay_key(name: &str, policy: &str, token: &str) -> Value {
    let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02x}")).collect();
    let spec = json!({"policyRefs": [{"name": policy}], "tokenHash": format!("sha256:{hash}")});
    object("RelayKey", name, spec)
}

/// A RelayKey whose token is minted into a Secret of its name.
pub(crate) fn minted_key(name: &str) -> Value {
    object("RelayKey", name, json!({"policyRefs": [{"name": "all"}], "secret": {"name": name}}))
}

/// A token that somebody made.
pub(crate) fn token(of: &str) -> String {
    format!("brought-token-of-{of}-0123456789abcdef")
}

/// Numbers that look random and are the same in each run.
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// One of the numbers below `sides`.
    pub(crate) fn below(&mut self, sides: u64) -> u64 {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % sides
    }
}
