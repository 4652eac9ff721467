//! Whoever holds the table of one namespace answers for its relay keys as who holds the whole one does: tried on tables
//! that are made up, in which names of namespaces shadow each other and everything may be closed, wrong or missing.

use std::{cell::Cell, collections::BTreeSet, time::Instant};

use WireShape::{AnthropicMessages, OpenaiChat};
use proptest::{collection::vec, prelude::*, test_runner::TestRunner};
use table::{
    ClientCertificate, Credential, NamespaceGrant, RoutingTable, Row, Secret, VirtualStrategy, Visibility, scope,
};

use super::*;
use crate::{
    admit, models,
    pool::signals::Signals,
    upstream::credentials::Keyring,
    world::build::{Tables, caller, fallback, id, plain_ask, texts},
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);
const NAMESPACES: [&str; 3] = ["team", "catalog", "other"];
const HOSTS: [&str; 2] = ["h", "i"];
const MODELS: [&str; 4] = ["m", "gpt-1", "auto", "nick"];
const KEYS: [&str; 3] = ["one", "two", "three"];

/// What is asked for: ids, aliases, families, and all of them pinned.
const ASKED: [&str; 18] = [
    "m",
    "gpt-1",
    "auto",
    "nick",
    "gpt-9",
    "zzz",
    "m@h",
    "i/m",
    "auto@h",
    "openai:m",
    "openai:auto",
    "anthropic:gpt-1",
    "openai:nick",
    "gpt-9@i",
    "anthropic:gpt-9",
    "h/gpt-1",
    "nick@i",
    "openai:zzz",
];

/// Numbers of which a table is made; zeros once they are used up.
struct Dice(std::vec::IntoIter<u8>);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        usize::from(self.0.next().unwrap_or(0)) % sides
    }

    /// Once in so many times.
    fn once_in(&mut self, times: usize) -> bool {
        self.roll(times) == times - 1
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.roll(of.len())]
    }

    fn name(&mut self, names: &[&str]) -> String {
        // Mostly the own namespace and the catalog refer to each other.
        let namespace = self.one(&["team", "team", "catalog", "other"]);
        format!("{namespace}/{}", self.one(names))
    }

    fn grant(&mut self) -> NamespaceGrant {
        match self.roll(4) {
            0 | 1 => NamespaceGrant::All,
            2 => NamespaceGrant::Listed(["team".to_owned(), "elsewhere".to_owned()].into()),
            _ => NamespaceGrant::Same,
        }
    }

    fn patterns(&mut self, of: &[&str]) -> Vec<String> {
        let one = self.one(of);
        let two = if self.once_in(3) { Some(self.one(of)) } else { None };
        texts(&[&[one], two.as_slice()].concat())
    }
}

fn made(dice: &mut Dice) -> Tables {
    let mut tables = Tables::new();
    for namespace in NAMESPACES {
        for host in HOSTS {
            tables = with_host(tables, dice, &format!("{namespace}/{host}"));
        }
        for model in MODELS {
            tables = with_model(tables, dice, &format!("{namespace}/{model}"));
        }
    }
    for number in 0..5 {
        tables = with_host_key(tables, dice, number);
    }
    for policy in ["team/p", "team/q", "catalog/p"] {
        tables = with_policy(tables, dice, policy);
    }
    for key in KEYS.iter().map(|key| format!("team/{key}")).chain(["other/one".to_owned()]) {
        let mut policies = vec![dice.one(&["team/p", "team/q", "catalog/p"])];
        if dice.once_in(3) {
            policies.push("team/q");
        }
        let is_limited = dice.once_in(5);
        let is_inside = dice.once_in(7);
        tables = tables.relay_key(&key, &policies, |row| {
            row.token_sha256 = table::token::TokenHash::of(&format!("token-of-{key}")).to_string();
            row.limits.rpm = is_limited.then_some(9);
            row.allowed_cidrs = if is_inside { vec!["10.0.0.0/8".parse().unwrap()] } else { Vec::new() };
        });
    }
    tables
}

fn with_host(mut tables: Tables, dice: &mut Dice, name: &str) -> Tables {
    match dice.roll(9) {
        7 => return tables,
        8 => {
            let row = Row::Invalid { reason: format!("secret words of {name}") };
            tables.table.hosts.insert(id(name), row);
            return tables;
        }
        _ => {}
    }
    tables = tables.bare_host(name, dice.one(&[&OpenaiChat, &AnthropicMessages]).to_owned());
    if dice.once_in(6) {
        let key_pem = Secret::new(format!("secret-of-certificate-{name}"));
        let certificate = ClientCertificate { chain_pem: "chain".to_owned(), key_pem };
        tables.credentials.client_certificates.insert(id(name), certificate);
    }
    tables.edit_host(name, |host| {
        host.base_url = format!("https://{name}/v1");
        host.allowed = dice.grant();
        host.limits.tpm = dice.once_in(9).then_some(5);
        host.suspended = dice.once_in(9);
        if dice.once_in(8) {
            host.auth = Auth::None;
        }
        if dice.once_in(4) {
            host.model_patterns = dice.patterns(&["gpt-*", "*", "m"]);
        }
    })
}

fn with_model(mut tables: Tables, dice: &mut Dice, name: &str) -> Tables {
    // No two Models of a namespace have one name: the compiler refuses the second.
    let namespace = &id(name).namespace;
    let others = tables.table.models.iter().filter(|(id, _)| id.namespace == *namespace);
    let is_taken = others.filter_map(|(_, row)| row.usable()).any(|other| other.aliases.contains(&id(name).name));
    match if is_taken { 7 + dice.roll(2) } else { dice.roll(10) } {
        0..=4 => {
            let hosts: Vec<String> = (0..=dice.roll(2)).map(|_| dice.name(&HOSTS)).collect();
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            tables = tables.model(name, &hosts);
            if dice.once_in(6) {
                tables = tables.edit_binding(name, hosts[0], |binding| binding.unusable = Some("it is closed".into()));
            }
        }
        5 | 6 => {
            let targets: Vec<String> = (0..=dice.roll(2)).map(|_| dice.name(&MODELS)).collect();
            let targets: Vec<(&str, u32)> = targets.iter().map(|target| (target.as_str(), 1)).collect();
            tables = tables.virtual_model(name, VirtualStrategy::Failover, &targets);
        }
        7 => {
            let row = Row::Invalid { reason: format!("secret words of {name}") };
            tables.table.models.insert(id(name), row);
            return tables;
        }
        _ => return tables,
    }
    let has_alias = name.ends_with("/m") && dice.once_in(2);
    tables.edit_model(name, |model| {
        model.aliases = if has_alias { texts(&["nick"]) } else { Vec::new() };
        model.allowed = dice.grant();
        model.suspended = dice.once_in(9);
        model.visibility = if dice.once_in(7) { Visibility::Internal } else { Visibility::Public };
    })
}

fn with_host_key(mut tables: Tables, dice: &mut Dice, number: usize) -> Tables {
    let name = format!("{}/k{number}", dice.one(&["team", "team", "catalog", "other"]));
    let host = dice.name(&HOSTS);
    tables = tables.host_key(&name, &host, |key| {
        key.allowed = dice.grant();
        key.limits.rpm = dice.once_in(9).then_some(5);
        key.suspended = dice.once_in(9);
        if dice.once_in(6) {
            key.models.deny = texts(&["gpt-*"]);
        }
    });
    if dice.once_in(9) {
        tables.credentials.host_keys.insert(id(&name), Credential::Env("RELAY_KEY_X".to_owned()));
    }
    tables
}

fn with_policy(tables: Tables, dice: &mut Dice, name: &str) -> Tables {
    let allow = dice.patterns(&["*", "m", "gpt-*", "team#*", "other#m*", "nick", "team#gpt-1", "auto"]);
    let allow: Vec<&str> = allow.iter().map(String::as_str).collect();
    tables.policy(name, &allow, |policy| {
        if dice.once_in(3) {
            policy.models.deny = dice.patterns(&["nick", "gpt-*", "catalog#*", "auto"]);
        }
        if dice.once_in(4) {
            policy.model_refs = vec![id(&dice.name(&MODELS))];
        }
        if dice.once_in(4) {
            policy.hosts.allow = dice.patterns(&["h", "team/*", "*"]);
        }
        if dice.once_in(5) {
            let to = dice.name(&MODELS);
            policy.routing.fallbacks = vec![fallback("*", &[&to])];
        }
        policy.limits.concurrency = dice.once_in(9).then_some(3);
        policy.allowed = dice.grant();
    })
}

fn world(tables: &Tables) -> World {
    tables.clone().world()
}

/// What becomes of a request, as far as a caller or whoever pays for it could tell.
fn answer(tables: &Tables, world: &World, key: &str, model: &str) -> String {
    let grant = match admit::admit(world, caller(world, key), model) {
        Ok(grant) => grant,
        Err(denied) => return format!("{denied:?}"),
    };
    let query = Query {
        purpose: Purpose::Conversation,
        ask: &plain_ask(),
        estimate: Estimate { input: 1, output: 1 },
        now: NOW,
        seed: 7,
    };
    let (signals, keyring) = (Signals::new(), Keyring::new(&tables.credentials));
    let weather = Weather { signals: &signals, keyring: &keyring, now: Instant::now() };
    match plan(world, &grant, &query, &weather) {
        Ok(plan) => format!("{} {:#?}", grant.public_model(), &plan.lines()[..plan.candidates.len()]),
        // Which places were skipped on the way is told in words, and places of others are not spoken of.
        Err(Denied::NothingEnabled { model, .. }) => format!("nothing enabled for {model}"),
        Err(denied) => format!("{denied:?}"),
    }
}

/// The Models that are listed. Beside them the list of a whole table has names of Models that are closed to the caller where
/// a host takes these by a pattern.
fn listed(world: &World, key: &str) -> Vec<String> {
    let listed = models::reachable(world, &caller(world, key), NOW);
    let named = listed.into_iter().filter(|listed| listed.model.is_some());
    named.map(|listed| format!("{} of {}", listed.id, listed.owner)).collect()
}

/// Gives how many relay keys are in the table of the namespace, and how many of its requests are answered by somebody.
fn assert_scoped(whole: &Tables) -> Result<(usize, usize), TestCaseError> {
    let (table, credentials) = scope::scoped(&whole.table, &whole.credentials, "team");
    let scoped = Tables { table, credentials };
    assert_nothing_foreign(whole, &scoped)?;
    let (before, after) = (world(whole), world(&scoped));
    let mut served = 0;
    for key in scoped.table.relay_keys.keys() {
        prop_assert_eq!(scoped.table.relay_keys.get(key), whole.table.relay_keys.get(key));
        let key = key.to_string();
        for model in ASKED {
            let said = answer(whole, &before, &key, model);
            prop_assert_eq!(&answer(&scoped, &after, &key, model), &said, "{} asks for {}", &key, model);
            served += usize::from(said.contains("1. "));
        }
        prop_assert_eq!(listed(&after, &key), listed(&before, &key), "{}", key);
    }
    Ok((scoped.table.relay_keys.len(), served))
}

fn assert_nothing_foreign(whole: &Tables, scoped: &Tables) -> Result<(), TestCaseError> {
    let Tables { table, credentials } = scoped;
    let keyed = table.relay_keys.keys().chain(table.host_keys.keys()).chain(credentials.host_keys.keys());
    let foreign: BTreeSet<_> = keyed.chain(credentials.client_certificates.keys()).collect();
    prop_assert!(foreign.iter().all(|id| id.namespace == "team"), "{:?}", foreign);
    let seen = |id: &ObjectRef, allowed: &NamespaceGrant| allowed.permits(&id.namespace, "team");
    for (id, row) in &table.models {
        let was = whole.table.models.get(id).and_then(Row::usable);
        prop_assert!(row.usable().is_none() || was.is_some_and(|was| seen(id, &was.allowed)), "{}", id);
    }
    for id in table.policies.keys() {
        let was = whole.table.policies.get(id).and_then(Row::usable).expect("it is usable");
        prop_assert!(seen(id, &was.allowed), "{}", id);
    }
    for (id, row) in &table.hosts {
        let was = whole.table.hosts.get(id).and_then(Row::usable);
        let is_closed = was.is_some_and(|was| !seen(id, &was.allowed));
        let Some(host) = row.usable().filter(|_| is_closed) else { continue };
        prop_assert!(!host.base_url.contains(&id.namespace), "{}: {}", id, host.base_url);
    }
    let text = serde_json::to_string(table).expect("a table is JSON");
    for secret in ["secret words of other", "secret words of catalog", "elsewhere"] {
        prop_assert!(!text.contains(secret), "{} is in {}", secret, text);
    }
    Ok(())
}

#[test]
fn a_relay_key_in_the_table_of_its_namespace_is_answered_for_as_in_the_whole_one() {
    let (kept, served) = (Cell::new(0), Cell::new(0));
    let config = ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) };
    let run = TestRunner::new(config).run(&vec(any::<u8>(), 0..420), |numbers| {
        let (keys, answered) = assert_scoped(&made(&mut Dice(numbers.into_iter())))?;
        kept.set(kept.get() + keys);
        served.set(served.get() + answered);
        Ok(())
    });
    run.unwrap();
    println!("{} relay keys and {} answers were compared", kept.get(), served.get());
    assert!(kept.get() > 300 && served.get() > 300, "{} keys, {} answers: little was tried", kept.get(), served.get());
}

/// A team with a model, a host and a key of its own, under the policies of `app`, and a catalog with another.
fn team() -> Tables {
    Tables::new()
        .open()
        .bare_host("h", OpenaiChat)
        .host_key("k", "h", |_| ())
        .model("m", &["h"])
        .bare_host("catalog/h", OpenaiChat)
        .host_key("catalog/k", "catalog/h", |_| ())
        .model("catalog/gpt-1", &["catalog/h"])
}

fn is_kept(tables: &Tables) -> bool {
    scope::scoped(&tables.table, &tables.credentials, "team").0.relay_keys.contains_key(&id("app"))
}

#[test]
fn what_is_counted_across_pods_at_any_place_is_left_to_who_counts() {
    assert!(is_kept(&team()));
    let limits = table::Limits { tpm: Some(9), ..table::Limits::default() };
    let of_models = vec![table::ModelLimits { matches: "m".into(), limits: limits.clone() }];
    let budget = table::Budget {
        amount: table::NanoUsd(5),
        period: table::Period::Day,
        timezone: "UTC".into(),
        on_exceeded: table::BudgetAction::Alert,
        alert_at_percent: Vec::new(),
    };
    let counted = [
        team().relay_key("app", &["all"], |key| key.limits = limits.clone()),
        team().relay_key("app", &["all"], |key| key.budget = Some(budget.clone())),
        team().policy("all", &["*"], |policy| policy.limits = limits.clone()),
        team().policy("all", &["*"], |policy| policy.budgets = vec![budget]),
        team().policy("all", &["*"], |policy| policy.per_model = of_models),
        team().edit_host("h", |host| host.limits.concurrency = Some(2)),
        team().host_key("k", "h", |key| key.limits.rpd = Some(2)),
    ];
    for (number, tables) in counted.iter().enumerate() {
        assert!(!is_kept(tables), "{number}");
    }
    let burst = table::Limits { burst_percent: 50, ..table::Limits::default() };
    assert!(is_kept(&team().policy("all", &["*"], |policy| policy.limits = burst)), "of nothing it is nothing");
}

#[test]
fn what_takes_a_credential_that_is_not_the_namespaces_own_is_left_to_who_has_it() {
    let with = |credential: Credential| {
        let mut tables = team();
        tables.credentials.host_keys.insert(id("k"), credential);
        tables
    };
    let opened = team().edit_host("catalog/h", |host| host.allowed = NamespaceGrant::All);
    let open = NamespaceGrant::Listed(["team".to_owned()].into());
    let foreign = [
        // Files and variables are those of the shared data planes.
        with(Credential::Env("RELAY_KEY_A".into())),
        with(Credential::File("/var/run/relay/key".into())),
        // A key of the catalog that the team may draw, beside its own.
        opened.clone().host_key("catalog/k", "catalog/h", |key| key.allowed = open),
        opened.clone().edit_host("catalog/h", |host| host.auth = Auth::None),
        team().host_key("catalog/shared", "h", |key| key.allowed = NamespaceGrant::All),
        team().relay_key("app", &["all"], |key| key.allowed_cidrs = vec!["10.0.0.0/8".parse().unwrap()]),
    ];
    for (number, tables) in foreign.iter().enumerate() {
        assert!(!is_kept(tables), "{number}");
    }
    let own = opened.host_key("own", "catalog/h", |_| ());
    assert!(is_kept(&own), "its own key at a host of the catalog");
    let (table, credentials) = scope::scoped(&own.table, &own.credentials, "team");
    assert_eq!(table.host_keys.keys().collect::<Vec<_>>(), [&id("k"), &id("own")]);
    assert_eq!(credentials.host_keys.keys().collect::<Vec<_>>(), [&id("k"), &id("own")]);
    let narrow = own.host_key("catalog/k", "catalog/h", |key| key.allowed = NamespaceGrant::All);
    assert!(!is_kept(&narrow));
    let own_hosts = |policy: &mut table::Policy| policy.hosts.allow = texts(&["team/*"]);
    assert!(is_kept(&narrow.clone().policy("all", &["*"], own_hosts)), "what a policy keeps out is not drawn");
    assert!(is_kept(&narrow.policy("all", &["m"], |_| ())), "nor what it does not grant");
}

#[test]
fn a_host_that_is_closed_to_the_namespace_is_there_without_its_place_and_its_headers() {
    let tables = team()
        .policy("all", &["*"], |policy| policy.hosts.allow = texts(&["team/*"]))
        .edit_host("catalog/h", |host| host.allowed = NamespaceGrant::Same)
        .edit_host("catalog/h", |host| host.headers.set = vec![("x-gateway".into(), "token".into())]);
    let (table, _) = scope::scoped(&tables.table, &tables.credentials, "team");
    let host = table.hosts.get(&id("catalog/h")).and_then(Row::usable).expect("a model of the catalog is there");
    assert_eq!((host.base_url.as_str(), host.shape), ("https://closed.invalid/v1", OpenaiChat));
    assert!(host.headers.set.is_empty() && !table.host_keys.contains_key(&id("catalog/k")));
    let nobody = scope::scoped(&tables.table, &tables.credentials, "nobody").0;
    assert_eq!(nobody, RoutingTable { settings: tables.table.settings.clone(), ..RoutingTable::default() });
}
