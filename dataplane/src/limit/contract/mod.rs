//! What every limiter promises, as tests against the trait alone. Another implementation's tests name a [`Bench`] and
//! call [`limiter_contract`](crate::limiter_contract); nothing here knows how an implementation counts.

pub mod atomic;
pub mod budgets;
pub mod estimates;
pub mod leases;
pub mod model;
pub mod rates;

use std::{future::Future, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use table::{NanoUsd, ObjectRef, Period};

use super::{
    LimitError, Limiter, Refused, RuleUsage,
    claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
    reservation::{Reservation, Used},
    rule::{Counted, Rule, Scope, Span},
    window::Ceiling,
};

/// A limiter under test, with the clocks that it runs on.
pub trait Bench: Send + Sync + Sized + 'static {
    /// Runs a test in whatever runtime the limiter needs.
    fn block_on<T>(test: impl Future<Output = T>) -> T;

    /// A limiter without counters, whose calendar shows `at`.
    fn start(at: Timestamp) -> impl Future<Output = Self> + Send;

    /// The limiter.
    fn limiter(&self) -> Arc<dyn Limiter>;

    /// Moves both clocks on, after everything that was posted has taken effect.
    fn advance(&self, by: Duration) -> impl Future<Output = ()> + Send;

    /// Moves the calendar alone, forth or back.
    fn step_calendar(&self, by: SignedDuration) -> impl Future<Output = ()> + Send;

    /// Waits until everything that was posted has taken effect.
    fn settled(&self) -> impl Future<Output = ()> + Send;

    /// The time since an instant at which buckets of every span begin.
    fn since_bucket_origin(&self) -> Duration;
}

/// Runs the whole contract on a [`Bench`]: one `#[test]` for each promise.
#[macro_export]
macro_rules! limiter_contract {
    ($bench:ty) => {
        $crate::limiter_contract!(@tests $bench, rates:
            lets_in_the_limit_and_opens_again_as_the_window_rolls,
            a_retry_at_the_time_told_succeeds_and_one_just_before_does_not,
            settling_corrects_the_bucket_of_the_reservation_after_it_became_the_earlier_one,
            who_was_refused_passes_when_a_request_of_the_minute_before_ends,
            settling_into_a_bucket_that_is_gone_changes_nothing,
            settling_twice_counts_once,
            what_was_used_beyond_the_reservation_counts,
            a_dropped_reservation_gives_everything_back,
            more_than_a_window_holds_is_refused_for_good,
            a_burst_is_let_in_and_paid_back,
            the_refusal_names_the_rule_that_lasts_longest,
            the_caller_is_told_the_rule_with_least_left
        );
        $crate::limiter_contract!(@tests $bench, leases:
            a_full_scope_refuses_for_a_second_until_one_is_released,
            a_second_release_frees_nobody_elses_slot,
            a_lease_without_a_holder_runs_out_and_not_before,
            a_lease_with_a_holder_is_renewed_for_as_long_as_it_lives,
            an_expired_reservation_keeps_its_money_and_gives_back_the_rest,
            settling_after_expiry_changes_nothing
        );
        $crate::limiter_contract!(@tests $bench, budgets:
            a_spent_budget_refuses_until_its_period_ends,
            the_day_when_clocks_go_forward_has_23_hours,
            the_day_when_clocks_go_back_has_25_hours,
            settling_replaces_the_expected_cost_by_the_real_one,
            what_is_settled_after_midnight_does_not_touch_the_new_day,
            a_budget_that_alerts_does_not_refuse,
            more_than_a_budget_holds_is_refused_for_good,
            a_total_budget_never_opens_again,
            a_calendar_that_steps_back_does_not_renew_a_budget
        );
        $crate::limiter_contract!(@tests $bench, atomic:
            a_refusal_by_the_last_of_five_scopes_writes_to_none,
            a_cancel_at_every_await_point_leaves_nothing_behind,
            two_hundred_tasks_never_exceed_a_token_limit_and_none_is_refused_in_vain,
            open_candidates_come_in_order_and_the_first_is_charged,
            one_open_candidate_is_enough_and_none_is_refused_with_the_earliest_opening,
            a_later_attempt_is_charged_and_the_slot_of_the_former_is_freed,
            a_request_that_began_and_is_dropped_stays_counted_as_one_request,
            the_upstreams_name_is_not_told_to_the_caller
        );
        $crate::limiter_contract!(@tests $bench, estimates:
            the_first_request_of_a_small_limit_is_admitted,
            a_client_that_asks_for_128000_tokens_keeps_its_throughput
        );
        $crate::limiter_contract!(@tests $bench, model:
            decides_as_a_plain_model_does_whatever_clients_do
        );
    };
    (@tests $bench:ty, $module:ident: $($name:ident),+) => {
        mod $module {
            use super::*;
            $(
                #[test]
                fn $name() {
                    $crate::limit::contract::$module::$name::<$bench>();
                }
            )+
        }
    };
}

/// A day that nothing happens on.
const QUIET_DAY: &str = "2026-01-15T12:00:00Z";

fn at(text: &str) -> Timestamp {
    text.parse().expect("the contract writes valid times")
}

/// Runs a test on a fresh limiter at [`QUIET_DAY`].
fn on_a_quiet_day<B: Bench, F: Future<Output = ()>>(test: impl FnOnce(Arc<B>) -> F) {
    B::block_on(async { test(Arc::new(B::start(at(QUIET_DAY)).await)).await });
}

fn key(name: &str) -> ScopeClaim {
    scope(Scope::RelayKey(ObjectRef::new("team", name)))
}

fn host_key(name: &str) -> ScopeClaim {
    scope(Scope::HostKey(ObjectRef::new("catalog", name)))
}

fn scope(scope: Scope) -> ScopeClaim {
    ScopeClaim::new(Arc::new(scope))
}

fn claims(scopes: impl IntoIterator<Item = ScopeClaim>) -> Claims {
    Claims { domain: "team".into(), scopes: scopes.into_iter().collect(), ..Claims::default() }
}

impl Claims {
    fn candidates(mut self, candidates: impl IntoIterator<Item = ScopeClaim>) -> Self {
        self.candidates = candidates
            .into_iter()
            .map(|scope| CandidateClaim { scopes: vec![scope], ..CandidateClaim::default() })
            .collect();
        self.max_candidates = self.candidates.len();
        self
    }
}

impl ScopeClaim {
    fn rate(mut self, counted: Counted, span: Span, ceiling: Ceiling, amount: u64) -> Self {
        self.rates.push(RateClaim { counted, span, ceiling, amount });
        self
    }

    fn requests(self, per_minute: u64) -> Self {
        self.rate(Counted::Requests, Span::Minute, Ceiling::flat(per_minute), 1)
    }

    fn tokens(self, per_minute: u64, amount: u64) -> Self {
        self.rate(Counted::Tokens, Span::Minute, Ceiling::flat(per_minute), amount)
    }

    fn slots(mut self, concurrency: u64) -> Self {
        self.concurrency = Some(concurrency);
        self
    }

    fn budget(mut self, period: Period, timezone: &str, limit: u64, amount: u64) -> Self {
        self.budgets.push(BudgetClaim {
            period,
            timezone: timezone.into(),
            limit: NanoUsd(limit),
            amount: NanoUsd(amount),
            blocks: true,
            alert_at_percent: [].into(),
        });
        self
    }
}

fn tokens(used: u64) -> Used {
    Used { input_tokens: used, ..Used::default() }
}

fn spent(cost: u64) -> Used {
    Used { cost: NanoUsd(cost), ..Used::default() }
}

async fn admitted(bench: &impl Bench, claims: Claims) -> Reservation {
    bench.limiter().reserve(claims).await.expect("the claims fit")
}

async fn refused(bench: &impl Bench, claims: Claims) -> Refused {
    match bench.limiter().reserve(claims).await {
        Err(LimitError::Refused(refused)) => refused,
        Err(LimitError::Unavailable) => panic!("the limiter is there"),
        Ok(_) => panic!("the claims do not fit"),
    }
}

async fn usage(bench: &impl Bench, claim: ScopeClaim) -> Vec<RuleUsage> {
    bench.settled().await;
    bench.limiter().usage(vec![claim]).await.expect("the limiter is there")
}

/// What counts against each rule of a claim, in the claim's order: rates, concurrency, budgets.
async fn used(bench: &impl Bench, claim: ScopeClaim) -> Vec<(Rule, u64)> {
    usage(bench, claim).await.into_iter().map(|usage| (usage.rule.rule, usage.used)).collect()
}

const PER_MINUTE: Rule = Rule::Rate { counted: Counted::Requests, span: Span::Minute };
const TOKENS_PER_MINUTE: Rule = Rule::Rate { counted: Counted::Tokens, span: Span::Minute };
const MILLISECOND: Duration = Duration::from_millis(1);
/// So much the clock of a process may be ahead of the one that the tests move.
const SECOND: Duration = Duration::from_secs(1);
