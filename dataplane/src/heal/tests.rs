use std::{
    collections::HashMap,
    sync::atomic::{AtomicU32, Ordering},
};

use parking_lot::Mutex;
use protocol::WireShape;
use table::{Auth, KeySelection};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use super::*;
use crate::{
    breaker::outcome::{Class, Side},
    pool::order::{Choice, Member, order},
    upstream::resolver::System,
    world::build::{Tables, id},
};

fn world(tables: Tables) -> (Arc<World>, Arc<Keyring>) {
    let keyring = Keyring::new(&tables.credentials);
    (Arc::new(World::load(tables.table, tables.credentials)), Arc::new(keyring))
}

/// A host with a bad and a good key.
fn two_keys() -> Vec<Ward> {
    let tables = Tables::new().bare_host("h", WireShape::OpenaiChat);
    let (world, keyring) = world(tables.host_key("bad", "h", |_| {}).host_key("good", "h", |_| {}));
    let mut wards = wards(&world, &keyring);
    wards.sort_by(|a, b| a.name.cmp(&b.name));
    wards
}

/// Sends one request the way the pipeline does: to the first key, and on to the next where it is refused. Returns the
/// keys that it met.
fn one_request(wards: &[Ward], signals: &Signals, seed: u64, is_bad: impl Fn(&Ward) -> bool) -> Vec<String> {
    let member = |ward: &Ward| Member {
        hash: ward.hash(),
        priority: 0,
        weight: 100,
        obstacle: None,
        standing: signals.key(ward.hash()).standing(now()),
    };
    let members: Vec<_> = wards.iter().map(member).collect();
    let choice = Choice { selection: KeySelection::Weighted, affinity: None, turn: seed, seed };
    let mut met = Vec::new();
    for position in order(&members, &choice).ready {
        let ward = &wards[position];
        met.push(ward.name.name.clone());
        let flight = signals.begin(ward.hash(), &ward.host.id, now());
        let outcome = if is_bad(ward) { Outcome::Auth } else { Outcome::Ok };
        flight.report(outcome, now(), &ward.host.row.breaker);
        if outcome == Outcome::Ok {
            return met;
        }
    }
    panic!("no key answered: met {met:?}");
}

#[tokio::test(start_paused = true)]
async fn no_request_goes_to_a_bad_key_until_a_probe_has_succeeded() {
    let (wards, signals, stop) = (two_keys(), Arc::new(Signals::new()), CancellationToken::new());
    let healed_at = now() + Duration::from_secs(400);
    let probes = Arc::new(Mutex::new(Vec::new()));
    let seen = probes.clone();
    let probe = move |_: Ward| {
        let outcome = if now() < healed_at { Outcome::Auth } else { Outcome::Ok };
        seen.lock().push((now(), outcome));
        std::future::ready(Some(outcome))
    };
    let looked_after = wards.clone();
    let healer =
        tokio::spawn(look_after(move || looked_after.clone(), probe, signals.clone(), Peers::none(), stop.clone()));
    // Given: the bad key was met once, and its probes fail until it is put right.
    let mut visits = Vec::new();
    let began = now();
    for turn in 0..12_000 {
        let met = one_request(&wards, &signals, turn, |ward| ward.name == id("bad") && now() < healed_at);
        if met.contains(&"bad".to_owned()) {
            visits.push(now());
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    stop.cancel();
    healer.await.expect("the healer does not panic");
    // Then: it is asked out of band after 5 and 10 more minutes, and used again only after the second said yes.
    let probes = probes.lock().clone();
    let outcomes: Vec<_> = probes.iter().map(|(_, outcome)| *outcome).collect();
    assert_eq!(outcomes, [Outcome::Auth, Outcome::Ok]);
    let back = probes[1].0;
    let early: Vec<_> = visits.iter().filter(|at| **at < back).collect();
    assert_eq!(early.len(), 1, "only the request that found out");
    assert!(back - began > Duration::from_secs(600));
    assert!(visits.len() > 100, "a healed key is used again");
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_requests_with_half_of_the_keys_bad_all_find_a_good_one() {
    let names = ["k0", "k1", "k2", "k3"];
    let tables = names
        .iter()
        .fold(Tables::new().bare_host("h", WireShape::OpenaiChat), |tables, name| tables.host_key(name, "h", |_| {}));
    let (world, keyring) = world(tables);
    let (wards, signals) = (wards(&world, &keyring), Signals::new());
    let mut attempts = 0;
    for turn in 0..10_000 {
        attempts += one_request(&wards, &signals, turn, |ward| ["k0", "k1"].contains(&&*ward.name.name)).len();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert!(attempts <= 10_002, "each bad key is met once: {attempts} attempts");
}

#[tokio::test(start_paused = true)]
async fn a_key_has_one_probe_in_flight_and_no_probe_while_it_is_well() {
    let (wards, signals, stop) = (two_keys(), Arc::new(Signals::new()), CancellationToken::new());
    let asked = Arc::new(AtomicU32::new(0));
    let counter = asked.clone();
    let slow = move |ward: Ward| {
        assert_eq!(ward.name, id("bad"));
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::pending()
    };
    let bad = wards[0].clone();
    signals.begin(bad.hash(), &bad.host.id, now()).report(Outcome::Auth, now(), &bad.host.row.breaker);
    let healer = tokio::spawn(look_after(move || wards.clone(), slow, signals.clone(), Peers::none(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(900)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    stop.cancel();
    healer.await.expect("the healer does not panic");
    // The probe that was cut short gives its place back.
    assert!(signals.key(bad.hash()).lease_probe(now(), &bad.host.row.breaker));
}

#[tokio::test(start_paused = true)]
async fn healthy_keys_are_probed_at_intervals_where_the_host_asks_for_it() {
    let active = |host: &mut table::Host| {
        host.health_check.active = true;
        host.health_check.interval = Duration::from_secs(30);
    };
    let tables = Tables::new().host("h", WireShape::OpenaiChat).edit_host("h", active);
    let (world, keyring) = world(tables);
    let (signals, stop, asked) = (Arc::new(Signals::new()), CancellationToken::new(), Arc::new(AtomicU32::new(0)));
    let counter = asked.clone();
    let probe = move |_: Ward| {
        counter.fetch_add(1, Ordering::SeqCst);
        std::future::ready(Some(Outcome::Auth))
    };
    let wards_of = wards(&world, &keyring);
    let ward = wards_of[0].clone();
    let healer =
        tokio::spawn(look_after(move || wards_of.clone(), probe, signals.clone(), Peers::none(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(asked.load(Ordering::SeqCst), 1);
    let phase = signals.key(ward.hash()).phase(now());
    assert!(matches!(phase, Phase::Open { class: Class::Auth, .. }), "found out before any request: {phase:?}");
    stop.cancel();
    healer.await.expect("the healer does not panic");
}

/// What processes that share leases agree on: each name is granted once in its time.
#[derive(Default)]
struct Granted(Mutex<HashMap<(KeyHash, Purpose), Instant>>);

impl Granted {
    fn peers(self: &Arc<Self>) -> Peers {
        let granted = self.clone();
        Peers::new(|_| (), move |probe| Box::pin(std::future::ready(granted.grant(&probe))))
    }

    fn grant(&self, probe: &Probe) -> bool {
        let mut granted = self.0.lock();
        let ends = granted.entry((probe.key, probe.purpose)).or_insert_with(now);
        let is_free = now() >= *ends;
        if is_free {
            *ends = now() + probe.lease;
        }
        is_free
    }
}

#[tokio::test(start_paused = true)]
async fn a_key_that_another_process_probes_is_not_probed_until_that_one_must_have_died() {
    let (wards, signals, stop) = (two_keys(), Arc::new(Signals::new()), CancellationToken::new());
    let bad = wards[0].clone();
    signals.begin(bad.hash(), &bad.host.id, now()).report(Outcome::Auth, now(), &bad.host.row.breaker);
    let granted = Arc::new(Granted::default());
    // Given: it may be probed after 300 s, and another process has just begun to.
    tokio::time::sleep(Duration::from_secs(300)).await;
    let lease = Duration::from_secs(12);
    let domain = bad.domain().to_owned();
    let other = Probe { domain, key: bad.hash(), purpose: Purpose::Heal, lease };
    assert!(granted.grant(&other));
    let (began, probes) = (now(), Arc::new(Mutex::new(Vec::new())));
    let seen = probes.clone();
    let probe = move |ward: Ward| {
        seen.lock().push((ward.name, now().saturating_duration_since(began)));
        std::future::ready(Some(Outcome::Ok))
    };
    let healer = tokio::spawn(look_after(move || wards.clone(), probe, signals.clone(), granted.peers(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(60)).await;
    stop.cancel();
    healer.await.expect("the healer does not panic");
    let probes = probes.lock().clone();
    let [(name, after)] = probes.as_slice() else { panic!("one probe: {probes:?}") };
    assert_eq!(*name, bad.name);
    assert!((lease..lease + Duration::from_secs(1)).contains(after), "{after:?}");
}

#[tokio::test(start_paused = true)]
async fn of_many_processes_one_checks_a_healthy_key_in_each_interval() {
    let active = |host: &mut table::Host| {
        host.health_check.active = true;
        host.health_check.interval = Duration::from_secs(30);
    };
    let (world, keyring) = world(Tables::new().host("h", WireShape::OpenaiChat).edit_host("h", active));
    let (wards, granted) = (wards(&world, &keyring), Arc::new(Granted::default()));
    let (stop, asked) = (CancellationToken::new(), Arc::new(AtomicU32::new(0)));
    let mut healers = JoinSet::new();
    for _ in 0..4 {
        let (wards, counter) = (wards.clone(), asked.clone());
        let probe = move |_: Ward| {
            counter.fetch_add(1, Ordering::SeqCst);
            std::future::ready(Some(Outcome::Ok))
        };
        let signals = Arc::new(Signals::new());
        healers.spawn(look_after(move || wards.clone(), probe, signals, granted.peers(), stop.clone()));
        tokio::time::sleep(Duration::from_secs(7)).await;
    }
    tokio::time::sleep(Duration::from_secs(300 - 28)).await;
    let asked = asked.load(Ordering::SeqCst);
    assert!((10..=11).contains(&asked), "{asked} in 300 s");
    stop.cancel();
    healers.join_all().await;
}

#[tokio::test(start_paused = true)]
async fn each_process_finds_out_for_itself_whether_it_can_reach_a_host() {
    let (wards, signals, stop) = (two_keys(), Arc::new(Signals::new()), CancellationToken::new());
    let (host, settings) = (&wards[0].host.id, &wards[0].host.row.breaker);
    signals.begin(wards[0].hash(), host, now()).report(Outcome::Auth, now(), settings);
    for _ in 0..settings.unreachable.consecutive {
        signals.begin(wards[0].hash(), host, now()).report(Outcome::Unreachable(Side::Host), now(), settings);
    }
    let nobodys_turn = Peers::new(|_| (), |_| Box::pin(std::future::ready(false)));
    let probe = |_: Ward| std::future::ready(Some(Outcome::Ok));
    let looked_after = wards.clone();
    let healer =
        tokio::spawn(look_after(move || looked_after.clone(), probe, signals.clone(), nobodys_turn, stop.clone()));
    tokio::time::sleep(Duration::from_secs(600)).await;
    stop.cancel();
    healer.await.expect("the healer does not panic");
    assert!(matches!(signals.host(host).phase(now()), Phase::Closed { .. }));
    let key = signals.key(wards[0].hash());
    assert!(matches!(key.phase(now()), Phase::HalfOpen { probes: 0, .. }), "{:?}", key.phase(now()));
}

#[test]
fn a_secret_in_two_namespaces_is_one_ward_known_in_both() {
    let mut tables = Tables::new()
        .bare_host("catalog/h", WireShape::OpenaiChat)
        .host_key("catalog/k", "catalog/h", |_| {})
        .host_key("a/k", "catalog/h", |_| {});
    let same = tables.credentials.host_keys[&id("a/k")].clone();
    tables.credentials.host_keys.insert(id("catalog/k"), same);
    let (world, keyring) = world(tables);
    let wards = wards(&world, &keyring);
    let domains: Vec<_> = wards.iter().map(|ward| ward.domains.clone()).collect();
    assert_eq!(domains, [["a", "catalog"]]);
}

/// Answers every request with `answer`; gives the requests' heads.
async fn scripted(answer: &'static str) -> (String, tokio::sync::mpsc::UnboundedReceiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/v1", listener.local_addr().unwrap());
    let (heard, hear) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut seen = vec![0; 64 * 1024];
            let size = stream.read(&mut seen).await.unwrap();
            heard.send(String::from_utf8_lossy(&seen[..size]).into_owned()).unwrap();
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, hear)
}

async fn probed(shape: WireShape, answer: &'static str, edit: impl FnOnce(&mut table::Host)) -> (Outcome, String) {
    let (url, mut hear) = scripted(answer).await;
    let tables = Tables::new().host("h", shape).edit_host("h", |host| {
        host.base_url = url;
        host.allow_private_addresses = true;
        edit(host);
    });
    let (world, keyring) = world(tables);
    let ward = wards(&world, &keyring).remove(0);
    let clients = Clients::new(Arc::new(System::Library));
    let client = clients.for_host(&ward.host.id, &ward.host.row, None).unwrap();
    let outcome = probe::probe(&client, &ward).await;
    (outcome, hear.recv().await.unwrap())
}

const FINE: &str = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}";

#[tokio::test]
async fn a_probe_lists_models_the_way_the_shape_does_with_the_key_where_the_host_wants_it() {
    let (outcome, head) = probed(WireShape::AnthropicMessages, FINE, |host| {
        host.auth = Auth::Header("x-api-key".into());
        host.headers.set = vec![("x-org".into(), "o1".into())];
    })
    .await;
    assert_eq!(outcome, Outcome::Ok);
    assert!(head.starts_with("GET /v1/models HTTP/1.1\r\n"), "{head}");
    for line in ["x-api-key: secret-of-h\r\n", "anthropic-version: 2023-06-01\r\n", "x-org: o1\r\n"] {
        assert!(head.contains(line), "{head}");
    }
}

#[tokio::test]
async fn a_health_check_names_another_path_or_a_model_for_one_token() {
    let (_, head) = probed(WireShape::OpenaiChat, FINE, |host| {
        host.auth = Auth::Bearer;
        host.health_check.path = Some("/health".into());
    })
    .await;
    assert!(head.starts_with("GET /v1/health HTTP/1.1\r\n") && head.contains("Bearer secret-of-h"), "{head}");
    let (_, head) = probed(WireShape::OpenaiChat, FINE, |host| host.health_check.model = Some("m-1".into())).await;
    assert!(head.starts_with("POST /v1/chat/completions HTTP/1.1\r\n"), "{head}");
    assert!(head.contains(r#""model":"m-1""#) && head.contains(r#""max_completion_tokens":1"#), "{head}");
}

#[tokio::test]
async fn what_a_probe_meets_is_told_apart() {
    let answers = HashMap::from([
        ("HTTP/1.1 401 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", Outcome::Auth),
        ("HTTP/1.1 404 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", Outcome::Ok),
        ("HTTP/1.1 500 No\r\nconnection: close\r\ncontent-length: 2\r\n\r\n{}", Outcome::ServerError),
    ]);
    for (answer, expected) in answers {
        assert_eq!(probed(WireShape::OpenaiChat, answer, |_| {}).await.0, expected, "{answer}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_cannot_be_reached_is_asked_once_for_all_of_its_keys() {
    let (wards, signals, stop) = (two_keys(), Arc::new(Signals::new()), CancellationToken::new());
    let (host, settings) = (&wards[0].host.id, &wards[0].host.row.breaker);
    // Both keys have failed, and then their host went away.
    for ward in &wards {
        for _ in 0..settings.server_error.consecutive {
            signals.begin(ward.hash(), host, now()).report(Outcome::ServerError, now(), settings);
        }
    }
    for _ in 0..settings.unreachable.consecutive {
        signals.begin(wards[0].hash(), host, now()).report(Outcome::Unreachable(Side::Host), now(), settings);
    }
    let probes = Arc::new(Mutex::new(Vec::new()));
    let seen = probes.clone();
    let probe = move |_: Ward| {
        seen.lock().push(now());
        std::future::ready(Some(Outcome::Unreachable(Side::Host)))
    };
    let looked_after = wards.clone();
    let healer =
        tokio::spawn(look_after(move || looked_after.clone(), probe, signals.clone(), Peers::none(), stop.clone()));
    tokio::time::sleep(Duration::from_secs(600)).await;
    stop.cancel();
    healer.await.expect("the healer does not panic");
    let probes = probes.lock();
    let mut moments = probes.clone();
    moments.dedup();
    assert_eq!(moments.len(), probes.len(), "never two at once");
    assert!((8..=30).contains(&probes.len()), "by the host's own ladder: {}", probes.len());
}

#[tokio::test]
async fn a_key_that_may_not_list_models_is_still_a_good_key() {
    let scoped = r#"{"error":{"message":"You have insufficient permissions. Missing scopes: api.model.read.","type":"invalid_request_error"}}"#;
    let refused = |body: &str| {
        let head = format!("HTTP/1.1 403 No\r\ncontent-type: application/json\r\ncontent-length: {}", body.len());
        String::leak(format!("{head}\r\nconnection: close\r\n\r\n{body}"))
    };
    assert_eq!(probed(WireShape::OpenaiChat, refused(scoped), |_| {}).await.0, Outcome::Ok);
    let banned = r#"{"error":{"message":"Your account is disabled","type":"invalid_request_error"}}"#;
    assert_eq!(probed(WireShape::OpenaiChat, refused(banned), |_| {}).await.0, Outcome::Auth);
}
