//! What `exchange.lua` does, in plain words.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use crate::limit::window::Millis;

/// A Redis that knows one script.
#[derive(Debug, Default)]
pub(super) struct Plain {
    born: String,
    batches: HashMap<String, u64>,
    /// Name, current bucket, and what each bucket and budget holds, by the key of the scope.
    rates: BTreeMap<(String, String), Rate>,
    budgets: BTreeMap<(String, String), (Millis, Millis, i64)>,
    slots: BTreeMap<String, BTreeMap<String, Millis>>,
    breakers: BTreeMap<String, String>,
    version: u64,
    /// Calls that were heard.
    pub(super) calls: usize,
}

#[derive(Debug, Default)]
struct Rate {
    span: Millis,
    buckets: BTreeMap<u64, i64>,
}

/// All rates of these tests are of a minute.
const MINUTE: Millis = 60_000;

type News = (u64, Vec<(String, String)>);

#[derive(Deserialize)]
struct Ask(String, u64, Millis, Vec<Row>, News, (String, String));

#[derive(Deserialize)]
struct Row(Vec<(String, Millis, u64, i64, i64)>, Vec<(String, Millis, Millis, i64, i64)>, (i64, u64, u64));

type Total = (u64, Vec<(String, u64, i64, i64)>, Vec<(String, Millis, Millis, i64)>);

impl Plain {
    pub(super) fn call(&mut self, keys: &[String], argument: &[u8], now: Millis) -> Vec<u8> {
        self.calls += 1;
        let Ask(process, batch, lease, mut rows, news, (known, fresh)) =
            rmp_serde::from_slice(argument).expect("an exchange can be read");
        if self.born.is_empty() {
            self.born = format!("{now:013}-{fresh}");
        }
        if !known.is_empty() && known != self.born {
            rows.clear();
        }
        let is_new = !rows.is_empty();
        let last = self.batches.entry(keys[0].clone()).or_default();
        let applies = batch > *last;
        if is_new {
            *last = batch.max(*last);
        }
        let totals: Vec<Total> = rows
            .iter()
            .enumerate()
            .map(|(at, Row(rates, budgets, slots))| {
                let (scope, leases) = (&keys[3 + 2 * at], &keys[4 + 2 * at]);
                if applies {
                    self.apply(scope, rates, budgets, now);
                }
                (self.flying(leases, &process, *slots, now + lease, now), self.rates(scope, now), self.budgets(scope))
            })
            .collect();
        rmp_serde::to_vec(&(now, self.born.clone(), self.news(news), totals)).expect("an answer can be written")
    }

    fn apply(
        &mut self,
        scope: &str,
        rates: &[(String, Millis, u64, i64, i64)],
        budgets: &[(String, Millis, Millis, i64, i64)],
        now: Millis,
    ) {
        for (name, span, bucket, amount, _) in rates {
            let rate = self.rates.entry((scope.to_owned(), name.clone())).or_default();
            rate.span = *span;
            if bucket + 1 >= now / span {
                *rate.buckets.entry(*bucket).or_default() += amount;
            }
        }
        for (name, start, end, amount, _) in budgets {
            let fresh = (*start, *end, 0);
            let budget = self.budgets.entry((scope.to_owned(), name.clone())).or_insert(fresh);
            if budget.1 > 0 && now >= budget.1 {
                *budget = fresh;
            }
            if *end == 0 || now < *end {
                budget.2 += amount;
            }
        }
    }

    fn news(&mut self, (known, records): News) -> News {
        self.version += records.len() as u64;
        self.breakers.extend(records);
        let is_new = self.version != known;
        (self.version, self.breakers.clone().into_iter().filter(|_| is_new).collect())
    }

    /// Requests in flight of all processes.
    fn flying(&mut self, leases: &str, process: &str, slots: (i64, u64, u64), ends: Millis, now: Millis) -> u64 {
        let (low, count, _) = slots;
        if low < 0 {
            return 0;
        }
        let leases = self.slots.entry(leases.to_owned()).or_default();
        let low = if low > 0 && !leases.contains_key(&format!("{process}/{low}")) { 0 } else { low };
        for number in 1..=count.max(slots.2) {
            let slot = format!("{process}/{number}");
            if number > count {
                leases.remove(&slot);
            } else if i64::try_from(number).expect("a test has few requests") > low {
                leases.insert(slot, ends);
            }
        }
        leases.retain(|_, ends| *ends > now);
        leases.len() as u64
    }

    fn rates(&self, scope: &str, now: Millis) -> Vec<(String, u64, i64, i64)> {
        let of_scope = self.rates.iter().filter(|((known, _), _)| known == scope);
        let rows = of_scope.map(|((_, name), Rate { span, buckets })| {
            let bucket = now / span;
            let held = |bucket: u64| buckets.get(&bucket).copied().unwrap_or_default();
            (name.clone(), bucket, held(bucket), held(bucket - 1))
        });
        rows.collect()
    }

    fn budgets(&self, scope: &str) -> Vec<(String, Millis, Millis, i64)> {
        let of_scope = self.budgets.iter().filter(|((known, _), _)| known == scope);
        of_scope.map(|((_, name), (start, end, spent))| (name.clone(), *start, *end, *spent)).collect()
    }
}

/// What an answer says, in an order of its own: without counters that count nothing by now.
pub(super) fn seen(answer: &[u8]) -> (Millis, String, News, Vec<Total>) {
    let (now, born, mut news, mut totals): (Millis, String, News, Vec<Total>) =
        rmp_serde::from_slice(answer).expect("an answer can be read");
    news.1.sort();
    for (_, rates, budgets) in &mut totals {
        for (_, bucket, current, previous) in rates.iter_mut() {
            (*current, *previous) = match now / MINUTE - *bucket {
                0 => (*current, *previous),
                1 => (0, *current),
                _ => (0, 0),
            };
            *bucket = now / MINUTE;
        }
        rates.retain(|(_, _, current, previous)| (*current, *previous) != (0, 0));
        rates.sort();
        budgets.retain(|(_, _, end, spent)| now < *end && *spent != 0);
        budgets.sort();
    }
    (now, born, news, totals)
}
