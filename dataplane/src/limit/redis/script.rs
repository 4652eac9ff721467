//! The scripts that Redis runs: their texts, and the hashes by which they are called.

use sha1_smol::Sha1;

/// How every script begins.
const TIME: &str = include_str!("lua/time.lua");

/// What scripts share that go by the names of counters, before the text of each.
const COMMON: &str = include_str!("lua/common.lua");

/// Where a script has it that seldom needs it.
const PLACE: &str = "--@common\n";

/// How the scripts read the time.
const CLOCK: &str = "local time = redis.call('TIME')\nlocal now = time[1] * 1000 + math.floor(time[2] / 1000)\n";

/// A script.
#[derive(Clone, Debug)]
pub struct Script {
    /// For metrics and logs.
    pub name: &'static str,
    /// What Redis runs.
    pub text: String,
    /// The SHA-1 of the text, as `EVALSHA` takes it.
    pub sha: String,
}

impl Script {
    /// A script of this text.
    pub fn new(name: &'static str, text: String) -> Self {
        let sha = Sha1::from(&text).digest().to_string();
        Self { name, text, sha }
    }
}

/// Where scripts have their time from.
#[derive(Clone, Debug, Default)]
pub enum Time {
    /// From Redis' own clock.
    #[default]
    Redis,
    /// From a key of the domain, in milliseconds since 1970: a test can move it.
    Key {
        /// What stands before the domain's tag.
        prefix: String,
    },
}

impl Time {
    /// A script of `name` that begins with what all share.
    pub fn script(&self, name: &'static str, text: &str) -> Script {
        let time = match self {
            Time::Redis => TIME.to_owned(),
            Time::Key { prefix } => {
                let read =
                    format!("local now = tonumber(redis.call('GET', '{prefix}' .. string.match(KEYS[1], '{{.-}}')))\n");
                TIME.replace(CLOCK, &read)
            }
        };
        let text = match text.split_once(PLACE) {
            Some((before, after)) => format!("{time}\n{before}{COMMON}\n{after}"),
            None => format!("{time}\n{COMMON}\n{text}"),
        };
        Script::new(name, text)
    }
}

/// The scripts of the limiter.
#[derive(Clone, Debug)]
pub struct Scripts {
    /// Decides what a request claims.
    pub reserve: Script,
    /// Applies what became of reservations.
    pub settle: Script,
    /// Gives back what was settled and lost.
    pub seed: Script,
    /// Tells what was learned.
    pub learned: Script,
    /// Reads what was learned.
    pub recall: Script,
    /// Brings together what processes counted for themselves.
    pub exchange: Script,
}

impl Scripts {
    /// Scripts on a clock.
    pub fn new(time: &Time) -> Self {
        Self {
            reserve: time.script("reserve", include_str!("lua/reserve.lua")),
            settle: time.script("settle", include_str!("lua/settle.lua")),
            seed: time.script("seed", include_str!("lua/seed.lua")),
            learned: Script::new("learned", include_str!("lua/learned.lua").to_owned()),
            recall: Script::new("recall", include_str!("lua/recall.lua").to_owned()),
            exchange: time
                .script("exchange", concat!(include_str!("lua/breakers.lua"), "\n", include_str!("lua/exchange.lua"))),
        }
    }

    /// All of them, to be loaded.
    pub fn all(&self) -> Vec<Script> {
        let Self { reserve, settle, seed, learned, recall, exchange } = self;
        [reserve, settle, seed, learned, recall, exchange].map(Clone::clone).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_of_a_test_replaces_the_one_of_redis() {
        let time = Time::Key { prefix: "clock:".into() };
        let (real, test) = (Scripts::new(&Time::Redis), Scripts::new(&time));
        assert!(real.reserve.text.contains(CLOCK) && !test.reserve.text.contains(CLOCK));
        assert_ne!(real.reserve.sha, test.reserve.sha);
    }
}
