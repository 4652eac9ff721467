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
