//! What this process has settled of budgets, and what the counters in Redis must be told of it after a loss. Pure.
//!
//! The counters of a domain have a birth, a name that is made where there is none: another one than before says that
//! what was counted is lost. An amount is written down when the counters have taken it, with the birth under which they
//! did. When a later birth is heard of, everything that is written down is owed to it, and nothing that comes after:
//! that is either taken by the new counters, or was taken by the lost ones and has to be posted again. So what is owed
//! to a birth never changes, and may be sent any number of times, at any time, if it is counted once.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use serde::{Deserialize, Serialize};
use table::Period;

use crate::limit::{rule::Scope, window::Millis};

/// The name of a life of a domain's counters. Later ones sort after earlier ones.
pub type Birth = Arc<str>;

/// A calendar period, in milliseconds since the epoch, as the counters have it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bounds {
    /// Its first millisecond.
    pub start_ms: Millis,
    /// The first one of the next period; 0: it never ends.
    pub end_ms: Millis,
}

impl Bounds {
    /// Whether they are the same period: where the time zone of a budget was changed, its bounds have moved.
    fn meets(self, other: Self) -> bool {
        self.begins_before_the_end_of(other) && other.begins_before_the_end_of(self)
    }

    fn begins_before_the_end_of(self, other: Self) -> bool {
        other.end_ms == 0 || self.start_ms < other.end_ms
    }

    fn has_ended(self, now_ms: Millis) -> bool {
        self.end_ms != 0 && self.end_ms <= now_ms
    }
}

/// What was settled of one budget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Amount {
    /// Whose budget.
    pub scope: Arc<Scope>,
    /// Which of its budgets.
    pub period: Period,
    /// When it counts.
    pub bounds: Bounds,
    /// Nano-USD.
    pub nano_usd: u64,
}

/// What this process has settled, by domain.
#[derive(Debug, Default)]
pub struct Ledger {
    domains: BTreeMap<String, Domain>,
}

#[derive(Debug, Default)]
struct Domain {
    birth: Option<Birth>,
    is_seeded: bool,
    sums: HashMap<Arc<Scope>, Vec<(Period, Sum)>>,
}

/// Of one budget, in one period.
#[derive(Clone, Copy, Debug)]
struct Sum {
    bounds: Bounds,
    settled: u64,
    /// What of it the counters of the present birth have taken.
    taken: u64,
}

impl Ledger {
    /// The counters of this birth have taken these amounts, which are of one domain. False: they are lost since, and so
    /// none is written down; all have to be posted again.
    #[must_use]
    pub fn record(&mut self, amounts: impl IntoIterator<Item = Amount>, birth: &Birth) -> bool {
        let mut amounts = amounts.into_iter().peekable();
        let Some(first) = amounts.peek() else { return true };
        let domain = self.domain(first.scope.domain());
        let is_taken = domain.birth.get_or_insert_with(|| birth.clone()) == birth;
        if is_taken {
            for Amount { scope, period, bounds, nano_usd } in amounts {
                domain.add(&scope, period, Sum { bounds, settled: nano_usd, taken: nano_usd });
            }
        }
        is_taken
    }

    /// The counters of the domain have this birth, according to an answer to what was sent when `known` was the present
    /// one. Says whether that is news.
    ///
    /// What was sent with the present birth in mind brings no earlier one. Else the answer may be late: then the names
    /// decide, which is right unless the clocks of servers differ.
    pub fn hear(&mut self, domain: &str, birth: &Birth, known: Option<&Birth>) -> bool {
        let domain = self.domain(domain);
        let is_later = |present: &Birth| present != birth && (known == Some(present) || present < birth);
        let is_news = domain.birth.as_ref().is_none_or(is_later);
        if is_news {
            domain.birth = Some(birth.clone());
            domain.is_seeded = false;
            domain.sums.values_mut().flatten().for_each(|(_, sum)| sum.taken = 0);
        }
        is_news
    }

    /// What is owed to the counters of this birth, by scope and period. Nothing where it is not the present one, or
    /// where they have been told.
    pub fn owed(&self, domain: &str, birth: &Birth) -> Vec<Amount> {
        let Some(domain) = self.domains.get(domain) else { return Vec::new() };
        if domain.is_seeded || domain.birth.as_ref() != Some(birth) {
            return Vec::new();
        }
        let mut owed: Vec<_> = domain.owed().collect();
        owed.sort_by(|a, b| (&a.scope, a.period).cmp(&(&b.scope, b.period)));
        owed
    }

    /// The counters of this birth have been told what is owed to them.
    pub fn seeded(&mut self, domain: &str, birth: &Birth) {
        let domain = self.domain(domain);
        domain.is_seeded |= domain.birth.as_ref() == Some(birth);
    }

    /// Whether something is written down that would be owed should the domain's counters be lost.
    pub fn has(&self, domain: &str) -> bool {
        let settled = |sums: &Vec<(Period, Sum)>| sums.iter().any(|(_, sum)| sum.settled > 0);
        self.domains.get(domain).is_some_and(|domain| domain.sums.values().any(settled))
    }

    /// The domains in which something is owed to the counters of the present birth.
    pub fn debts(&self) -> Vec<(String, Birth)> {
        let birth =
            |domain: &Domain| domain.birth.clone().filter(|_| !domain.is_seeded && domain.owed().next().is_some());
        self.domains.iter().filter_map(|(name, domain)| Some((name.clone(), birth(domain)?))).collect()
    }

    /// The birth of the domain's counters, as far as it was heard of.
    pub fn birth(&self, domain: &str) -> Option<Birth> {
        self.domains.get(domain)?.birth.clone()
    }

    /// Forgets the periods that are over.
    pub fn forget(&mut self, now_ms: Millis) {
        for domain in self.domains.values_mut() {
            domain.sums.retain(|_, sums| {
                sums.retain(|(_, sum)| !sum.bounds.has_ended(now_ms));
                !sums.is_empty()
            });
        }
    }

    /// All of it, to be kept.
    pub fn pages(&self) -> BTreeMap<String, Page> {
        self.domains.iter().map(|(name, domain)| (name.clone(), domain.page())).collect()
    }

    /// A ledger of what was kept.
    pub fn of(pages: BTreeMap<String, Page>) -> Self {
        let mut ledger = Self::default();
        for (name, Page { birth, seeded, lines }) in pages {
            let domain = ledger.domain(&name);
            (domain.birth, domain.is_seeded) = (birth.map(Birth::from), seeded);
            for Line { scope, period, bounds, settled, taken } in lines {
                domain.add(&scope, period, Sum { bounds, settled, taken: taken.min(settled) });
            }
        }
        ledger
    }

    fn domain(&mut self, name: &str) -> &mut Domain {
        if !self.domains.contains_key(name) {
            self.domains.insert(name.to_owned(), Domain::default());
        }
        self.domains.get_mut(name).expect("it was inserted above")
    }
}

impl Domain {
    fn add(&mut self, scope: &Arc<Scope>, period: Period, sum: Sum) {
        let sums = self.sums.entry(scope.clone()).or_default();
        match sums.iter_mut().find(|(known, _)| *known == period) {
            Some((_, known)) => known.take(sum),
            None => sums.push((period, sum)),
        }
    }

    fn owed(&self) -> impl Iterator<Item = Amount> {
        let budgets = self.sums.iter().flat_map(|(scope, sums)| sums.iter().map(move |sum| (scope, sum)));
        budgets.filter(|(_, (_, sum))| sum.settled > sum.taken).map(|(scope, (period, sum))| Amount {
            scope: scope.clone(),
            period: *period,
            bounds: sum.bounds,
            nano_usd: sum.settled - sum.taken,
        })
    }

    fn page(&self) -> Page {
        let mut lines = Vec::new();
        for (scope, sums) in &self.sums {
            for &(period, Sum { bounds, settled, taken }) in sums {
                lines.push(Line { scope: scope.clone(), period, bounds, settled, taken });
            }
        }
        Page { birth: self.birth.as_deref().map(str::to_owned), seeded: self.is_seeded, lines }
    }
}

impl Sum {
    /// What belongs to a period that is over when the next one has begun no longer matters.
    fn take(&mut self, other: Self) {
        if self.bounds.meets(other.bounds) {
            if other.bounds.start_ms > self.bounds.start_ms {
                self.bounds = other.bounds;
            }
            self.settled = self.settled.saturating_add(other.settled);
            self.taken = self.taken.saturating_add(other.taken);
        } else if other.bounds.start_ms > self.bounds.start_ms {
            *self = other;
        }
    }
}

/// What was settled of one domain, as it is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    birth: Option<String>,
    seeded: bool,
    lines: Vec<Line>,
}

/// What was settled of one budget, as it is kept.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Line {
    scope: Arc<Scope>,
    period: Period,
    #[serde(flatten)]
    bounds: Bounds,
    settled: u64,
    taken: u64,
}

#[cfg(test)]
mod losses;
#[cfg(test)]
mod tests;
