//! Whether each decision was right: replays what Redis was asked, in its order, against sums that are kept here.
//!
//! Knows what a reservation and a settlement mean, and nothing of how the scripts keep their counters.

use std::collections::HashMap;

use dataplane::limit::redis::script::{Scripts, Time};

use crate::{
    monitor::Executed,
    words::{Word, words},
};

/// A counter: its key in Redis and its rule.
type Name = (String, String);

/// What a replay found.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    pub(crate) granted: usize,
    pub(crate) refused: Vec<Refusal>,
    /// Grants of what did not fit.
    pub(crate) too_many: Vec<String>,
    /// Refusals of what would have fitted.
    pub(crate) false_refusals: Vec<String>,
    /// By rule, what it came to at most when something was granted.
    pub(crate) peaks: HashMap<String, u64>,
    /// By rule, what was reserved in all.
    pub(crate) reserved: HashMap<String, u64>,
    /// By rule, what it stands at in the end.
    pub(crate) used: HashMap<String, u64>,
    /// Batches of settlements, and what they held.
    pub(crate) batches: (usize, usize),
}

/// A request that Redis refused.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    /// Redis' time, in microseconds since 1970.
    pub(crate) at: u64,
    /// Whether it wanted money.
    pub(crate) priced: bool,
    /// Whether it would have been refused even if every open reservation had given back everything.
    pub(crate) certain: bool,
}

#[derive(Debug)]
struct Charge {
    name: Name,
    amount: u64,
}

#[derive(Debug)]
struct Claim {
    charge: Charge,
    limit: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counter {
    used: u64,
    held: u64,
}

#[derive(Default)]
struct Replay {
    counters: HashMap<Name, Counter>,
    open: HashMap<String, Vec<Charge>>,
    verdicts: Verdicts,
}

/// Replays what was executed.
pub(crate) fn replay(executed: &[Executed]) -> Verdicts {
    let scripts = Scripts::new(&Time::Redis);
    let mut replay = Replay::default();
    for (at, command) in executed.iter().enumerate().filter(|(_, command)| !command.by_script) {
        let [name, sha, ..] = &command.words[..] else { continue };
        if name != b"EVALSHA" {
            continue;
        }
        let (keys, argument) = parts(&command.words);
        if *sha == scripts.reserve.sha.as_bytes() {
            let asked = words(argument);
            if asked[6].number() == 1 {
                continue;
            }
            // What is granted has a lease; nothing else is given one.
            let mut calls = executed[at + 1..].iter().take_while(|next| next.by_script);
            let is_granted = calls.any(|call| call.words[0] == b"ZADD" && call.words[1] == keys[2].as_bytes());
            replay.reserve(command.at, &keys, &asked, is_granted);
        } else if *sha == scripts.settle.sha.as_bytes() {
            replay.settle(&words(argument));
        }
    }
    replay.end()
}

fn parts(words: &[Vec<u8>]) -> (Vec<String>, &[u8]) {
    let text = |word: &Vec<u8>| String::from_utf8(word.clone()).expect("names are text");
    let count: usize = text(&words[2]).parse().expect("a number of keys");
    (words[3..3 + count].iter().map(text).collect(), &words[3 + count])
}

/// What a scope claims, and what comes after it: `counters, slots, concurrency, size, layout, budgets, rates`, then of each
/// budget `start, limit, blocks, four bounds, epoch, amount`, and of each rate `start, span, capacity, pair, bucket, amount`. A
/// start is the rule's name as MessagePack has it, and two bytes of what follows it.
fn claims_of<'a>(keys: &[String], scope: &'a [Word]) -> (Vec<Claim>, &'a [Word]) {
    let key = &keys[scope[0].count() + 4];
    let (budgets, rest) = scope[7..].split_at(9 * scope[5].count());
    let (rates, rest) = rest.split_at(6 * scope[6].count());
    let budgets = budgets.chunks_exact(9).map(|budget| (&budget[0], &budget[1], &budget[8]));
    let rates = rates.chunks_exact(6).map(|rate| (&rate[0], &rate[2], &rate[5]));
    let claim = |(start, limit, amount): (&Word, &Word, &Word)| Claim {
        charge: Charge { name: (key.clone(), start.rule()), amount: amount.number() },
        limit: limit.number(),
    };
    (rates.chain(budgets).map(claim).collect(), rest)
}

impl Replay {
    fn reserve(&mut self, at: u64, keys: &[String], asked: &[Word], is_granted: bool) {
        let (mut claims, mut rest) = (Vec::new(), &asked[13 + asked[11].count()..]);
        for _ in 0..asked[9].count() {
            let (more, after) = claims_of(keys, rest);
            claims.extend(more);
            rest = after;
        }
        let counter = |claim: &Claim| self.counters.get(&claim.charge.name).copied().unwrap_or_default();
        let over = |used: u64, claim: &Claim| used + claim.charge.amount > claim.limit;
        let short: Vec<_> = claims.iter().filter(|claim| over(counter(claim).used, claim)).collect();
        let certain = claims.iter().any(|claim| over(counter(claim).used - counter(claim).held, claim));
        let priced = claims.iter().any(|claim| claim.charge.name.1.starts_with('b') && claim.charge.amount > 0);
        match (is_granted, short.is_empty()) {
            (true, false) => self.verdicts.too_many.push(format!("at {at}: {short:?}")),
            (false, true) => self.verdicts.false_refusals.push(format!("at {at}: {claims:?}")),
            (true, true) | (false, false) => {}
        }
        if is_granted {
            self.grant(asked[0].text(), claims.into_iter().map(|claim| claim.charge).collect());
        } else {
            self.verdicts.refused.push(Refusal { at, priced, certain });
        }
    }

    fn grant(&mut self, id: String, charges: Vec<Charge>) {
        self.verdicts.granted += 1;
        for Charge { name, amount } in &charges {
            let counter = self.counters.entry(name.clone()).or_default();
            (counter.used, counter.held) = (counter.used + amount, counter.held + amount);
            let peak = self.verdicts.peaks.entry(name.1.clone()).or_default();
            *peak = counter.used.max(*peak);
            *self.verdicts.reserved.entry(name.1.clone()).or_default() += amount;
        }
        self.open.insert(id, charges);
    }

    /// `batch, lease, born to be, count`, then so many ids, and input, output and cost of each; last a list of what else there
    /// is, which comes before.
    fn settle(&mut self, told: &[Word]) {
        let (ids, rest) = told[4..].split_at(told[3].count());
        let (used, others) = rest.split_at(3 * ids.len());
        self.verdicts.batches.0 += 1;
        self.verdicts.batches.1 += ids.len();
        for entry in others.iter().flat_map(Word::list) {
            self.verdicts.batches.1 += 1;
            let entry = entry.list();
            match &*entry[0].text() {
                "r" => {
                    let begun = entry[2].number() == 1;
                    let stays = |rule: &str| begun && rule.starts_with('b');
                    self.end_one(&entry[1].text(), |rule, amount| if stays(rule) { amount } else { 0 });
                }
                "n" => {}
                _ => panic!("{entry:?} is nothing that this scenario should send"),
            }
        }
        for (id, used) in ids.iter().zip(used.chunks_exact(3)) {
            let [input, output, cost] = [0, 1, 2].map(|at| used[at].number());
            self.end_one(&id.text(), |rule, _| if rule.starts_with('t') { input + output } else { cost });
        }
    }

    fn end_one(&mut self, id: &str, real: impl Fn(&str, u64) -> u64) {
        for Charge { name, amount } in self.open.remove(id).unwrap_or_default() {
            let counter = self.counters.get_mut(&name).expect("it was charged");
            counter.used = counter.used - amount + real(&name.1, amount);
            counter.held -= amount;
        }
    }

    fn end(mut self) -> Verdicts {
        assert!(self.open.is_empty(), "{:?} are still open", self.open);
        self.verdicts.used = self.counters.into_iter().map(|((_, rule), counter)| (rule, counter.used)).collect();
        self.verdicts
    }
}
