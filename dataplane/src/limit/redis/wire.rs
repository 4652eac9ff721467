//! Claims as `reserve.lua` and `settle.lua` read them, and its answers as counters. Pure.

use std::{mem, sync::Arc};

use data_encoding::HEXLOWER;
use jiff::Timestamp;
use rmp_serde::decode::ReadRefReader;
use serde::{Deserialize, Serialize, Serializer, ser::SerializeSeq};
use table::Period;

use super::{
    clock,
    keys::Keys,
    pack,
    phrases::{Fixed, Phrases},
    told::{self, MOST},
};
use crate::{
    limit::{
        budget::{Bounds, Spending},
        claims::{BudgetClaim, RateClaim, ScopeClaim},
        counter::{Counter, Now},
        reservation::Used,
        rule::Rule,
        window::{Millis, Window},
    },
    upstream::credentials::KeyHash,
};

/// Values of a call before its breakers and scopes.
const HEAD: usize = 13;

/// Keys beside those of the domain, as many as are usual.
const USUAL: usize = 8;

/// Bytes of an argument or a part of it, as many as are usual.
const USUAL_BYTES: usize = 256;

/// Values of a call as Lua's stack takes them; more are told in a list.
const MOST_VALUES: usize = 2_000;

/// How many calendar periods a call names: the present one and those beside it, because only the script knows the time.
const PERIODS: usize = 3;

/// `{name, limit, amount, blocks, bounds}`.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Budget(&'static str, u64, u64, u8, Arc<[Millis]>);

/// What an attempt charges of a scope: `{counters, slots, concurrency (-1: none), budgets (0: none), then name, span,
/// capacity, pair (0: none) and amount of one rate after the other}`, in one list, because Lua makes a table of each.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    counters: Arc<str>,
    slots: Arc<str>,
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

impl Serialize for Scope {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut list = to.serialize_seq(Some(4 + 5 * self.rates.len()))?;
        list.serialize_element(&*self.counters)?;
        list.serialize_element(&*self.slots)?;
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

/// A call of `reserve.lua`, whose header says what everything in it is.
#[derive(Debug)]
pub(super) struct Call {
    fixed: Fixed,
    counters: Vec<Arc<str>>,
    slots: Vec<Arc<str>>,
    /// The caller's.
    own: Part,
    candidates: usize,
    /// Those of the candidates; empty where none has any.
    breakers: Vec<u8>,
    /// What is told of the candidates.
    told: Vec<u8>,
    /// How many values all of it is.
    values: usize,
}

/// Scopes that are decided together.
#[derive(Debug, Default)]
struct Part {
    count: usize,
    told: Vec<u8>,
    charges: Vec<u8>,
}

impl Call {
    /// A call about scopes of one domain. `now` chooses the calendar periods that are named.
    pub(super) fn new(phrases: &Phrases, domain: &str) -> Self {
        let (counters, slots) = (Vec::with_capacity(USUAL), Vec::new());
        let own = Part { count: 0, told: Vec::with_capacity(USUAL_BYTES), charges: Vec::with_capacity(USUAL_BYTES) };
        let (breakers, told) = (Vec::new(), Vec::new());
        Self { fixed: phrases.fixed(domain), counters, slots, own, candidates: 0, breakers, told, values: HEAD }
    }

    /// Adds a scope of the caller.
    pub(super) fn scope(&mut self, phrases: &Phrases, claim: &ScopeClaim, now: Now) {
        let mut own = mem::take(&mut self.own);
        self.tell(phrases, claim, now, &mut own);
        self.own = own;
    }

    /// Adds a candidate.
    pub(super) fn candidate(&mut self, phrases: &Phrases, breaker: Option<&KeyHash>, scopes: &[ScopeClaim], now: Now) {
        let mut part = Part::default();
        for claim in scopes {
            self.tell(phrases, claim, now, &mut part);
        }
        pack::number(&mut self.told, part.count as u64);
        let mut charges = Vec::with_capacity(part.charges.len() + 3);
        pack::list(&mut charges, part.count);
        charges.extend_from_slice(&part.charges);
        pack::text(&mut self.told, &charges);
        self.told.extend_from_slice(&part.told);
        match breaker {
            Some(key) => {
                let mut field = [0; 64];
                HEXLOWER.encode_mut(key.as_bytes(), &mut field);
                pack::text(&mut self.breakers, &field);
            }
            None => pack::text(&mut self.breakers, b""),
        }
        (self.candidates, self.values) = (self.candidates + 1, self.values + 3);
    }

    /// The keys, in the order in which the argument names them.
    pub(super) fn keys(&self) -> Vec<&str> {
        self.fixed.iter().chain(&self.counters).chain(&self.slots).map(|key| &**key).collect()
    }

    /// The argument.
    pub(super) fn argument(&self, asking: &Asking<'_>) -> Vec<u8> {
        let Asking { id, born, fresh, process, must_seed, lease, peek, candidates } = *asking;
        // One byte says that there is none.
        let (breakers, asked) = match self.breakers.len() > self.candidates {
            true => (&*self.breakers, self.candidates),
            false => (&[][..], 0),
        };
        let length = USUAL_BYTES + self.own.told.len() + self.own.charges.len() + breakers.len() + self.told.len();
        let mut bytes = Vec::with_capacity(length);
        if self.values > MOST_VALUES {
            pack::list(&mut bytes, self.values - self.candidates + asked);
        }
        for text in [id, born, fresh, process] {
            pack::text(&mut bytes, text.as_bytes());
        }
        let candidates = candidates.min(1 << 20) as u64;
        for number in [u64::from(must_seed), lease, u64::from(peek), candidates] {
            pack::number(&mut bytes, number);
        }
        for count in [self.counters.len(), self.own.count, self.candidates, asked] {
            pack::number(&mut bytes, count as u64);
        }
        let mut charges = Vec::with_capacity(self.own.charges.len() + 4);
        pack::list(&mut charges, 2);
        pack::list(&mut charges, self.own.count);
        charges.extend_from_slice(&self.own.charges);
        pack::text(&mut bytes, &charges);
        for part in [breakers, &self.own.told, &self.told] {
            bytes.extend_from_slice(part);
        }
        bytes
    }

    fn tell(&mut self, phrases: &Phrases, claim: &ScopeClaim, now: Now, part: &mut Part) {
        let told = phrases.told(claim);
        let slots = claim.concurrency.map_or(0, |_| index(&mut self.slots, &told.slots));
        pack::number(&mut part.told, index(&mut self.counters, &told.counters));
        pack::number(&mut part.told, slots);
        told.tell(claim, phrases, now, &mut part.told, &mut part.charges);
        part.count += 1;
        self.values += 2 + told.values();
    }
}

/// The index of a key, as Lua counts. Candidates of one host share their host's.
fn index(keys: &mut Vec<Arc<str>>, name: &Arc<str>) -> u64 {
    let known = keys.iter().position(|known| Arc::ptr_eq(known, name) || known == name);
    let at = known.unwrap_or_else(|| {
        keys.push(name.clone());
        keys.len() - 1
    });
    at as u64 + 1
}

/// What `settle.lua` is told.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    /// It is over and used so much.
    Settle { id: Arc<str>, used: Used },
    /// It is over, and nobody knows what it used.
    Release { id: Arc<str>, begun: bool, doubtful: bool },
    /// Another candidate is tried.
    Attempt { id: Arc<str>, begun: bool, scopes: Vec<Scope> },
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

impl Scope {
    /// What an attempt charges of a scope.
    pub(super) fn charged(phrases: &Phrases, claim: &ScopeClaim, now: Now) -> Self {
        let told = phrases.told(claim);
        let slots = claim.concurrency.map(|_| told.slots.clone()).unwrap_or_default();
        let concurrency = claim.concurrency.map_or(-1, |most| i64::try_from(most.min(MOST)).unwrap_or(i64::MAX));
        let (budgets, rates) = (budgets(&claim.budgets, phrases, now), rates(&claim.rates));
        Self { counters: told.counters.clone(), slots, concurrency, budgets, rates }
    }
}

/// The keys of a batch.
pub(super) fn batch_keys(keys: &Keys, domain: &str, process: &str) -> Vec<String> {
    vec![keys.born(domain), keys.holds(domain), keys.leases(domain), keys.batch(domain, process)]
}

/// The argument of a batch: what is over and was used value by value, as most of it is that; the rest as a list.
pub(super) fn batch(number: u64, lease: Millis, fresh: &str, entries: &[Entry]) -> Vec<u8> {
    let (mut ids, mut used, mut settled) = (Vec::with_capacity(USUAL_BYTES), Vec::with_capacity(USUAL_BYTES), 0);
    let (mut others, mut other) = (Vec::new(), 0);
    for entry in entries {
        match entry {
            Entry::Settle { id, used: Used { input_tokens, output_tokens, cost } } => {
                pack::text(&mut ids, id.as_bytes());
                for amount in [*input_tokens, *output_tokens, cost.0] {
                    pack::number(&mut used, amount.min(MOST));
                }
                settled += 1;
                continue;
            }
            Entry::Release { id, begun, doubtful } => {
                encode(&mut others, &("r", &**id, u8::from(*begun), u8::from(*doubtful)))
            }
            Entry::Attempt { id, begun, scopes } => encode(&mut others, &("a", &**id, u8::from(*begun), scopes)),
            Entry::Renew { id, lease } => encode(&mut others, &("n", &**id, lease)),
            Entry::Spend { scopes } => encode(&mut others, &("p", scopes)),
        }
        other += 1;
    }
    let mut bytes = Vec::with_capacity(USUAL_BYTES + ids.len() + used.len() + others.len());
    pack::number(&mut bytes, number);
    pack::number(&mut bytes, lease);
    pack::text(&mut bytes, fresh.as_bytes());
    pack::number(&mut bytes, settled);
    bytes.extend_from_slice(&ids);
    bytes.extend_from_slice(&used);
    if other > 0 {
        pack::list(&mut bytes, other);
        bytes.extend_from_slice(&others);
    }
    bytes
}

/// The answer to a batch: the time, when the data began, and the ids that are not known.
#[derive(Debug, Deserialize)]
pub(super) struct Settled {
    pub(super) now: Millis,
    pub(super) born: String,
    pub(super) unknown: Vec<String>,
}

/// The answer of `reserve.lua`.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u8,
    pub(super) now: Millis,
    pub(super) born: String,
    pub(super) scopes: Vec<State>,
    pub(super) open: Vec<usize>,
    pub(super) candidates: Vec<Vec<State>>,
    pub(super) broken: Vec<Broken>,
}

impl Answer {
    /// Reads one.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, rmp_serde::decode::Error> {
        let mut values = Values(rmp_serde::Deserializer::from_read_ref(bytes));
        Ok(Self {
            status: values.next()?,
            now: values.next()?,
            born: values.next()?,
            scopes: values.list(State::read)?,
            open: values.list(Values::next)?,
            candidates: values.list(|values| values.list(State::read))?,
            broken: values.list(|values| Ok(Broken(values.next()?, values.next()?, values.next()?)))?,
        })
    }
}

/// Values one after the other.
struct Values<'a>(rmp_serde::Deserializer<ReadRefReader<'a, [u8]>>);

impl<'a> Values<'a> {
    fn next<T: Deserialize<'a>>(&mut self) -> Result<T, rmp_serde::decode::Error> {
        T::deserialize(&mut self.0)
    }

    /// So many, after how many they are.
    fn list<T>(
        &mut self,
        mut one: impl FnMut(&mut Self) -> Result<T, rmp_serde::decode::Error>,
    ) -> Result<Vec<T>, rmp_serde::decode::Error> {
        let count = self.next::<u32>()?;
        (0..count).map(|_| one(self)).collect()
    }
}

/// What became of a call.
pub(super) mod status {
    pub(in super::super) const GRANTED: u8 = 0;
    pub(in super::super) const REFUSED: u8 = 1;
    pub(in super::super) const REBORN: u8 = 2;
    pub(in super::super) const CLOCK: u8 = 3;
    pub(in super::super) const TAKEN: u8 = 4;
}

/// The counters of a scope: requests in flight, and the rest as it is stored.
#[derive(Debug)]
pub(super) struct State {
    in_flight: u64,
    counters: Vec<u8>,
}

/// A candidate whose breaker another replica has opened.
#[derive(Debug)]
pub(super) struct Broken(pub(super) usize, pub(super) Millis, pub(super) String);

impl State {
    fn read(values: &mut Values<'_>) -> Result<Self, rmp_serde::decode::Error> {
        Ok(Self { in_flight: values.next()?, counters: values.next::<&[u8]>()?.to_vec() })
    }

    /// As counters; without what open reservations may still give back, if `settled`.
    pub(super) fn counter(&self, claim: &ScopeClaim, settled: bool) -> Counter {
        let without = |count: u64, held: u64| if settled { count.saturating_sub(held) } else { count };
        let rates = claim.rates.iter().map(|rate| {
            let stored = told::stored(&self.counters, rate.rule().as_str());
            let [bucket, current, previous, held] = stored.unwrap_or_default();
            // Nobody knows which of the two buckets it would leave. From the later one it would free most.
            let earlier = without(previous, held.saturating_sub(current));
            (rate.counted, rate.span, Window::restored(bucket, without(current, held), earlier))
        });
        let budgets = claim.budgets.iter().map(|budget| {
            let [start, end, spent, held, _] = self.budget(budget);
            let bounds = Bounds { start: timestamp(start), end: (end > 0).then(|| timestamp(end)) };
            (budget.period, Spending::restored(bounds, without(spent, held), &budget.timezone))
        });
        let in_flight = if settled { 0 } else { self.in_flight };
        Counter::restored(rates, budgets, in_flight)
    }

    /// When the period of each budget of the claim begins and ends; `0`: never.
    pub(super) fn periods(&self, claim: &ScopeClaim) -> impl Iterator<Item = (Millis, Millis)> {
        claim.budgets.iter().map(|budget| {
            let [start, end, ..] = self.budget(budget);
            (start, end)
        })
    }

    /// `{start, end (0: never), spent, held, epoch}`.
    fn budget(&self, budget: &BudgetClaim) -> [u64; 5] {
        told::stored(&self.counters, budget.rule().as_str()).unwrap_or_default()
    }
}

/// Reads an answer.
pub(super) fn decoded<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, rmp_serde::decode::Error> {
    rmp_serde::from_slice(bytes)
}

fn encode(bytes: &mut Vec<u8>, value: &impl Serialize) {
    rmp_serde::encode::write(bytes, value).expect("numbers, strings and lists can always be written");
}

fn rates(claims: &[RateClaim]) -> Vec<Rate> {
    let rate = |claim: &RateClaim| {
        let (capacity, pair) = (claim.ceiling.capacity().min(MOST), told::pair(claim.ceiling));
        let (name, span) = (claim.rule().as_str(), told::length(claim.span));
        Rate { name, span, capacity, pair, amount: claim.amount.min(MOST) }
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
