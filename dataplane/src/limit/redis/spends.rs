//! What was used while Redis could not be asked, kept until it can be told.
//!
//! Sums by rule and bucket, and by budget and period, so that a long outage fills no more memory than a short one. Does
//! not send anything: who does takes a domain's sums and answers for them from then on.

use std::{
    collections::{BTreeMap, HashMap},
    mem,
    sync::Arc,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use table::Period;
use tokio::sync::Notify;

use crate::limit::{
    budget::Bounds,
    claims::ScopeClaim,
    counter::{Now, Outcome},
    rule::{Counted, Scope, Span},
    window::{BucketIndex, Millis},
};

/// Beyond this many scopes, only money is kept: ids that callers invent must not fill the memory.
const MOST_SCOPES: usize = 200_000;

/// What one scope used without Redis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Whose counters.
    pub scope: Arc<Scope>,
    /// What counts against its rates.
    pub rates: Vec<RateSpend>,
    /// What counts against its budgets.
    pub budgets: Vec<BudgetSpend>,
}

/// What counts against a rate; nothing once the bucket is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RateSpend {
    /// What it counts.
    pub counted: Counted,
    /// In which time.
    pub span: Span,
    /// A moment of the bucket, in milliseconds since the epoch.
    pub at_ms: Millis,
    /// How much.
    pub amount: u64,
}

/// What counts against a budget; nothing once the period is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BudgetSpend {
    /// Its calendar period.
    pub period: Period,
    /// The IANA time zone in which periods begin.
    pub timezone: String,
    /// A moment of the period, in milliseconds since the epoch.
    pub at_ms: i64,
    /// How much, in nano-USD.
    pub amount: u64,
}

/// Everything that Redis was not told yet.
#[derive(Debug, Default)]
pub struct Spends {
    domains: Mutex<Domains>,
    added: Notify,
}

#[derive(Debug, Default)]
struct Domains {
    waiting: BTreeMap<String, HashMap<Arc<Scope>, Sums>>,
    scopes: usize,
    /// Scopes whose rates were forgotten since the queue was last empty.
    forgotten: u64,
}

#[derive(Debug, Default)]
struct Sums {
    rates: Vec<(Counted, Span, BucketIndex, u64)>,
    budgets: Vec<(Period, String, Bounds, BudgetSum)>,
}

#[derive(Clone, Copy, Debug)]
struct BudgetSum {
    at: Timestamp,
    amount: u64,
}

impl Spends {
    /// Adds what became of a claim that was charged at `at`.
    pub(in crate::limit) fn add(&self, claim: &ScopeClaim, outcome: Outcome, at: Now) {
        let rates = claim.rates.iter().map(|rate| (rate.counted, rate.span, outcome.counts(rate)));
        let rates: Vec<_> = rates.filter(|(.., amount)| *amount > 0).collect();
        let budgets = claim.budgets.iter().map(|budget| (budget, outcome.spends(budget.amount.0)));
        let budgets: Vec<_> = budgets.filter(|(_, amount)| *amount > 0).collect();
        if rates.is_empty() && budgets.is_empty() {
            return;
        }
        {
            let mut domains = self.domains.lock();
            let Some(sums) = domains.sums(&claim.scope, !budgets.is_empty()) else { return };
            for (counted, span, amount) in rates {
                sums.add_rate(counted, span, at.mono / length(span), amount);
            }
            for (budget, amount) in budgets {
                sums.add_budget(budget.period, &budget.timezone, at.wall, amount);
            }
        }
        self.added.notify_one();
    }

    /// Waits until something was added since the last time that this was awaited.
    pub async fn added(&self) {
        self.added.notified().await;
    }

    /// Domains of which something waits.
    pub fn domains(&self) -> Vec<String> {
        self.domains.lock().waiting.keys().cloned().collect()
    }

    /// Takes what waits of a domain, `most` scopes at most; who takes it has to bring it to Redis.
    pub fn take(&self, domain: &str, most: usize) -> Vec<Spend> {
        self.domains.lock().take(domain, most)
    }

    /// What was taken, and brought to counters that are lost since, waits again.
    pub fn put_back(&self, spend: &Spend) {
        {
            let mut domains = self.domains.lock();
            let Some(sums) = domains.sums(&spend.scope, !spend.budgets.is_empty()) else { return };
            for RateSpend { counted, span, at_ms, amount } in &spend.rates {
                sums.add_rate(*counted, *span, at_ms / length(*span), *amount);
            }
            for BudgetSpend { period, timezone, at_ms, amount } in &spend.budgets {
                let at = Timestamp::from_millisecond(*at_ms).unwrap_or_default();
                sums.add_budget(*period, timezone, at, *amount);
            }
        }
        self.added.notify_one();
    }
}

impl Domains {
    fn sums(&mut self, scope: &Arc<Scope>, is_money: bool) -> Option<&mut Sums> {
        let known = self.waiting.get(scope.domain()).is_some_and(|domain| domain.contains_key(scope));
        if !known && self.scopes >= MOST_SCOPES && !is_money {
            self.forgotten += 1;
            if self.forgotten == 1 {
                tracing::warn!("what more than {MOST_SCOPES} scopes use without Redis is not kept, but for money");
            }
            return None;
        }
        self.scopes += usize::from(!known);
        if !self.waiting.contains_key(scope.domain()) {
            self.waiting.insert(scope.domain().to_owned(), HashMap::new());
        }
        Some(self.waiting.get_mut(scope.domain())?.entry(scope.clone()).or_default())
    }

    fn take(&mut self, domain: &str, most: usize) -> Vec<Spend> {
        let Some(waiting) = self.waiting.get_mut(domain) else { return Vec::new() };
        let taken: HashMap<_, _> = if waiting.len() <= most {
            mem::take(waiting)
        } else {
            let some: Vec<_> = waiting.keys().take(most).cloned().collect();
            some.into_iter().filter_map(|scope| waiting.remove_entry(&scope)).collect()
        };
        if waiting.is_empty() {
            self.waiting.remove(domain);
        }
        self.scopes -= taken.len();
        if self.scopes == 0 {
            self.forgotten = 0;
        }
        taken.into_iter().map(|(scope, sums)| sums.spend(scope)).collect()
    }
}

impl Sums {
    fn add_rate(&mut self, counted: Counted, span: Span, index: BucketIndex, amount: u64) {
        let same = |known: &(Counted, Span, BucketIndex, u64)| (known.0, known.1) == (counted, span);
        // A window looks at two buckets: what is older than that counts no more.
        let newest =
            self.rates.iter().filter(|known| same(known)).map(|known| known.2).max().unwrap_or(index).max(index);
        self.rates.retain(|known| !same(known) || known.2 + 1 >= newest);
        match self.rates.iter_mut().find(|known| same(known) && known.2 == index) {
            Some((.., sum)) => *sum = sum.saturating_add(amount),
            None if index + 1 >= newest => self.rates.push((counted, span, index, amount)),
            None => {}
        }
    }

    fn add_budget(&mut self, period: Period, timezone: &str, at: Timestamp, amount: u64) {
        self.budgets.retain(|(_, _, bounds, _)| bounds.end.is_none_or(|end| at < end));
        let known = self
            .budgets
            .iter_mut()
            .find(|(known, zone, bounds, _)| *known == period && zone == timezone && bounds.start <= at);
        match known {
            Some((.., sum)) => sum.amount = sum.amount.saturating_add(amount),
            None => {
                let bounds = Bounds::holding(at, period, timezone);
                self.budgets.push((period, timezone.to_owned(), bounds, BudgetSum { at, amount }));
            }
        }
    }

    fn spend(self, scope: Arc<Scope>) -> Spend {
        let rates = self.rates.into_iter().map(|(counted, span, index, amount)| RateSpend {
            counted,
            span,
            at_ms: index * length(span),
            amount,
        });
        let budgets = self.budgets.into_iter().map(|(period, timezone, _, BudgetSum { at, amount })| BudgetSpend {
            period,
            timezone,
            at_ms: at.as_millisecond(),
            amount,
        });
        Spend { scope, rates: rates.collect(), budgets: budgets.collect() }
    }
}

fn length(span: Span) -> Millis {
    Millis::try_from(span.length().as_millis()).expect("a day has few milliseconds")
}

#[cfg(test)]
mod tests {
    use smallvec::smallvec;
    use table::{NanoUsd, ObjectRef};

    use super::*;
    use crate::limit::{
        claims::{BudgetClaim, Budgets, RateClaim},
        reservation::Used,
        window::Ceiling,
    };

    const PER_MINUTE: (Counted, Span) = (Counted::Requests, Span::Minute);
    const TOKENS_PER_DAY: (Counted, Span) = (Counted::Tokens, Span::Day);

    fn claim(key: &str) -> ScopeClaim {
        let rate = |(counted, span), amount| RateClaim { counted, span, ceiling: Ceiling::flat(1_000), amount };
        let budget = BudgetClaim {
            period: Period::Day,
            timezone: "Europe/Berlin".into(),
            limit: NanoUsd(1_000),
            amount: NanoUsd(30),
            blocks: true,
            alert_at_percent: [].into(),
        };
        ScopeClaim {
            rates: smallvec![rate(PER_MINUTE, 1), rate(TOKENS_PER_DAY, 20)],
            budgets: smallvec![budget],
            ..ScopeClaim::new(Arc::new(Scope::RelayKey(ObjectRef::new("team", key))))
        }
    }

    fn at(text: &str) -> Now {
        let wall: Timestamp = text.parse().expect("a test writes valid times");
        Now { mono: wall.as_millisecond().unsigned_abs(), wall }
    }

    fn used(tokens: u64, cost: u64) -> Outcome {
        Outcome::Used(Used { input_tokens: tokens, output_tokens: 0, cost: NanoUsd(cost) })
    }

    /// What counts, a moment of the bucket, and how much.
    type RateSums = Vec<(Counted, String, u64)>;

    /// The sums of the only scope of `team`: each rate with its bucket's first moment, and each budget with a moment.
    fn sums(spends: &Spends) -> (RateSums, Vec<(String, u64)>) {
        let mut taken = spends.take("team", 10);
        let Spend { rates, budgets, .. } = taken.pop().expect("a scope waits");
        assert_eq!(taken, []);
        let text = |ms: i64| Timestamp::from_millisecond(ms).expect("a valid time").to_string();
        let rates = rates.iter().map(|rate| (rate.counted, text(rate.at_ms.cast_signed()), rate.amount));
        (rates.collect(), budgets.iter().map(|budget| (text(budget.at_ms), budget.amount)).collect())
    }

    #[test]
    fn what_was_used_in_one_bucket_and_in_one_period_is_one_sum() {
        let spends = Spends::default();
        for second in 10..40 {
            spends.add(&claim("a"), used(5, 7), at(&format!("2026-01-15T12:00:{second}Z")));
        }
        let rates = vec![
            (Counted::Requests, "2026-01-15T12:00:00Z".to_owned(), 30),
            (Counted::Tokens, "2026-01-15T00:00:00Z".to_owned(), 150),
        ];
        assert_eq!(sums(&spends), (rates, vec![("2026-01-15T12:00:10Z".to_owned(), 210)]));
        assert_eq!((spends.take("team", 10), spends.domains()), (vec![], vec![]));
    }

    #[test]
    fn a_long_outage_keeps_two_buckets_of_a_rate_and_one_period_of_a_budget() {
        let spends = Spends::default();
        for hour in 0..24 {
            spends.add(&claim("a"), used(5, 7), at(&format!("2026-01-15T{hour:02}:30:00Z")));
            spends.add(&claim("a"), used(5, 7), at(&format!("2026-01-15T{hour:02}:31:00Z")));
        }
        let rates = vec![
            (Counted::Tokens, "2026-01-15T00:00:00Z".to_owned(), 240),
            (Counted::Requests, "2026-01-15T23:30:00Z".to_owned(), 1),
            (Counted::Requests, "2026-01-15T23:31:00Z".to_owned(), 1),
        ];
        // In Berlin, the day began at 23:00.
        assert_eq!(sums(&spends), (rates, vec![("2026-01-15T23:30:00Z".to_owned(), 14)]));
    }

    #[test]
    fn what_is_known_late_counts_in_the_bucket_in_which_it_began() {
        let spends = Spends::default();
        spends.add(&claim("a"), used(5, 0), at("2026-01-15T12:01:00Z"));
        spends.add(&claim("a"), used(5, 0), at("2026-01-15T12:00:59Z"));
        spends.add(&claim("a"), used(5, 0), at("2026-01-15T11:59:59Z"));
        let (mut rates, _) = sums(&spends);
        rates.retain(|(counted, ..)| *counted == Counted::Requests);
        let expected = ["2026-01-15T12:01:00Z", "2026-01-15T12:00:00Z"];
        assert_eq!(rates, expected.map(|at| (Counted::Requests, at.to_owned(), 1)));
    }

    #[test]
    fn a_request_of_which_nobody_knows_what_it_used_leaves_itself_and_its_money() {
        let spends = Spends::default();
        let noon = at("2026-01-15T12:00:00Z");
        spends.add(&claim("a"), Outcome::Unknown, noon);
        let request = (Counted::Requests, noon.wall.to_string(), 1);
        assert_eq!(sums(&spends), (vec![request], vec![(noon.wall.to_string(), 30)]));
        spends.add(&claim("a"), Outcome::Expired, noon);
        assert_eq!(sums(&spends), (vec![], vec![(noon.wall.to_string(), 30)]));
        spends.add(&claim("a"), Outcome::NeverRan, noon);
        assert_eq!(spends.take("team", 10), []);
    }

    #[test]
    fn what_is_put_back_is_taken_again_with_what_came_meanwhile() {
        let spends = Spends::default();
        let noon = at("2026-01-15T12:00:00Z");
        spends.add(&claim("a"), used(5, 7), noon);
        let taken = spends.take("team", 10);
        spends.put_back(&taken[0]);
        assert_eq!(spends.take("team", 10), taken);
        spends.add(&claim("a"), used(5, 7), noon);
        spends.put_back(&taken[0]);
        let moment = || noon.wall.to_string();
        let day = "2026-01-15T00:00:00Z".to_owned();
        let rates = vec![(Counted::Requests, moment(), 2), (Counted::Tokens, day, 10)];
        assert_eq!(sums(&spends), (rates, vec![(moment(), 14)]));
    }

    #[test]
    fn scopes_are_taken_by_so_many_at_a_time() {
        let spends = Spends::default();
        for key in 0..25 {
            spends.add(&claim(&key.to_string()), Outcome::Unknown, at("2026-01-15T12:00:00Z"));
        }
        let taken = [(); 4].map(|()| spends.take("team", 10).len());
        assert_eq!(taken, [10, 10, 5, 0]);
        assert_eq!(spends.domains(), Vec::<String>::new());
    }

    #[test]
    fn beyond_the_bound_only_money_is_kept() {
        let spends = Spends::default();
        let noon = at("2026-01-15T12:00:00Z");
        let free = |key: String| ScopeClaim { budgets: Budgets::new(), ..claim(&key) };
        for key in 0..MOST_SCOPES + 10 {
            spends.add(&free(key.to_string()), Outcome::Unknown, noon);
        }
        spends.add(&claim("paid"), Outcome::Unknown, noon);
        assert_eq!(spends.take("team", usize::MAX).len(), MOST_SCOPES + 1);
    }

    #[tokio::test]
    async fn who_waits_learns_of_what_was_added_before() {
        let spends = Spends::default();
        spends.add(&claim("a"), Outcome::Unknown, at("2026-01-15T12:00:00Z"));
        spends.added().await;
        assert_eq!(spends.domains(), ["team"]);
    }
}
