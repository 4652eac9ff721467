use table::HostKey;

use super::*;
use crate::status::{
    fleet::{Fleet, FleetName, Out, PodId, PodState, Served},
    ledger::Ledger,
};

fn id(name: &str) -> ObjectRef {
    ObjectRef::new("team", name)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

/// Two keys of one Host, some pods, and what is said of them.
struct Cluster {
    table: RoutingTable,
    acks: Acks,
    health: Health,
}

impl Cluster {
    fn new(pods: usize) -> Self {
        let row = || Row::Usable(host_key());
        let host_keys = [(id("a"), row()), (id("b"), row())].into();
        let hosts = [(id("host"), Row::Invalid { reason: "it only has to be there".to_owned() })].into();
        let table = RoutingTable { host_keys, hosts, ..RoutingTable::default() };
        let pods = (0..pods).map(|pod| (pod_id(pod), PodState::default())).collect();
        Self { table, acks: Acks { pods }, health: Health::default() }
    }

    fn reports(&mut self, pod: usize, out: &[(&str, &str)]) {
        let out = out.iter().map(|(key, class)| Out {
            host_key: id(key),
            class: (*class).to_owned(),
            until: Some(at(pod as i64)),
        });
        self.acks.pods.get_mut(&pod_id(pod)).unwrap().out = out.collect();
    }

    fn note(&mut self, second: i64) -> Option<Timestamp> {
        let (name, ledger) = (FleetName::None, Ledger::default());
        let served = Served { table: &self.table, ledger: &ledger, is_deserted: false };
        let by_name = [(&name, Fleet::new(&name, &self.acks, served))].into();
        let fleets = Fleets { by_name, is_gathering: false };
        self.health.note(&self.acks, &fleets, &self.table, at(second))
    }

    fn key(&self, name: &str) -> Option<(BreakerState, Option<String>, Option<u32>)> {
        self.health.of_key(&id(name)).map(|key| (key.state, key.class.clone(), key.open_pods))
    }

    fn host(&self) -> Option<(BreakerState, Vec<(String, u32)>)> {
        let host = self.health.of_host(&id("host"))?;
        let reasons = host.reasons.iter().flatten().map(|reason| (reason.class.clone(), reason.open_keys));
        Some((host.state, reasons.collect()))
    }
}

fn pod_id(pod: usize) -> PodId {
    PodId::new("relay", format!("pod-{pod}"))
}

fn host_key() -> HostKey {
    HostKey {
        host: id("host"),
        weight: 100,
        priority: 0,
        limits: Default::default(),
        models: Default::default(),
        expires_at: None,
        suspended: false,
        allowed: Default::default(),
    }
}

fn out(state: BreakerState, class: &str, pods: u32) -> Option<(BreakerState, Option<String>, Option<u32>)> {
    Some((state, Some(class.to_owned()), Some(pods)))
}

const CLOSED: Option<(BreakerState, Option<String>, Option<u32>)> = Some((BreakerState::Closed, None, None));

#[test]
fn a_first_opening_is_said_at_once_and_all_else_half_a_minute_apart() {
    let mut cluster = Cluster::new(3);
    assert_eq!((cluster.note(0), cluster.key("a")), (None, None));
    cluster.reports(0, &[("a", "auth")]);
    assert_eq!(cluster.note(1), None);
    assert_eq!(cluster.key("a"), out(BreakerState::Partial, "auth", 1));
    for pod in 0..3 {
        cluster.reports(pod, &[("a", "auth")]);
    }
    assert_eq!(cluster.note(2), Some(at(31)));
    assert_eq!(cluster.key("a"), out(BreakerState::Partial, "auth", 1));
    assert_eq!(cluster.note(31), None);
    assert_eq!(cluster.key("a"), out(BreakerState::Open, "auth", 3));
    for pod in 0..3 {
        cluster.reports(pod, &[]);
    }
    assert_eq!(cluster.note(40), Some(at(61)));
    cluster.note(61);
    assert_eq!(cluster.key("a"), CLOSED);
    cluster.reports(0, &[("a", "unreachable")]);
    assert_eq!(cluster.note(70), Some(at(91)), "one that opens and closes all the time is not told each time");
    cluster.reports(0, &[]);
    assert_eq!((cluster.note(75), cluster.key("a")), (None, CLOSED));
}

#[test]
fn that_a_key_is_out_until_later_is_no_news() {
    let mut cluster = Cluster::new(1);
    cluster.reports(0, &[("a", "rateLimit")]);
    cluster.note(0);
    let said = cluster.health.of_key(&id("a")).cloned();
    cluster.acks.pods.get_mut(&pod_id(0)).unwrap().out[0].until = Some(at(500));
    assert_eq!((cluster.note(100), cluster.health.of_key(&id("a")).cloned()), (None, said));
}

#[test]
fn a_host_sums_up_its_keys() {
    let mut cluster = Cluster::new(1);
    cluster.reports(0, &[("a", "auth")]);
    cluster.note(0);
    assert_eq!(cluster.host(), Some((BreakerState::Partial, vec![("auth".to_owned(), 1)])));
    cluster.reports(0, &[("a", "auth"), ("b", "rateLimit")]);
    assert_eq!(cluster.note(5), Some(at(30)));
    cluster.note(30);
    let reasons = vec![("auth".to_owned(), 1), ("rateLimit".to_owned(), 1)];
    assert_eq!(cluster.host(), Some((BreakerState::Open, reasons)));
    cluster.reports(0, &[]);
    cluster.note(60);
    assert_eq!(cluster.host(), Some((BreakerState::Closed, Vec::new())));
}

#[test]
fn the_next_leader_goes_on_where_the_last_one_was() {
    let mut cluster = Cluster::new(1);
    let open = KeyBreaker { state: BreakerState::Open, class: Some("auth".to_owned()), ..closed_key() };
    cluster.health.resume([(id("a"), open)], [], at(0));
    assert_eq!(cluster.note(1), Some(at(30)), "its pods may have been on their way");
    assert_eq!(cluster.key("a"), Some((BreakerState::Open, Some("auth".to_owned()), None)));
    cluster.acks.pods.get_mut(&pod_id(0)).unwrap().is_away = true;
    assert_eq!(cluster.note(60), None, "where nobody reports, what was said stands");
    cluster.acks.pods.get_mut(&pod_id(0)).unwrap().is_away = false;
    cluster.note(61);
    assert_eq!(cluster.key("a"), CLOSED);
}

#[test]
fn what_is_reported_of_keys_that_are_not_there_is_not_told() {
    let mut cluster = Cluster::new(1);
    cluster.reports(0, &[("gone", "auth")]);
    assert_eq!((cluster.note(0), cluster.key("gone")), (None, None));
}
