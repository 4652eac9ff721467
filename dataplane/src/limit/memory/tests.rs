use std::{future::Future, time::Duration};

use jiff::{SignedDuration, Timestamp};
use smallvec::smallvec;
use tokio::time::Instant;

use super::*;
use crate::limit::{
    claims::RateClaim,
    contract::Bench,
    rule::{Counted, Scope, Span},
    window::Ceiling,
};

/// A limiter on tokio's paused clock.
struct Paused {
    memory: Memory,
    clock: PausedClock,
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

impl Bench for Paused {
    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_time().start_paused(true).build().expect("a runtime without I/O needs nothing").block_on(test)
    }

    async fn start(at: Timestamp) -> Self {
        let clock = PausedClock { start: Instant::now(), calendar: Arc::new(Mutex::new(at)) };
        Self { memory: Memory::with_clock(clock.clone()), clock }
    }

    fn limiter(&self) -> Arc<dyn Limiter> {
        Arc::new(self.memory.clone())
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

crate::limiter_contract!(Paused);

fn request(key: usize) -> Claims {
    let scope = Arc::new(Scope::RelayKey(table::ObjectRef::new("team", format!("key-{key}"))));
    let (counted, span, ceiling) = (Counted::Requests, Span::Minute, Ceiling::flat(10));
    let rates = smallvec![RateClaim { counted, span, ceiling, amount: 1 }];
    let scopes = vec![ScopeClaim { rates, ..ScopeClaim::new(scope) }];
    Claims { domain: "team".into(), scopes, ..Claims::default() }
}

#[tokio::test(start_paused = true)]
async fn counters_at_rest_are_forgotten() {
    let memory = Memory::new();
    for key in 0..100 {
        drop(memory.reserve(request(key)).await.expect("the limit is 10"));
    }
    assert_eq!(memory.counters(), 100);
    tokio::time::advance(Duration::from_secs(180)).await;
    let held = memory.reserve(request(0)).await.expect("the limit is 10");
    assert_eq!((memory.counters(), memory.live()), (1, 1));
    drop(held);
    assert_eq!(memory.live(), 0);
}

#[tokio::test]
async fn a_future_that_is_never_polled_claims_nothing() {
    let memory = Memory::new();
    drop(memory.reserve(request(0)));
    assert_eq!((memory.counters(), memory.live()), (0, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_reserve_and_cancel_at_once_never_exceed_the_limit_and_leave_nothing() {
    let memory = Memory::new();
    let tasks: Vec<_> = (0..200)
        .map(|_| {
            let memory = memory.clone();
            tokio::spawn(async move {
                for _ in 0..50 {
                    let Ok(reservation) = memory.reserve(request(0)).await else { continue };
                    tokio::task::yield_now().await;
                    assert!(memory.live() <= 10);
                    drop(reservation);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("the limit held");
    }
    assert_eq!(memory.live(), 0);
    let again: Vec<_> = futures::future::join_all((0..10).map(|_| memory.reserve(request(0)))).await;
    assert!(again.iter().all(Result::is_ok));
}
