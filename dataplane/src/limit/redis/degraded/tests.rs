use std::{
    future::Future,
    sync::atomic::{AtomicU32, Ordering},
};

use jiff::{SignedDuration, Timestamp};
use smallvec::smallvec;
use table::{ObjectRef, Period};
use tokio::time::Instant;

use super::*;
use crate::limit::{
    contract::Bench,
    redis::spends::{RateSpend, Spend},
    reservation::Used,
    rule::{Counted, Scope, Span},
};

/// A degraded limiter of so many data planes, on tokio's paused clock.
struct Alone {
    degraded: Arc<Degraded>,
    clock: PausedClock,
    pods: Arc<AtomicU32>,
    spends: Arc<Spends>,
    metrics: Arc<Metrics>,
}

#[derive(Clone)]
struct PausedClock {
    start: Instant,
    calendar: Arc<Mutex<Timestamp>>,
}

impl Clock for PausedClock {
    fn monotonic(&self) -> Duration {
        self.start.elapsed()
    }

    fn wall(&self) -> Timestamp {
        *self.calendar.lock() + self.start.elapsed()
    }
}

impl Alone {
    fn among(pods: u32, at: Timestamp) -> Self {
        let clock = PausedClock { start: Instant::now(), calendar: Arc::new(Mutex::new(at)) };
        let (pods, spends, metrics) =
            (Arc::new(AtomicU32::new(pods)), Arc::<Spends>::default(), Arc::<Metrics>::default());
        let live: LivePods = {
            Arc::new({
                let pods = pods.clone();
                move || pods.load(Ordering::SeqCst)
            })
        };
        let degraded = Degraded::new(Arc::new(clock.clone()), live, spends.clone(), metrics.clone());
        Self { degraded: Arc::new(degraded), clock, pods, spends, metrics }
    }

    fn of(pods: u32) -> Self {
        Self::among(pods, "2026-01-15T12:00:00Z".parse().expect("a valid time"))
    }

    async fn reserve(&self, scopes: impl IntoIterator<Item = ScopeClaim>) -> Result<Reservation, LimitError> {
        self.degraded.reserve(claims(scopes)).await
    }

    /// How many requests pass until one is refused, and how it is.
    async fn admits(&self, claim: &ScopeClaim) -> (u64, Refused) {
        let mut passed = Vec::new();
        loop {
            match self.reserve([claim.clone()]).await {
                Ok(reservation) => passed.push(reservation),
                Err(LimitError::Refused(refused)) => return (passed.len() as u64, refused),
                Err(LimitError::Unavailable) => panic!("nothing is closed"),
            }
        }
    }

    /// What waits to be told, as (requests, tokens, money) of one scope.
    fn spent(&self, of: &ScopeClaim) -> (u64, u64, u64) {
        let taken = self.spends.take("team", 100).into_iter().find(|spend| spend.scope == of.scope);
        let Some(Spend { rates, budgets, .. }) = taken else { return (0, 0, 0) };
        let rate = |counted| rates.iter().filter(|rate| rate.counted == counted).map(|rate| rate.amount).sum();
        (rate(Counted::Requests), rate(Counted::Tokens), budgets.iter().map(|budget| budget.amount).sum())
    }

    fn counted(&self, mode: &str) -> u64 {
        let page = self.metrics.encode();
        let name = format!(r#"relay_limit_degraded_requests_total{{mode="{mode}"}} "#);
        page.lines().find_map(|line| line.strip_prefix(&name)).expect("the series is there").parse().expect("a number")
    }
}

impl Bench for Alone {
    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().expect("a runtime without I/O needs nothing").block_on(test)
    }

    async fn start(at: Timestamp) -> Self {
        Self::among(1, at)
    }

    fn limiter(&self) -> Arc<dyn Limiter> {
        self.degraded.clone()
    }

    async fn advance(&self, by: Duration) {
        tokio::time::advance(by).await;
    }

    async fn step_calendar(&self, by: SignedDuration) {
        *self.clock.calendar.lock() += by;
    }

    async fn settled(&self) {}

    fn since_bucket_origin(&self) -> Duration {
        self.clock.monotonic()
    }
}

crate::limiter_contract!(Alone);

fn key(name: &str) -> ScopeClaim {
    ScopeClaim::new(Arc::new(Scope::RelayKey(ObjectRef::new("team", name))))
}

/// Limits of requests, tokens and money, of which a request is thought to take 1, 20 and 30.
fn limited(name: &str, outage: RedisOutage) -> ScopeClaim {
    let rate = |counted, amount| RateClaim { counted, span: Span::Minute, ceiling: Ceiling::flat(1_000), amount };
    let budget = BudgetClaim {
        period: Period::Day,
        timezone: "UTC".into(),
        limit: NanoUsd(100_000),
        amount: NanoUsd(30),
        blocks: true,
        alert_at_percent: [].into(),
    };
    let rates = smallvec![rate(Counted::Requests, 1), rate(Counted::Tokens, 20)];
    ScopeClaim { rates, budgets: smallvec![budget], outage, ..key(name) }
}

fn requests(name: &str, limit: u64, burst_percent: u32) -> ScopeClaim {
    let ceiling = Ceiling { limit, burst_percent };
    let rates = smallvec![RateClaim { counted: Counted::Requests, span: Span::Minute, ceiling, amount: 1 }];
    ScopeClaim { rates, ..key(name) }
}

fn claims(scopes: impl IntoIterator<Item = ScopeClaim>) -> Claims {
    Claims { domain: "team".into(), scopes: scopes.into_iter().collect(), ..Claims::default() }
}

fn candidate(name: &str) -> CandidateClaim {
    let scope = Arc::new(Scope::HostKey(ObjectRef::new("team", name)));
    let scopes = vec![ScopeClaim { scope, ..limited("", RedisOutage::Open) }];
    CandidateClaim { breaker: None, scopes }
}

fn used(tokens: u64, cost: u64) -> Used {
    Used { input_tokens: tokens, output_tokens: 0, cost: NanoUsd(cost) }
}

#[tokio::test(start_paused = true)]
async fn a_data_plane_holds_to_its_part_rounded_up_and_zero_stays_zero() {
    for (limit, pods, part) in [(10, 4, 3), (10, 1, 10), (2, 5, 1), (0, 3, 0), (9, 3, 3)] {
        let (passed, refused) = Alone::of(pods).admits(&requests("a", limit, 0)).await;
        assert_eq!((passed, refused.limit, refused.remaining), (part, limit, 0), "{limit} among {pods}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_request_is_counted_under_the_strictest_mode_that_its_policies_declare_whatever_its_host_is_limited_to() {
    let modes = [RedisOutage::Open, RedisOutage::LocalShare, RedisOutage::Closed];
    let bench = Alone::of(1);
    for declared in 1..=modes.len() {
        let scopes = modes[..declared].iter().map(|mode| limited(&format!("{mode:?}"), *mode));
        let claims = Claims { candidates: vec![candidate("k")], max_candidates: 1, ..claims(scopes) };
        drop(bench.degraded.reserve(claims).await);
        assert_eq!(
            ["open", "local_share", "closed"].map(|mode| bench.counted(mode)).iter().sum::<u64>(),
            declared as u64
        );
        assert_eq!(bench.counted(["open", "local_share", "closed"][declared - 1]), 1);
    }
    let claims = Claims { candidates: vec![candidate("k")], max_candidates: 1, ..claims([]) };
    drop(bench.degraded.reserve(claims).await);
    assert_eq!(bench.counted("local_share"), 2, "the limits of a host alone");
}

#[tokio::test(start_paused = true)]
async fn a_burst_is_a_part_too() {
    let (passed, refused) = Alone::of(4).admits(&requests("a", 40, 50)).await;
    assert_eq!((passed, refused.limit), (15, 40));
}

#[tokio::test(start_paused = true)]
async fn slots_and_money_are_parts_too() {
    let slots = ScopeClaim { concurrency: Some(7), ..key("a") };
    assert_eq!(Alone::of(2).admits(&slots).await.0, 4);
    let mut money = limited("a", RedisOutage::LocalShare);
    money.budgets[0].limit = NanoUsd(241);
    assert_eq!(Alone::of(2).admits(&money).await.0, 4);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_fits_the_limit_alone_is_not_refused_for_its_part() {
    let mut large = limited("a", RedisOutage::LocalShare);
    large.rates[1].amount = 1_000;
    large.budgets[0].amount = NanoUsd(100_000);
    let bench = Alone::of(4);
    let (passed, refused) = bench.admits(&large).await;
    assert_eq!(passed, 1);
    assert_ne!(refused.retry_after, None);
    large.rates[1].amount = 1_001;
    let (passed, refused) = Alone::of(4).admits(&large).await;
    assert_eq!((passed, refused.retry_after), (0, None));
}

#[tokio::test(start_paused = true)]
async fn parts_follow_the_number_of_data_planes() {
    let bench = Alone::of(10);
    let claim = requests("a", 10, 0);
    let first = bench.reserve([claim.clone()]).await.expect("a part of 1");
    assert!(bench.reserve([claim.clone()]).await.is_err());
    bench.pods.store(5, Ordering::SeqCst);
    let second = bench.reserve([claim.clone()]).await.expect("a part of 2");
    bench.pods.store(0, Ordering::SeqCst);
    assert_eq!(bench.admits(&claim).await.0, 8);
    drop((first, second));
}

#[tokio::test(start_paused = true)]
async fn the_caller_is_told_the_limit_that_was_set_and_that_it_is_degraded() {
    let bench = Alone::of(4);
    let reservation = bench.reserve([requests("a", 10, 0)]).await.expect("it fits");
    let standing = reservation.standing().requests.clone().expect("requests are limited");
    assert_eq!((standing.limit, standing.remaining, reservation.is_degraded()), (10, 2, true));
    let usage = bench.degraded.usage(vec![requests("a", 10, 0)]).await.expect("memory is there");
    assert_eq!((usage[0].limit, usage[0].used, usage[0].remaining), (10, 1, 2));
    let (_, refused) = bench.admits(&requests("a", 10, 0)).await;
    assert_eq!((refused.limit, refused.remaining, refused.degraded), (10, 0, true));
}

#[tokio::test(start_paused = true)]
async fn a_closed_scope_lets_nothing_pass_and_one_that_limits_nothing_is_not_asked() {
    let bench = Alone::of(1);
    let closed = limited("a", RedisOutage::Closed);
    let open = limited("b", RedisOutage::Open);
    assert_eq!(bench.reserve([open.clone(), closed]).await.err(), Some(LimitError::Unavailable));
    let unlimited = ScopeClaim { outage: RedisOutage::Closed, ..key("c") };
    drop(bench.reserve([open, unlimited]).await.expect("nothing of it is closed"));
    assert_eq!([bench.counted("closed"), bench.counted("open"), bench.counted("local_share")], [1, 1, 0]);
    assert_eq!(bench.degraded.live(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_nothing_limits_is_not_degraded() {
    let bench = Alone::of(1);
    let reservation = bench.reserve([key("a")]).await.expect("nothing limits it");
    assert!(!reservation.is_degraded());
    assert_eq!(["closed", "open", "local_share"].map(|mode| bench.counted(mode)), [0, 0, 0]);
}

#[tokio::test(start_paused = true)]
async fn an_open_scope_lets_everything_pass_and_what_is_used_is_told_on_return() {
    let bench = Alone::of(4);
    let mut claim = limited("a", RedisOutage::Open);
    claim.rates[0].ceiling = Ceiling::flat(0);
    for _ in 0..50 {
        let reservation = bench.reserve([claim.clone()]).await.expect("it is open");
        assert!(reservation.is_degraded());
        reservation.settle(used(7, 3));
    }
    assert_eq!(bench.spent(&claim), (50, 350, 150));
    assert_eq!((bench.counted("open"), bench.degraded.live()), (50, 0));
}

#[tokio::test(start_paused = true)]
async fn what_is_settled_is_told_on_return_and_what_is_released_as_far_as_it_ran() {
    let bench = Alone::of(1);
    let claim = limited("a", RedisOutage::LocalShare);
    let mut with_candidate = claims([claim.clone()]);
    (with_candidate.candidates, with_candidate.max_candidates) = (vec![candidate("k")], 1);
    let reserve = || bench.degraded.reserve(with_candidate.clone());

    drop(reserve().await.expect("it fits"));
    assert_eq!(bench.spends.domains(), Vec::<String>::new());
    let reservation = reserve().await.expect("it fits");
    reservation.charge(0);
    drop(reservation);
    assert_eq!(bench.spent(&claim), (1, 0, 30));
    let reservation = reserve().await.expect("it fits");
    reservation.charge(0);
    reservation.settle(used(5, 4));
    assert_eq!(bench.spent(&claim), (1, 5, 4));
}

#[tokio::test(start_paused = true)]
async fn each_attempt_is_told_of_its_own_candidate() {
    let bench = Alone::of(1);
    let claims = Claims {
        candidates: vec![candidate("first"), candidate("second"), candidate("third")],
        max_candidates: 3,
        ..claims([])
    };
    let reservation = bench.degraded.reserve(claims.clone()).await.expect("it fits");
    reservation.charge(0);
    reservation.charge(1);
    reservation.settle(used(5, 4));
    let mut spends = bench.spends.take("team", 10);
    spends.sort_by(|one, other| one.scope.cmp(&other.scope));
    let sums =
        spends.iter().map(|spend| (&*spend.scope, spend.rates.iter().map(|rate| rate.amount).collect::<Vec<_>>()));
    let scope = |index: usize| &*claims.candidates[index].scopes[0].scope;
    assert_eq!(sums.collect::<Vec<_>>(), [(scope(0), vec![1]), (scope(1), vec![1, 5])]);

    // The first attempt may be on a later candidate: the first of them then never ran.
    let reservation = bench.degraded.reserve(claims.clone()).await.expect("it fits");
    reservation.charge(2);
    reservation.settle(used(5, 4));
    let spends = bench.spends.take("team", 10);
    assert_eq!(spends.iter().map(|spend| &*spend.scope).collect::<Vec<_>>(), [scope(2)]);
}

#[tokio::test(start_paused = true)]
async fn scopes_of_candidates_count_locally_whatever_they_say() {
    let bench = Alone::of(4);
    let mut only = candidate("k");
    only.scopes[0].rates[0].ceiling = Ceiling::flat(8);
    let claims = Claims { candidates: vec![only], max_candidates: 1, ..claims([]) };
    let first = bench.degraded.reserve(claims.clone()).await.expect("a part of 2");
    let second = bench.degraded.reserve(claims.clone()).await.expect("a part of 2");
    assert!(matches!(bench.degraded.reserve(claims).await, Err(LimitError::Refused(Refused { limit: 8, .. }))));
    drop((first, second));
    assert_eq!((bench.counted("local_share"), bench.counted("open")), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn what_ends_late_is_told_for_the_bucket_in_which_it_began() {
    let bench = Alone::of(1);
    let claim = limited("a", RedisOutage::LocalShare);
    tokio::time::advance(Duration::from_secs(125)).await;
    let reservation = bench.reserve([claim.clone()]).await.expect("it fits");
    tokio::time::advance(Duration::from_secs(300)).await;
    reservation.settle(used(5, 4));
    let spends = bench.spends.take("team", 10);
    let expected = |counted, amount| RateSpend { counted, span: Span::Minute, at_ms: 120_000, amount };
    assert_eq!(spends[0].rates, [expected(Counted::Requests, 1), expected(Counted::Tokens, 5)]);
}

#[tokio::test(start_paused = true)]
async fn what_was_abandoned_leaves_its_money_and_no_memory() {
    let bench = Alone::of(1);
    let claim = limited("a", RedisOutage::LocalShare);
    let living = bench.reserve([claim.clone()]).await.expect("it fits");
    bench.reserve([claim.clone()]).await.expect("it fits").abandon();
    tokio::time::advance(LEASE).await;
    drop(bench.reserve([claim.clone()]).await.expect("it fits"));
    assert_eq!((bench.degraded.live(), bench.spent(&claim)), (1, (0, 0, 30)));
    living.settle(used(5, 4));
    assert_eq!((bench.degraded.live(), bench.spent(&claim)), (0, (1, 5, 4)));
}
