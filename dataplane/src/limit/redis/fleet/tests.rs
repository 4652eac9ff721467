mod live;
mod script;

use proptest::{prelude::*, sample::select};
use protocol::WireShape;
use table::Breaker;

use super::*;
use crate::{
    breaker::{
        Phase,
        outcome::{Class, Horizon, Outcome, Side},
    },
    heal,
    upstream::credentials::Keyring,
    world::{
        World,
        build::{Tables, id},
    },
};

/// The clock of Redis when a test begins.
const BEGIN: Millis = 1_800_000_000_000;

/// What is kept in Redis of one namespace, as `breakers.lua` does it.
#[derive(Default)]
struct Register {
    version: u64,
    records: HashMap<String, String>,
}

impl Register {
    fn exchange(&mut self, told: &News) -> News {
        for (field, record) in &told.records {
            let known = self.records.get(field).map(|known| Record::read(known).unwrap());
            let record = Record::read(record).unwrap();
            let stands = known.map_or(record, |known| known.join(record));
            if known != Some(stands) {
                self.records.insert(field.clone(), stands.to_string());
                self.version += 1;
            }
        }
        let all = self.records.iter().map(|(field, record)| (field.clone(), record.clone()));
        let is_known = told.version == self.version;
        News { version: self.version, records: if is_known { Vec::new() } else { all.collect() } }
    }
}

/// A process.
struct Replica {
    signals: Arc<Signals>,
    fleet: Fleet,
}

impl Replica {
    /// One whose guess of Redis' clock is so many milliseconds ahead.
    fn new(wards: &[Ward], ahead: u64) -> Self {
        let (signals, clock) = (Arc::new(Signals::new()), Arc::new(RedisClock::new()));
        clock.heard(BEGIN + ahead);
        let fleet = Fleet::new(signals.clone(), clock);
        fleet.know(wards);
        Self { signals, fleet }
    }

    fn meets(&self, ward: &Ward, outcome: Outcome) {
        let flight = self.signals.begin(ward.hash(), &ward.host.id, now());
        flight.report(outcome, now(), &Breaker::default());
    }

    fn exchange(&self, domain: &str, register: &mut Register) {
        self.fleet.incoming(domain, &register.exchange(&self.fleet.outgoing(domain)));
    }

    /// Reads the record the way `reserve.lua` does.
    fn reads(&self, ward: &Ward, register: &Register) {
        let Some(opened) = register.records.get(&field(ward.hash())).and_then(|record| record.strip_prefix("o "))
        else {
            return;
        };
        let (until, class) = opened.split_once(' ').unwrap();
        let breaker = BreakerClaim { domain: "catalog".into(), key: ward.hash() };
        self.fleet.heard(&breaker, class, until.parse().unwrap());
    }

    fn phase(&self, ward: &Ward) -> Phase {
        self.signals.key(ward.hash()).phase(now())
    }

    /// Why a key is out, and for how many milliseconds.
    fn out(&self, ward: &Ward) -> Option<(Class, i64)> {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap();
        match self.phase(ward) {
            Phase::Closed { .. } => None,
            Phase::Open { class, until } => Some((class, millis(until - now()))),
            Phase::HalfOpen { class, since, .. } => Some((class, -millis(now() - since))),
        }
    }

    fn record(&self, ward: &Ward) -> Option<Record> {
        self.fleet.board.lock().record("catalog", ward.hash())
    }
}

/// Two keys of the catalog.
fn wards() -> Vec<Ward> {
    let tables = Tables::new().bare_host("catalog/h", WireShape::OpenaiChat);
    let tables = tables.host_key("catalog/a", "catalog/h", |_| ()).host_key("catalog/b", "catalog/h", |_| ());
    wards_of(tables)
}

fn wards_of(tables: Tables) -> Vec<Ward> {
    let keyring = Keyring::new(&tables.credentials);
    let mut wards = heal::wards(&World::load(tables.table, tables.credentials), &keyring);
    wards.sort_by(|one, other| one.name.cmp(&other.name));
    wards
}

fn limited(secs: u64) -> Outcome {
    Outcome::RateLimited { wait: Some(Duration::from_secs(secs)), horizon: Horizon::Short }
}

async fn pass(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn what_one_process_finds_the_other_knows_after_an_exchange_of_each() {
    let (wards, mut register) = (wards(), Register::default());
    let [one, other] = [0, 0].map(|ahead| Replica::new(&wards, ahead));
    one.meets(&wards[0], Outcome::Auth);
    one.exchange("catalog", &mut register);
    other.exchange("catalog", &mut register);
    assert_eq!(other.out(&wards[0]), Some((Class::Auth, 300_000)));
    assert_eq!(other.out(&wards[1]), None);
    // And back: a probe of the other succeeds.
    pass(300_000).await;
    other.meets(&wards[0], Outcome::Ok);
    other.exchange("catalog", &mut register);
    one.exchange("catalog", &mut register);
    assert!(matches!(one.phase(&wards[0]), Phase::Closed { share } if share < 0.2), "{:?}", one.phase(&wards[0]));
    // What was heard is not told again.
    for replica in [&one, &other] {
        assert_eq!(replica.fleet.outgoing("catalog"), News { version: register.version, records: Vec::new() });
    }
}

#[tokio::test(start_paused = true)]
async fn a_call_that_decides_a_request_tells_of_an_opening_before_any_exchange() {
    let (wards, mut register) = (wards(), Register::default());
    let [one, other] = [0, 0].map(|ahead| Replica::new(&wards, ahead));
    one.meets(&wards[0], limited(20));
    one.exchange("catalog", &mut register);
    other.reads(&wards[0], &register);
    assert_eq!(other.out(&wards[0]), Some((Class::RateLimit, 20_000)));
    assert_eq!(other.fleet.outgoing("catalog").records, []);
}

#[tokio::test(start_paused = true)]
async fn news_is_told_until_it_is_heard_back() {
    let (wards, mut register) = (wards(), Register::default());
    let one = Replica::new(&wards, 0);
    one.meets(&wards[0], Outcome::Auth);
    let told = one.fleet.outgoing("catalog");
    assert_eq!(told.records.len(), 1);
    assert_eq!(one.fleet.outgoing("catalog"), told, "the first exchange came to nothing");
    one.exchange("catalog", &mut register);
    assert_eq!(one.fleet.outgoing("catalog").records, []);
    // Redis loses everything.
    register = Register::default();
    one.exchange("catalog", &mut register);
    assert_eq!(one.fleet.outgoing("catalog").records, told.records);
}

#[tokio::test(start_paused = true)]
async fn two_that_find_different_openings_at_once_agree_on_the_longer_and_probe_it_once() {
    let (wards, mut register) = (wards(), Register::default());
    let [one, other] = [0, 0].map(|ahead| Replica::new(&wards, ahead));
    one.meets(&wards[0], Outcome::Auth);
    pass(100).await;
    other.meets(&wards[0], limited(5));
    for _ in 0..2 {
        one.exchange("catalog", &mut register);
        other.exchange("catalog", &mut register);
    }
    assert_eq!(one.out(&wards[0]), Some((Class::Auth, 299_900)));
    assert_eq!(other.out(&wards[0]), Some((Class::Auth, 299_900)));
    let probe = |purpose| Probe { domain: "catalog".into(), key: wards[0].hash(), purpose, lease: Duration::ZERO };
    for purpose in [Purpose::Heal, Purpose::Check] {
        assert_eq!(one.fleet.probe_name(&probe(purpose)), other.fleet.probe_name(&probe(purpose)));
    }
    assert_ne!(one.fleet.probe_name(&probe(Purpose::Heal)), one.fleet.probe_name(&probe(Purpose::Check)));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_reached_from_here_is_nobody_elses_news() {
    let (wards, one) = (wards(), Replica::new(&wards(), 0));
    for _ in 0..3 {
        one.meets(&wards[0], Outcome::Unreachable(Side::Host));
    }
    assert_eq!(one.fleet.outgoing("catalog").records, []);
}

#[tokio::test(start_paused = true)]
async fn a_secret_of_two_namespaces_is_told_in_both_and_what_is_no_key_here_is_not_heard() {
    let mut tables = Tables::new()
        .bare_host("catalog/h", WireShape::OpenaiChat)
        .host_key("catalog/k", "catalog/h", |_| ())
        .host_key("team/k", "catalog/h", |_| ());
    let same = tables.credentials.host_keys[&id("team/k")].clone();
    tables.credentials.host_keys.insert(id("catalog/k"), same);
    let wards = wards_of(tables);
    let one = Replica::new(&wards, 0);
    assert_eq!(one.fleet.domains(), ["catalog", "team"]);
    one.meets(&wards[0], Outcome::Auth);
    let told = ["catalog", "team"].map(|domain| one.fleet.outgoing(domain).records);
    assert_eq!(told[0], told[1]);
    assert_eq!(told[0].len(), 1);
    // When: the table has no key any more.
    one.fleet.know(&[]);
    one.fleet.incoming("catalog", &News { version: 9, records: told[0].clone() });
    assert_eq!(one.fleet.domains(), Vec::<String>::new());
    assert_eq!(one.fleet.outgoing("catalog"), News::default());
}

#[tokio::test(start_paused = true)]
async fn a_process_that_starts_late_probes_what_it_hears_has_been_out() {
    let (wards, mut register) = (wards(), Register::default());
    let one = Replica::new(&wards, 0);
    one.meets(&wards[0], limited(5));
    one.exchange("catalog", &mut register);
    pass(8_000).await;
    let late = Replica::new(&wards, 8_000);
    late.exchange("catalog", &mut register);
    assert!(matches!(late.phase(&wards[0]), Phase::HalfOpen { class: Class::RateLimit, .. }));
}

/// What happens to three processes.
#[derive(Clone, Debug)]
enum Event {
    /// A process meets an outcome with a key.
    Meets(usize, usize, Outcome),
    /// A process exchanges; its request or the answer may get lost.
    Exchanges(usize, Delivery),
    /// A process exchanges, and meets an outcome with a key meanwhile.
    ExchangesAndMeets(usize, usize, Outcome),
    /// A request of a process reads a key's record.
    Reads(usize, usize),
    /// Milliseconds pass.
    Passes(u64),
    /// Redis starts again, empty.
    Lost,
}

#[derive(Clone, Copy, Debug)]
enum Delivery {
    Whole,
    NoAnswer,
    Nothing,
}

fn event() -> impl Strategy<Value = Event> {
    let failing = Outcome::Unreachable(Side::Key);
    let outcomes = vec![Outcome::Ok, Outcome::Auth, Outcome::ServerError, failing, limited(3), limited(40)];
    let deliveries = vec![Delivery::Whole, Delivery::Whole, Delivery::NoAnswer, Delivery::Nothing];
    let meeting = (0..3_usize, 0..2_usize, select(outcomes));
    prop_oneof![
        6 => meeting.clone().prop_map(|(who, key, how)| Event::Meets(who, key, how)),
        2 => meeting.prop_map(|(who, key, how)| Event::ExchangesAndMeets(who, key, how)),
        2 => (0..3_usize, 0..2_usize).prop_map(|(who, key)| Event::Reads(who, key)),
        4 => (0..3_usize, select(deliveries)).prop_map(|(who, how)| Event::Exchanges(who, how)),
        3 => select(vec![1_u64, 30, 250, 2_000, 40_000]).prop_map(Event::Passes),
        1 => Just(Event::Lost),
    ]
}

/// The most by which two processes' guesses of the time differ here, and a little for rounding.
const DOUBT: i64 = 40 + 3;

async fn agree(events: Vec<Event>) {
    let (wards, mut register, mut lives) = (wards(), Register::default(), 0);
    let replicas = [0, 40, 15].map(|ahead| Replica::new(&wards, ahead));
    for event in events {
        match event {
            Event::Meets(who, key, outcome) => replicas[who].meets(&wards[key], outcome),
            Event::Exchanges(who, Delivery::Whole) => replicas[who].exchange("catalog", &mut register),
            Event::Exchanges(who, Delivery::NoAnswer) => {
                register.exchange(&replicas[who].fleet.outgoing("catalog"));
            }
            Event::Exchanges(who, Delivery::Nothing) => {
                replicas[who].fleet.outgoing("catalog");
            }
            Event::ExchangesAndMeets(who, key, outcome) => {
                let news = register.exchange(&replicas[who].fleet.outgoing("catalog"));
                replicas[who].meets(&wards[key], outcome);
                replicas[who].fleet.incoming("catalog", &news);
            }
            Event::Reads(who, key) => replicas[who].reads(&wards[key], &register),
            Event::Passes(millis) => pass(millis).await,
            Event::Lost => {
                lives += 1000;
                register = Register { version: lives, ..Register::default() };
            }
        }
    }
    for _ in 0..6 {
        replicas.iter().for_each(|replica| replica.exchange("catalog", &mut register));
    }
    for ward in &wards {
        for replica in &replicas {
            assert_eq!(replica.fleet.outgoing("catalog").records, [], "after six rounds there is nothing left to tell");
            let opened = |record: &Record| matches!(record, Record::Opened { .. });
            let [one, first] = [replica, &replicas[0]].map(|replica| replica.record(ward).filter(opened));
            assert_eq!(one, first, "all have the same record");
            match (replica.out(ward), first) {
                (None, None) => {}
                (Some((class, left)), Some(Record::Opened { until, class: agreed, .. })) => {
                    let expected = i64::try_from(until).unwrap() - i64::try_from(replica.fleet.clock.millis()).unwrap();
                    assert_eq!(class, agreed);
                    assert!((left - expected).abs() <= DOUBT, "{left} for {expected}");
                }
                (out, record) => panic!("{out:?} is not {record:?}"),
            }
        }
    }
}

proptest! {
    #[test]
    fn processes_agree_whatever_they_find_and_in_whatever_order_they_hear_of_it(
        events in prop::collection::vec(event(), 0..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(agree(events));
    }
}
