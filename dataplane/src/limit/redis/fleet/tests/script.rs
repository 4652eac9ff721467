//! `breakers.lua` and leases of probes against a real server.

use servers::Redis;

use super::*;
use crate::limit::redis::{
    fleet::probes::Probes,
    keys::Keys,
    script::{Script, Time},
    store::{
        Store,
        target::{Address, Target},
    },
};

const CLOCK: &str = "clock:";

fn script() -> Script {
    let call = "local ask = cmsgpack.unpack(ARGV[1]) return cmsgpack.pack(exchange_breakers(KEYS[1], ask[1], ask[2]))";
    let text = concat!(include_str!("../../lua/breakers.lua"), "\n").to_owned() + call;
    Time::Key { prefix: CLOCK.to_owned() }.script("breakers", &text)
}

async fn store(server: &Redis) -> Store {
    let address = Address::new(server.address().ip().to_string(), server.address().port());
    let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
    let store = Store::new(target, vec![script()]).unwrap();
    store.revive().await.unwrap();
    store
}

fn set_clock(server: &Redis, now: Millis) {
    server.cli(&["SET", &format!("{CLOCK}{{catalog}}"), &now.to_string()]);
}

async fn exchange(store: &Store, told: &News) -> News {
    let argument = rmp_serde::to_vec(&told).unwrap();
    let key = Keys::new("relay").breakers("catalog");
    let mut news: News = rmp_serde::from_slice(&store.eval(&script(), &[key], &argument).await.unwrap()).unwrap();
    news.records.sort();
    news
}

fn record() -> impl Strategy<Value = (String, String)> {
    let key = select(vec!["a", "b", "c"]).prop_map(str::to_owned);
    let opened = (select(Class::ALL.to_vec()), 0..4_u64, 1..4_u64).prop_map(|(class, at, ends)| Record::Opened {
        at: BEGIN + at,
        until: BEGIN + ends,
        class,
    });
    let closed = (0..4_u64).prop_map(|at| Record::Closed { at: BEGIN + at });
    (key, prop_oneof![2 => opened, 1 => closed].prop_map(|record| record.to_string()))
}

#[test]
fn the_script_keeps_what_stands_of_what_it_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let server = Redis::start();
    let store = runtime.block_on(store(&server));
    set_clock(&server, BEGIN);
    let told = prop::collection::vec(prop::collection::vec(record(), 0..3), 1..12);
    proptest!(ProptestConfig::with_cases(100), |(told in told)| {
        server.cli(&["DEL", &Keys::new("relay").breakers("catalog")]);
        let (mut register, mut versions) = (Register::default(), [0, 0]);
        for records in told {
            let expected = register.exchange(&News { version: versions[0], records: records.clone() });
            let news = runtime.block_on(exchange(&store, &News { version: versions[1], records }));
            let mut records = expected.records;
            records.sort();
            prop_assert_eq!(&news.records, &records);
            prop_assert_eq!(news.version == versions[1], expected.version == versions[0], "it changes with the records");
            versions = [expected.version, news.version];
        }
    });
}

#[tokio::test]
async fn no_version_comes_twice_and_what_is_old_is_forgotten() {
    let server = Redis::start();
    let store = store(&server).await;
    set_clock(&server, BEGIN);
    let (old, new) = (("a".to_owned(), format!("c {BEGIN}")), ("b".to_owned(), format!("o {} auth@9", BEGIN + 1)));
    let told = News { version: 0, records: vec![old.clone()] };
    let first = exchange(&store, &told).await;
    assert_eq!(first, News { version: BEGIN, records: vec![old] });
    // Lost, and told again later.
    server.cli(&["DEL", &Keys::new("relay").breakers("catalog")]);
    set_clock(&server, BEGIN + 1);
    let second = exchange(&store, &told).await;
    assert_eq!((second.version, &second.records), (BEGIN + 1, &first.records));
    // More than a day after the closing, and less than one after the opening.
    set_clock(&server, BEGIN + 24 * 60 * 60 * 1000 + 1);
    let third = exchange(&store, &News { version: second.version, records: vec![new.clone()] }).await;
    assert_eq!(third.records, [new]);
    let nothing = News { version: third.version, records: Vec::new() };
    assert_eq!(exchange(&store, &nothing).await, nothing);
}

#[tokio::test]
async fn one_process_probes_an_opening_and_all_do_while_redis_is_away() {
    let (server, wards) = (Redis::start(), wards());
    let store = store(&server).await;
    let replicas = [0, 0].map(|ahead| Arc::new(Replica::new(&wards, ahead).fleet));
    let probes = ["one", "other"]
        .iter()
        .zip(&replicas)
        .map(|(process, fleet)| Probes::new(fleet.clone(), store.clone(), Keys::new("relay"), Arc::from(*process)));
    let [one, other] = probes.collect::<Vec<_>>().try_into().ok().unwrap();
    let probe = |key: usize, purpose| {
        let lease = Duration::from_secs(60);
        Probe { domain: "catalog".into(), key: wards[key].hash(), purpose, lease }
    };
    assert!(one.lease(&probe(0, Purpose::Heal)).await);
    assert!(!other.lease(&probe(0, Purpose::Heal)).await);
    assert!(other.lease(&probe(0, Purpose::Check)).await);
    assert!(other.lease(&probe(1, Purpose::Heal)).await);
    // The next opening of the key is another one.
    let until = BEGIN + 5000;
    let breaker = BreakerClaim { domain: "catalog".into(), key: wards[0].hash() };
    replicas.iter().for_each(|fleet| fleet.heard(&breaker, &format!("serverError@{BEGIN}"), until));
    assert!(other.lease(&probe(0, Purpose::Heal)).await);
    assert!(!one.lease(&probe(0, Purpose::Heal)).await);
    let left: u64 = {
        let name = replicas[0].probe_name(&probe(0, Purpose::Heal));
        server.cli(&["PTTL", &Keys::new("relay").probe("catalog", &name)]).trim().parse().unwrap()
    };
    assert!((50_000..=60_000).contains(&left), "{left}");
    server.kill();
    for process in [&one, &other] {
        assert!(process.lease(&probe(0, Purpose::Heal)).await);
    }
}
