//! Breakers that another process has opened, as the call that decides a request meets them.

use std::sync::Arc;

use protocol::WireShape;
use table::ObjectRef;
use tokio::time::Instant;

use super::{
    super::{Redis, Settings, fleet, keys::Keys, script::Time},
    books,
    places::{Place, Standalone},
};
use crate::{
    breaker::Phase,
    heal::{self, Ward},
    limit::{
        Limiter,
        claims::{BreakerClaim, CandidateClaim, Claims, ScopeClaim},
        rule::Scope,
    },
    pool::signals::Signals,
    upstream::credentials::Keyring,
    world::{World, build::Tables},
};

/// A process with two host keys in the relay key's namespace, whose limits the same call decides.
struct Process {
    redis: Redis,
    signals: Arc<Signals>,
    wards: Vec<Ward>,
    breakers: String,
}

impl Process {
    async fn start(prefix: &str) -> Self {
        let settings = Settings { prefix: prefix.to_owned(), time: Time::Redis, records: None };
        let signals = Arc::new(Signals::new());
        let redis = Redis::start(Standalone::shared().target(), &settings, &books(), signals.clone()).await;
        let redis = redis.expect("the target is whole");
        let tables = Tables::new().bare_host("team/h", WireShape::OpenaiChat);
        let tables = tables.host_key("team/a", "team/h", |_| ()).host_key("team/b", "team/h", |_| ());
        let keyring = Keyring::new(&tables.credentials);
        let mut wards = heal::wards(&World::load(tables.table, tables.credentials), &keyring);
        wards.sort_by(|one, other| one.name.cmp(&other.name));
        redis.inner.fleet.know(&wards);
        Self { redis, signals, wards, breakers: Keys::new(prefix).breakers("team") }
    }

    /// Another process finds the first key refused, for so many milliseconds from now. It leaves the version alone, so
    /// that no exchange tells of it.
    fn opened_elsewhere(&self, for_ms: i64) {
        let server = Standalone::shared().serving("team");
        let now: i64 = server.cli(&["EVAL", "return redis.call('TIME')[1]", "0"]).parse().expect("a number");
        let (field, until) = (fleet::field(self.wards[0].hash()), now * 1_000 + for_ms);
        server.cli(&["HSET", &self.breakers, &field, &format!("o {until} auth@{}", now * 1_000)]);
    }

    /// The candidates that a request gets which may turn to the first keys, in order.
    async fn candidates(&self, keys: usize) -> Vec<usize> {
        let candidate = |ward: &Ward| CandidateClaim {
            breaker: Some(BreakerClaim { domain: "team".into(), key: ward.hash() }),
            scopes: vec![slots(Scope::HostKey(ward.name.clone()))],
        };
        let candidates: Vec<_> = self.wards[..keys].iter().map(candidate).collect();
        let scopes = vec![slots(Scope::RelayKey(ObjectRef::new("team", "app")))];
        let claims = Claims { domain: "team".into(), scopes, max_candidates: keys, candidates };
        let reservation = self.redis.reserve(claims).await.expect("there is room");
        assert!(!reservation.is_degraded());
        reservation.candidates().to_vec()
    }

    fn is_out(&self) -> bool {
        let phase = self.signals.key(self.wards[0].hash()).phase(Instant::now().into_std());
        matches!(phase, Phase::Open { .. })
    }
}

fn slots(scope: Scope) -> ScopeClaim {
    ScopeClaim { concurrency: Some(100), ..ScopeClaim::new(Arc::new(scope)) }
}

#[tokio::test]
async fn a_key_that_another_process_took_out_is_no_candidate_and_is_known_to_be_out_from_then_on() {
    let process = Process::start("breakers-1").await;
    assert_eq!((process.candidates(2).await, process.is_out()), (vec![0, 1], false));
    process.opened_elsewhere(60_000);
    assert_eq!((process.candidates(2).await, process.is_out()), (vec![1], true));
}

#[tokio::test]
async fn where_no_other_key_is_left_it_is_tried() {
    let process = Process::start("breakers-2").await;
    process.opened_elsewhere(60_000);
    assert_eq!(process.candidates(1).await, [0]);
}

#[tokio::test]
async fn a_breaker_whose_time_is_over_keeps_nobody_out() {
    let process = Process::start("breakers-3").await;
    process.opened_elsewhere(-1);
    assert_eq!(process.candidates(2).await, [0, 1]);
}
