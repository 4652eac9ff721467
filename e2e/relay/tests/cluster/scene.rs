//! What most tests begin with: two replicas of the operator, data planes, and routes to an upstream.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use kube::{
    Api,
    api::{ApiResource, DynamicObject, GroupVersionKind},
};
use site::{Answer, Ask, Connection, DataPlane, Operator, PATIENCE, Site, Upstream, relay_key, routes, until};
use tokio::time::{sleep, timeout};

use crate::census::is_full;

/// How many operators run.
pub(crate) const REPLICAS: usize = 2;

/// A site in which everything runs and is ready. Fields end in this order.
pub(crate) struct Scene {
    pub(crate) data_planes: Vec<DataPlane>,
    pub(crate) _operators: Vec<Operator>,
    pub(crate) upstream: Upstream,
    pub(crate) site: Site<'static>,
}

impl Scene {
    /// With so many data planes; `None` where the environment asks for no cluster.
    pub(crate) async fn new(data_planes: usize) -> Option<Self> {
        let site = Site::shared().await?;
        let upstream = Upstream::start().await;
        let operators = site.operators(REPLICAS, &[]).await;
        site.apply(&routes(&upstream.url()));
        let mut started = Vec::new();
        for number in 0..data_planes {
            started.push(site.data_plane(&format!("pod-{number}")).await);
        }
        Some(Self { data_planes: started, _operators: operators, upstream, site })
    }

    /// Makes a RelayKey, waits until it is ready, and gives its token.
    pub(crate) fn key(&self, name: &str) -> String {
        self.site.apply(&relay_key(name));
        self.site.wait("Ready", &[&format!("relaykey/{name}")]);
        self.site.secret(name, "token")
    }

    /// The RelayKeys, for what must not take as long as `kubectl` takes to start.
    pub(crate) async fn keys(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("llmrelay.io", "v1alpha1", "RelayKey");
        let resource = ApiResource::from_gvk_with_plural(&kind, "relaykeys");
        Api::namespaced_with(self.site.plane.client().await, &self.site.namespace, &resource)
    }

    /// What each data plane answers to a request in OpenAI's shape with this token.
    pub(crate) async fn answers(&self, token: &str) -> Vec<Answer> {
        let mut answers = Vec::new();
        for data_plane in &self.data_planes {
            answers.push(data_plane.ask(&Ask::openai("openai", token)).await);
        }
        answers
    }

    /// Waits until each data plane answers with this status.
    pub(crate) async fn all_answer(&self, token: &str, status: u16) {
        for data_plane in &self.data_planes {
            let what = format!("{} answers {status}", data_plane.pod.name);
            let ask = Ask::openai("openai", token);
            until(&what, async || (data_plane.ask(&ask).await.status == status).then_some(())).await;
        }
    }

    /// Does something, and says for each data plane how long after it had begun the first answer had this status. Up to
    /// then nothing but 200 is answered.
    pub(crate) async fn times(&self, token: &str, status: u16, act: impl AsyncFnOnce()) -> Vec<Duration> {
        let begin = Instant::now();
        let watching = self.data_planes.iter().map(|data_plane| {
            let first = first(data_plane.address, Ask::openai("openai", token), status);
            tokio::spawn(timeout(PATIENCE, first))
        });
        let watching: Vec<_> = watching.collect();
        let lead = begin.elapsed();
        act().await;
        let mut times = Vec::new();
        for watch in watching {
            times.push(
                watch
                    .await
                    .expect("only 200 is answered before")
                    .expect("it happens")
                    .duration_since(begin)
                    .saturating_sub(lead),
            );
        }
        times
    }

    /// The Events of this reason, as the names of what they are about.
    pub(crate) fn events(&self, reason: &str) -> Vec<String> {
        let list = self.site.get("events.events.k8s.io");
        let events = list["items"].as_array().expect("a list has items").iter();
        let events = events.filter(|event| event["reason"] == reason);
        events.map(|event| event["regarding"]["name"].as_str().expect("it is about something").to_owned()).collect()
    }

    /// Waits until an Event of this reason is about an object.
    pub(crate) async fn event(&self, reason: &str, name: &str) {
        let what = format!("an Event {reason} is about {name}");
        until(&what, async || self.events(reason).iter().any(|about| about == name).then_some(())).await;
    }

    /// The reason and message of a condition.
    pub(crate) fn condition(&self, object: &str, of: &str) -> (String, String) {
        let object = self.site.get(object);
        let conditions = object["status"]["conditions"].as_array().expect("there are conditions").iter();
        let found =
            conditions.into_iter().find(|condition| condition["type"] == of).expect("all conditions are written");
        let text = |field: &str| found[field].as_str().expect("a condition has words").to_owned();
        (text("reason"), text("message"))
    }
}

/// When the first answer had this status.
async fn first(address: SocketAddr, ask: Ask, status: u16) -> Instant {
    let mut connection = Connection::open(address).await.expect("the data plane runs");
    loop {
        let answer = connection.ask(&ask).await.expect("the data plane answers");
        if answer.status == status {
            return Instant::now();
        }
        assert_eq!(answer.status, 200, "{}", answer.text());
        sleep(Duration::from_millis(2)).await;
    }
}

/// Says how long the slowest data plane took in each round. Fails where that was over a second each time; where this is a
/// measurement, and not a machine that is busy with other things, at any time.
pub(crate) fn within_a_second(what: &str, rounds: &[Vec<Duration>]) {
    let slowest = || rounds.iter().flat_map(|times| times.iter().max());
    let millis: Vec<_> = slowest().map(Duration::as_millis).collect();
    println!("{what}, the slowest of each round, in ms: {millis:?}");
    let counts = if is_full() { slowest().max() } else { slowest().min() };
    assert!(counts.is_some_and(|time| *time < Duration::from_secs(1)), "{what} took, in ms: {millis:?}");
}
