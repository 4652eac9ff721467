//! All or nothing: over scopes, over candidates, over tasks, and over futures that are dropped half way.

use std::{
    future::Future,
    pin::pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use table::{ObjectRef, Period};

use super::{
    Bench, PER_MINUTE, TOKENS_PER_MINUTE, admitted, claims, host_key, key, on_a_quiet_day, refused, scope, tokens, used,
};
use crate::limit::{claims::Claims, claims::ScopeClaim, rule::Rule, rule::Scope, rule::Sharer};

/// The first four would have let it in.
pub fn a_refusal_by_the_last_of_five_scopes_writes_to_none<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let five = |slots| {
            let policy =
                |name| Scope::Policy { policy: ObjectRef::new("team", name), sharer: Sharer::Namespace("team".into()) };
            let rich =
                |claim: ScopeClaim| claim.requests(9).tokens(900, 50).slots(9).budget(Period::Day, "UTC", 900, 50);
            [rich(key("a")), rich(scope(policy("p"))), rich(scope(policy("q"))), rich(key("b")), key("c").slots(slots)]
        };
        let refused = refused(&*bench, claims(five(0))).await;
        assert_eq!(refused.rule.scope, key("c").scope);
        for claim in five(0) {
            let left = used(&*bench, claim).await;
            assert!(left.iter().all(|(_, used)| *used == 0), "{left:?}");
        }
        let reservation = admitted(&*bench, claims(five(1))).await;
        for claim in five(1) {
            let left = used(&*bench, claim).await;
            assert!(left.iter().all(|(_, used)| *used > 0), "{left:?}");
        }
        drop(reservation);
    });
}

/// The future is polled once, twice, and so on, and then dropped.
pub fn a_cancel_at_every_await_point_leaves_nothing_behind<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(9).tokens(900, 50).slots(9).budget(Period::Day, "UTC", 900, 50);
        for polls in 0..100 {
            let limiter = bench.limiter();
            let finished = {
                let mut future = pin!(limiter.reserve(claims([claim()])));
                let mut finished = false;
                for _ in 0..polls {
                    // A waker that does nothing will do: the runtime is given time below.
                    if let Poll::Ready(outcome) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                        drop(outcome.expect("the claims fit"));
                        finished = true;
                        break;
                    }
                    bench.settled().await;
                }
                finished
            };
            let left = used(&*bench, claim()).await;
            assert!(left.iter().all(|(_, used)| *used == 0), "after {polls} polls: {left:?}");
            if finished {
                return;
            }
        }
        panic!("the reservation was never made");
    });
}

/// 200 tasks of 50 tokens at a limit of 5,000: 100 pass, no more and no less, and all comes back.
pub fn two_hundred_tasks_never_exceed_a_token_limit_and_none_is_refused_in_vain<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").tokens(5_000, 50).slots(1_000);
        let tasks = (0..200).map(|_| {
            let limiter = bench.limiter();
            tokio::spawn(async move { limiter.reserve(claims([claim()])).await })
        });
        let mut reservations = Vec::new();
        for task in tasks.collect::<Vec<_>>() {
            reservations.extend(task.await.expect("no task panics"));
        }
        assert_eq!(reservations.len(), 100);
        let full = [(TOKENS_PER_MINUTE, 5_000), (Rule::Concurrency, 100)];
        assert_eq!(used(&*bench, claim()).await, full);
        drop(reservations);
        assert_eq!(used(&*bench, claim()).await, [(TOKENS_PER_MINUTE, 0), (Rule::Concurrency, 0)]);
    });
}

/// A closed one in the middle is left out, and no more are given than were asked for.
pub fn open_candidates_come_in_order_and_the_first_is_charged<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let pool = || ["k0", "k1", "k2", "k3"].map(|name| host_key(name).requests(1));
        let full = admitted(&*bench, claims([]).candidates([host_key("k1").requests(1)])).await;
        let reservation = admitted(&*bench, Claims { max_candidates: 2, ..claims([]).candidates(pool()) }).await;
        assert_eq!(reservation.candidates(), [0, 2]);
        assert_eq!(used(&*bench, host_key("k0").requests(1)).await, [(PER_MINUTE, 1)]);
        assert_eq!(used(&*bench, host_key("k2").requests(1)).await, [(PER_MINUTE, 0)]);
        drop((full, reservation));
    });
}

/// And a refusal writes nothing to the caller's scopes.
pub fn one_open_candidate_is_enough_and_none_is_refused_with_the_earliest_opening<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let busy = || host_key("busy").slots(1);
        let spent = || host_key("spent").requests(1);
        let asking = |pool: Vec<ScopeClaim>| claims([key("a").requests(9)]).candidates(pool);
        let one = admitted(&*bench, asking(vec![busy(), spent()])).await;
        let two = admitted(&*bench, asking(vec![busy(), spent()])).await;
        assert_eq!((one.candidates(), two.candidates()), (&[0, 1][..], &[1][..]));
        let refused = refused(&*bench, asking(vec![spent(), busy()])).await;
        assert_eq!((refused.rule.scope, refused.rule.rule), (busy().scope, Rule::Concurrency));
        assert_eq!(used(&*bench, key("a").requests(9)).await, [(PER_MINUTE, 2)]);
        drop((one, two));
    });
}

/// The provider that failed keeps its request; tokens and slot go with the attempt.
pub fn a_later_attempt_is_charged_and_the_slot_of_the_former_is_freed<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let pool = || ["k0", "k1"].map(|name| host_key(name).requests(9).tokens(900, 50).slots(9));
        let state = async |name| {
            let claim = host_key(name).requests(9).tokens(900, 0).slots(9);
            used(&*bench, claim).await.into_iter().map(|(_, used)| used).collect::<Vec<_>>()
        };
        let reservation = admitted(&*bench, claims([]).candidates(pool())).await;
        reservation.charge(0);
        assert_eq!((state("k0").await, state("k1").await), (vec![1, 50, 1], vec![0, 0, 0]));
        reservation.charge(1);
        assert_eq!((state("k0").await, state("k1").await), (vec![1, 0, 0], vec![1, 50, 1]));
        reservation.charge(1);
        assert_eq!(state("k1").await, [2, 50, 1], "a repeat on the same key is a request more");
        reservation.settle(tokens(20));
        assert_eq!((state("k0").await, state("k1").await), (vec![1, 0, 0], vec![2, 20, 0]));
    });
}

/// Nobody knows what it used: the money stays charged too.
pub fn a_request_that_began_and_is_dropped_stays_counted_as_one_request<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let claim = || key("a").requests(9).tokens(900, 50).slots(9).budget(Period::Day, "UTC", 900, 50);
        let reservation = admitted(&*bench, claims([claim()]).candidates([host_key("k").requests(9)])).await;
        reservation.charge(0);
        drop(reservation);
        let left = used(&*bench, claim()).await;
        let budget = (Rule::Budget(Period::Day), 50);
        assert_eq!(left, [(PER_MINUTE, 1), (TOKENS_PER_MINUTE, 0), (Rule::Concurrency, 0), budget]);
        assert_eq!(used(&*bench, host_key("k").requests(9)).await, [(PER_MINUTE, 1)]);
    });
}

/// Host keys may belong to another team.
pub fn the_upstreams_name_is_not_told_to_the_caller<B: Bench>() {
    on_a_quiet_day(async |bench: Arc<B>| {
        let refused = refused(&*bench, claims([]).candidates([host_key("canary").requests(0)])).await;
        assert!(!refused.to_string().contains("canary"), "{refused}");
        assert!(refused.to_string().contains("requests per minute"), "{refused}");
    });
}
