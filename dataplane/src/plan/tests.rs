use std::time::{Duration, Instant};

use WireShape::{AnthropicMessages, OpenaiChat};
use protocol::error::{ErrorKind, WireError};
use serde_json::json;
use table::{Capability, NamespaceGrant, PicoUsdPerToken, Pricing, Rates, Row, Stickiness, Strategy, VirtualStrategy};

use super::*;
use crate::{
    admit,
    breaker::outcome::{Horizon, Outcome, Side},
    limit::{
        claims::{BreakerClaim, ScopeClaim},
        terms::Expected,
    },
    pool::signals::Signals,
    upstream::credentials::{HostSecret, KeyHash, Keyring},
    world::build::{Tables, ask, caller, fallback, id, plain_ask, texts},
};

const NOW: Timestamp = Timestamp::constant(1_800_000_000, 0);

/// A request for `m`, with what tests change about it.
struct Case {
    model: &'static str,
    ask: Ask,
    purpose: Purpose,
    input_tokens: u64,
    seed: u64,
    signals: Signals,
    now: Instant,
}

impl Case {
    fn of(model: &'static str) -> Self {
        Self {
            model,
            ask: plain_ask(),
            purpose: Purpose::Conversation,
            input_tokens: 100,
            seed: 7,
            signals: Signals::new(),
            now: Instant::now(),
        }
    }

    /// An attempt at `host` with the key of that name ended like this, now.
    fn ended(self, name: &str, outcome: Outcome) -> Self {
        let flight = self.signals.begin(hash(name), &id(name), self.now);
        flight.report(outcome, self.now, &table::Breaker::default());
        self
    }

    fn plan(&self, tables: &Tables) -> Result<Plan, Denied> {
        let keyring = Keyring::new(&tables.credentials);
        let world = tables.clone().world();
        let grant = admit::admit(&world, caller(&world, "app"), self.model)?;
        let query = Query {
            purpose: self.purpose,
            ask: &self.ask,
            estimate: Estimate { input: self.input_tokens, output: 100 },
            now: NOW,
            seed: self.seed,
        };
        plan(&world, &grant, &query, &Weather { signals: &self.signals, keyring: &keyring, now: self.now })
    }

    /// `model@host` of each candidate.
    fn order(&self, tables: &Tables) -> Vec<String> {
        let plan = self.plan(tables).unwrap_or_else(|denied| panic!("{denied}"));
        plan.candidates.iter().map(|c| format!("{}@{}", c.public_model(), c.host.id.name)).collect()
    }

    /// What was skipped, as people read it.
    fn skipped(&self, tables: &Tables) -> Vec<String> {
        self.plan(tables).unwrap().skipped.iter().map(ToString::to_string).collect()
    }
}

fn order(tables: &Tables) -> Vec<String> {
    Case::of("m").order(tables)
}

/// `m` at `a` and `b`, which speak different shapes.
fn two() -> Tables {
    Tables::new().open().host("a", OpenaiChat).host("b", AnthropicMessages).model("m", &["a", "b"])
}

fn with_strategy(strategy: Strategy) -> Tables {
    two().policy("all", &["*"], |policy| policy.routing.strategy = strategy)
}

fn cost(input: u64, output: u64) -> Option<Pricing> {
    let rates =
        Rates { input: Some(PicoUsdPerToken(input)), output: Some(PicoUsdPerToken(output)), ..Rates::default() };
    Some(Pricing { rates, ..Pricing::default() })
}

#[test]
fn bindings_of_any_shape_go_by_priority_then_weight_then_as_listed() {
    assert_eq!(order(&two()), ["m@a", "m@b"]);
    assert_eq!(order(&two().edit_binding("m", "b", |b| b.weight = 200)), ["m@b", "m@a"]);
    let last = two().edit_binding("m", "b", |b| (b.weight, b.priority) = (200, 1));
    assert_eq!(order(&last), ["m@a", "m@b"]);
}

#[test]
fn the_weighted_strategy_draws_by_weight_and_keeps_the_other_as_second() {
    let tables = with_strategy(Strategy::Weighted).edit_binding("m", "b", |b| b.weight = 900);
    let draws = (0..400).map(|seed| Case { seed, ..Case::of("m") }.order(&tables));
    let first_a = draws.filter(|order| order[0] == "m@a" && order.len() == 2).count();
    assert!((20..70).contains(&first_a), "{first_a} of 400 for a weight of 100 in 1000");
}

/// Where the health of the key is kept that builders make.
fn hash(name: &str) -> KeyHash {
    HostSecret::new(&format!("secret-of-{name}")).unwrap().hash().at(KeyHash::keyless(&id(name)))
}

#[test]
fn the_fastest_the_idlest_and_the_cheapest_go_first_under_their_strategies() {
    let case = Case::of("m");
    let took = |name: &str, seconds| {
        let flight = case.signals.begin(hash(name), &id(name), case.now);
        flight.first_content(case.now + Duration::from_secs(seconds));
        flight
    };
    let _busy = [took("a", 2), took("a", 2), took("b", 1)];
    for strategy in [Strategy::LeastLatency, Strategy::LeastBusy] {
        assert_eq!(case.order(&with_strategy(strategy)), ["m@b", "m@a"], "{strategy:?}");
    }
    let tables = with_strategy(Strategy::Cheapest).edit_binding("m", "a", |b| b.pricing = cost(3, 30)).edit_binding(
        "m",
        "b",
        |b| b.pricing = cost(20, 1),
    );
    assert_eq!(order(&tables), ["m@b", "m@a"]);
    let many = Case { input_tokens: 100_000, ..Case::of("m") };
    assert_eq!(many.order(&tables), ["m@a", "m@b"]);
    assert_eq!(order(&tables.edit_binding("m", "b", |b| b.pricing = None)), ["m@a", "m@b"]);
}

#[test]
fn a_host_whose_latency_is_unknown_is_tried_to_learn_it() {
    let case = Case::of("m");
    case.signals.begin(hash("a"), &id("a"), case.now).first_content(case.now + Duration::from_secs(1));
    assert_eq!(case.order(&with_strategy(Strategy::LeastLatency)), ["m@b", "m@a"]);
}

#[test]
fn a_failing_host_goes_last_whatever_its_priority_but_stays() {
    let down = Outcome::Unreachable(Side::Host);
    let case = Case::of("m").ended("a", down).ended("a", down).ended("a", down);
    assert_eq!(case.order(&two()), ["m@b", "m@a"]);
    assert!(case.plan(&two()).unwrap().candidates[1].is_last_resort);
}

#[test]
fn a_key_that_is_out_is_not_drawn_while_any_place_has_one_that_is_ready() {
    let case = Case::of("m").ended("a", Outcome::Auth);
    assert_eq!(case.order(&two()), ["m@b"]);
    assert_eq!(case.skipped(&two()), ["key team/a of team/a is out for 300.0 s after a refusal of the key"]);
    let failing = Outcome::ServerError;
    let case = Case::of("m").ended("a", failing).ended("a", failing).ended("a", failing);
    assert_eq!(case.order(&two()), ["m@b"]);
    let alone = Tables::new().open().host("a", OpenaiChat).model("m", &["a"]);
    assert_eq!(case.order(&alone), ["m@a"], "a provider that failed is asked again when nothing else is left");
}

#[test]
fn when_every_key_is_out_the_caller_hears_the_provider_and_when_the_first_is_back() {
    let limited = |seconds| Outcome::RateLimited { wait: Some(Duration::from_secs(seconds)), horizon: Horizon::Short };
    let case = Case::of("m").ended("a", limited(40)).ended("b", limited(20));
    let said = WireError::new(ErrorKind::RateLimited, "slow down, please");
    case.signals.key(hash("a")).remember(said.clone());
    let denied = case.plan(&two()).unwrap_err();
    assert_eq!(denied, Denied::Upstream(WireError { retry_after: Some(Duration::from_secs(20)), ..said }));
}

#[test]
fn a_conversation_keeps_its_key_where_policies_want_it() {
    let tables = Tables::new()
        .host("a", OpenaiChat)
        .host_key("a2", "a", |_| ())
        .host_key("a3", "a", |_| ())
        .model("m", &["a"])
        .policy("all", &["*"], |policy| policy.routing.stickiness = Stickiness::Conversation)
        .relay_key("app", &["all"], |_| ());
    let first = |seed| {
        let plan = Case { seed, ..Case::of("m") }.plan(&tables).unwrap();
        plan.candidates[0].keys().next().unwrap().id.clone()
    };
    assert!((0..50).all(|seed| first(seed) == first(99)));
}

#[test]
fn a_conversation_keeps_its_host_under_every_seed_and_conversations_spread() {
    let tables = two().policy("all", &["*"], |policy| {
        (policy.routing.strategy, policy.routing.stickiness) = (Strategy::Weighted, Stickiness::Conversation);
    });
    let first = |talk: usize, seed| {
        let ask = ask(json!({"model": "m", "messages": [{"role": "user", "content": format!("talk {talk}")}]}));
        Case { ask, seed, ..Case::of("m") }.order(&tables)[0].clone()
    };
    assert!((0..20).all(|talk| first(talk, 1) == first(talk, 2)));
    let at_a = (0..100).filter(|&talk| first(talk, 1) == "m@a").count();
    assert!((30..70).contains(&at_a), "{at_a} of 100");
}

#[test]
fn virtual_models_expand_in_their_order_before_any_priority_of_bindings() {
    let tables = two()
        .host("c", OpenaiChat)
        .model("n", &["c"])
        .edit_binding("n", "c", |b| b.priority = 50)
        .virtual_model("v", VirtualStrategy::Failover, &[("n", 1), ("m", 1)]);
    assert_eq!(Case::of("v").order(&tables), ["n@c", "m@a", "m@b"]);
    let nested = tables.virtual_model("w", VirtualStrategy::Failover, &[("w", 1), ("v", 1)]);
    let case = Case::of("w");
    assert_eq!(case.order(&nested), ["n@c", "m@a", "m@b"]);
    assert_eq!(case.skipped(&nested), ["Model team/w stands for itself"]);
}

#[test]
fn a_weighted_virtual_model_draws_its_target_and_the_others_follow() {
    let tables = two().model("n", &["a"]).virtual_model("v", VirtualStrategy::Weighted, &[("m", 1), ("n", 9)]);
    let orders: Vec<_> = (0..200).map(|seed| Case { seed, ..Case::of("v") }.order(&tables)).collect();
    assert!(orders.iter().all(|order| order.len() == 3));
    let first_m = orders.iter().filter(|order| order[0] == "m@a").count();
    assert!((5..45).contains(&first_m), "{first_m} of 200");
}

#[test]
fn an_internal_target_serves_and_a_denied_one_does_not() {
    let tables = two()
        .edit_model("m", |model| model.visibility = table::Visibility::Internal)
        .model("n", &["a"])
        .virtual_model("v", VirtualStrategy::Failover, &[("m", 1), ("n", 1)])
        .policy("all", &["v"], |_| ());
    assert_eq!(Case::of("v").order(&tables), ["m@a", "m@b", "n@a"]);
    let denying = tables.policy("all", &["v"], |policy| policy.models.deny = texts(&["m"]));
    assert_eq!(Case::of("v").order(&denying), ["n@a"]);
    assert_eq!(Case::of("v").skipped(&denying), ["Model team/m is kept out by policy `all`"]);
}

#[test]
fn what_is_out_of_service_is_skipped_and_the_reason_is_kept() {
    let suspended_host = two().edit_host("a", |host| host.suspended = true);
    let suspended_binding = two().edit_binding("m", "a", |b| b.suspended = true);
    let unusable = two().edit_binding("m", "a", |b| b.unusable = Some("its host is not open to it".into()));
    let mut invalid = two();
    invalid.table.hosts.insert(id("a"), Row::Invalid { reason: "no".into() });
    let mut missing = two();
    missing.table.hosts.remove(&id("a"));
    for (tables, reason) in [
        (suspended_host, "the host is suspended"),
        (suspended_binding, "the binding is suspended"),
        (unusable, "its host is not open to it"),
        (invalid, "the host's manifest is refused"),
        (missing, "the host is missing"),
    ] {
        assert_eq!(order(&tables), ["m@b"], "{reason}");
        assert_eq!(Case::of("m").skipped(&tables), [format!("m at team/a is out of service: {reason}")]);
    }
}

#[test]
fn a_host_without_a_key_for_the_caller_is_skipped_and_each_key_has_its_reason() {
    let tables = Tables::new()
        .open()
        .bare_host("catalog/a", OpenaiChat)
        .host_key("catalog/closed", "catalog/a", |_| ())
        .host_key("asleep", "catalog/a", |key| key.suspended = true)
        .host_key("old", "catalog/a", |key| key.expires_at = Some(NOW))
        .host_key("other", "catalog/a", |key| key.models.allow = texts(&["gpt-*"]))
        .host("b", OpenaiChat)
        .model("m", &["catalog/a", "b"]);
    assert_eq!(order(&tables), ["m@b"]);
    let expected = [
        "key catalog/closed of catalog/a is not open to the caller's namespace",
        "key team/asleep of catalog/a is suspended",
        "key team/old of catalog/a has expired",
        "key team/other of catalog/a is not entitled to the model",
        "m at catalog/a has no key that can be drawn",
    ];
    assert_eq!(Case::of("m").skipped(&tables), expected);
    let shown = Case::of("m").plan(&tables).unwrap().debug_lines("team");
    assert!(!shown.iter().any(|line| line.contains("catalog/closed")), "{shown:?}");
}

#[test]
fn a_host_that_needs_no_key_is_served_without_one() {
    let tables = Tables::new()
        .open()
        .bare_host("local", OpenaiChat)
        .edit_host("local", |host| host.auth = Auth::None)
        .model("m", &["local"]);
    let plan = Case::of("m").plan(&tables).unwrap();
    let [draw] = plan.candidates[0].draws.as_slice() else { panic!("there is one draw") };
    assert!(draw.key.is_none() && draw.secret.is_none());
}

#[test]
fn a_key_whose_secret_cannot_be_read_is_skipped_and_the_model_has_no_key() {
    let mut tables = Tables::new().open().host("a", OpenaiChat).model("m", &["a"]);
    tables.credentials.host_keys.clear();
    let denied = Case::of("m").plan(&tables).unwrap_err();
    let reason = "m at team/a has no key that can be drawn".to_owned();
    assert_eq!(denied, Denied::NothingEnabled { model: "m".into(), reason });
}

#[test]
fn hosts_that_a_policy_keeps_out_are_not_tried() {
    let keeping = |deny: &[&str]| {
        let deny = texts(deny);
        two().policy("hosts", &["*"], |policy| policy.hosts.deny = deny).relay_key("app", &["all", "hosts"], |_| ())
    };
    assert_eq!(order(&keeping(&["a"])), ["m@b"]);
    let denied = Case::of("m").plan(&keeping(&["*"])).unwrap_err();
    assert_eq!(denied, Denied::HostNotGranted { host: "a".into(), policy: "hosts".into() });
}

#[test]
fn a_pin_leaves_one_host_and_no_fallbacks() {
    let tables = two()
        .host("c", OpenaiChat)
        .model("n", &["c"])
        .policy("all", &["*"], |policy| policy.routing.fallbacks = vec![fallback("m", &["n"])]);
    assert_eq!(Case::of("m").order(&tables), ["m@a", "m@b", "n@c"]);
    assert_eq!(Case::of("m@b").order(&tables), ["m@b"]);
    assert_eq!(Case::of("anthropic:m").order(&tables), ["m@b"]);
}

#[test]
fn fallbacks_follow_where_every_policy_grants_them_and_a_repeated_place_is_tried_once() {
    let tables =
        two().host("c", OpenaiChat).model("n", &["c"]).model("secret", &["c"]).policy("all", &["m", "n"], |policy| {
            policy.routing.fallbacks = vec![fallback("m*", &["secret", "n", "m", "gone"]), fallback("*", &["n"])];
        });
    let case = Case::of("m");
    assert_eq!(case.order(&tables), ["m@a", "m@b", "n@c"]);
    let expected = [
        "Model team/secret is out of service: it is a fallback that a policy does not grant",
        "Model team/gone is out of service: it is missing",
        "m at team/a is tried already",
        "m at team/b is tried already",
    ];
    assert_eq!(case.skipped(&tables), expected);
}

#[test]
fn a_model_that_lacks_what_the_request_needs_is_skipped() {
    let talk = |extra: serde_json::Value| {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "hello"}]});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ask(body)
    };
    let tool = json!({"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]});
    let schema =
        json!({"response_format": {"type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}}}});
    let image = json!([{"type": "image_url", "image_url": {"url": "https://x.example/y.png"}}]);
    let picture = json!({"messages": [{"role": "user", "content": image}]});
    for (extra, capability, lacks) in [
        (tool, Capability::Tools, "tools (capability Tools)"),
        (schema, Capability::JsonSchema, "answers by schema (capability JsonSchema)"),
        (picture, Capability::Vision, "images (capability Vision)"),
    ] {
        let tables = two()
            .can("m", &[Capability::Chat])
            .model("n", &["a"])
            .can("n", &[Capability::Chat, capability])
            .virtual_model("v", VirtualStrategy::Failover, &[("m", 1), ("n", 1)]);
        let case = |model| Case { ask: talk(extra.clone()), ..Case::of(model) };
        assert_eq!(case("v").order(&tables), ["n@a"], "{lacks}");
        let denied = case("m").plan(&tables).unwrap_err();
        assert_eq!(denied, Denied::NotCapable { model: "m".into(), lacks: lacks.into() });
        assert_eq!(case("m").order(&two()), ["m@a", "m@b"], "nothing is checked where nothing is known");
    }
}

#[test]
fn a_model_for_vectors_does_not_converse_and_embeddings_are_not_translated() {
    let vectors = two().can("m", &[Capability::Embeddings]);
    let denied = Case::of("m").plan(&vectors).unwrap_err();
    assert_eq!(denied.label(), "not_capable");
    let case = Case { purpose: Purpose::Embeddings, ..Case::of("m") };
    assert_eq!(case.order(&vectors), ["m@a"]);
    let expected = ["m at team/b speaks anthropic-messages, and this endpoint is not translated"];
    assert_eq!(case.skipped(&vectors), expected);
}

#[test]
fn a_window_that_is_too_small_is_skipped_while_there_is_a_larger_one() {
    let tables = two()
        .edit_binding("m", "a", |b| b.context_window = Some(1_000))
        .edit_binding("m", "b", |b| b.context_window = Some(2_000));
    let sized = |input_tokens| Case { input_tokens, ..Case::of("m") };
    assert_eq!(sized(1_000).order(&tables), ["m@a", "m@b"]);
    assert_eq!(sized(1_001).order(&tables), ["m@b"]);
    assert_eq!(sized(1_001).skipped(&tables), ["m at team/a takes 1000 tokens, about 1001 are sent"]);
    assert_eq!(sized(9_999).order(&tables), ["m@b"], "an estimate never refuses");
}

#[test]
fn a_model_with_nothing_enabled_says_why() {
    let suspended = two().edit_model("m", |model| model.suspended = true);
    let denied = Case::of("m").plan(&suspended).unwrap_err();
    let reason = "Model team/m is out of service: it is suspended".to_owned();
    assert_eq!(denied, Denied::NothingEnabled { model: "m".into(), reason });
}

#[test]
fn a_family_is_served_under_its_own_name_with_the_traits_of_that_name() {
    let tables = two().edit_host("b", |host| host.model_patterns = texts(&["claude-*"]));
    let plan = Case::of("claude-opus-5").plan(&tables).unwrap();
    let candidate = &plan.candidates[0];
    assert_eq!((candidate.upstream_model(), candidate.model().is_none()), ("claude-opus-5", true));
    assert_eq!(candidate.traits(), &Traits::for_model("claude-opus-5"));
    assert!(candidate.price().is_none());
}

#[test]
fn a_key_of_another_namespace_is_drawn_where_it_is_open_to_the_caller() {
    let tables = |allowed: NamespaceGrant| {
        Tables::new()
            .open()
            .bare_host("catalog/a", OpenaiChat)
            .host_key("catalog/k", "catalog/a", |key| key.allowed = allowed)
            .model("catalog/m", &["catalog/a"])
    };
    let open = NamespaceGrant::Listed(["team".to_owned()].into());
    assert_eq!(Case::of("m").order(&tables(open)), ["m@a"]);
    assert_eq!(Case::of("m").plan(&tables(NamespaceGrant::Same)).unwrap_err().label(), "nothing_enabled");
}

#[test]
fn a_plan_reads_as_lines() {
    let tables = two().edit_host("b", |host| host.suspended = true).host_key("a2", "a", |key| key.priority = 1);
    let lines = Case::of("m").plan(&tables).unwrap().lines();
    let expected =
        ["1. m at team/a as m (openai-chat, keys a, a2)", "- m at team/b is out of service: the host is suspended"];
    assert_eq!(lines, expected);
}

#[test]
fn a_plan_claims_the_callers_scopes_and_every_key_in_order() {
    let tables = two()
        .host_key("a2", "a", |key| (key.priority, key.limits.rpm) = (1, Some(5)))
        .edit_host("a", |host| host.limits.rpm = Some(8))
        .edit_host("b", |host| host.limits.tpm = Some(9))
        .relay_key("app", &["all"], |key| key.limits.rpm = Some(60))
        .policy("all", &["*"], |policy| {
            let limits = table::Limits { tpm: Some(7), ..table::Limits::default() };
            policy.per_model = vec![table::ModelLimits { matches: "m*".into(), limits }];
        });
    let world = tables.clone().world();
    let caller = caller(&world, "app");
    let grant = admit::admit(&world, caller.clone(), "m").unwrap();
    let plan = Case::of("m").plan(&tables).unwrap();
    let claims = plan.claims(&grant, Expected { input: 1, output: 1, ..Expected::default() }, 2);
    let kinds = |scopes: &[ScopeClaim]| scopes.iter().map(|claim| claim.scope.kind()).collect::<Vec<_>>();
    assert_eq!((&*claims.domain, claims.max_candidates), ("team", 2));
    assert_eq!(kinds(&claims.scopes), ["relay_key", "model"]);
    let candidates: Vec<_> = claims.candidates.iter().map(|claim| kinds(&claim.scopes)).collect();
    assert_eq!(candidates, [vec!["host"], vec!["host_key", "host"], vec!["host"]]);
    let steps: Vec<_> = plan.steps().iter().map(|step| step.draw.key.as_ref().unwrap().id.name.clone()).collect();
    assert_eq!(steps, ["a", "a2", "b"]);
    assert_eq!(kinds(&caller_scopes(&caller)), ["relay_key"]);
}

fn breakers(case: &Case, tables: &Tables) -> Vec<Option<BreakerClaim>> {
    let world = tables.clone().world();
    let grant = admit::admit(&world, caller(&world, "app"), case.model).unwrap();
    let claims = case.plan(tables).unwrap().claims(&grant, Expected::default(), 3);
    claims.candidates.into_iter().map(|claim| claim.breaker).collect()
}

#[test]
fn a_plan_names_the_breaker_of_each_key_in_the_namespace_of_the_key_or_of_a_host_that_needs_none() {
    let tables = Tables::new()
        .open()
        .bare_host("catalog/a", OpenaiChat)
        .host_key("own", "catalog/a", |_| ())
        .bare_host("catalog/local", OpenaiChat)
        .edit_host("catalog/local", |host| host.auth = Auth::None)
        .model("m", &["catalog/a", "catalog/local"]);
    let own = HostSecret::new("secret-of-own").unwrap().hash();
    let keyless = |name: &str| KeyHash::keyless(&id(name));
    let claim = |domain: &str, key| Some(BreakerClaim { domain: domain.into(), key });
    let expected = [claim("team", own.at(keyless("catalog/a"))), claim("catalog", keyless("catalog/local"))];
    assert_eq!(breakers(&Case::of("m"), &tables), expected);
}

#[test]
fn a_key_that_is_tried_although_it_is_out_is_claimed_whatever_others_say_of_it() {
    let tables = Tables::new().open().host("a", OpenaiChat).model("m", &["a"]);
    let mut case = Case::of("m");
    for _ in 0..3 {
        case = case.ended("a", Outcome::ServerError);
    }
    assert_eq!(breakers(&case, &tables), [None]);
}
