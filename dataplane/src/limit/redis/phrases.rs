//! What one call after the other says: the names of counters, and when calendar periods begin. Made once and kept while
//! it is said; decides nothing, and knows nothing of what is claimed.

use std::{hash::Hash, sync::Arc};

use foldhash::HashMap;
use jiff::Timestamp;
use parking_lot::RwLock;
use table::Period;

use super::{keys::Keys, told::Told, wire};
use crate::limit::{budget::Bounds, claims::ScopeClaim, rule::Scope, window::Millis};

/// Phrases of one kind that are kept at most; beyond, all are forgotten. Callers may make names of models up.
const MOST: usize = 10_000;
/// The longest name of a scope's counters that is kept, in bytes: without names that callers made up, none is longer.
const LONGEST: usize = 1_024;

/// What calls say again and again.
pub(super) struct Phrases {
    pub(super) keys: Keys,
    domains: RwLock<HashMap<Arc<str>, Fixed>>,
    scopes: RwLock<HashMap<Arc<Scope>, Names>>,
    told: RwLock<HashMap<Arc<Scope>, Arc<Told>>>,
    calendar: RwLock<HashMap<(Period, Arc<str>), Dates>>,
}

/// The keys of every call about a domain, in their order.
pub(super) type Fixed = Arc<[Arc<str>; 5]>;

/// The names of one scope.
#[derive(Clone)]
pub(super) struct Names {
    /// Its counters.
    pub(super) counters: Arc<str>,
    /// The leases of its requests in flight.
    pub(super) slots: Arc<str>,
}

/// What [`wire::periods`] says throughout a period.
#[derive(Clone)]
struct Dates {
    present: Bounds,
    said: Arc<[Millis]>,
}

impl Phrases {
    pub(super) fn new(keys: Keys) -> Self {
        Self {
            keys,
            domains: RwLock::default(),
            scopes: RwLock::default(),
            told: RwLock::default(),
            calendar: RwLock::default(),
        }
    }

    /// What every call about a domain names.
    pub(super) fn fixed(&self, domain: &str) -> Fixed {
        if let Some(known) = self.domains.read().get(domain) {
            return known.clone();
        }
        let keys = &self.keys;
        let fixed =
            [keys.born(domain), keys.holds(domain), keys.leases(domain), keys.breakers(domain), keys.seeded(domain)];
        let fixed: Fixed = Arc::new(fixed.map(Arc::from));
        keep(&self.domains, domain.into(), fixed.clone());
        fixed
    }

    /// The names of a scope.
    pub(super) fn names(&self, scope: &Arc<Scope>) -> Names {
        if let Some(known) = self.scopes.read().get(scope) {
            return known.clone();
        }
        let names = Names { counters: self.keys.scope(scope).into(), slots: self.keys.slots(scope).into() };
        if names.counters.len() <= LONGEST {
            keep(&self.scopes, scope.clone(), names.clone());
        }
        names
    }

    /// What a call says of a scope with the rules of this claim.
    pub(super) fn told(&self, claim: &ScopeClaim) -> Arc<Told> {
        if let Some(known) = self.told.read().get(&claim.scope).filter(|known| known.fits(claim)) {
            return known.clone();
        }
        let Names { counters, slots } = self.names(&claim.scope);
        let is_kept = counters.len() <= LONGEST;
        let told = Arc::new(Told::new(counters, slots, claim));
        if is_kept {
            keep(&self.told, claim.scope.clone(), told.clone());
        }
        told
    }

    /// As [`wire::periods`].
    pub(super) fn periods(&self, period: Period, timezone: &Arc<str>, now: Timestamp) -> Arc<[Millis]> {
        let place = (period, timezone.clone());
        if let Some(known) = self.calendar.read().get(&place).filter(|known| known.holds(now)) {
            return known.said.clone();
        }
        let present = Bounds::holding(now, period, timezone);
        let said: Arc<[Millis]> = wire::periods(period, timezone, now).into();
        keep(&self.calendar, place, Dates { present, said: said.clone() });
        said
    }
}

impl Dates {
    fn holds(&self, now: Timestamp) -> bool {
        self.present.start <= now && self.present.end.is_none_or(|end| now < end)
    }
}

fn keep<K: Eq + Hash, V>(known: &RwLock<HashMap<K, V>>, key: K, value: V) {
    let mut known = known.write();
    if known.len() >= MOST {
        known.clear();
    }
    known.insert(key, value);
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use table::ObjectRef;

    use super::*;

    fn phrases() -> Phrases {
        Phrases::new(Keys::new("relay"))
    }

    #[test]
    fn names_are_those_of_the_keys_each_time() {
        let (phrases, keys) = (phrases(), Keys::new("relay"));
        for name in ["a", "b", "a"] {
            let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", name)));
            let names = phrases.names(&scope);
            assert_eq!((&*names.counters, &*names.slots), (&*keys.scope(&scope), &*keys.slots(&scope)));
            assert_eq!(*phrases.fixed(name)[0], *keys.born(name));
        }
    }

    #[test]
    fn a_name_without_end_is_said_and_not_kept() {
        let (phrases, keys) = (phrases(), Keys::new("relay"));
        let scope = Arc::new(Scope::RelayKey(ObjectRef::new("team", "a".repeat(LONGEST))));
        assert_eq!(*phrases.names(&scope).counters, *keys.scope(&scope));
        assert!(phrases.scopes.read().is_empty());
    }

    #[test]
    fn periods_are_those_of_each_moment_forwards_and_backwards() {
        let phrases = phrases();
        // Days of 23 and 25 hours, days that begin twice, a day that begins late.
        let zones = ["Europe/Berlin", "America/St_Johns", "Asia/Beirut", "America/Havana", "UTC"].map(Arc::<str>::from);
        for begin in ["2026-03-28T20:00:00Z", "2026-10-24T20:00:00Z", "2026-10-31T20:00:00Z", "2010-11-06T20:00:00Z"] {
            let begin: Timestamp = begin.parse().expect("a test writes valid times");
            for step in (0..96).chain((0..96).rev()) {
                let now = begin + (step * 37).minutes();
                for (period, zone) in [Period::Day, Period::Week, Period::Month, Period::Total]
                    .into_iter()
                    .flat_map(|period| zones.iter().map(move |zone| (period, zone)))
                {
                    let said = phrases.periods(period, zone, now);
                    assert_eq!(present(&said, now), present(&wire::periods(period, zone, now), now), "{zone} {now}");
                }
            }
        }
    }

    /// The period that holds the moment, and those beside it, as far as they are named.
    fn present(said: &[Millis], now: Timestamp) -> Option<(Millis, Millis)> {
        let now = Millis::try_from(now.as_millisecond()).expect("after 1970");
        said.windows(2).map(|pair| (pair[0], pair[1])).find(|(start, end)| *start <= now && (now < *end || *end == 0))
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let phrases = phrases();
        for number in 0..=MOST {
            phrases.names(&Arc::new(Scope::RelayKey(ObjectRef::new("team", number.to_string()))));
        }
        assert!(phrases.scopes.read().len() <= MOST);
    }
}
