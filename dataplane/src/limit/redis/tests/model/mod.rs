//! Processes that share a Redis, and lose it, and die; clients that do anything; a clock that steps back: whenever Redis is
//! there for all, it has counted what a plain model has.
//!
//! What a process decides without Redis is its own matter, and the model follows it. Whatever Redis decides while nothing
//! of it is in doubt, the model has to decide alike.

mod plain;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use proptest::{prelude::*, test_runner::TestRunner};
use servers::CountingProxy;
use smallvec::smallvec;
use table::{NanoUsd, ObjectRef, Period};

use self::plain::{Amounts, BUDGET, KEYS, Plain, REQUESTS, SLOTS, TOKENS, ZONE};
use super::{
    super::{Redis, Settings, batches::lease, script::Time, store::target::Target},
    books,
    places::{Place, Standalone, address},
};
use crate::{
    limit::{
        LEASE, LimitError, Limiter,
        claims::{BudgetClaim, Claims, RateClaim, ScopeClaim},
        reservation::{Reservation, Used},
        rule::{Counted, Scope, Span},
        window::Ceiling,
    },
    pool::signals::Signals,
};

const DOMAIN: &str = "team";
const PROCESSES: usize = 2;
/// Short, as some cases wait for it. A case in which a busy machine misses it is given up.
const TIMEOUT: Duration = Duration::from_millis(150);
/// Two days before clocks go back.
const START: &str = "2026-10-23T12:00:00Z";

/// Something that happens.
#[derive(Clone, Debug)]
enum Deed {
    /// A client asks a process, with one of three keys.
    Reserve { process: usize, key: usize, tokens: u64, cost: u64 },
    /// An open request ends.
    Settle { which: usize, tokens: u64, cost: u64 },
    /// A client goes away.
    Cancel { which: usize },
    /// Whoever holds a request is gone, and nobody ends it.
    Abandon { which: usize },
    /// A process dies, and another takes its place.
    Die { process: usize },
    /// Time passes.
    Pass { millis: i64 },
    /// The clock of Redis steps back.
    StepBack { millis: i64 },
    /// A process loses Redis: its connections are refused, or only replies are lost.
    Lose { process: usize, replies_only: bool },
    /// It has Redis again.
    Find,
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let process = || 0..PROCESSES;
    let deed = prop_oneof![
        8 => (process(), 0..KEYS, 1..250_u64, 0..2_000_u64)
            .prop_map(|(process, key, tokens, cost)| Deed::Reserve { process, key, tokens, cost }),
        4 => (any::<usize>(), 0..500_u64, 0..3_000_u64)
            .prop_map(|(which, tokens, cost)| Deed::Settle { which, tokens, cost }),
        2 => any::<usize>().prop_map(|which| Deed::Cancel { which }),
        1 => any::<usize>().prop_map(|which| Deed::Abandon { which }),
        1 => process().prop_map(|process| Deed::Die { process }),
        3 => (0..50_000_i64).prop_map(|millis| Deed::Pass { millis }),
        1 => (0..(30 * 60 * 60 * 1_000_i64)).prop_map(|millis| Deed::Pass { millis }),
        1 => (0..100_000_i64).prop_map(|millis| Deed::StepBack { millis }),
        1 => (0..(30 * 60 * 60 * 1_000_i64)).prop_map(|millis| Deed::StepBack { millis }),
        2 => (process(), any::<bool>()).prop_map(|(process, replies_only)| Deed::Lose { process, replies_only }),
        2 => Just(Deed::Find),
    ];
    prop::collection::vec(deed, 1..60)
}

/// A process, and its own way to Redis.
struct Process {
    proxy: CountingProxy,
    redis: Redis,
}

/// A reservation that nobody has ended.
struct Open {
    process: usize,
    key: usize,
    at: i64,
    /// In the model; absent where the process alone decided.
    id: Option<usize>,
    reservation: Reservation,
}

/// What Redis will be told.
enum Later {
    End(usize, Amounts),
    Spend(usize, i64, Amounts),
}

struct Fault {
    process: usize,
    replies_only: bool,
    began: i64,
    later: Vec<Later>,
}

struct World {
    prefix: String,
    processes: Vec<Process>,
    plain: Plain,
    open: Vec<Open>,
    fault: Option<Fault>,
    /// Whether Redis may have reserved what nobody heard of: how far its counters have got is then not known, which
    /// matters only to a clock that steps back.
    in_doubt: bool,
}

#[test]
fn redis_has_counted_what_a_plain_model_has_whatever_processes_clients_and_clocks_do() {
    let run = TestRunner::new(ProptestConfig::with_cases(60)).run(&deeds(), |deeds| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(async {
            let mut world = World::start().await;
            for deed in deeds {
                world.play(deed).await?;
            }
            world.end().await
        })
    });
    run.expect("Redis counts as the plain model does");
}

#[test]
fn what_expired_after_the_clock_stepped_back_is_put_right_when_its_end_is_told() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let deeds = [
            Deed::Reserve { process: 0, key: 0, tokens: 100, cost: 200 },
            Deed::StepBack { millis: 3_600_000 },
            Deed::Lose { process: 0, replies_only: false },
            Deed::Pass { millis: 60_000 },
            Deed::Find,
            Deed::Settle { which: 0, tokens: 30, cost: 40 },
        ];
        // What a machine rejects that is too busy begins anew.
        'again: loop {
            let mut world = World::start().await;
            for deed in &deeds {
                match world.play(deed.clone()).await {
                    Ok(()) => {}
                    Err(TestCaseError::Reject(_)) => continue 'again,
                    Err(fault) => panic!("{deed:?}: {fault}"),
                }
            }
            assert_eq!(world.used(1, 0).await[3], 40);
            return;
        }
    });
}

#[test]
fn what_was_used_without_redis_is_told_before_the_end() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
    runtime.block_on(async {
        let mut world = World::start().await;
        world.play(Deed::Lose { process: 0, replies_only: false }).await.expect("nothing is counted");
        world.play(Deed::Reserve { process: 0, key: 0, tokens: 100, cost: 200 }).await.expect("nothing is counted");
        world.play(Deed::Find).await.expect("nothing is counted");

        // No task of the process has a turn in between.
        world.finish(0, Amounts { requests: 1, tokens: 30, cost: 40 }, |reservation| {
            reservation.settle(Used { input_tokens: 30, output_tokens: 0, cost: NanoUsd(40) });
        });
        world.processes[0].redis.close(Duration::from_secs(10)).await;
        world.processes[0].proxy.refuse();

        assert_eq!(world.used(1, 0).await, [1, 30, 0, 40]);
    });
}

impl Process {
    async fn start(prefix: &str) -> Self {
        let proxy = CountingProxy::start(Standalone::shared().serving(DOMAIN).address());
        let target = Target { timeout: TIMEOUT, ..Target::standalone(address(proxy.address())) };
        let time = Time::Key { prefix: format!("{prefix}:clock:") };
        let settings = Settings { prefix: prefix.to_owned(), time, records: None };
        let redis = Redis::start(target, &settings, &books(), Arc::new(Signals::new())).await;
        Self { proxy, redis: redis.expect("the target is whole") }
    }

    async fn is_told(&self) {
        self.redis.inner.link.up(DOMAIN).await;
        self.redis.inner.settled().await;
    }
}

impl World {
    async fn start() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let prefix = format!("model-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        let now = START.parse::<jiff::Timestamp>().expect("a time").as_millisecond();
        let (processes, open) = (Vec::new(), Vec::new());
        let mut world = Self { prefix, processes, plain: Plain::new(now), open, fault: None, in_doubt: false };
        world.set_clock(now);
        for _ in 0..PROCESSES {
            world.processes.push(Process::start(&world.prefix).await);
        }
        world.set_clock(now);
        world
    }

    fn set_clock(&mut self, now: i64) {
        for domain in [DOMAIN, super::super::keys::FLEET] {
            let key = format!("{}:clock:{{{domain}}}", self.prefix);
            Standalone::shared().serving(domain).cli(&["SET", &key, &now.to_string()]);
        }
        for process in &self.processes {
            process.redis.inner.denials.forget();
            process.redis.inner.clock.heard(now.unsigned_abs());
        }
        self.plain.set_clock(now);
    }

    async fn play(&mut self, deed: Deed) -> Result<(), TestCaseError> {
        match deed {
            Deed::Reserve { process, key, tokens, cost } => self.reserve(process, key, tokens, cost).await?,
            Deed::Settle { which, tokens, cost } => {
                let used = Used { input_tokens: tokens, output_tokens: 0, cost: NanoUsd(cost) };
                self.finish(which, Amounts { requests: 1, tokens, cost }, |reservation| reservation.settle(used));
            }
            Deed::Cancel { which } => self.finish(which, Amounts::default(), drop),
            Deed::Abandon { which } => {
                // What a process alone decided ends with the process.
                let taken = self.take(which);
                let (of_redis, local) = taken.into_iter().partition::<Vec<_>, _>(|open| open.id.is_some());
                of_redis.into_iter().for_each(|open| open.reservation.abandon());
                self.open.extend(local);
            }
            Deed::Die { process } => self.die(process).await,
            Deed::Pass { millis } => self.pass(millis).await,
            Deed::StepBack { millis } if !self.in_doubt => {
                self.told().await;
                self.set_clock(self.plain.now() - millis);
            }
            Deed::StepBack { .. } => {}
            Deed::Lose { process, replies_only } => self.lose(process, replies_only).await,
            Deed::Find => self.find().await,
        }
        self.agree().await
    }

    /// Whether what Redis decides for a process is certain.
    fn is_certain(&self, process: usize) -> bool {
        self.fault.as_ref().is_none_or(|fault| process != fault.process && !fault.replies_only)
    }

    /// A reservation that nobody heard of keeps its money once it has expired, as one does whose holder died: the process
    /// cannot know then that there was one. That is a bound, and not what is compared here.
    async fn find_before_it_expires(&mut self, then: i64) {
        let lease = i64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds");
        if self.fault.as_ref().is_some_and(|fault| fault.replies_only && then >= fault.began + lease) {
            self.find().await;
        }
    }

    async fn reserve(&mut self, process: usize, key: usize, tokens: u64, cost: u64) -> Result<(), TestCaseError> {
        let at = self.plain.now();
        let real = self.processes[process].redis.reserve(claims(key, tokens, cost)).await;
        let is_local = match &real {
            Ok(reservation) => reservation.is_degraded(),
            Err(LimitError::Refused(refused)) => refused.degraded,
            Err(LimitError::Unavailable) => panic!("no scope is closed"),
        };
        let id = if is_local && self.fault.is_none() {
            // Nobody lost Redis: the machine was too busy. Whether Redis has executed this, nobody knows.
            return Err(TestCaseError::reject("the machine is too busy"));
        } else if is_local {
            // The first call of an outage may have been executed, and is taken back when Redis is there again.
            self.in_doubt = true;
            None
        } else if self.is_certain(process) {
            let expected = self.plain.reserve(key, tokens, cost);
            prop_assert_eq!(real.is_ok(), expected.is_some(), "key {} wants {} and {}", key, tokens, cost);
            expected
        } else {
            real.is_ok().then(|| self.plain.take(key, tokens, cost))
        };
        self.open.extend(real.ok().map(|reservation| Open { process, key, at, id, reservation }));
        Ok(())
    }

    fn take(&mut self, which: usize) -> Option<Open> {
        (!self.open.is_empty()).then(|| self.open.swap_remove(which % self.open.len()))
    }

    fn finish(&mut self, which: usize, used: Amounts, end: impl FnOnce(Reservation)) {
        let Some(Open { process, key, at, id, reservation }) = self.take(which) else { return };
        end(reservation);
        let later = match id {
            Some(id) => Later::End(id, used),
            None => Later::Spend(key, at, used),
        };
        match self.fault.as_mut().filter(|fault| fault.process == process) {
            Some(fault) => fault.later.push(later),
            None => self.tell(later),
        }
    }

    fn tell(&mut self, later: Later) {
        match later {
            Later::End(id, used) => self.plain.end(id, used),
            Later::Spend(key, at, used) if used.requests > 0 => self.plain.spend(key, at, used),
            Later::Spend(..) => {}
        }
    }

    /// Waits until whoever has Redis has told it everything.
    async fn told(&self) {
        for process in self.connected() {
            self.processes[process].is_told().await;
        }
    }

    fn connected(&self) -> impl Iterator<Item = usize> + use<> {
        let lost = self.fault.as_ref().map(|fault| fault.process);
        (0..PROCESSES).filter(move |process| Some(*process) != lost)
    }

    /// Renews what is held by those who have Redis.
    async fn renew(&mut self, lease: u64) {
        for process in self.connected() {
            self.processes[process].redis.inner.ledger.renew_for(lease);
        }
        self.told().await;
        let connected: Vec<_> = self.connected().collect();
        let held: Vec<_> =
            self.open.iter().filter(|open| connected.contains(&open.process)).filter_map(|open| open.id).collect();
        held.into_iter().for_each(|id| self.plain.renew(id));
    }

    async fn pass(&mut self, millis: i64) {
        self.find_before_it_expires(self.plain.now() + millis).await;
        self.told().await;
        self.renew(millis.unsigned_abs() + lease()).await;
        self.set_clock(self.plain.now() + millis);
        self.renew(lease()).await;
    }

    async fn lose(&mut self, process: usize, replies_only: bool) {
        if self.fault.is_some() {
            return;
        }
        self.told().await;
        self.renew(lease()).await;
        let proxy = &self.processes[process].proxy;
        if replies_only {
            proxy.lose_replies()
        } else {
            proxy.refuse()
        }
        self.in_doubt = true;
        self.fault = Some(Fault { process, replies_only, began: self.plain.now(), later: Vec::new() });
    }

    async fn find(&mut self) {
        let Some(fault) = self.fault.take() else { return };
        self.processes[fault.process].proxy.resume();
        self.processes[fault.process].is_told().await;
        self.plain.expire();
        fault.later.into_iter().for_each(|later| self.tell(later));
        self.renew(lease()).await;
    }

    /// What a process holds ends with its leases; what it has not told is never told.
    async fn die(&mut self, process: usize) {
        self.find_before_it_expires(i64::MAX).await;
        self.told().await;
        self.fault.take_if(|fault| fault.process == process);
        self.processes[process].redis.inner.stop.cancel();
        // Whatever it still sends arrives nowhere.
        self.processes[process].proxy.refuse();
        let (dead, alive) = self.open.drain(..).partition::<Vec<_>, _>(|open| open.process == process);
        self.open = alive;
        dead.into_iter().for_each(|open| open.reservation.abandon());
        self.processes[process] = Process::start(&self.prefix).await;
        self.processes[process].redis.inner.clock.heard(self.plain.now().unsigned_abs());
    }

    async fn agree(&mut self) -> Result<(), TestCaseError> {
        self.told().await;
        self.plain.expire();
        let asked = self.connected().next().expect("one process has Redis");
        for scope in 0..=KEYS {
            let real = self.used(asked, scope).await;
            if self.fault.as_ref().is_none_or(|fault| !fault.replies_only) {
                prop_assert_eq!(real, self.plain.counts(scope), "scope {} of {}", scope, KEYS);
            }
        }
        Ok(())
    }

    /// What Redis says; a machine that is too busy may need to be asked again.
    async fn used(&self, process: usize, scope: usize) -> [u64; 4] {
        let redis = &self.processes[process].redis;
        loop {
            redis.inner.link.up(DOMAIN).await;
            if let Ok(usage) = redis.inner.usage(&[limited(scope, 0, 0)]).await {
                let used: Vec<_> = usage.into_iter().map(|rule| rule.used).collect();
                return used.try_into().expect("four rules");
            }
        }
    }

    /// In the end, when all are back and whoever is gone has expired, nothing is held.
    async fn end(mut self) -> Result<(), TestCaseError> {
        self.find().await;
        while !self.open.is_empty() {
            self.finish(0, Amounts::default(), drop);
        }
        self.agree().await?;
        let last = 31 * 60 * 60 * 1_000 * 60;
        self.pass(last).await;
        self.agree().await?;
        for process in &self.processes {
            prop_assert_eq!(process.redis.live(), 0);
        }
        for name in ["holds", "leases"] {
            let key = format!("{}:{{{DOMAIN}}}:{name}", self.prefix);
            prop_assert_eq!(Standalone::shared().serving(DOMAIN).cli(&["EXISTS", &key]), "0", "{}", name);
        }
        Ok(())
    }
}

fn claims(key: usize, tokens: u64, cost: u64) -> Claims {
    let scopes = vec![limited(key, tokens, cost), limited(KEYS, tokens, cost)];
    Claims { domain: DOMAIN.into(), scopes, ..Claims::default() }
}

fn limited(scope: usize, tokens: u64, cost: u64) -> ScopeClaim {
    let rate = |counted, limit, amount| {
        let ceiling = Ceiling::flat(limit);
        RateClaim { counted, span: Span::Minute, ceiling, amount }
    };
    let budget = BudgetClaim {
        period: Period::Day,
        timezone: ZONE.into(),
        limit: NanoUsd(BUDGET),
        amount: NanoUsd(cost),
        blocks: true,
        alert_at_percent: [].into(),
    };
    ScopeClaim {
        rates: smallvec![rate(Counted::Requests, REQUESTS, 1), rate(Counted::Tokens, TOKENS, tokens)],
        concurrency: Some(SLOTS),
        budgets: smallvec![budget],
        ..ScopeClaim::new(Arc::new(Scope::RelayKey(ObjectRef::new(DOMAIN, format!("key-{scope}")))))
    }
}
