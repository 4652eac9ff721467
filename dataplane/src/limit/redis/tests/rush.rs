//! What a very busy leased policy costs Redis, and by how much its limit is exceeded: counted on the wire.

use std::{sync::Arc, time::Duration};

use servers::CountingProxy;
use smallvec::smallvec;
use table::{LimitMode, NanoUsd, ObjectRef, Period};
use tokio::task::JoinSet;

use super::{
    super::{Redis, Settings, script::Time, store::target::Target},
    books,
    places::address,
};
use crate::{
    limit::{
        LimitError, Limiter,
        claims::{BudgetClaim, CandidateClaim, Claims, RateClaim, ScopeClaim},
        reservation::Used,
        rule::{Counted, Scope, Sharer, Span},
        window::Ceiling,
    },
    pool::signals::Signals,
};

/// A busy machine is not what is tested here.
const PATIENT: Duration = Duration::from_secs(10);
const PROCESSES: usize = 4;
const CLIENTS: usize = 25;
/// Requests that the policy's budget allows: a number that no passing of time changes.
const LIMIT: usize = 20_000;

/// A leased policy with a budget of one nano-USD a request, and a host key of another namespace.
fn claims() -> Claims {
    let rate = |counted, amount| RateClaim { counted, span: Span::Minute, ceiling: Ceiling::flat(1 << 40), amount };
    let rates = smallvec![rate(Counted::Requests, 1), rate(Counted::Tokens, 100)];
    let (limit, amount) = (NanoUsd(LIMIT as u64), NanoUsd(1));
    let budget = BudgetClaim {
        period: Period::Total,
        timezone: "UTC".into(),
        limit,
        amount,
        blocks: true,
        alert_at_percent: [].into(),
    };
    let sharer = Sharer::Namespace("team".into());
    let policy = Scope::Policy { policy: ObjectRef::new("team", "busy"), sharer };
    let policy = ScopeClaim {
        rates: rates.clone(),
        concurrency: Some(1_000),
        budgets: smallvec![budget],
        mode: LimitMode::Leased,
        ..ScopeClaim::new(Arc::new(policy))
    };
    let key = ScopeClaim { rates, ..ScopeClaim::new(Arc::new(Scope::HostKey(ObjectRef::new("catalog", "k")))) };
    let candidates = vec![CandidateClaim { breaker: None, scopes: vec![key] }];
    Claims { domain: "team".into(), scopes: vec![policy], candidates, max_candidates: 1 }
}

/// Asks until it is refused. Returns how often it was let in.
async fn client(redis: Redis) -> usize {
    let mut admitted = 0;
    loop {
        match redis.reserve(claims()).await {
            Ok(reservation) => {
                assert!(!reservation.is_degraded(), "Redis answers");
                admitted += 1;
                reservation.charge(reservation.candidates()[0]);
                tokio::task::yield_now().await;
                reservation.settle(Used { input_tokens: 50, output_tokens: 50, cost: NanoUsd(1) });
            }
            Err(LimitError::Refused(_)) => return admitted,
            Err(LimitError::Unavailable) => panic!("Redis answers"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_busy_leased_policy_takes_less_than_a_command_for_ten_requests_and_exceeds_its_limit_by_three_shares_at_most()
{
    let server = servers::Redis::start();
    let proxy = CountingProxy::start(server.address());
    let mut processes = Vec::new();
    for _ in 0..PROCESSES {
        let target = Target { timeout: PATIENT, ..Target::standalone(address(proxy.address())) };
        let settings = Settings { prefix: "rush".to_owned(), time: Time::Redis, records: None };
        let signals = Arc::new(Signals::new());
        processes.push(Redis::start(target, &settings, &books(), signals).await.expect("a whole target"));
    }
    proxy.forget();
    let mut clients = JoinSet::new();
    for process in &processes {
        (0..CLIENTS).for_each(|_| drop(clients.spawn(client(process.clone()))));
    }
    let admitted: usize = clients.join_all().await.into_iter().sum();
    let commands = usize::try_from(proxy.counts().values().sum::<u64>()).expect("it is a small number");
    println!("{admitted} of {LIMIT} were admitted with {commands} commands: {:?}", proxy.counts());
    assert!(admitted >= LIMIT, "nobody is refused while there is room");
    // As the documentation of shares says.
    assert!(admitted <= LIMIT + (PROCESSES - 1) * LIMIT / 20);
    assert!(commands * 10 < admitted);
}
