//! Reservations whose holders live and whose leases run out, because Redis was away for longer than that.

use std::sync::Arc;

use jiff::SignedDuration;
use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use super::{bench::Counting, places::Standalone};
use crate::limit::{
    LEASE, RuleUsage,
    claims::{BudgetClaim, Claims, RateClaim, ScopeClaim},
    contract::Bench,
    reservation::{Reservation, Used},
    rule::{Counted, Scope, Span},
    window::Ceiling,
};

fn claim(tokens: u64, cost: u64) -> ScopeClaim {
    let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a")));
    let ceiling = Ceiling::flat(1_000);
    let budget = BudgetClaim {
        period: Period::Month,
        timezone: "UTC".into(),
        limit: NanoUsd(1_000),
        amount: NanoUsd(cost),
        blocks: true,
        alert_at_percent: [].into(),
    };
    ScopeClaim {
        rates: smallvec![RateClaim { counted: Counted::Tokens, span: Span::Minute, ceiling, amount: tokens }],
        budgets: smallvec![budget],
        concurrency: Some(10),
        ..ScopeClaim::new(scope)
    }
}

async fn used(bench: &impl Bench) -> Vec<u64> {
    bench.settled().await;
    let usage = bench.limiter().usage(vec![claim(0, 0)]).await.expect("the limiter is there");
    usage.iter().map(|RuleUsage { used, .. }| *used).collect()
}

/// Reserves 300 tokens and 400 nano-USD, and lets the lease run out unrenewed.
async fn expired(bench: &impl Bench) -> Reservation {
    let claims = Claims { domain: "team".into(), scopes: vec![claim(300, 400)], ..Claims::default() };
    let reservation = bench.limiter().reserve(claims).await.expect("the claims fit");
    bench.step_calendar(SignedDuration::try_from(LEASE).expect("seconds")).await;
    assert_eq!(used(bench).await, [0, 0, 400], "windows and slots are given back, the money stays");
    reservation
}

fn on_a_server<F: Future<Output = ()>>(test: impl FnOnce(Counting<Standalone>) -> F) {
    Counting::<Standalone>::block_on(async {
        test(Counting::start("2026-01-15T12:00:00Z".parse().expect("a time")).await).await;
    });
}

#[test]
fn what_an_answer_really_took_counts_although_its_lease_ran_out() {
    on_a_server(async |bench| {
        let reservation = expired(&bench).await;
        reservation.settle(Used { input_tokens: 20, output_tokens: 10, cost: NanoUsd(50) });
        assert_eq!(used(&bench).await, [30, 0, 50]);
    });
}

#[test]
fn more_than_was_reserved_counts_as_well() {
    on_a_server(async |bench| {
        let reservation = expired(&bench).await;
        reservation.settle(Used { input_tokens: 500, output_tokens: 0, cost: NanoUsd(700) });
        assert_eq!(used(&bench).await, [500, 0, 700]);
    });
}

#[test]
fn a_request_that_never_ran_gives_its_money_back_after_all() {
    on_a_server(async |bench| {
        drop(expired(&bench).await);
        assert_eq!(used(&bench).await, [0, 0, 0]);
    });
}
