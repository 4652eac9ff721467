//! How many data planes live: each says so every two seconds, and hears how many do.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::{
    keys::{FLEET, Keys},
    link::{Link, Missed},
    script::{Script, Time},
};
use crate::limit::window::Millis;

/// How often a process says that it lives.
const BEAT_EVERY: Duration = Duration::from_secs(2);
/// For how long that is believed, in milliseconds.
const BELIEVED: Millis = 10_000;

/// The data planes that share one Redis.
pub struct Pods {
    link: Arc<Link>,
    beat: Script,
    key: String,
    process: Arc<str>,
    /// 0: never counted.
    live: AtomicU32,
}

/// The script of a beat, to be loaded with the others.
pub fn script(time: &Time) -> Script {
    time.script("heartbeat", include_str!("lua/heartbeat.lua"))
}

impl Pods {
    /// Says nothing yet. `process` is a name that no other process has.
    pub fn new(link: Arc<Link>, keys: &Keys, time: &Time, process: Arc<str>) -> Self {
        Self { link, beat: script(time), key: keys.pods(), process, live: AtomicU32::new(0) }
    }

    /// How many live, this one among them, as last counted; 1 where they never were.
    pub fn live(&self) -> u32 {
        self.live.load(Ordering::Relaxed).max(1)
    }

    /// Says that this process lives until `stop`, and then that it ends.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = tokio::time::interval(BEAT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                // What Redis did not hear it hears the next time; that it is away is the link's to say.
                _ = ticks.tick() => drop(self.say(false).await),
            }
        }
        // Others find out by themselves if this is not heard.
        drop(self.say(true).await);
    }

    async fn say(&self, ends: bool) -> Result<(), Missed> {
        let argument = rmp_serde::to_vec(&(&*self.process, BELIEVED, ends)).expect("words and numbers can be written");
        let answer = self.link.call(FLEET, &self.beat, std::slice::from_ref(&self.key), &argument).await?;
        let live = rmp_serde::from_slice(&answer).map_err(|_| Missed::Unreadable)?;
        self.live.store(live, Ordering::Relaxed);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use servers::Redis;
    use tokio::time::timeout;

    use super::*;
    use crate::{
        limit::redis::{
            health::Units,
            store::{
                Store,
                target::{Address, Target},
            },
        },
        metrics::Metrics,
    };

    const PATIENT: Duration = Duration::from_secs(10);
    const CLOCK: &str = "clock:";

    /// Data planes of one server, at a time that the test sets.
    struct Fleet {
        server: Redis,
        link: Arc<Link>,
        time: Time,
    }

    impl Fleet {
        async fn new() -> Self {
            let server = Redis::start();
            let time = Time::Key { prefix: CLOCK.to_owned() };
            let address = Address::new(server.address().ip().to_string(), server.address().port());
            let target = Target { timeout: PATIENT, ..Target::standalone(address) };
            let store = Store::new(target, vec![script(&time)]).unwrap();
            let link = Arc::new(Link::new(store, Units::One, Keys::new("relay"), Arc::new(Metrics::new())));
            let fleet = Self { server, link, time };
            fleet.set_clock(1_800_000_000_000);
            fleet.link.connect().await;
            fleet
        }

        fn set_clock(&self, now: Millis) {
            self.server.cli(&["SET", &format!("{CLOCK}{{{FLEET}}}"), &now.to_string()]);
        }

        fn pods(&self, process: &str) -> Arc<Pods> {
            Arc::new(Pods::new(self.link.clone(), &Keys::new("relay"), &self.time, Arc::from(process)))
        }

        fn named(&self) -> String {
            self.server.cli(&["ZRANGE", &Keys::new("relay").pods(), "0", "-1"])
        }
    }

    #[tokio::test]
    async fn each_hears_how_many_live_and_whoever_died_is_not_counted_for_long() {
        let fleet = Fleet::new().await;
        let pods = ["a", "b", "c"].map(|process| fleet.pods(process));
        assert_eq!(pods[0].live(), 1, "never counted");
        for (before, pod) in pods.iter().enumerate() {
            pod.say(false).await.unwrap();
            assert_eq!(usize::try_from(pod.live()), Ok(before + 1));
        }
        // When: 9 s later two are heard of again, and one is not.
        fleet.set_clock(1_800_000_009_000);
        pods[1].say(false).await.unwrap();
        pods[0].say(false).await.unwrap();
        assert_eq!(pods[0].live(), 3);
        fleet.set_clock(1_800_000_010_001);
        pods[0].say(false).await.unwrap();
        assert_eq!((pods[0].live(), fleet.named().split_whitespace().collect::<Vec<_>>()), (2, vec!["b", "a"]));
        // Then: what was counted last holds while Redis is away.
        fleet.server.kill();
        pods[0].say(false).await.unwrap_err();
        assert_eq!(pods[0].live(), 2);
    }

    #[tokio::test]
    async fn a_process_that_stops_takes_itself_off() {
        let fleet = Fleet::new().await;
        let (pod, stop) = (fleet.pods("a"), CancellationToken::new());
        let running = tokio::spawn({
            let (pod, stop) = (pod.clone(), stop.clone());
            async move { pod.run(stop).await }
        });
        let named = async {
            while fleet.named().trim() != "a" {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENT, named).await.expect("it says that it lives");
        stop.cancel();
        timeout(PATIENT, running).await.expect("it ends").unwrap();
        assert_eq!(fleet.named().trim(), "");
    }
}
