//! A real Redis, with the script: on a clock that tests move, and on its own.

use std::{
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use servers::Redis;
use table::Period;
use tokio::{
    runtime::{Builder, Runtime},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{Fleet, at, host_key, used};
use crate::{
    limit::{
        counter::Outcome,
        redis::{
            clock::RedisClock,
            health::Units,
            keys::Keys,
            link::{Link, trial},
            script::{Script, Scripts, Time},
            shares::{Shares, Short, World, by},
            store::{
                Store,
                target::{Address, Target},
            },
        },
        rule::Rule,
        window::Millis,
    },
    metrics::Metrics,
};

const CLOCK: &str = "clock:";

/// A server whose clock is moved before each call.
pub(super) struct Server {
    runtime: Runtime,
    redis: Redis,
    store: Store,
    exchange: Script,
    tell: Script,
}

impl Server {
    pub(super) fn start() -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime is built");
        let redis = Redis::start();
        let exchange = Scripts::new(&Time::Key { prefix: CLOCK.to_owned() }).exchange;
        let tell = Script::new("tell", "redis.call('SET', KEYS[1], ARGV[1]) return ''".to_owned());
        let store = runtime.block_on(connected(&redis, vec![exchange.clone(), tell.clone()]));
        Self { runtime, redis, store, exchange, tell }
    }

    /// Forgets everything.
    pub(super) fn clear(&self) {
        self.redis.cli(&["FLUSHALL"]);
    }

    pub(super) fn call(&self, keys: &[String], argument: &[u8], now: Millis) -> Vec<u8> {
        let clock = [format!("{CLOCK}{{catalog}}")];
        let answer = self.runtime.block_on(async {
            self.store.eval(&self.tell, &clock, now.to_string().as_bytes()).await?;
            self.store.eval(&self.exchange, keys, argument).await
        });
        answer.expect("redis answers")
    }
}

/// Scopes and slots on a real server beside the plain one.
fn fleet(processes: usize) -> (Fleet, Rc<Server>) {
    let server = Rc::new(Server::start());
    (Fleet { server: Some(server.clone()), ..Fleet::of(processes) }, server)
}

#[test]
fn thousands_of_requests_in_flight_are_told_and_taken_back() {
    let (mut fleet, server) = fleet(2);
    let claim = [host_key("k").with_slots(100_000)];
    let slots = Keys::new("relay").slots(&claim[0].scope);
    let charges: Vec<_> = (0..3_000).map(|_| fleet.shares(0).take(&claim)).collect();
    fleet.exchange(0);
    fleet.used(1, &claim);
    fleet.exchange(1);
    assert_eq!(fleet.used(1, &claim), [(Rule::Concurrency, 3_000)]);
    // Where `reserve.lua` finds them too.
    assert_eq!(server.redis.cli(&["ZCARD", &slots]), "3000");
    charges.iter().for_each(|charges| fleet.shares(0).conclude(charges, Outcome::NeverRan));
    fleet.exchange(0);
    assert_eq!(server.redis.cli(&["EXISTS", &slots]), "0");
}

#[test]
fn a_redis_that_lost_its_data_is_told_of_all_requests_in_flight() {
    let (mut fleet, _) = fleet(2);
    let claim = [host_key("k").with_slots(10)];
    (0..3).for_each(|_| drop(fleet.shares(0).take(&claim)));
    fleet.exchange(0);
    fleet.lose();
    fleet.shares(0).take(&claim);
    fleet.exchange(0);
    fleet.used(1, &claim);
    fleet.exchange(1);
    assert_eq!(fleet.used(1, &claim), [(Rule::Concurrency, 4)]);
}

#[test]
fn what_open_requests_may_still_give_back_is_told_with_what_they_took() {
    let (mut fleet, server) = fleet(1);
    let claim = [host_key("k").with_tokens(1_000, 50).with_budget(Period::Total, 100, 40)];
    let held = || {
        let script = "local all = cmsgpack.unpack(redis.call('GET', KEYS[1])) \
                      return all.tokens_per_minute[4] .. ' ' .. all.budget_total[4]";
        server.redis.cli(&["EVAL", script, "1", &Keys::new("relay").scope(&claim[0].scope)])
    };
    let charges = fleet.shares(0).take(&claim);
    fleet.exchange(0);
    assert_eq!(held(), "50 40");
    fleet.shares(0).conclude(&charges, Outcome::Used(used(70, 10)));
    fleet.exchange(0);
    assert_eq!(held(), "0 0");
}

/// What four processes do to a budget of 10,000 with 100 clients that want one each for as long as they get one.
struct Rush {
    admitted: usize,
    calls: usize,
}

impl Rush {
    const LIMIT: u64 = 10_000;
    const PROCESSES: usize = 4;

    async fn run(live: u32) -> Self {
        let redis = Redis::start();
        let calls = Arc::new(AtomicUsize::new(0));
        let stop = CancellationToken::new();
        let mut clients = JoinSet::new();
        for number in 0..Self::PROCESSES {
            let shares = process(&redis, number, live, calls.clone()).await;
            tokio::spawn(shares.clone().run(stop.clone()));
            (0..25).for_each(|_| drop(clients.spawn(client(shares.clone()))));
        }
        let admitted = clients.join_all().await.into_iter().sum();
        stop.cancel();
        Self { admitted, calls: calls.load(Ordering::Relaxed) }
    }

    /// Checks the bound that the documentation of shares gives.
    fn check(&self) {
        let (limit, others) = (Self::LIMIT as usize, Self::PROCESSES - 1);
        let Self { admitted, calls } = self;
        println!("{admitted} of {limit} were admitted with {calls} calls");
        assert!(*admitted >= limit, "nobody was refused while there was room");
        assert!(*admitted <= limit + others * limit / 20);
        assert!(calls * 10 < *admitted, "a call serves ten requests at least");
    }
}

/// A process with a connection of its own.
async fn process(redis: &Redis, number: usize, live: u32, calls: Arc<AtomicUsize>) -> Arc<Shares> {
    let exchange = Scripts::new(&Time::Redis).exchange;
    let store = connected(redis, vec![exchange.clone(), trial()]).await;
    let link = Arc::new(Link::new(store, Units::One, Keys::new("relay"), Arc::new(Metrics::new())));
    link.connect().await;
    let (call, clock) = (by(link, exchange), Arc::new(RedisClock::new()));
    let told = clock.clone();
    Arc::new(Shares::new(World {
        keys: Keys::new("relay"),
        process: format!("p{number}"),
        now: Box::new(move || at(clock.millis())),
        told: Box::new(move |now| told.heard(now)),
        live: Box::new(move || live),
        call: Box::new(move |domain, keys, argument| {
            calls.fetch_add(1, Ordering::Relaxed);
            call(domain, keys, argument)
        }),
        fleet: None,
    }))
}

/// Takes until it is refused. Returns how often it was admitted.
async fn client(shares: Arc<Shares>) -> usize {
    let claim = [host_key("k").with_budget(Period::Total, Rush::LIMIT, 1)];
    let mut admitted = 0;
    loop {
        match shares.admit(&claim) {
            Ok(charges) => {
                admitted += 1;
                tokio::task::yield_now().await;
                shares.conclude(&charges, Outcome::Used(used(0, 1)));
            }
            Err(Short::Stale(domains)) => {
                for domain in domains {
                    shares.refresh(&domain).await.expect("redis answers");
                }
            }
            Err(Short::Refused(_)) => return admitted,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn four_processes_exceed_a_leased_budget_by_three_shares_at_most_and_refuse_nobody_in_vain() {
    for live in [1, Rush::PROCESSES as u32] {
        Rush::run(live).await.check();
    }
}

/// A store that is connected, and patient: the machine may be busy.
async fn connected(redis: &Redis, scripts: Vec<Script>) -> Store {
    let address = Address::new(redis.address().ip().to_string(), redis.address().port());
    let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
    let store = Store::new(target, scripts).expect("the target is whole");
    store.revive().await.expect("redis answers");
    store
}
