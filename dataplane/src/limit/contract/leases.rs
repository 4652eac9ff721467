//! Requests in flight, and what becomes of those whose holder died.

use std::sync::Arc;

use table::{NanoUsd, Period};

use super::{
    Bench, MILLISECOND, PER_MINUTE, SECOND, TOKENS_PER_MINUTE, admitted, claims, key, on_a_quiet_day, refused, used,
};
use crate::limit::{CONCURRENCY_RETRY, LEASE, reservation::Entry, reservation::Used, rule::Rule};

/// Two slots take two requests.
pub fn a_full_scope_refuses_for_a_second_until_one_is_released<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let one = admitted(&*bench, claims([key("a").slots(2)])).await;
        let two = admitted(&*bench, claims([key("a").slots(2)])).await;
        let refusal = refused(&*bench, claims([key("a").slots(2)])).await;
        assert_eq!((refusal.rule.rule, refusal.limit, refusal.remaining), (Rule::Concurrency, 2, 0));
        assert_eq!(refusal.retry_after, Some(CONCURRENCY_RETRY));
        one.settle(Used::default());
        bench.settled().await;
        let three = admitted(&*bench, claims([key("a").slots(2)])).await;
        drop((two, three));
        assert_eq!(used(&*bench, key("a").slots(2)).await, [(Rule::Concurrency, 0)]);
    });
}

/// Releases are by id.
pub fn a_second_release_frees_nobody_elses_slot<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let gone = admitted(&*bench, claims([key("a").slots(2)])).await;
        let stays = admitted(&*bench, claims([key("a").slots(2)])).await;
        let (id, ledger) = (gone.id(), gone.ledger());
        drop(gone);
        ledger.post(id, Entry::Release);
        ledger.post(id, Entry::Settle(Used::default()));
        assert_eq!(used(&*bench, key("a").slots(2)).await, [(Rule::Concurrency, 1)]);
        drop(stays);
    });
}

/// A process that was killed holds its slots for the lease's time at most.
pub fn a_lease_without_a_holder_runs_out_and_not_before<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        admitted(&*bench, claims([key("a").slots(1)])).await.abandon();
        bench.advance(LEASE - MILLISECOND).await;
        refused(&*bench, claims([key("a").slots(1)])).await;
        bench.advance(MILLISECOND).await;
        drop(admitted(&*bench, claims([key("a").slots(1)])).await);
    });
}

/// A long stream keeps its slot.
pub fn a_lease_with_a_holder_is_renewed_for_as_long_as_it_lives<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let stream = admitted(&*bench, claims([key("a").slots(1)])).await;
        for _ in 0..20 {
            bench.advance(LEASE / 3).await;
            refused(&*bench, claims([key("a").slots(1)])).await;
        }
        drop(stream);
        bench.settled().await;
        drop(admitted(&*bench, claims([key("a").slots(1)])).await);
    });
}

/// Money may have been spent; tokens, requests and slots come back.
pub fn an_expired_reservation_keeps_its_money_and_gives_back_the_rest<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(5).tokens(100, 60).slots(3).budget(Period::Month, "UTC", 100, 40);
        admitted(&*bench, claims([claim()])).await.abandon();
        bench.advance(LEASE + SECOND).await;
        let left = used(&*bench, claim()).await;
        let budget = (Rule::Budget(Period::Month), 40);
        assert_eq!(left, [(PER_MINUTE, 0), (TOKENS_PER_MINUTE, 0), (Rule::Concurrency, 0), budget]);
    });
}

/// What was given back is not taken a second time.
pub fn settling_after_expiry_changes_nothing<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(5).tokens(100, 60).budget(Period::Month, "UTC", 100, 40);
        let reservation = admitted(&*bench, claims([claim()])).await;
        let (id, ledger) = (reservation.id(), reservation.ledger());
        reservation.abandon();
        bench.advance(LEASE + SECOND).await;
        let before = used(&*bench, claim()).await;
        ledger.post(id, Entry::Settle(Used { input_tokens: 90, output_tokens: 0, cost: NanoUsd(90) }));
        assert_eq!(used(&*bench, claim()).await, before);
    });
}
