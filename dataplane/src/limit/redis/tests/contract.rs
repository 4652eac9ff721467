//! The limiter contract, unchanged, on a real Redis server whose clock the tests move.

use std::{
    future::Future,
    sync::{
        Arc, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use parking_lot::Mutex;

use super::super::{
    Redis, RedisClock, Settings,
    batches::lease,
    script::Time,
    store::target::{self, Address},
};
use crate::{
    limit::{Limiter, contract::Bench, estimate::Estimator},
    meter::{
        Books,
        sinks::{Sinks, Target},
    },
    metrics::Metrics,
    pool::signals::Signals,
    spans::Spans,
};

/// A busy machine is not what is tested here.
const PATIENT: Duration = Duration::from_secs(10);

/// The domains that the contract counts in.
const DOMAINS: [&str; 3] = ["team", "catalog", "fleet.relay"];

/// One server for all tests that run at the same time.
fn server() -> Arc<servers::Redis> {
    static RUNNING: Mutex<Weak<servers::Redis>> = Mutex::new(Weak::new());
    let mut running = RUNNING.lock();
    running.upgrade().unwrap_or_else(|| {
        let started = Arc::new(servers::Redis::start());
        *running = Arc::downgrade(&started);
        started
    })
}

fn books() -> Books {
    let metrics = Arc::new(Metrics::new());
    let (sinks, spans) = (Sinks::new(Target::None, metrics.clone()), Spans::none(metrics.clone()));
    Books { metrics, sinks, spans, estimator: Estimator::new() }
}

/// A limiter with names of its own on that server.
struct Standalone {
    server: Arc<servers::Redis>,
    prefix: String,
    redis: Redis,
    now: AtomicI64,
}

impl Standalone {
    async fn set_clock(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
        for domain in DOMAINS {
            let key = format!("{}:clock:{{{domain}}}", self.prefix);
            self.server.cli(&["SET", &key, &now.to_string()]);
        }
        self.clock().heard(u64::try_from(now).expect("tests play after 1970"));
    }

    fn clock(&self) -> &RedisClock {
        &self.redis.inner.clock
    }
}

impl Bench for Standalone {
    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let _server = server();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(test)
    }

    async fn start(at: Timestamp) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let server = server();
        let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let address = server.address();
        let address = Address::new(address.ip().to_string(), address.port());
        let target = target::Target { timeout: PATIENT, ..target::Target::standalone(address) };
        let time = Time::Key { prefix: format!("{prefix}:clock:") };
        let settings = Settings { prefix: prefix.clone(), time, records: None };
        let redis =
            Redis::start(target, &settings, &books(), Arc::new(Signals::new())).await.expect("the target is whole");
        let bench = Self { server, prefix, redis, now: AtomicI64::new(0) };
        bench.set_clock(at.as_millisecond()).await;
        bench
    }

    fn limiter(&self) -> Arc<dyn Limiter> {
        Arc::new(self.redis.clone())
    }

    async fn advance(&self, by: Duration) {
        self.settled().await;
        let by = u64::try_from(by.as_millis()).expect("tests do not last so long");
        // Whoever lives renews all the time; here once for all of it.
        self.redis.inner.ledger.renew_for(by + lease());
        self.settled().await;
        let now = self.now.load(Ordering::Relaxed) + i64::try_from(by).expect("tests do not last so long");
        self.set_clock(now).await;
        self.redis.inner.ledger.renew_for(lease());
        self.settled().await;
    }

    async fn step_calendar(&self, by: SignedDuration) {
        self.settled().await;
        let by = i64::try_from(by.as_millis()).expect("tests do not step so far");
        self.set_clock(self.now.load(Ordering::Relaxed) + by).await;
    }

    async fn settled(&self) {
        self.redis.inner.settled().await;
        // Commands come in order: whatever was sent before this one has been executed.
        self.redis.inner.link.store().read_hash("nothing").await.expect("the server is there");
    }

    fn since_bucket_origin(&self) -> Duration {
        Duration::from_millis(self.now.load(Ordering::Relaxed).unsigned_abs())
    }
}

crate::limiter_contract!(Standalone);
