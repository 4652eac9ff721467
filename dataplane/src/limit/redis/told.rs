//! What `reserve.lua` is told of a scope: its rules and how they are laid out, which stay the same while the table does,
//! and the amounts and guesses of one call. Pure.
//!
//! The layout is that of `common.lua`: entries by name, budgets before rates, numbers in eight bytes.

use std::sync::Arc;

use smallvec::SmallVec;
use table::{NanoUsd, Period};

use super::{pack, phrases::Phrases};
use crate::limit::{
    claims::{RateClaim, ScopeClaim},
    counter::Now,
    rule::{Counted, Rule, Span},
    window::{Ceiling, Millis},
};

/// The largest whole number that Lua keeps exactly.
pub(super) const MOST: u64 = (1 << 53) - 1;

/// Says that a number of eight bytes follows.
const NUMBER: u8 = 0xcb;

/// Bounds of periods that a call names.
const BOUNDS: usize = 4;

/// What is told of a scope each time.
#[derive(Debug)]
pub(super) struct Told {
    pub(super) counters: Arc<str>,
    pub(super) slots: Arc<str>,
    concurrency: Option<u64>,
    budgets: SmallVec<[ToldBudget; 1]>,
    rates: SmallVec<[ToldRate; 4]>,
    /// Concurrency, size, layout, how many budgets and rates.
    head: Vec<u8>,
    /// How its charge begins.
    charge: Vec<u8>,
    /// How its charge ends: with the layout, by which `settle.lua` reads what `reserve.lua` has written. Whoever does not
    /// know of it takes it for the name of a budget that is not there.
    charge_end: Vec<u8>,
}

#[derive(Debug)]
struct ToldBudget {
    /// Where the claim has it.
    at: usize,
    rule: (Period, NanoUsd, bool),
    told: Vec<u8>,
    charge: Vec<u8>,
}

#[derive(Debug)]
struct ToldRate {
    at: usize,
    rule: (Counted, Span, Ceiling),
    span: Millis,
    told: Vec<u8>,
    charge: Vec<u8>,
}

impl Told {
    pub(super) fn new(counters: Arc<str>, slots: Arc<str>, claim: &ScopeClaim) -> Self {
        let mut budgets: Vec<_> = claim.budgets.iter().enumerate().collect();
        budgets.sort_by_key(|(_, budget)| budget.rule().as_str());
        let mut rates: Vec<_> = claim.rates.iter().enumerate().collect();
        rates.sort_by_key(|(_, rate)| rate.rule().as_str());
        let mut layout = Layout::new();
        let budgets: SmallVec<_> = budgets
            .into_iter()
            .map(|(at, budget)| {
                let name = Rule::Budget(budget.period).as_str();
                let (mut told, mut charge) = (Vec::new(), Vec::new());
                pack::text(&mut told, &layout.entry(name, 5));
                pack::number(&mut told, budget.limit.0.min(MOST));
                pack::number(&mut told, u64::from(budget.blocks));
                pack::text(&mut charge, name.as_bytes());
                ToldBudget { at, rule: (budget.period, budget.limit, budget.blocks), told, charge }
            })
            .collect();
        let rates: SmallVec<_> = rates
            .into_iter()
            .map(|(at, rate)| {
                let (name, span) = (rate.rule().as_str(), length(rate.span));
                let (mut told, mut charge) = (Vec::new(), Vec::new());
                pack::text(&mut told, &layout.entry(name, 4));
                pack::number(&mut told, span);
                pack::number(&mut told, rate.ceiling.capacity().min(MOST));
                pack::number(&mut told, pair(rate.ceiling));
                pack::text(&mut charge, name.as_bytes());
                pack::number(&mut charge, span);
                ToldRate { at, rule: (rate.counted, rate.span, rate.ceiling), span, told, charge }
            })
            .collect();
        let (mut head, mut charge) = (Vec::new(), Vec::new());
        match claim.concurrency {
            Some(most) => pack::number(&mut head, most.min(MOST)),
            None => pack::none(&mut head),
        }
        pack::number(&mut head, layout.size as u64);
        pack::text(&mut head, layout.format.as_bytes());
        pack::number(&mut head, budgets.len() as u64);
        pack::number(&mut head, rates.len() as u64);
        let rates_end = 3 + 4 * rates.len();
        pack::list(&mut charge, rates_end + 3 * budgets.len() + 1);
        pack::text(&mut charge, counters.as_bytes());
        pack::text(&mut charge, claim.concurrency.map_or(&b""[..], |_| slots.as_bytes()));
        pack::number(&mut charge, rates_end as u64);
        let mut charge_end = Vec::new();
        pack::text(&mut charge_end, layout.format.as_bytes());
        Self { counters, slots, concurrency: claim.concurrency, budgets, rates, head, charge, charge_end }
    }

    /// Whether a claim of this scope has these rules, in this order; amounts do not matter.
    pub(super) fn fits(&self, claim: &ScopeClaim) -> bool {
        let budget = |told: &ToldBudget| {
            claim.budgets.get(told.at).is_some_and(|of| (of.period, of.limit, of.blocks) == told.rule)
        };
        let rate =
            |told: &ToldRate| claim.rates.get(told.at).is_some_and(|of| (of.counted, of.span, of.ceiling) == told.rule);
        self.concurrency == claim.concurrency
            && (self.budgets.len(), self.rates.len()) == (claim.budgets.len(), claim.rates.len())
            && self.budgets.iter().all(budget)
            && self.rates.iter().all(rate)
    }

    /// How many values [`Told::tell`] writes, beside the two keys.
    pub(super) fn values(&self) -> usize {
        5 + 9 * self.budgets.len() + 6 * self.rates.len()
    }

    /// Tells of a claim which [`Told::fits`], and of its charge, after the indices of its keys.
    pub(super) fn tell(
        &self,
        claim: &ScopeClaim,
        phrases: &Phrases,
        now: Now,
        scope: &mut Vec<u8>,
        charges: &mut Vec<u8>,
    ) {
        scope.extend_from_slice(&self.head);
        charges.extend_from_slice(&self.charge);
        for ToldRate { at, span, charge, .. } in &self.rates {
            charges.extend_from_slice(charge);
            pack::number(charges, now.mono / span);
            pack::number(charges, amount(&claim.rates[*at]));
        }
        for ToldBudget { at, told, charge, .. } in &self.budgets {
            let budget = &claim.budgets[*at];
            let (bounds, amount) =
                (phrases.periods(budget.period, &budget.timezone, now.wall), budget.amount.0.min(MOST));
            let epoch = present(&bounds, now.mono);
            scope.extend_from_slice(told);
            // Where there are fewer, the last stands for those that are missing: it says nothing more.
            let last = bounds.last().copied().unwrap_or_default();
            for n in 0..BOUNDS {
                pack::number(scope, bounds.get(n).copied().unwrap_or(last));
            }
            pack::number(scope, epoch);
            pack::number(scope, amount);
            charges.extend_from_slice(charge);
            pack::number(charges, epoch);
            pack::number(charges, amount);
        }
        charges.extend_from_slice(&self.charge_end);
        for ToldRate { at, span, told, .. } in &self.rates {
            scope.extend_from_slice(told);
            pack::number(scope, now.mono / span);
            pack::number(scope, amount(&claim.rates[*at]));
        }
    }
}

/// How the counters of a scope are written, as `struct` of Lua has it.
struct Layout {
    format: String,
    size: usize,
}

impl Layout {
    /// How many entries, `x`, and when the last of them ends.
    fn new() -> Self {
        Self { format: ">Bc3d".to_owned(), size: 1 + 3 + 8 }
    }

    /// Adds an entry of so many numbers. Gives how it begins.
    fn entry(&mut self, name: &str, numbers: usize) -> Vec<u8> {
        let mut start = Vec::new();
        pack::text(&mut start, name.as_bytes());
        pack::list(&mut start, numbers);
        start.push(NUMBER);
        self.format.push_str(&format!("c{}{}d", start.len(), "dB".repeat(numbers - 1)));
        self.size += start.len() + 9 * numbers - 1;
        start
    }
}

/// Numbers of an entry of stored counters, by its name, as the scripts write them.
pub(super) fn stored<const N: usize>(counters: &[u8], name: &str) -> Option<[u64; N]> {
    let mut rest = counters.get(1 + 3 + 8..)?;
    while let Some((length, entry)) = rest.split_first() {
        let (found, entry) = entry.split_at_checked(usize::from(length & 0x1f))?;
        let (numbers, entry) = entry.split_first()?;
        let (numbers, after) = entry.split_at_checked(9 * usize::from(numbers & 0x0f))?;
        if found == name.as_bytes() {
            let (numbers, _) = numbers.as_chunks::<9>();
            let number = |[_, bytes @ ..]: &[u8; 9]| f64::from_be_bytes(*bytes) as u64;
            return <[u64; N]>::try_from(numbers.iter().map(number).collect::<SmallVec<[u64; 5]>>().as_slice()).ok();
        }
        rest = after;
    }
    None
}

/// When the period of these bounds began that holds `now`; none of them: whatever, it is only a guess.
fn present(bounds: &[Millis], now: Millis) -> Millis {
    let holds = |pair: &&[Millis]| pair[0] <= now && (pair[1] == 0 || now < pair[1]);
    bounds.windows(2).find(holds).map_or(0, |pair| pair[0])
}

fn amount(rate: &RateClaim) -> u64 {
    rate.amount.min(MOST)
}

/// `0`: none.
pub(super) fn pair(ceiling: Ceiling) -> u64 {
    match ceiling.pair() {
        u64::MAX => 0,
        pair => pair.min(MOST),
    }
}

pub(super) fn length(span: Span) -> Millis {
    u64::try_from(span.length().as_millis()).expect("a day has few milliseconds")
}
