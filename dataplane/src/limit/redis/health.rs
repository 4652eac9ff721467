//! Whether Redis is worth asking: the limiter's own breaker.
//!
//! Opens at the first miss, so that a slow Redis costs one timeout and not one for each request; closes when trials
//! succeed. Pure: time is an argument, and who makes the trials and what they are is left to others.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    ops::Bound,
    time::Duration,
};

use tokio::time::Instant;

/// A unit that fails so soon after it returned has to prove itself for longer the next time.
const RELAPSE: Duration = Duration::from_secs(10);

/// Trials in a row that are wanted at most: with a tenth of a second between them, half a second.
const MOST_WANTED: u32 = 5;

/// How often at most it is said why a unit is still down.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// What fails together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Units {
    /// Everything: there is one server, or one at a time.
    One,
    /// Each domain by itself: in a cluster a master that is lost takes only its own domains with it.
    EachDomain,
}

/// Which parts of Redis are down.
#[derive(Debug)]
pub struct Health {
    units: Units,
    down: BTreeMap<String, Down>,
    /// Units that returned not long ago.
    returned: HashMap<String, Returned>,
    /// The unit that was tried last.
    tried: String,
    /// Since when some part was down, as far as it was not counted yet.
    degraded_since: Option<Instant>,
    degraded: Duration,
}

#[derive(Debug)]
struct Down {
    since: Instant,
    reason: String,
    said: Instant,
    /// Trials in a row that succeeded, and how many have to.
    good: u32,
    wanted: u32,
}

#[derive(Clone, Copy, Debug)]
struct Returned {
    at: Instant,
    /// Trials that were wanted then.
    wanted: u32,
}

/// What a trial changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// The unit is used again, after so long.
    Returned(Duration),
    /// It is still down, for another reason than was said last.
    StillDown(String),
}

impl Health {
    /// Everything is thought to be well.
    pub fn new(units: Units) -> Self {
        let (down, returned) = (BTreeMap::new(), HashMap::new());
        Self { units, down, returned, tried: String::new(), degraded_since: None, degraded: Duration::ZERO }
    }

    /// Whether the domain's part of Redis is to be asked.
    pub fn is_up(&self, domain: &str) -> bool {
        self.down.is_empty() || !self.down.contains_key(self.unit(domain))
    }

    /// How many units are down.
    pub fn down(&self) -> usize {
        self.down.len()
    }

    /// A call that was sent at `sent` failed. Says whether this took its unit down.
    pub fn missed(&mut self, domain: &str, reason: &str, sent: Instant, now: Instant) -> bool {
        let unit = self.unit(domain).to_owned();
        let before = self.returned.get(&unit).copied();
        if self.down.contains_key(&unit) || before.is_some_and(|before| sent < before.at) {
            return false;
        }
        let relapsed = before.filter(|before| now.duration_since(before.at) < RELAPSE);
        let wanted = relapsed.map_or(1, |before| (before.wanted * 2).min(MOST_WANTED));
        self.down.insert(unit, Down { since: now, reason: reason.to_owned(), said: now, good: 0, wanted });
        self.degraded_since.get_or_insert(now);
        true
    }

    /// Units to be tried now, `most` at most, each in its turn.
    pub fn trials(&mut self, most: usize) -> Vec<String> {
        let after = self.down.range::<str, _>((Bound::Excluded(self.tried.as_str()), Bound::Unbounded));
        let until = self.down.range::<str, _>((Bound::Unbounded, Bound::Included(self.tried.as_str())));
        let units: Vec<_> = after.chain(until).map(|(unit, _)| unit.clone()).take(most).collect();
        if let Some(last) = units.last() {
            self.tried.clone_from(last);
        }
        units
    }

    /// A unit was tried. Says what is worth telling.
    pub fn tried(&mut self, unit: &str, outcome: Result<(), &str>, now: Instant) -> Option<Change> {
        let down = self.down.get_mut(unit)?;
        match outcome {
            Ok(()) => {
                down.good += 1;
                (down.good >= down.wanted).then(|| Change::Returned(self.rise(unit, now)))
            }
            Err(reason) => {
                down.good = 0;
                let is_news = down.reason != reason && now.duration_since(down.said) >= SAY_EVERY;
                is_news.then(|| {
                    (down.reason, down.said) = (reason.to_owned(), now);
                    Change::StillDown(reason.to_owned())
                })
            }
        }
    }

    /// For how long some part was down, since this was asked last.
    pub fn degraded(&mut self, now: Instant) -> Duration {
        let open = self.degraded_since.as_mut().map(|since| {
            let time = now.duration_since(*since);
            *since = now;
            time
        });
        mem::take(&mut self.degraded) + open.unwrap_or_default()
    }

    /// Returns for how long the unit was down.
    fn rise(&mut self, unit: &str, now: Instant) -> Duration {
        let Some(Down { since, wanted, .. }) = self.down.remove(unit) else { return Duration::ZERO };
        self.returned.retain(|_, returned| now.duration_since(returned.at) < RELAPSE);
        self.returned.insert(unit.to_owned(), Returned { at: now, wanted });
        if self.down.is_empty()
            && let Some(since) = self.degraded_since.take()
        {
            self.degraded += now.duration_since(since);
        }
        now.duration_since(since)
    }

    /// What fails together with a domain; empty where that is everything.
    pub fn unit<'a>(&self, domain: &'a str) -> &'a str {
        match self.units {
            Units::One => "",
            Units::EachDomain => domain,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: Duration = Duration::from_millis(100);

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// Tries a unit every tenth of a second until it returns; says after how many trials.
    fn trials_until_back(health: &mut Health, unit: &str, now: &mut Instant) -> u32 {
        for trial in 1..100 {
            *now += TENTH;
            if let Some(Change::Returned(_)) = health.tried(unit, Ok(()), *now) {
                return trial;
            }
        }
        panic!("it never returns");
    }

    #[test]
    fn the_first_miss_opens_and_the_first_good_trial_closes() {
        let (mut health, now) = (Health::new(Units::One), Instant::now());
        assert!(health.missed("team", "timeout", now, now));
        assert!(!health.is_up("team") && !health.is_up("other"));
        assert_eq!(health.tried("", Err("timeout"), now + seconds(1)), None);
        assert_eq!(health.tried("", Ok(()), now + seconds(2)), Some(Change::Returned(seconds(2))));
        assert!(health.is_up("team") && health.is_up("other"));
    }

    #[test]
    fn misses_while_it_is_down_are_no_news() {
        let (mut health, now) = (Health::new(Units::One), Instant::now());
        let told = [(); 3].map(|()| health.missed("team", "timeout", now, now));
        assert_eq!(told, [true, false, false]);
    }

    #[test]
    fn a_lost_master_takes_only_its_domains_with_it() {
        let (mut health, now) = (Health::new(Units::EachDomain), Instant::now());
        health.missed("lost", "no connection", now, now);
        assert_eq!((health.is_up("lost"), health.is_up("other"), health.down()), (false, true, 1));
        assert_eq!(health.trials(10), ["lost"]);
    }

    #[test]
    fn a_call_from_before_the_return_that_fails_after_it_says_nothing() {
        let (mut health, start) = (Health::new(Units::One), Instant::now());
        health.missed("team", "timeout", start, start);
        health.tried("", Ok(()), start + seconds(1));
        let sent = start + Duration::from_millis(990);
        assert!(!health.missed("team", "timeout", sent, start + seconds(1) + TENTH));
        assert!(health.is_up("team"));
    }

    #[test]
    fn a_unit_that_relapses_has_to_prove_itself_for_longer_up_to_half_a_second() {
        let (mut health, mut now) = (Health::new(Units::One), Instant::now());
        let mut trials = Vec::new();
        for _ in 0..5 {
            now += seconds(1);
            health.missed("team", "timeout", now, now);
            trials.push(trials_until_back(&mut health, "", &mut now));
        }
        assert_eq!(trials, [1, 2, 4, 5, 5]);
        now += RELAPSE;
        health.missed("team", "timeout", now, now);
        assert_eq!(trials_until_back(&mut health, "", &mut now), 1);
    }

    #[test]
    fn a_bad_trial_among_good_ones_starts_the_count_anew() {
        let (mut health, mut now) = (Health::new(Units::One), Instant::now());
        health.missed("team", "timeout", now, now);
        trials_until_back(&mut health, "", &mut now);
        health.missed("team", "timeout", now, now);
        assert_eq!(health.tried("", Ok(()), now), None);
        assert_eq!(health.tried("", Err("timeout"), now), None);
        assert_eq!(trials_until_back(&mut health, "", &mut now), 2);
    }

    #[test]
    fn every_unit_has_its_turn() {
        let (mut health, now) = (Health::new(Units::EachDomain), Instant::now());
        for domain in ["a", "b", "c", "d", "e"] {
            health.missed(domain, "no connection", now, now);
        }
        let rounds = [(); 3].map(|()| health.trials(2).concat());
        assert_eq!(rounds, ["ab", "cd", "ea"]);
        assert_eq!(health.trials(10).concat(), "bcdea");
    }

    #[test]
    fn time_with_a_part_down_is_counted_once_and_while_it_lasts() {
        let (mut health, start) = (Health::new(Units::EachDomain), Instant::now());
        let at = |count| start + seconds(count);
        assert_eq!(health.degraded(at(1)), Duration::ZERO);
        health.missed("a", "timeout", at(1), at(1));
        health.missed("b", "timeout", at(2), at(2));
        assert_eq!(health.degraded(at(3)), seconds(2));
        health.tried("a", Ok(()), at(4));
        health.tried("b", Ok(()), at(5));
        health.missed("a", "timeout", at(7), at(7));
        assert_eq!(health.degraded(at(8)), seconds(3));
    }

    #[test]
    fn another_reason_is_told_but_not_too_often() {
        let (mut health, start) = (Health::new(Units::One), Instant::now());
        health.missed("team", "timeout", start, start);
        let told = |change: Option<Change>| change.is_some();
        assert!(!told(health.tried("", Err("no connection"), start + seconds(9))));
        let change = health.tried("", Err("no connection"), start + seconds(11));
        assert_eq!(change, Some(Change::StillDown("no connection".into())));
        assert!(!told(health.tried("", Err("no connection"), start + seconds(30))));
        assert!(told(health.tried("", Err("wrong password"), start + seconds(31))));
    }
}
