use std::collections::BTreeMap;

use smallvec::smallvec;
use table::{Globs, ModelLimits, NamespaceGrant, PartialTimeouts, Period, Retries, Routing, Translation};

use super::*;

const SMALL: Expected = Expected { input: 40, output: 60, cost: NanoUsd(7) };

fn team(name: &str) -> ObjectRef {
    ObjectRef::new("team", name)
}

fn relay_key(limits: Limits, budget: Option<Budget>) -> RelayKey {
    RelayKey {
        token_sha256: String::new(),
        previous: None,
        policies: vec![team("p")],
        expires_at: None,
        revoked: false,
        suspended: false,
        limits,
        budget,
        allowed_cidrs: Vec::new(),
        attributes: BTreeMap::new(),
        unusable: None,
    }
}

fn policy(limits: Limits, limit_scope: LimitScope, per_model: &[(&str, Limits)]) -> Policy {
    let row = |(matches, limits): &(&str, Limits)| ModelLimits { matches: (*matches).into(), limits: limits.clone() };
    Policy {
        models: Globs::default(),
        model_refs: Vec::new(),
        hosts: Globs::default(),
        limits,
        limit_scope,
        limit_mode: LimitMode::Exact,
        redis_outage: RedisOutage::LocalShare,
        per_model: per_model.iter().map(row).collect(),
        budgets: Vec::new(),
        routing: Routing::default(),
        retries: Retries::default(),
        timeouts: PartialTimeouts::default(),
        translation: Translation::default(),
        allowed: NamespaceGrant::Same,
    }
}

fn budget(amount: u64) -> Budget {
    Budget {
        amount: NanoUsd(amount),
        period: Period::Month,
        timezone: "Europe/Berlin".into(),
        on_exceeded: BudgetAction::Alert,
        alert_at_percent: vec![80],
    }
}

fn rpm(rpm: u64) -> Limits {
    Limits { rpm: Some(rpm), ..Limits::default() }
}

fn tpm(tpm: u64) -> Limits {
    Limits { tpm: Some(tpm), ..Limits::default() }
}

/// The caller's scopes of key `team/a` for model `gpt-5` under one policy `team/p`.
fn under(policy: &Policy, expected: Expected) -> Vec<ScopeClaim> {
    let globs: Vec<_> = policy.per_model.iter().map(|row| Glob::new(&row.matches)).collect();
    let of = PolicyTerms { name: &team("p"), policy, per_model: &globs };
    let relay_key = relay_key(Limits::default(), None);
    wanting(
        &caller_scopes(&Terms { key: &team("a"), relay_key: &relay_key, policies: &[of], model: Some("gpt-5") }),
        expected,
    )
}

fn of_key(limits: Limits, expected: Expected) -> Vec<ScopeClaim> {
    let relay_key = relay_key(limits, None);
    wanting(
        &caller_scopes(&Terms { key: &team("a"), relay_key: &relay_key, policies: &[], model: Some("gpt-5") }),
        expected,
    )
}

fn rate(counted: Counted, span: Span, limit: u64, amount: u64) -> RateClaim {
    RateClaim { counted, span, ceiling: Ceiling::flat(limit), amount }
}

fn by_key() -> Sharer {
    Sharer::Key(team("a"))
}

#[test]
fn a_key_without_limits_claims_nothing() {
    assert_eq!(of_key(Limits::default(), SMALL), []);
}

#[test]
fn every_kind_of_limit_becomes_a_claim_of_its_own_amount() {
    let limits = Limits {
        rpm: Some(1_000),
        rpd: Some(2_000),
        tpm: Some(3_000),
        tpd: Some(4_000),
        input_tpm: Some(5_000),
        output_tpm: Some(6_000),
        concurrency: Some(7),
        burst_percent: 0,
    };
    let expected = ScopeClaim {
        rates: smallvec![
            rate(Counted::Requests, Span::Minute, 1_000, 1),
            rate(Counted::Requests, Span::Day, 2_000, 1),
            rate(Counted::Tokens, Span::Minute, 3_000, 100),
            rate(Counted::Tokens, Span::Day, 4_000, 100),
            rate(Counted::InputTokens, Span::Minute, 5_000, 40),
            rate(Counted::OutputTokens, Span::Minute, 6_000, 60),
        ],
        concurrency: Some(7),
        ..ScopeClaim::new(Arc::new(Scope::RelayKey(team("a"))))
    };
    assert_eq!(of_key(limits, SMALL), [expected]);
}

#[test]
fn bursts_are_for_minutes_only() {
    let limits = Limits { rpm: Some(10), rpd: Some(10), burst_percent: 20, ..Limits::default() };
    let ceilings: Vec<_> = of_key(limits, SMALL)[0].rates.iter().map(|rate| rate.ceiling).collect();
    assert_eq!(ceilings, [Ceiling { limit: 10, burst_percent: 20 }, Ceiling::flat(10)]);
}

#[test]
fn the_key_and_every_policy_are_charged() {
    let relay_key = relay_key(rpm(1), None);
    let (one, two) = (policy(rpm(2), LimitScope::PerKey, &[]), policy(rpm(3), LimitScope::Shared, &[]));
    let (p, q) = (team("p"), ObjectRef::new("catalog", "q"));
    let policies = [&one, &two].into_iter().zip([&p, &q]);
    let policies: Vec<_> = policies.map(|(policy, name)| PolicyTerms { name, policy, per_model: &[] }).collect();
    let terms = Terms { key: &team("a"), relay_key: &relay_key, policies: &policies, model: Some("gpt-5") };
    let scopes: Vec<_> = wanting(&caller_scopes(&terms), SMALL).iter().map(|claim| (*claim.scope).clone()).collect();
    let expected = [
        Scope::RelayKey(team("a")),
        Scope::Policy { policy: p, sharer: by_key() },
        Scope::Policy { policy: q, sharer: Sharer::Namespace("team".into()) },
    ];
    assert_eq!(scopes, expected);
}

#[test]
fn a_model_has_counters_of_its_own_within_the_policy() {
    let claims = under(&policy(rpm(9), LimitScope::PerKey, &[("gpt-*", tpm(500))]), SMALL);
    let scope = Scope::Model { policy: team("p"), sharer: by_key(), model: "gpt-5".into() };
    assert_eq!(*claims[1].scope, scope);
    assert_eq!(claims[1].rates[..], [rate(Counted::Tokens, Span::Minute, 500, 100)]);
}

#[test]
fn every_scope_of_a_policy_is_counted_as_the_policy_says_and_outlives_redis_as_it_says() {
    let plain = policy(rpm(9), LimitScope::Shared, &[("gpt-*", rpm(5))]);
    let leased = Policy { limit_mode: LimitMode::Leased, redis_outage: RedisOutage::Open, ..plain.clone() };
    let ways = |policy| under(policy, SMALL).iter().map(|claim| (claim.mode, claim.outage)).collect::<Vec<_>>();
    assert_eq!(ways(&plain), [(LimitMode::Exact, RedisOutage::LocalShare); 2]);
    assert_eq!(ways(&leased), [(LimitMode::Leased, RedisOutage::Open); 2]);
}

#[test]
fn the_keys_own_counters_are_exact_and_follow_the_strictest_of_its_policies_in_an_outage() {
    let own = |outages: &[RedisOutage]| {
        let leased = |outage: &RedisOutage| Policy {
            limit_mode: LimitMode::Leased,
            redis_outage: *outage,
            ..policy(Limits::default(), LimitScope::PerKey, &[])
        };
        let rows: Vec<_> = outages.iter().map(leased).collect();
        let (name, relay_key) = (team("p"), relay_key(rpm(1), None));
        let terms: Vec<_> = rows.iter().map(|policy| PolicyTerms { name: &name, policy, per_model: &[] }).collect();
        let terms = Terms { key: &team("a"), relay_key: &relay_key, policies: &terms, model: None };
        let claims = wanting(&caller_scopes(&terms), SMALL);
        assert_eq!((claims.len(), claims[0].mode), (1, LimitMode::Exact));
        claims[0].outage
    };
    use RedisOutage::{Closed, LocalShare, Open};
    let cases = [own(&[]), own(&[Open]), own(&[Open, LocalShare]), own(&[LocalShare, Closed, Open])];
    assert_eq!(cases, [LocalShare, Open, LocalShare, Closed]);
}

#[test]
fn without_a_model_the_limits_of_single_models_are_left_out() {
    let policy = policy(rpm(9), LimitScope::PerKey, &[("*", tpm(500))]);
    let (globs, relay_key) = ([Glob::new("*")], relay_key(Limits::default(), None));
    let of = PolicyTerms { name: &team("p"), policy: &policy, per_model: &globs };
    let terms = Terms { key: &team("a"), relay_key: &relay_key, policies: &[of], model: None };
    let scopes: Vec<_> = wanting(&caller_scopes(&terms), SMALL).iter().map(|claim| claim.scope.kind()).collect();
    assert_eq!(scopes, ["policy"]);
}

#[test]
fn a_pattern_that_does_not_match_claims_nothing() {
    assert_eq!(under(&policy(Limits::default(), LimitScope::PerKey, &[("claude-*", rpm(1))]), SMALL), []);
}

#[test]
fn of_several_patterns_that_match_the_lowest_of_each_kind_holds() {
    let rows = [("*", Limits { rpm: Some(9), tpm: Some(200), ..Limits::default() }), ("gpt-*", rpm(5))];
    let claims = under(&policy(Limits::default(), LimitScope::PerKey, &rows), SMALL);
    let rates = [rate(Counted::Requests, Span::Minute, 5, 1), rate(Counted::Tokens, Span::Minute, 200, 100)];
    assert_eq!((claims.len(), &claims[0].rates[..]), (1, &rates[..]));
}

#[test]
fn an_estimate_is_cut_to_what_the_bucket_could_ever_hold() {
    let amount = |limit, input, output| of_key(tpm(limit), Expected { input, output, ..SMALL })[0].rates[0].amount;
    assert_eq!(amount(1_000, 100, 64_000), 1_000);
    assert_eq!(amount(1_000, 1_500, 256), 1_000, "an estimate may be wrong by half");
    assert_eq!(amount(1_000, 2_001, 256), 2_257, "but not by more: refused for good");
    assert_eq!(amount(0, 1, 0), 1, "a limit of zero lets nothing in");
}

#[test]
fn an_output_limit_of_zero_lets_nothing_in() {
    let limits = Limits { output_tpm: Some(0), ..Limits::default() };
    assert_eq!(of_key(limits, Expected { output: 0, ..SMALL })[0].rates[0].amount, 1);
}

#[test]
fn the_bucket_holds_its_burst_too() {
    let limits = Limits { tpm: Some(1_000), burst_percent: 50, ..Limits::default() };
    assert_eq!(of_key(limits, Expected { input: 10, output: 9_999, ..SMALL })[0].rates[0].amount, 1_500);
}

#[test]
fn a_budget_claims_the_expected_cost_and_keeps_its_calendar() {
    let relay_key = relay_key(Limits::default(), Some(budget(1_000)));
    let terms = Terms { key: &team("a"), relay_key: &relay_key, policies: &[], model: Some("gpt-5") };
    let expected = BudgetClaim {
        period: Period::Month,
        timezone: "Europe/Berlin".into(),
        limit: NanoUsd(1_000),
        amount: NanoUsd(7),
        blocks: false,
        alert_at_percent: [80].into(),
    };
    assert_eq!(wanting(&caller_scopes(&terms), SMALL)[0].budgets[..], [expected]);
}

#[test]
fn what_a_provider_limits_is_exact_whoever_the_caller_is() {
    let limited = ProviderLimits { rpm: Some(10), concurrency: Some(2), ..ProviderLimits::default() };
    let name = Scope::HostKey(ObjectRef::new("catalog", "k"));
    let expected = ScopeClaim {
        rates: smallvec![rate(Counted::Requests, Span::Minute, 10, 1)],
        concurrency: Some(2),
        ..ScopeClaim::new(Arc::new(name.clone()))
    };
    assert_eq!((expected.mode, expected.outage), (LimitMode::Exact, RedisOutage::LocalShare));
    assert_eq!(provider_scope(name.clone(), &limited).map(|scope| scope.wanting(SMALL)), Some(expected));
    assert_eq!(provider_scope(name, &ProviderLimits::default()), None);
}

#[test]
fn what_is_claimed_depends_on_the_last_request_alone() {
    let policy = Policy { budgets: vec![budget(1_000)], ..policy(tpm(500), LimitScope::PerKey, &[]) };
    let large = under(&policy, Expected { input: 100, output: 200, cost: NanoUsd(900) });
    assert_eq!(wanting(&large, SMALL), under(&policy, SMALL));
}
