//! Requests and tokens in sliding windows.

use std::{sync::Arc, time::Duration};

use proptest::{prelude::*, test_runner::TestRunner};
use table::{NanoUsd, ObjectRef, Period};

use super::{
    Bench, MILLISECOND, PER_MINUTE, QUIET_DAY, TOKENS_PER_MINUTE, admitted, at, claims, key, on_a_quiet_day, refused,
    scope, tokens, used,
};
use crate::limit::{
    LimitError,
    reservation::{Entry, Used},
    rule::{Counted, Rule, Scope, Sharer, Span},
    window::Ceiling,
};

/// Ten requests pass, the eleventh does not, and after two windows without any all ten do again.
pub fn lets_in_the_limit_and_opens_again_as_the_window_rolls<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        for _ in 0..2 {
            for _ in 0..10 {
                admitted(&*bench, claims([key("a").requests(10)])).await.settle(Used::default());
            }
            bench.settled().await;
            let refused = refused(&*bench, claims([key("a").requests(10)])).await;
            assert_eq!((refused.rule.rule, refused.limit, refused.remaining), (PER_MINUTE, 10, 0));
            bench.advance(Duration::from_secs(120)).await;
        }
    });
}

/// Whatever was used before and whenever: `retry_after` is exact.
pub fn a_retry_at_the_time_told_succeeds_and_one_just_before_does_not<B: Bench>() {
    let uses = prop::collection::vec((1_u64..600, 0_u64..50_000), 1..8);
    let ceiling = (300_u64..1_000, prop_oneof![Just(0_u32), 1_u32..=100]);
    let run =
        TestRunner::new(ProptestConfig::with_cases(64)).run(&(uses, ceiling, 1_u64..300), |(uses, ceiling, amount)| {
            let ceiling = Ceiling { limit: ceiling.0, burst_percent: ceiling.1 };
            let wanting = |amount| claims([key("a").rate(Counted::Tokens, Span::Minute, ceiling, amount)]);
            B::block_on(async {
                let bench = B::start(at(QUIET_DAY)).await;
                for (used, pause) in uses {
                    if let Ok(reservation) = bench.limiter().reserve(wanting(1)).await {
                        reservation.settle(tokens(used));
                    }
                    bench.advance(Duration::from_millis(pause)).await;
                }
                let Err(LimitError::Refused(refusal)) = bench.limiter().reserve(wanting(amount)).await else { return };
                let wait = refusal.retry_after.expect("the amount is below the limit");
                bench.advance(wait - MILLISECOND).await;
                refused(&bench, wanting(amount)).await;
                bench.advance(MILLISECOND).await;
                drop(admitted(&bench, wanting(amount)).await);
            });
            Ok(())
        });
    run.expect("retry_after is honest");
}

/// A stream that ends in the next minute corrects the minute in which it began.
pub fn settling_corrects_the_bucket_of_the_reservation_after_it_became_the_earlier_one<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let reservation = admitted(&*bench, claims([key("a").tokens(1_000, 1_000)])).await;
        bench.advance(Duration::from_secs(60)).await;
        let before = used(&*bench, key("a").tokens(1_000, 0)).await[0].1;
        reservation.settle(tokens(100));
        let after = used(&*bench, key("a").tokens(1_000, 0)).await[0].1;
        assert_eq!(after, before.div_ceil(10), "a tenth of {before} was used");
        drop(admitted(&*bench, claims([key("a").tokens(1_000, 900)])).await);
    });
}

/// A refusal lasts no longer than what it was for, also where that was reserved in the minute before.
pub fn who_was_refused_passes_when_a_request_of_the_minute_before_ends<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let reservation = admitted(&*bench, claims([key("a").tokens(1_000, 900)])).await;
        bench.advance(Duration::from_secs(60)).await;
        refused(&*bench, claims([key("a").tokens(1_000, 200)])).await;
        drop(reservation);
        bench.settled().await;
        drop(admitted(&*bench, claims([key("a").tokens(1_000, 200)])).await);
    });
}

/// Two minutes later nothing can be corrected, and nothing is.
pub fn settling_into_a_bucket_that_is_gone_changes_nothing<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let reservation = admitted(&*bench, claims([key("a").tokens(1_000, 1_000)])).await;
        bench.advance(Duration::from_secs(120)).await;
        reservation.settle(tokens(50_000));
        assert_eq!(used(&*bench, key("a").tokens(1_000, 0)).await, [(TOKENS_PER_MINUTE, 0)]);
    });
}

/// The second settlement of an id, and a release after it, are ignored.
pub fn settling_twice_counts_once<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(10).tokens(1_000, 500).budget(Period::Total, "UTC", 1_000, 500);
        let reservation = admitted(&*bench, claims([claim()])).await;
        let (id, ledger) = (reservation.id(), reservation.ledger());
        let real = Used { input_tokens: 20, output_tokens: 10, cost: NanoUsd(7) };
        reservation.settle(real);
        ledger.post(id, Entry::Settle(real));
        ledger.post(id, Entry::Settle(tokens(900)));
        ledger.post(id, Entry::Release);
        let expected = [(PER_MINUTE, 1), (TOKENS_PER_MINUTE, 30), (Rule::Budget(Period::Total), 7)];
        assert_eq!(used(&*bench, claim()).await, expected);
    });
}

/// An answer that was longer than expected keeps the next request out.
pub fn what_was_used_beyond_the_reservation_counts<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        admitted(&*bench, claims([key("a").tokens(1_000, 10)])).await.settle(tokens(1_500));
        bench.settled().await;
        let refused = refused(&*bench, claims([key("a").tokens(1_000, 1)])).await;
        assert_eq!((refused.rule.rule, refused.remaining), (TOKENS_PER_MINUTE, 0));
    });
}

/// A request that never ran leaves no trace.
pub fn a_dropped_reservation_gives_everything_back<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(1).tokens(100, 100).slots(1).budget(Period::Day, "UTC", 9, 9);
        for _ in 0..3 {
            drop(admitted(&*bench, claims([claim()])).await);
            let left = used(&*bench, claim()).await;
            assert!(left.iter().all(|(_, used)| *used == 0), "{left:?}");
        }
    });
}

/// No time is told where none would do.
pub fn more_than_a_window_holds_is_refused_for_good<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let refused = refused(&*bench, claims([key("a").tokens(1_000, 1_001)])).await;
        assert_eq!((refused.retry_after, refused.remaining), (None, 1_000));
        drop(admitted(&*bench, claims([key("a").tokens(1_000, 1_000)])).await);
    });
}

/// With a burst of half, 150 of 100 pass at once, and over three windows no more than 100 each.
pub fn a_burst_is_let_in_and_paid_back<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let ceiling = Ceiling { limit: 100, burst_percent: 50 };
        let one = || claims([key("a").rate(Counted::Requests, Span::Minute, ceiling, 1)]);
        let mut passed = Vec::new();
        for _ in 0..180 {
            let mut in_this_second = 0;
            while let Ok(reservation) = bench.limiter().reserve(one()).await {
                reservation.settle(Used::default());
                bench.settled().await;
                in_this_second += 1;
            }
            passed.push(in_this_second);
            bench.advance(Duration::from_secs(1)).await;
        }
        assert_eq!(passed[0], 150);
        // Three whole windows touch four buckets, which hold twice the limit in pairs.
        assert!(passed.iter().sum::<u64>() <= 400, "{passed:?}");
    });
}

/// The one that opens last is named, and its time is told.
pub fn the_refusal_names_the_rule_that_lasts_longest<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let day = |limit| key("a").requests(1).rate(Counted::Requests, Span::Day, Ceiling::flat(limit), 1);
        admitted(&*bench, claims([day(1)])).await.settle(Used::default());
        bench.settled().await;
        let by_day = refused(&*bench, claims([day(1)])).await;
        assert_eq!(by_day.rule.rule, Rule::Rate { counted: Counted::Requests, span: Span::Day });
        let by_minute = refused(&*bench, claims([day(5)])).await;
        assert_eq!(by_minute.rule.rule, PER_MINUTE);
        assert!(by_minute.retry_after < by_day.retry_after);
    });
}

/// For the headers of the answer.
pub fn the_caller_is_told_the_rule_with_least_left<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let own = key("a").requests(10).tokens(1_000, 300);
        let policy = Scope::Policy { policy: ObjectRef::new("team", "p"), sharer: Sharer::Namespace("team".into()) };
        let shared = scope(policy).requests(5).tokens(5_000, 300);
        let reservation = admitted(&*bench, claims([own.clone(), shared.clone()])).await;
        let standing = reservation.standing().clone();
        let requests = standing.requests.expect("requests are limited");
        assert_eq!((requests.rule.scope, requests.limit, requests.remaining), (shared.scope, 5, 4));
        let tokens = standing.tokens.expect("tokens are limited");
        assert_eq!((tokens.rule.scope, tokens.limit, tokens.remaining), (own.scope, 1_000, 700));
        assert!(tokens.resets_in > Duration::from_secs(60) && tokens.resets_in <= Duration::from_secs(120));
    });
}
