//! A reservation that expired although it went on: what is missing of it is put right, or, where its counters are lost
//! meanwhile, all of it is told to the new ones. Never both.

use std::sync::Arc;

use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use super::{
    super::{
        Redis, Settings,
        batches::{Ended, lease},
        ledger::Dated,
        script::Time,
        wire::Settled,
    },
    books,
    places::{Place, Standalone},
};
use crate::{
    limit::{
        Limiter,
        claims::{BudgetClaim, Claims, RateClaim, ScopeClaim},
        counter::Outcome,
        reservation::Used,
        rule::{Counted, Scope, Span},
        window::Ceiling,
    },
    pool::signals::Signals,
};

/// When counters began that are lost.
const EARLIER: &str = "0000000000001-first";

async fn process(prefix: &str) -> Redis {
    let settings = Settings { prefix: prefix.to_owned(), time: Time::Redis, records: None };
    let redis = Redis::start(Standalone::shared().target(), &settings, &books(), Arc::new(Signals::new())).await;
    redis.expect("the target is whole")
}

fn claim(name: &str) -> ScopeClaim {
    let rate = RateClaim { counted: Counted::Tokens, span: Span::Day, ceiling: Ceiling::flat(1_000), amount: 100 };
    let budget = BudgetClaim {
        period: Period::Total,
        timezone: "UTC".into(),
        limit: NanoUsd(1_000),
        amount: NanoUsd(200),
        blocks: true,
        alert_at_percent: [].into(),
    };
    let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", name)));
    ScopeClaim { rates: smallvec![rate], budgets: smallvec![budget], ..ScopeClaim::new(scope) }
}

/// What the counters say when a reservation of 100 tokens and 200 of money is over, which used 30 and 240, and which had
/// expired: in these counters, or in those before them.
async fn counted(prefix: &str, is_lost: bool) -> Vec<u64> {
    let redis = process(prefix).await;
    let other = Claims { domain: "team".into(), scopes: vec![claim("other")], ..Claims::default() };
    drop(redis.reserve(other).await.expect("the claims fit"));
    let inner = &redis.inner;
    inner.settled().await;
    let present = inner.births.of("team").expect("a reservation was made");
    let born = if is_lost { EARLIER.into() } else { present };
    let now = inner.clock.millis();
    let at = now - lease();
    let used = Used { input_tokens: 30, output_tokens: 0, cost: NanoUsd(240) };
    let scopes = vec![claim("a")];
    let budgets = vec![Dated { scope: scopes[0].scope.clone(), period: Period::Total, start: 0, end: 0 }];
    let ended = Ended { born: born.clone(), at, earliest: at, scopes, budgets, outcome: Outcome::Used(used) };
    let settled = Settled { now, born: born.to_string(), unknown: vec!["lost".to_owned()] };

    inner.ledger.batches.book(&"team".into(), &settled, vec![("lost".into(), Box::new(ended))], &[]);

    inner.settled().await;
    let usage = redis.usage(vec![claim("a")]).await.expect("redis is there");
    usage.into_iter().map(|rule| rule.used).collect()
}

#[tokio::test]
async fn what_is_missing_is_put_right_where_the_counters_are_still_there() {
    // The money stays as it was reserved when a lease runs out, and the rest was given back.
    assert_eq!(counted("amended-there", false).await, [30, 40]);
}

#[tokio::test]
async fn all_of_it_is_told_to_new_counters_where_the_old_ones_are_lost() {
    assert_eq!(counted("amended-lost", true).await, [30, 240]);
}
