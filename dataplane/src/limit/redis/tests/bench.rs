//! Redis under the limiter contract: real servers, whose clock the tests move.

use std::{
    future::Future,
    marker::PhantomData,
    sync::{
        Arc,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use futures::future::join_all;
use jiff::{SignedDuration, Timestamp};

use super::{
    super::{Redis, Settings, batches::lease, script::Time},
    books,
    places::Place,
};
use crate::{
    limit::{Limiter, contract::Bench, redis::keys::FLEET},
    pool::signals::Signals,
};

/// The domains that the contract counts in.
pub(super) const DOMAINS: [&str; 3] = ["team", "catalog", FLEET];

/// A limiter with names of its own.
pub(super) struct Counting<P> {
    prefix: String,
    redis: Redis,
    now: AtomicI64,
    place: PhantomData<P>,
}

impl<P: Place> Counting<P> {
    fn set_clock(&self, now: i64) {
        self.now.store(now, Ordering::Relaxed);
        for domain in DOMAINS {
            let key = format!("{}:clock:{{{domain}}}", self.prefix);
            P::shared().serving(domain).cli(&["SET", &key, &now.to_string()]);
        }
        self.redis.inner.denials.forget();
        self.redis.inner.clock.heard(u64::try_from(now).expect("tests play after 1970"));
    }
}

impl<P: Place> Bench for Counting<P> {
    fn block_on<T>(test: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(test)
    }

    async fn start(at: Timestamp) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("t{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let time = Time::Key { prefix: format!("{prefix}:clock:") };
        let settings = Settings { prefix: prefix.clone(), time, records: None };
        let redis = Redis::start(P::shared().target(), &settings, &books(), Arc::new(Signals::new())).await;
        let redis = redis.expect("the target is whole");
        let bench = Self { prefix, redis, now: AtomicI64::new(0), place: PhantomData };
        bench.set_clock(at.as_millisecond());
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
        self.set_clock(now);
        self.settled().await;
        // An answer that was on its way may have told the time of before.
        self.set_clock(now);
        self.redis.inner.ledger.renew_for(lease());
        self.settled().await;
    }

    async fn step_calendar(&self, by: SignedDuration) {
        self.settled().await;
        let by = i64::try_from(by.as_millis()).expect("tests do not step so far");
        self.set_clock(self.now.load(Ordering::Relaxed) + by);
    }

    async fn settled(&self) {
        self.redis.inner.settled().await;
        // Commands come in order: whatever was sent to a server before this one has been executed.
        let store = self.redis.inner.link.store();
        let nothing = DOMAINS.map(|domain| format!("{{{domain}}}:nothing"));
        for answer in join_all(nothing.iter().map(|key| store.read_hash(key))).await {
            answer.expect("the server is there");
        }
    }

    fn since_bucket_origin(&self) -> Duration {
        Duration::from_millis(self.now.load(Ordering::Relaxed).unsigned_abs())
    }
}
