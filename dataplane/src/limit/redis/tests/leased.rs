//! The limiter contract where every scope of the caller is leased: to a process that is alone that makes no difference.

use std::{future::Future, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use table::LimitMode;

use super::{bench::Counting, places::Standalone};
use crate::limit::{
    LimitError, Limiter, RuleUsage,
    claims::{Claims, ScopeClaim},
    contract::Bench,
    reservation::Reservation,
};

/// Claims everything of the caller's as leased.
struct AllLeased(Arc<dyn Limiter>);

fn leased(mut scopes: Vec<ScopeClaim>) -> Vec<ScopeClaim> {
    for claim in scopes.iter_mut().filter(|claim| claim.scope.faces_the_caller()) {
        claim.mode = LimitMode::Leased;
    }
    scopes
}

impl Limiter for AllLeased {
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>> {
        self.0.reserve(Claims { scopes: leased(claims.scopes), ..claims })
    }

    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>> {
        self.0.usage(leased(scopes))
    }

    fn close(&self, within: Duration) -> BoxFuture<'_, ()> {
        self.0.close(within)
    }
}

/// A bench of such a limiter.
struct Leased(Counting<Standalone>);

impl Bench for Leased {
    fn block_on<T>(test: impl Future<Output = T>) -> T {
        Counting::<Standalone>::block_on(test)
    }

    async fn start(at: Timestamp) -> Self {
        Self(Counting::start(at).await)
    }

    fn limiter(&self) -> Arc<dyn Limiter> {
        Arc::new(AllLeased(self.0.limiter()))
    }

    async fn advance(&self, by: Duration) {
        self.0.advance(by).await;
    }

    async fn step_calendar(&self, by: SignedDuration) {
        self.0.step_calendar(by).await;
    }

    async fn settled(&self) {
        self.0.settled().await;
    }

    fn since_bucket_origin(&self) -> Duration {
        self.0.since_bucket_origin()
    }
}

// Not those about times to the millisecond: between two answers this process guesses what time it is in Redis, and the
// guess goes on while the test's clock stands still.
crate::limiter_contract!(@tests Leased, atomic:
    a_refusal_by_the_last_of_five_scopes_writes_to_none,
    a_cancel_at_every_await_point_leaves_nothing_behind,
    two_hundred_tasks_never_exceed_a_token_limit_and_none_is_refused_in_vain,
    open_candidates_come_in_order_and_the_first_is_charged,
    one_open_candidate_is_enough_and_none_is_refused_with_the_earliest_opening,
    a_later_attempt_is_charged_and_the_slot_of_the_former_is_freed,
    a_request_that_began_and_is_dropped_stays_counted_as_one_request,
    the_upstreams_name_is_not_told_to_the_caller
);
crate::limiter_contract!(@tests Leased, rates:
    settling_corrects_the_bucket_of_the_reservation_after_it_became_the_earlier_one,
    settling_into_a_bucket_that_is_gone_changes_nothing,
    settling_twice_counts_once,
    what_was_used_beyond_the_reservation_counts,
    a_dropped_reservation_gives_everything_back,
    more_than_a_window_holds_is_refused_for_good,
    the_caller_is_told_the_rule_with_least_left
);
crate::limiter_contract!(@tests Leased, leases:
    a_full_scope_refuses_for_a_second_until_one_is_released,
    a_second_release_frees_nobody_elses_slot,
    a_lease_with_a_holder_is_renewed_for_as_long_as_it_lives,
    an_expired_reservation_keeps_its_money_and_gives_back_the_rest,
    settling_after_expiry_changes_nothing
);
crate::limiter_contract!(@tests Leased, budgets:
    settling_replaces_the_expected_cost_by_the_real_one,
    what_is_settled_after_midnight_does_not_touch_the_new_day,
    a_budget_that_alerts_does_not_refuse,
    more_than_a_budget_holds_is_refused_for_good,
    a_total_budget_never_opens_again
);
crate::limiter_contract!(@tests Leased, estimates:
    the_first_request_of_a_small_limit_is_admitted,
    a_client_that_asks_for_128000_tokens_keeps_its_throughput
);
