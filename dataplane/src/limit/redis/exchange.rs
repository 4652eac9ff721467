//! What processes tell each other of counters that they keep for themselves: one call for one domain, as `exchange.lua`
//! reads it. Pure but for the script's text.
//!
//! The same call carries news of breakers. What they mean is not known here.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use table::Period;

use super::{fleet::News, keys::Keys};
use crate::limit::{
    budget::{Bounds, Spending},
    counter::Counter,
    rule::{Counted, Rule, Scope, Span},
    window::{BucketIndex, Millis, Window},
};

/// `{name, span, bucket, by how much more counts, by how much more may still be given back}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct RateDelta(
    pub(super) &'static str,
    pub(super) Millis,
    pub(super) BucketIndex,
    pub(super) i64,
    pub(super) i64,
);

/// `{name, start, end (0: never), by how much more is spent, by how much more may still be given back}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct BudgetDelta(
    pub(super) &'static str,
    pub(super) Millis,
    pub(super) Millis,
    pub(super) i64,
    pub(super) i64,
);

/// `{low, count, high}`: so many requests of this process are in flight; the others count `low` of them at least and
/// `high` at most. A `low` of -1: they need not know.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Slots(i64, u64, u64);

impl Slots {
    /// Nobody limits them.
    pub(super) const UNTOLD: Self = Self(-1, 0, 0);

    pub(super) fn new(low: u64, count: u64, high: u64) -> Self {
        Self(i64::try_from(low).unwrap_or(i64::MAX), count, high)
    }

    /// How many requests are in flight.
    pub(super) fn count(&self) -> u64 {
        self.1
    }

    /// Whether each of them is told of, and not only those that are new.
    pub(super) fn tells_all(&self) -> bool {
        self.0 == 0
    }
}

/// `{rates, budgets, slots}`: what an exchange says of one scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Row {
    pub(super) rates: Vec<RateDelta>,
    pub(super) budgets: Vec<BudgetDelta>,
    pub(super) slots: Slots,
}

impl Row {
    /// Whether it would be wrong to say it twice.
    pub(super) fn changes(&self) -> bool {
        !self.rates.is_empty() || !self.budgets.is_empty()
    }
}

/// The keys of a call.
pub(super) fn keys<'a>(
    keys: &Keys,
    domain: &str,
    process: &str,
    scopes: impl IntoIterator<Item = &'a Scope>,
) -> Vec<String> {
    let mut names = vec![keys.exchanged(domain, process), keys.breakers(domain), keys.born(domain)];
    for scope in scopes {
        names.extend([keys.scope(scope), keys.slots(scope)]);
    }
    names
}

/// When the domain's data began, as far as is known (empty: it is not), and what is written where it has not begun.
pub(super) type Birth<'a> = (&'a str, &'a str);

/// The argument of a call. A batch that was applied before changes nothing; `0`: there is nothing to apply.
pub(super) fn argument(
    process: &str,
    batch: u64,
    lease: Millis,
    rows: &[&Row],
    news: &News,
    birth: Birth<'_>,
) -> Vec<u8> {
    let call = (process, batch, lease, rows, news, birth);
    rmp_serde::to_vec(&call).expect("numbers, strings and lists can always be written")
}

/// The answer of `exchange.lua`.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    /// The time in Redis.
    pub(super) now: Millis,
    /// When the domain's data began.
    pub(super) born: String,
    /// The breakers.
    pub(super) news: News,
    /// What all processes counted together, in the order of the rows. Nothing if the data began anew.
    pub(super) totals: Vec<Total>,
}

/// `{in flight, {rate, bucket, current, previous}.., {budget, start, end, spent}..}`.
#[derive(Debug, Deserialize)]
pub(super) struct Total(pub(super) u64, pub(super) Vec<Bucket>, pub(super) Vec<Spent>);

#[derive(Debug, Deserialize)]
pub(super) struct Bucket(pub(super) String, pub(super) BucketIndex, pub(super) u64, pub(super) u64);

#[derive(Debug, Deserialize)]
pub(super) struct Spent(pub(super) String, pub(super) Millis, pub(super) Millis, pub(super) u64);

impl Answer {
    /// Reads an answer to a call about so many scopes, made by one who knows of that beginning of the data.
    pub(super) fn read(bytes: &[u8], scopes: usize, born: &str) -> anyhow::Result<Self> {
        let answer: Self = rmp_serde::from_slice(bytes)?;
        let told = answer.totals.len();
        let scopes = if born.is_empty() || answer.born == born { scopes } else { 0 };
        anyhow::ensure!(told == scopes, "{told} scopes are told of, not the {scopes} that were asked for");
        Ok(answer)
    }
}

impl Total {
    /// As counters. What this process does not know by name, it does not count.
    pub(super) fn counter(&self) -> Counter {
        let rates = self.1.iter().filter_map(|Bucket(name, bucket, current, previous)| {
            let (counted, span) = rate_named(name)?;
            Some((counted, span, Window::restored(*bucket, *current, *previous)))
        });
        let budgets = self.2.iter().filter_map(|Spent(name, start, end, spent)| {
            let bounds = Bounds { start: timestamp(*start), end: (*end > 0).then(|| timestamp(*end)) };
            Some((budget_named(name)?, Spending::restored(bounds, *spent, &Arc::default())))
        });
        Counter::restored(rates, budgets, self.0)
    }
}

fn rate_named(name: &str) -> Option<(Counted, Span)> {
    const COUNTED: [Counted; 4] = [Counted::Requests, Counted::Tokens, Counted::InputTokens, Counted::OutputTokens];
    let all = COUNTED.into_iter().flat_map(|counted| [(counted, Span::Minute), (counted, Span::Day)]);
    all.into_iter().find(|(counted, span)| Rule::Rate { counted: *counted, span: *span }.as_str() == name)
}

fn budget_named(name: &str) -> Option<Period> {
    let all = [Period::Day, Period::Week, Period::Month, Period::Total];
    all.into_iter().find(|period| Rule::Budget(*period).as_str() == name)
}

fn timestamp(millis: Millis) -> Timestamp {
    let at = i64::try_from(millis).ok().and_then(|millis| Timestamp::from_millisecond(millis).ok());
    at.unwrap_or(Timestamp::MAX)
}
