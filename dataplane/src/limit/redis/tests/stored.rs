//! Counters as they are stored: what other versions have written is read, and what is written they can read.

use std::{collections::BTreeMap, sync::Arc};

use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use super::{
    super::{
        Redis, Settings,
        keys::Keys,
        script::{Script, Time},
        wire::{self, Entry, Settled},
    },
    books,
    places::{Place, Standalone},
};
use crate::{
    limit::{
        Limiter, RuleUsage,
        claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
        reservation::Used,
        rule::{Counted, Rule, Scope, Span},
        window::Ceiling,
    },
    pool::signals::Signals,
};

const DAY: u64 = 24 * 60 * 60 * 1_000;

async fn process(prefix: &str) -> Redis {
    let settings = Settings { prefix: prefix.to_owned(), time: Time::Redis, records: None };
    let redis = Redis::start(Standalone::shared().target(), &settings, &books(), Arc::new(Signals::new())).await;
    redis.expect("the target is whole")
}

fn scope() -> Arc<Scope> {
    Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")))
}

fn rate(counted: Counted, amount: u64) -> RateClaim {
    RateClaim { counted, span: Span::Day, ceiling: Ceiling::flat(1_000), amount }
}

fn budget(amount: u64) -> BudgetClaim {
    BudgetClaim {
        period: Period::Total,
        timezone: "UTC".into(),
        limit: NanoUsd(1_000),
        amount: NanoUsd(amount),
        blocks: true,
        alert_at_percent: [].into(),
    }
}

fn both() -> ScopeClaim {
    ScopeClaim {
        rates: smallvec![rate(Counted::Tokens, 100), rate(Counted::Requests, 1)],
        budgets: smallvec![budget(10)],
        ..ScopeClaim::new(scope())
    }
}

fn claims(scopes: impl IntoIterator<Item = ScopeClaim>) -> Claims {
    Claims { domain: "team".into(), scopes: scopes.into_iter().collect(), ..Claims::default() }
}

async fn used(redis: &Redis, claim: ScopeClaim) -> BTreeMap<&'static str, u64> {
    redis.inner.settled().await;
    let usage = redis.usage(vec![claim]).await.expect("redis is there");
    usage.iter().map(|RuleUsage { rule, used, .. }| (rule.rule.as_str(), *used)).collect()
}

/// Writes counters as `cmsgpack` packs a table of them: in any order, numbers as short as they are.
fn written_before(prefix: &str, fields: &str) {
    let key = Keys::new(prefix).scope(&scope());
    let script = "local now = redis.call('TIME')[1] * 1000
        local bucket = math.floor(now / ARGV[1])
        local counters = loadstring('local now, bucket = ... return ' .. ARGV[2])(now, bucket)
        redis.call('SET', KEYS[1], cmsgpack.pack(counters))";
    Standalone::shared().serving("team").cli(&["EVAL", script, "1", &key, &DAY.to_string(), fields]);
}

fn names(counts: &[(Rule, u64)]) -> BTreeMap<&'static str, u64> {
    counts.iter().map(|(rule, used)| (rule.as_str(), *used)).collect()
}

const REQUESTS: Rule = Rule::Rate { counted: Counted::Requests, span: Span::Day };
const TOKENS: Rule = Rule::Rate { counted: Counted::Tokens, span: Span::Day };
const TOTAL: Rule = Rule::Budget(Period::Total);

#[tokio::test]
async fn counters_that_another_version_wrote_go_on() {
    let redis = process("stored-before").await;
    written_before(
        "stored-before",
        "{tokens_per_day = {bucket, 300, 0, 0}, requests_per_day = {bucket, 3, 0, 0}, \
          budget_total = {0, 0, 50, 0, 0}, x = 9007199254740991}",
    );
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 3), (TOKENS, 300), (TOTAL, 50)]));
    let held = redis.reserve(claims([both()])).await.expect("the claims fit");
    assert!(!held.is_degraded());
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 4), (TOKENS, 400), (TOTAL, 60)]));
    held.settle(Used { input_tokens: 20, output_tokens: 0, cost: NanoUsd(7) });
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 4), (TOKENS, 320), (TOTAL, 57)]));
}

#[tokio::test]
async fn counters_of_rules_that_a_claim_does_not_name_stay_and_count_again_when_one_does() {
    let redis = process("stored-others").await;
    let tokens_alone = || ScopeClaim { rates: smallvec![rate(Counted::Tokens, 100)], ..ScopeClaim::new(scope()) };
    for claim in [both(), tokens_alone(), both(), tokens_alone()] {
        let held = redis.reserve(claims([claim])).await.expect("the claims fit");
        held.settle(Used { input_tokens: 100, output_tokens: 0, cost: NanoUsd(10) });
        redis.inner.settled().await;
    }
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 2), (TOKENS, 400), (TOTAL, 20)]));
}

#[tokio::test]
async fn one_call_may_name_the_same_counters_under_other_rules() {
    let redis = process("stored-twice").await;
    let requests = || ScopeClaim { rates: smallvec![rate(Counted::Requests, 1)], ..ScopeClaim::new(scope()) };
    let tokens = ScopeClaim { rates: smallvec![rate(Counted::Tokens, 100)], ..ScopeClaim::new(scope()) };
    let candidates = vec![CandidateClaim { scopes: vec![tokens], ..CandidateClaim::default() }];
    let held = redis.reserve(Claims { candidates, max_candidates: 1, ..claims([requests()]) }).await;
    let _held = held.expect("the claims fit");
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 1), (TOKENS, 100), (TOTAL, 0)]));
}

#[tokio::test]
async fn what_is_stored_is_a_map_by_name_as_other_versions_read_it() {
    let redis = process("stored-plain").await;
    let _held = redis.reserve(claims([both()])).await.expect("the claims fit");
    let key = Keys::new("stored-plain").scope(&scope());
    let read = "local all = cmsgpack.unpack(redis.call('GET', KEYS[1]))
        return all.tokens_per_day[2] .. ' ' .. all.requests_per_day[4] .. ' ' .. all.budget_total[3] .. ' ' .. all.x";
    let said = Standalone::shared().serving("team").cli(&["EVAL", read, "1", &key]);
    assert_eq!(said, "100 1 10 9.007199254741e+15");
}

#[tokio::test]
async fn a_call_with_more_candidates_than_luas_stack_takes_is_decided() {
    let redis = process("stored-many").await;
    let own = |n: usize| {
        let scope = Arc::new(Scope::HostKey(ObjectRef::new("team", format!("key-{n}"))));
        // All but the last are full.
        let ceiling = Ceiling::flat(if n == 999 { 10 } else { 0 });
        let rates = smallvec![RateClaim { ceiling, ..rate(Counted::Requests, 1) }];
        CandidateClaim { scopes: vec![ScopeClaim { rates, ..ScopeClaim::new(scope) }], ..CandidateClaim::default() }
    };
    let many = Claims { candidates: (0..1_000).map(own).collect(), max_candidates: 2, ..claims([both()]) };
    let held = redis.reserve(many.clone()).await.expect("one is open");
    assert_eq!((held.candidates(), held.is_degraded()), (&[999][..], false));
    let closed = Claims { candidates: many.candidates[..999].to_vec(), ..many };
    let refused = redis.reserve(closed).await.expect_err("all are full");
    assert!(refused.to_string().contains("the upstream"), "{refused}");
}

#[tokio::test]
async fn what_is_settled_of_counters_as_they_were_written_goes_by_no_names() {
    let redis = process("stored-rows").await;
    let host = Arc::new(Scope::HostKey(ObjectRef::new("team", "key")));
    let rates = smallvec![rate(Counted::Requests, 1)];
    let scopes = vec![ScopeClaim { rates, concurrency: Some(5), ..ScopeClaim::new(host) }];
    let candidates = vec![CandidateClaim { scopes, ..CandidateClaim::default() }];
    let held = redis.reserve(Claims { candidates, max_candidates: 1, ..claims([both()]) }).await;
    let _held = held.expect("the claims fit");
    let keys = Keys::new("stored-rows");
    let id = Standalone::shared().serving("team").cli(&["HKEYS", &keys.holds("team")]);

    let settle = &redis.inner.scripts.settle.text;
    let rows_alone = settle.replace("if not is_applied() then", "if not is_applied() then\n  do return 'by names' end");
    assert_ne!(*settle, rows_alone);
    let real = Used { input_tokens: 20, output_tokens: 0, cost: NanoUsd(7) };
    let argument = wire::batch(1, 1_000, "never", &[Entry::Settle { id: (*id).into(), used: real }]);
    let (script, keys) = (Script::new("rows", rows_alone), wire::batch_keys(&keys, "team", "another"));
    let said = redis.inner.link.call("team", &script, &keys, &argument).await.expect("redis is there");

    let settled: Settled = wire::decoded(&said).expect("an answer of the script");
    assert_eq!(settled.unknown, Vec::<String>::new());
    assert_eq!(used(&redis, both()).await, names(&[(REQUESTS, 1), (TOKENS, 20), (TOTAL, 7)]));
}
