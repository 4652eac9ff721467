//! Claims as `reserve.lua` and `settle.lua` read them, and its answers as counters. Pure.

use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};
use table::Period;

use super::{clock, keys::Keys, phrases::Phrases};
use crate::limit::{
    budget::{Bounds, Spending},
    claims::{BudgetClaim, RateClaim, ScopeClaim},
    counter::{Counter, Now},
    reservation::Used,
    rule::Rule,
    window::{Millis, Window},
};

/// The largest whole number that Lua keeps exactly.
const MOST: u64 = (1 << 53) - 1;

/// Keys of a call beside those of its domain, as many as are usual.
const SCOPES: usize = 8;

/// Bytes of an argument, as many as are usual.
const USUAL: usize = 1_024;

/// How many calendar periods a call names: the present one and those beside it, because only the script knows the time.
const PERIODS: usize = 3;

/// `{name, limit, amount, blocks, bounds}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Budget(&'static str, u64, u64, u8, Arc<[Millis]>);

/// `{counters, slots, concurrency (-1: none), budgets (0: none), then name, span, capacity, pair (0: none) and amount of
/// one rate after the other}`: in one list, because Lua makes a table of each. Keys by their index, from 1, where 0 is none;
/// or by name.
#[derive(Clone, Debug)]
pub(super) struct Scope<K> {
    counters: K,
    slots: K,
    concurrency: i64,
    budgets: Vec<Budget>,
    rates: Vec<Rate>,
}

#[derive(Clone, Debug)]
struct Rate {
    name: &'static str,
    span: Millis,
    capacity: u64,
    /// `0`: none.
    pair: u64,
    amount: u64,
}

impl<K: Serialize> Serialize for Scope<K> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(4 + 5 * self.rates.len()))?;
        list.serialize_element(&self.counters)?;
        list.serialize_element(&self.slots)?;
        list.serialize_element(&self.concurrency)?;
        if self.budgets.is_empty() {
            list.serialize_element(&0)?;
        } else {
            list.serialize_element(&self.budgets)?;
        }
        for Rate { name, span, capacity, pair, amount } in &self.rates {
            list.serialize_element(name)?;
            for number in [span, capacity, pair, amount] {
                list.serialize_element(number)?;
            }
        }
        list.end()
    }
}

/// `{breaker, scopes}`.
#[derive(Clone, Debug, Serialize)]
struct Candidate(String, Vec<Scope<usize>>);

/// Who asks, and what for.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Asking<'a> {
    /// The reservation's id.
    pub(super) id: &'a str,
    /// When the domain's data began, as far as is known; empty: it is not.
    pub(super) born: &'a str,
    /// What is written where it has not begun.
    pub(super) fresh: &'a str,
    /// This process.
    pub(super) process: &'a str,
    /// Whether this process has something to give back should the data have been lost.
    pub(super) must_seed: bool,
    /// How long the reservation lives without a sign of its holder.
    pub(super) lease: Millis,
    /// Whether nothing is to be written.
    pub(super) peek: bool,
    /// How many open candidates are wanted.
    pub(super) candidates: usize,
}

/// A call of `reserve.lua`.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) keys: Vec<Arc<str>>,
    scopes: Vec<Scope<usize>>,
    candidates: Vec<Candidate>,
}

impl Call {
    /// A call about scopes of one domain. `now` chooses the calendar periods that are named.
    pub(super) fn new(phrases: &Phrases, domain: &str) -> Self {
        let fixed = phrases.fixed(domain);
        let mut keys = Vec::with_capacity(fixed.len() + SCOPES);
        keys.extend_from_slice(&*fixed);
        Self { keys, scopes: Vec::new(), candidates: Vec::new() }
    }

    /// Adds a scope of the caller.
    pub(super) fn scope(&mut self, phrases: &Phrases, claim: &ScopeClaim, now: Now) {
        let scope = self.one(phrases, claim, now);
        self.scopes.push(scope);
    }

    /// Adds a candidate.
    pub(super) fn candidate(&mut self, phrases: &Phrases, breaker: String, scopes: &[ScopeClaim], now: Now) {
        let scopes = scopes.iter().map(|claim| self.one(phrases, claim, now)).collect();
        self.candidates.push(Candidate(breaker, scopes));
    }

    /// The argument.
    pub(super) fn argument(&self, asking: &Asking<'_>) -> Vec<u8> {
        let Asking { id, born, fresh, process, must_seed, lease, peek, candidates } = *asking;
        let candidates = candidates.min(1 << 20);
        let call = (id, born, fresh, process, u8::from(must_seed), lease, u8::from(peek), candidates);
        let (a, b, c, d, e, f, g, h) = call;
        encoded(&(a, b, c, d, e, f, g, h, &self.scopes, &self.candidates))
    }

    fn one(&mut self, phrases: &Phrases, claim: &ScopeClaim, now: Now) -> Scope<usize> {
        let names = phrases.names(&claim.scope);
        let counters = self.key(names.counters);
        let slots = if claim.concurrency.is_some() { self.key(names.slots) } else { 0 };
        Scope::of(counters, slots, claim, phrases, now)
    }

    /// The index of a key, as Lua counts. Candidates of one host share their host's.
    fn key(&mut self, name: Arc<str>) -> usize {
        match self.keys.iter().position(|known| *known == name) {
            Some(at) => at + 1,
            None => {
                self.keys.push(name);
                self.keys.len()
            }
        }
    }
}

/// What `settle.lua` is told.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// It is over and used so much.
    Settle { id: Arc<str>, used: Used },
    /// It is over, and nobody knows what it used.
    Release { id: Arc<str>, begun: bool, doubtful: bool },
    /// Another candidate is tried.
    Attempt { id: Arc<str>, begun: bool, scopes: Vec<Scope<Arc<str>>> },
    /// Its holder lives.
    Renew { id: Arc<str>, lease: Millis },
    /// So much was used without a reservation.
    Spend { scopes: Vec<Added> },
}

/// `{counters, rates, budgets}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Added(pub(super) Arc<str>, pub(super) Vec<AddedRate>, pub(super) Vec<AddedBudget>);

/// `{name, span, at, amount}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AddedRate(pub(super) &'static str, pub(super) Millis, pub(super) Millis, pub(super) u64);

/// `{name, at, amount, bounds}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct AddedBudget(pub(super) &'static str, pub(super) Millis, pub(super) i64, pub(super) Arc<[Millis]>);

impl<K> Scope<K> {
    fn of(counters: K, slots: K, claim: &ScopeClaim, phrases: &Phrases, now: Now) -> Self {
        let concurrency = claim.concurrency.map_or(-1, |most| i64::try_from(most.min(MOST)).unwrap_or(i64::MAX));
        let (budgets, rates) = (budgets(&claim.budgets, phrases, now), rates(&claim.rates));
        Self { counters, slots, concurrency, budgets, rates }
    }
}

impl Scope<Arc<str>> {
    /// What an attempt charges of a scope.
    pub(super) fn charged(phrases: &Phrases, claim: &ScopeClaim, now: Now) -> Self {
        let names = phrases.names(&claim.scope);
        let slots = claim.concurrency.map(|_| names.slots).unwrap_or_default();
        Self::of(names.counters, slots, claim, phrases, now)
    }
}

impl Serialize for Entry {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Entry::Settle { id, used } => {
                let used = (used.input_tokens.min(MOST), used.output_tokens.min(MOST), used.cost.0.min(MOST));
                ("s", &**id, used).serialize(to)
            }
            Entry::Release { id, begun, doubtful } => ("r", &**id, u8::from(*begun), u8::from(*doubtful)).serialize(to),
            Entry::Attempt { id, begun, scopes } => ("a", &**id, u8::from(*begun), scopes).serialize(to),
            Entry::Renew { id, lease } => ("n", &**id, lease).serialize(to),
            Entry::Spend { scopes } => ("p", scopes).serialize(to),
        }
    }
}

/// The keys of a batch.
pub(super) fn batch_keys(keys: &Keys, domain: &str, process: &str) -> Vec<String> {
    vec![keys.born(domain), keys.holds(domain), keys.leases(domain), keys.batch(domain, process)]
}

/// The argument of a batch.
pub(super) fn batch(number: u64, lease: Millis, fresh: &str, entries: &[Entry]) -> Vec<u8> {
    encoded(&(number, lease, fresh, entries))
}

/// The answer to a batch: the time, when the data began, and the ids that are not known.
#[derive(Debug, Deserialize)]
pub(super) struct Settled {
    pub(super) now: Millis,
    pub(super) born: String,
    pub(super) unknown: Vec<String>,
}

/// The answer of `reserve.lua`.
#[derive(Debug, Deserialize)]
pub(super) struct Answer {
    pub(super) status: u8,
    pub(super) now: Millis,
    pub(super) born: String,
    pub(super) scopes: Vec<State>,
    pub(super) open: Vec<usize>,
    pub(super) candidates: Vec<Vec<State>>,
    pub(super) broken: Vec<Broken>,
}

/// What became of a call.
pub(super) mod status {
    pub(in super::super) const GRANTED: u8 = 0;
    pub(in super::super) const REFUSED: u8 = 1;
    pub(in super::super) const REBORN: u8 = 2;
    pub(in super::super) const CLOCK: u8 = 3;
    pub(in super::super) const TAKEN: u8 = 4;
}

/// The counters of a scope in one list: requests in flight, then [`OF_RATE`] numbers of each rate and [`OF_BUDGET`] of each
/// budget, in the order of its claim.
#[derive(Debug, Deserialize)]
pub(super) struct State(Vec<u64>);

/// `{bucket, current, previous, held}`.
const OF_RATE: usize = 4;

/// `{start, end (0: never), spent, held, epoch}`.
const OF_BUDGET: usize = 5;

/// A candidate whose breaker another replica has opened.
#[derive(Debug, Deserialize)]
pub(super) struct Broken(pub(super) usize, pub(super) Millis, pub(super) String);

impl State {
    /// As counters; without what open reservations may still give back, if `settled`.
    pub(super) fn counter(&self, claim: &ScopeClaim, settled: bool) -> Counter {
        let without = |count: u64, held: u64| if settled { count.saturating_sub(held) } else { count };
        let rates = claim.rates.iter().zip(self.rates(claim)).map(|(rate, &[bucket, current, previous, held])| {
            // Nobody knows which of the two buckets it would leave. From the later one it would free most.
            let earlier = without(previous, held.saturating_sub(current));
            (rate.counted, rate.span, Window::restored(bucket, without(current, held), earlier))
        });
        let budgets = claim.budgets.iter().zip(self.budgets(claim)).map(|(budget, &[start, end, spent, held, _])| {
            let bounds = Bounds { start: timestamp(start), end: (end > 0).then(|| timestamp(end)) };
            (budget.period, Spending::restored(bounds, without(spent, held), &budget.timezone))
        });
        let in_flight = self.0.first().copied().filter(|_| !settled);
        Counter::restored(rates, budgets, in_flight.unwrap_or_default())
    }

    /// When the period of each budget of the claim begins and ends; `0`: never.
    pub(super) fn periods(&self, claim: &ScopeClaim) -> impl Iterator<Item = (Millis, Millis)> {
        self.budgets(claim).iter().map(|&[start, end, ..]| (start, end))
    }

    fn rates(&self, claim: &ScopeClaim) -> &[[u64; OF_RATE]] {
        let numbers = self.0.get(1..).unwrap_or_default();
        let (rates, _) = numbers.as_chunks();
        rates.get(..claim.rates.len()).unwrap_or(rates)
    }

    fn budgets(&self, claim: &ScopeClaim) -> &[[u64; OF_BUDGET]] {
        let numbers = self.0.get(1 + OF_RATE * claim.rates.len()..).unwrap_or_default();
        numbers.as_chunks().0
    }
}

/// Reads an answer.
pub(super) fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

fn encoded(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(USUAL);
    rmp_serde::encode::write(&mut bytes, value).expect("numbers, strings and lists can always be written");
    bytes
}

fn rates(claims: &[RateClaim]) -> Vec<Rate> {
    let rate = |claim: &RateClaim| {
        let capacity = claim.ceiling.capacity().min(MOST);
        let pair = claim.ceiling.pair();
        let pair = if pair == u64::MAX { 0 } else { pair.min(MOST) };
        Rate { name: claim.rule().as_str(), span: span(claim), capacity, pair, amount: claim.amount.min(MOST) }
    };
    claims.iter().map(rate).collect()
}

fn budgets(claims: &[BudgetClaim], phrases: &Phrases, now: Now) -> Vec<Budget> {
    let budget = |claim: &BudgetClaim| {
        let bounds = phrases.periods(claim.period, &claim.timezone, now.wall);
        let (limit, amount) = (claim.limit.0.min(MOST), claim.amount.0.min(MOST));
        Budget(Rule::Budget(claim.period).as_str(), limit, amount, u8::from(claim.blocks), bounds)
    };
    claims.iter().map(budget).collect()
}

fn span(claim: &RateClaim) -> Millis {
    u64::try_from(claim.span.length().as_millis()).expect("a day has few milliseconds")
}

/// Where the period before that of `now`, that of `now` and the one after it begin, and where the last ends; `0` for the
/// end of what never ends.
pub(super) fn periods(period: Period, timezone: &str, now: Timestamp) -> Vec<Millis> {
    let present = Bounds::holding(now, period, timezone);
    let Some(mut end) = present.end else { return vec![0, 0] };
    let mut bounds = Vec::with_capacity(PERIODS + 1);
    let just_before = present.start.checked_sub(std::time::Duration::from_millis(1));
    bounds.extend(just_before.map(|before| millis(Bounds::holding(before, period, timezone).start)));
    bounds.extend([millis(present.start), millis(end)]);
    while bounds.len() <= PERIODS {
        match Bounds::holding(end, period, timezone).end {
            Some(next) if next > end => end = next,
            _ => break,
        }
        bounds.push(millis(end));
    }
    bounds
}

fn millis(at: Timestamp) -> Millis {
    u64::try_from(at.as_millisecond()).unwrap_or_default()
}

fn timestamp(millis: Millis) -> Timestamp {
    clock::at(millis).wall
}
