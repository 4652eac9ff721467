//! How long a change takes from the API server's answer until every data plane answers by it.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use futures::future::join_all;
use k8s_openapi::api::core::v1::Secret;
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use site::{Answer, Ask, Connection, DataPlane, PATIENCE, Site, Upstream, relay_key, routes, secret};

use crate::census::{self, Dice, is_full, token};

/// How much there is.
#[derive(Clone, Copy)]
struct Size {
    objects: usize,
    changes: usize,
    revocations: usize,
    /// How long 99 of a hundred changes, and revocations, may take; none: this run is no measurement.
    goals: Option<[Duration; 2]>,
}

impl Size {
    fn of_this_run() -> Self {
        let goals = Some([Duration::from_millis(300), Duration::from_secs(1)]);
        match is_full() {
            true => Self { objects: 2_000, changes: 200, revocations: 50, goals },
            false => Self { objects: 200, changes: 30, revocations: 10, goals: None },
        }
    }

    fn hosts(self) -> usize {
        self.objects / 100
    }

    fn models(self) -> usize {
        self.objects / 10
    }

    fn policies(self) -> usize {
        self.objects / 10
    }

    fn relay_keys(self) -> usize {
        self.objects - 2 * self.hosts() - self.models() - self.policies()
    }
}

/// Hosts with a HostKey each, Models at them, Policies that grant the Model `openai`, and RelayKeys of these in turns.
fn objects(size: Size, upstream: &str) -> Vec<Value> {
    let hosts = (0..size.hosts()).map(|n| census::host(&format!("host-{n}"), &format!("{upstream}/v1")));
    let host_keys = (0..size.hosts())
        .map(|n| census::host_key(&format!("host-{n}"), &format!("host-{n}"), &format!("provider-{n}")));
    let models =
        (0..size.models()).map(|n| census::model(&format!("model-{n}"), &format!("host-{}", n % size.hosts())));
    let policies = (0..size.policies()).map(|n| census::policy(&format!("policy-{n}"), &["openai"]));
    let keys = (0..size.relay_keys()).map(|n| {
        let name = format!("key-{n}");
        census::relay_key(&name, &format!("policy-{}", n % size.policies()), &token(&name))
    });
    hosts.chain(host_keys).chain(models).chain(policies).chain(keys).collect()
}

/// Durations, and what is to be said of many.
#[derive(Default)]
struct Times(Vec<Duration>);

impl Times {
    fn quantile(&self, permille: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort();
        sorted[(sorted.len() * permille).div_ceil(1000).saturating_sub(1)]
    }
}

impl fmt::Display for Times {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [p50, p90, p99, most] = [500, 900, 990, 1000].map(|permille| self.quantile(permille).as_secs_f64() * 1e3);
        let n = self.0.len();
        write!(f, "{n}: p50 {p50:.0} ms, p90 {p90:.0} ms, p99 {p99:.0} ms, max {most:.0} ms; of these")?;
        for bounds in [0, 10, 20, 40, 80, 160, 320, 640, u128::MAX].windows(2) {
            let within = self.0.iter().filter(|time| (bounds[0]..bounds[1]).contains(&time.as_millis())).count();
            if within > 0 {
                write!(f, " {within} from {} ms", bounds[0])?;
            }
        }
        Ok(())
    }
}

/// How long it takes from now until the last data plane answers like this.
async fn until_all_answer(pods: &[DataPlane], ask: &Ask, is_such: impl Fn(&Answer) -> bool) -> Duration {
    let begun = Instant::now();
    let looks = pods.iter().map(|pod| async {
        let mut connection = Connection::open(pod.address).await.expect("a data plane takes connections");
        loop {
            let answer = connection.ask(ask).await.expect("a data plane answers");
            if is_such(&answer) {
                return begun.elapsed();
            }
            assert!(begun.elapsed() < PATIENCE, "the answer stays {} {}", answer.status, answer.text());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    });
    join_all(looks).await.into_iter().max().expect("there are data planes")
}

async fn root(pod: &DataPlane) -> String {
    pod.feed().await["root"].as_str().expect("a table is in effect").to_owned()
}

/// How long it takes from now until the last data plane has another table than it had.
async fn until_all_have_another(pods: &[DataPlane], before: &[String]) -> Duration {
    let begun = Instant::now();
    let looks = pods.iter().zip(before).map(|(pod, before)| async move {
        while root(pod).await == *before {
            assert!(begun.elapsed() < PATIENCE, "the table stays the same");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        begun.elapsed()
    });
    join_all(looks).await.into_iter().max().expect("there are data planes")
}

/// A site with all objects, and somebody who changes them.
struct Changes<'a> {
    site: &'a Site<'a>,
    client: Client,
    pods: &'a [DataPlane],
    upstream: String,
    /// The token of a key that may use every model.
    all: String,
    size: Size,
    dice: Dice,
    made: usize,
}

impl Changes<'_> {
    async fn patch(&self, kind: &str, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({ "spec": spec }));
        let objects = census::api(&self.client, &self.site.namespace, kind);
        objects.patch(name, &PatchParams::default(), &patch).await.expect("an object is changed");
    }

    fn any(&mut self, many: usize) -> usize {
        usize::try_from(self.dice.below(many as u64)).expect("there are few objects")
    }

    /// Changes something, and gives its kind and how long it took until it was in effect everywhere.
    async fn one(&mut self) -> (&'static str, Duration) {
        self.made += 1;
        let made = self.made;
        match self.any(5) {
            0 => {
                let name = format!("late-{made}");
                let key = census::relay_key(&name, "policy-0", &token(&name));
                census::create(&self.client, &self.site.namespace, vec![key]).await;
                let ask = Ask::openai("openai", &token(&name));
                // Whatever policy-0 grants by now: the key is known.
                ("RelayKey", until_all_answer(self.pods, &ask, |answer| answer.status != 401).await)
            }
            1 => {
                // key-n is of policy-n, as long as there are more keys than policies.
                let n = 1 + self.any(self.size.policies() - 1);
                let ask = Ask::openai("openai", &token(&format!("key-{n}")));
                let is_granted = self.pods[0].ask(&ask).await.status == 200;
                let grant = if is_granted { "something-else" } else { "openai" };
                self.patch("Policy", &format!("policy-{n}"), json!({"models": {"allow": [grant]}})).await;
                let is_such = |answer: &Answer| (answer.status == 200) != is_granted;
                ("Policy", until_all_answer(self.pods, &ask, is_such).await)
            }
            2 => {
                let (n, alias) = (self.any(self.size.models()), format!("alias-{made}"));
                self.patch("Model", &format!("model-{n}"), json!({"aliases": [alias]})).await;
                let ask = Ask::openai(&alias, &self.all);
                ("Model", until_all_answer(self.pods, &ask, |answer| answer.status == 200).await)
            }
            3 => {
                let n = self.any(self.size.hosts());
                let before = join_all(self.pods.iter().map(root)).await;
                let url = format!("{}/v1?change={made}", self.upstream).replace("?change=", "/");
                self.patch("Host", &format!("host-{n}"), json!({"baseURL": url})).await;
                ("Host", until_all_have_another(self.pods, &before).await)
            }
            _ => {
                let n = self.any(self.size.hosts());
                let before = join_all(self.pods.iter().map(root)).await;
                let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.site.namespace);
                let patch = Patch::Merge(json!({"stringData": {"key": format!("sk-provider-{n}-{made}")}}));
                let name = format!("provider-{n}");
                secrets.patch(&name, &PatchParams::default(), &patch).await.expect("a Secret is changed");
                ("HostKey's Secret", until_all_have_another(self.pods, &before).await)
            }
        }
    }

    async fn revoke(&self, n: usize) -> Duration {
        let name = format!("key-{n}");
        self.patch("RelayKey", &name, json!({"revoked": true})).await;
        until_all_answer(self.pods, &Ask::openai("openai", &token(&name)), |answer| answer.status == 401).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_among_many_objects_are_soon_in_effect_and_a_broken_one_costs_only_itself() {
    let Some(site) = Site::shared().await else { return };
    let (size, upstream) = (Size::of_this_run(), Upstream::start().await);
    let client = site.plane.client().await;
    let _operators = site.operators(2, &[]).await;
    let mut pods = Vec::new();
    site.apply(&(routes(&upstream.url()) + &relay_key("all")));
    site.apply(&(0..size.hosts()).map(|n| secret(&format!("provider-{n}"), "key", "sk-provider")).collect::<String>());
    let begun = Instant::now();
    let broken = census::model("broken", "opnai");
    census::create(&client, &site.namespace, [objects(size, &upstream.url()), vec![broken]].concat()).await;
    println!("{} objects were created in {:?}", size.objects + 1, begun.elapsed());
    for n in 0..3 {
        pods.push(site.data_plane(&format!("pod-{n}")).await);
    }
    let is_broken = |said: &census::Said| said.object == "Model/broken" && said.is_current();
    let all = census::converged(&client, &site.namespace, is_broken).await;
    println!("all had their conditions after {:?}", begun.elapsed());
    let broken: Vec<_> = all.iter().filter(|said| !said.is_ready()).collect();
    assert_eq!(broken.len(), 1, "only the broken one is not ready");
    let (reason, why) = broken[0].condition("ResolvedRefs").expect("it is said");
    assert_eq!(reason, "RefNotFound");
    assert!(why.contains("opnai") && why.contains("spec.hosts"), "{why}");

    let all = site.secret("all", "token");
    let answer = pods[0].ask(&Ask::openai("broken", &all)).await;
    assert!(answer.status >= 400 && answer.text().contains("broken"), "{}", answer.text());
    let rows = async || join_all(pods.iter().map(async |pod| pod.feed().await["snapshotRows"].clone())).await;
    let rows_before = rows().await;

    let upstream = upstream.url();
    let mut changes =
        Changes { site: &site, client: client.clone(), pods: &pods, upstream, all, size, dice: Dice::new(3), made: 0 };
    let mut times: BTreeMap<&str, Times> = BTreeMap::new();
    for _ in 0..size.changes {
        let (kind, time) = changes.one().await;
        times.entry(kind).or_default().0.push(time);
        // Not always right after the one before, nor always after a pause.
        let pause = changes.dice.below(60);
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
    times.iter().for_each(|(kind, times)| println!("{kind}: {times}"));
    let changed = Times(times.into_values().flat_map(|times| times.0).collect());
    println!("changes: {changed}");
    let mut revoked = Times::default();
    for n in 0..size.revocations {
        // Some that no other change was about.
        revoked.0.push(changes.revoke(size.policies() + n).await);
    }
    println!("revocations: {revoked}");

    assert_eq!(rows().await, rows_before, "changes arrive as changes, and nothing is sent whole again");
    census::converged(&client, &site.namespace, |said| {
        is_broken(said) || said.is_current() && said.condition("Revoked").is_some()
    })
    .await;
    if let Some([change, revocation]) = size.goals {
        assert!(changed.quantile(990) < change, "99 of 100 changes take less than {change:?}");
        assert!(revoked.quantile(990) < revocation, "99 of 100 revocations take less than {revocation:?}");
    }
}
