//! Money in calendar periods.

use std::{sync::Arc, time::Duration};

use jiff::SignedDuration;
use table::Period;

use super::{Bench, MILLISECOND, admitted, at, claims, key, on_a_quiet_day, refused, spent, used};
use crate::limit::{
    claims::ScopeClaim,
    reservation::BudgetAlert,
    rule::{Rule, RuleRef},
};

/// The day ends at midnight of the budget's time zone.
pub fn a_spent_budget_refuses_until_its_period_ends<B: Bench>() {
    opens_after::<B>("2026-01-15T12:00:00Z", Period::Day, "America/New_York", 17 * 60);
    opens_after::<B>("2026-01-16T12:00:00Z", Period::Week, "UTC", (2 * 24 + 12) * 60);
    opens_after::<B>("2026-02-28T23:30:00Z", Period::Month, "UTC", 30);
}

/// From midnight to midnight in Berlin on 29 March 2026.
pub fn the_day_when_clocks_go_forward_has_23_hours<B: Bench>() {
    opens_after::<B>("2026-03-28T23:00:00Z", Period::Day, "Europe/Berlin", 23 * 60);
}

/// From midnight to midnight in Berlin on 25 October 2026.
pub fn the_day_when_clocks_go_back_has_25_hours<B: Bench>() {
    opens_after::<B>("2026-10-24T22:00:00Z", Period::Day, "Europe/Berlin", 25 * 60);
}

/// Spends a budget at `now` and sees it refuse for so many minutes and no millisecond more or less.
fn opens_after<B: Bench>(now: &str, period: Period, timezone: &str, minutes: u64) {
    B::block_on(async {
        let bench = B::start(at(now)).await;
        let claim = |amount| claims([key("a").budget(period, timezone, 1_000, amount)]);
        admitted(&bench, claim(1_000)).await.settle(spent(1_000));
        bench.settled().await;
        let wait = refused(&bench, claim(1)).await.retry_after.expect("the period ends");
        let expected = Duration::from_secs(60 * minutes);
        assert!(wait <= expected && wait + Duration::from_secs(2) > expected, "{wait:?} instead of {expected:?}");
        bench.advance(wait - MILLISECOND).await;
        refused(&bench, claim(1)).await;
        bench.advance(MILLISECOND).await;
        drop(admitted(&bench, claim(1_000)).await);
    });
}

/// In both directions.
pub fn settling_replaces_the_expected_cost_by_the_real_one<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = |amount| key("a").budget(Period::Day, "UTC", 1_000, amount);
        admitted(&*bench, claims([claim(900)])).await.settle(spent(100));
        assert_eq!(used(&*bench, claim(0)).await, [(Rule::Budget(Period::Day), 100)]);
        admitted(&*bench, claims([claim(900)])).await.settle(spent(2_000));
        let refused = refused(&*bench, claims([claim(1)])).await;
        assert_eq!((refused.limit, refused.remaining), (1_000, 0));
        assert_eq!(used(&*bench, claim(0)).await, [(Rule::Budget(Period::Day), 2_100)]);
    });
}

/// It belongs to the day on which it was reserved.
pub fn what_is_settled_after_midnight_does_not_touch_the_new_day<B: Bench>() {
    B::block_on(async {
        let bench = B::start(at("2026-01-15T23:59:50Z")).await;
        let claim = |amount| key("a").budget(Period::Day, "UTC", 1_000, amount);
        let reservation = admitted(&bench, claims([claim(500)])).await;
        bench.advance(Duration::from_secs(20)).await;
        let next = admitted(&bench, claims([claim(300)])).await;
        reservation.settle(spent(900));
        assert_eq!(used(&bench, claim(0)).await, [(Rule::Budget(Period::Day), 300)]);
        drop(next);
    });
}

/// It says so on the reservation instead.
pub fn a_budget_that_alerts_does_not_refuse<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = |amount| {
            let mut claim = key("a").budget(Period::Day, "UTC", 1_000, amount);
            (claim.budgets[0].blocks, claim.budgets[0].alert_at_percent) = (false, [50, 80].into());
            claim
        };
        let rule = |claim: &ScopeClaim| RuleRef { scope: claim.scope.clone(), rule: Rule::Budget(Period::Day) };
        for (amount, percent) in [(499, None), (1, Some(50)), (300, Some(80)), (1_000, Some(100))] {
            let reservation = admitted(&*bench, claims([claim(amount)])).await;
            let expected = percent.map(|percent| BudgetAlert { rule: rule(&claim(0)), percent });
            assert_eq!(reservation.alerts(), expected.as_slice());
            reservation.settle(spent(amount));
            bench.settled().await;
        }
    });
}

/// No time is told, and none would do.
pub fn a_total_budget_never_opens_again<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || claims([key("a").budget(Period::Total, "UTC", 10, 10)]);
        admitted(&*bench, claim()).await.settle(spent(10));
        bench.settled().await;
        for _ in 0..3 {
            assert_eq!(refused(&*bench, claim()).await.retry_after, None);
            bench.advance(Duration::from_secs(400 * 24 * 60 * 60)).await;
        }
    });
}

/// Over midnight and back.
pub fn a_calendar_that_steps_back_does_not_renew_a_budget<B: Bench>() {
    B::block_on(async {
        let bench = B::start(at("2026-01-16T00:00:10Z")).await;
        let claim = || claims([key("a").budget(Period::Day, "UTC", 10, 10)]);
        admitted(&bench, claim()).await.settle(spent(10));
        bench.step_calendar(SignedDuration::from_secs(-20)).await;
        refused(&bench, claim()).await;
        bench.step_calendar(SignedDuration::from_secs(25)).await;
        refused(&bench, claim()).await;
    });
}

/// No time is told where none would do.
pub fn more_than_a_budget_holds_is_refused_for_good<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let refused = refused(&*bench, claims([key("a").budget(Period::Day, "UTC", 1_000, 1_001)])).await;
        assert_eq!((refused.retry_after, refused.remaining), (None, 1_000));
    });
}
