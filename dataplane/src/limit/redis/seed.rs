//! Gives back to counters that were lost what this process has settled, once for each of their births.

use std::{collections::HashMap, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    keys::Keys,
    link::{Link, Missed},
    script::Script,
    spent::{
        Spent,
        ledger::{Amount, Birth},
    },
};
use crate::limit::{rule::Rule, window::Millis};

/// How often it is tried to give back what nobody has asked for.
const TRY_EVERY: Duration = Duration::from_secs(1);

/// The largest whole number that Lua keeps exactly.
const MOST: u64 = (1 << 53) - 1;

/// Gives back what was settled.
pub struct Seeder {
    link: Arc<Link>,
    keys: Keys,
    script: Script,
    spent: Arc<Spent>,
}

impl Seeder {
    /// Gives back from `spent`, by `seed.lua`.
    pub fn new(link: Arc<Link>, keys: Keys, script: Script, spent: Arc<Spent>) -> Self {
        Self { link, keys, script, spent }
    }

    /// Under which name this process, and those that go on with its sums after it, give back what they know.
    pub fn process(&self) -> &str {
        self.spent.process()
    }

    /// Whether something would have to be given back should the domain's counters be lost.
    pub fn has_seeds(&self, domain: &str) -> bool {
        self.spent.has(domain)
    }

    /// The birth of the domain's present counters, as far as it was heard of: to be asked before something is sent.
    pub(super) fn heard(&self, domain: &str) -> Option<Birth> {
        self.spent.birth(domain)
    }

    /// The counters of the domain have this birth, says an answer to what was sent when `known` was the present one.
    /// Whether it is the present one now: the answer may be late.
    pub(super) fn hear(&self, domain: &str, born: &str, known: Option<&Birth>) -> bool {
        self.spent.hear(domain, born, known)
    }

    /// Gives the counters of this birth what is owed to them, be it nothing; they let this process in then. Nothing
    /// happens where they have it, or are lost since.
    pub async fn seed(&self, domain: &str, born: &str) -> Result<(), Missed> {
        let birth = Birth::from(born);
        let owed = self.spent.owed(domain, &birth);
        // Before it is sent: whoever goes on after a crash must not owe this birth another sum.
        self.spent.save().await;
        let (keys, argument) = call(&self.keys, domain, self.process(), born, &owed);
        let answer = self.link.call(domain, &self.script, &keys, &argument).await?;
        match rmp_serde::from_slice(&answer).map_err(|_| Missed::Unreadable)? {
            Answer(Status::Seeded | Status::Done, ..) => {
                self.spent.seeded(domain, &birth);
                if !owed.is_empty() {
                    let budgets = owed.len();
                    warn!(domain, budgets, "Redis had lost what namespace `{domain}` spent: it was told again");
                }
            }
            Answer(Status::Reborn, _, later) => debug!(domain, born, later, "counters were lost once more"),
        }
        Ok(())
    }

    /// Gives back what is owed to counters that let this process in before it knew that it owes them something.
    pub async fn run(&self, stop: CancellationToken) {
        let mut ticks = interval(TRY_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            for (domain, birth) in self.spent.debts() {
                if let Err(missed) = self.seed(&domain, &birth).await {
                    debug!(domain, %missed, "budgets wait for Redis");
                }
            }
        }
    }
}

/// What `seed.lua` answers: the time, and the present birth.
#[derive(Debug, Deserialize)]
struct Answer(Status, #[expect(dead_code, reason = "part of the answer")] Millis, String);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "u8")]
enum Status {
    Seeded,
    Done,
    Reborn,
}

impl TryFrom<u8> for Status {
    type Error = String;

    fn try_from(status: u8) -> Result<Self, String> {
        match status {
            0 => Ok(Self::Seeded),
            1 => Ok(Self::Done),
            2 => Ok(Self::Reborn),
            other => Err(format!("{other} is no status")),
        }
    }
}

/// The keys and the argument of the script.
fn call(keys: &Keys, domain: &str, process: &str, born: &str, owed: &[Amount]) -> (Vec<String>, Vec<u8>) {
    let mut names = vec![keys.born(domain), keys.seeded(domain)];
    let mut known = HashMap::new();
    let amount = |Amount { scope, period, bounds, nano_usd }: &Amount| {
        let place = *known.entry(scope.clone()).or_insert_with(|| {
            names.push(keys.scope(scope));
            names.len()
        });
        let rule = Rule::Budget(*period).as_str();
        (place, rule, bounds.start_ms, bounds.end_ms, (*nano_usd).min(MOST))
    };
    let amounts: Vec<_> = owed.iter().map(amount).collect();
    let argument = rmp_serde::to_vec(&(process, born, amounts));
    (names, argument.expect("numbers, strings and lists can always be written"))
}

#[cfg(test)]
mod tests;
