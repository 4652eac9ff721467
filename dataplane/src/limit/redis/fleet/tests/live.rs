//! Two processes that exchange in the background, over a real server.

use servers::Redis;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::{
    limit::{
        counter::Now,
        redis::{
            health::Units,
            keys::Keys,
            link::Link,
            script::{Scripts, Time},
            shares::{Shares, World},
            store::{
                Store,
                target::{Address, Target},
            },
        },
    },
    metrics::Metrics,
};

/// For what comes with an exchange: how soon those take place is tested where time stands still.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process whose exchanges run until it is dropped.
struct Process {
    signals: Arc<Signals>,
    _stop: DropGuard,
}

impl Process {
    async fn start(server: &Redis, name: &str, wards: &[Ward]) -> Self {
        let (scripts, keys, clock) = (Scripts::new(&Time::Redis), Keys::new("relay"), Arc::new(RedisClock::new()));
        let address = Address::new(server.address().ip().to_string(), server.address().port());
        let target = Target { timeout: Duration::from_secs(5), ..Target::standalone(address) };
        let store = Store::new(target, vec![scripts.exchange.clone()]).unwrap();
        let link = Arc::new(Link::new(store, Units::One, keys.clone(), Arc::new(Metrics::new())));
        link.connect().await;
        let signals = Arc::new(Signals::new());
        let fleet = Arc::new(Fleet::new(signals.clone(), clock.clone()));
        fleet.know(wards);
        let (reads, told) = (clock.clone(), clock);
        let shares = Shares::new(World {
            keys,
            process: name.to_owned(),
            now: Box::new(move || Now { mono: reads.millis(), wall: jiff::Timestamp::UNIX_EPOCH }),
            told: Box::new(move |now| told.heard(now)),
            live: Box::new(|| 2),
            call: Box::new(move |domain, keys, argument| {
                let (link, domain, script) = (link.clone(), domain.to_owned(), scripts.exchange.clone());
                Box::pin(async move { link.call(&domain, &script, &keys, &argument).await })
            }),
            fleet: Some(fleet),
        });
        let stop = CancellationToken::new();
        tokio::spawn(Arc::new(shares).run(stop.clone()));
        Self { signals, _stop: stop.drop_guard() }
    }

    fn is_out(&self, ward: &Ward) -> bool {
        !matches!(self.signals.key(ward.hash()).phase(now()), Phase::Closed { .. })
    }

    fn meets(&self, ward: &Ward, outcome: Outcome) {
        self.signals.begin(ward.hash(), &ward.host.id, now()).report(outcome, now(), &Breaker::default());
    }

    /// Waits until the key is out, or is not; does this before each look.
    async fn until(&self, ward: &Ward, is_out: bool, each_time: impl Fn()) {
        let seen = async {
            loop {
                each_time();
                if self.is_out(ward) == is_out {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(PATIENCE, seen).await.expect("it is heard");
    }
}

#[tokio::test]
async fn what_one_process_finds_of_a_key_the_other_knows() {
    let (server, wards) = (Redis::start(), wards());
    let one = Process::start(&server, "one", &wards).await;
    let other = Process::start(&server, "other", &wards).await;
    for _ in 0..5 {
        one.meets(&wards[0], Outcome::Auth);
        other.until(&wards[0], true, || ()).await;
        // A request that was sent after that, as a last resort, is answered: the key is back. What is later than the
        // opening is so only once the clocks of the two agree on it, which differ by as long as Redis took to answer.
        other.until(&wards[0], false, || other.meets(&wards[0], Outcome::Ok)).await;
        one.until(&wards[0], false, || ()).await;
    }
    assert!(!one.is_out(&wards[1]) && !other.is_out(&wards[1]));
}
