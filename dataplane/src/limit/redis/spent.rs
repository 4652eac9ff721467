//! What this process has settled of budgets: the sums that it gives back where Redis loses its data.
//!
//! Where usage records go to a file, the sums are kept beside it, so that they outlive the process; else in memory.

pub mod book;
pub mod ledger;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use parking_lot::Mutex;
use smallvec::SmallVec;
use table::Period;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::error;

use self::{
    book::{Book, Shelf},
    ledger::{Amount, Birth, Bounds, Ledger},
};
use super::{clock::RedisClock, ledger::Dated, spends::Spend};
use crate::limit::{budget, claims::ScopeClaim, counter::Outcome, window::Millis};

/// How often the sums are written to the disk where they have changed.
const KEEP_EVERY: Duration = Duration::from_secs(5);

/// How long sums are kept after their period, whatever this machine thinks of the time.
const FORGET_AFTER: Millis = 24 * 60 * 60 * 1_000;

/// What this process has settled.
#[derive(Debug)]
pub struct Spent {
    process: String,
    ledger: Mutex<Ledger>,
    /// Absent: in memory only.
    shelf: Option<Shelf>,
    is_changed: AtomicBool,
    /// So that an older state never replaces a newer one; and whether the last write failed.
    writing: tokio::sync::Mutex<bool>,
}

impl Spent {
    /// What was kept beside the file of usage records; where they go to none, nothing is kept.
    pub fn open(records: Option<&Path>) -> Self {
        records.map_or_else(|| Self::new(None, None), Self::beside)
    }

    fn beside(records: &Path) -> Self {
        // A device or a pipe says nothing of where files may be kept.
        if records.metadata().is_ok_and(|it| !it.is_file()) {
            return Self::new(None, None);
        }
        match Shelf::open(records) {
            Ok((shelf, book)) => Self::new(Some(shelf), book),
            Err(reason) => {
                error!("sums of budgets are kept in memory only, and lost when this process ends: {reason}");
                Self::new(None, None)
            }
        }
    }

    fn new(shelf: Option<Shelf>, book: Option<Book>) -> Self {
        let Book { process, domains } = book.unwrap_or_else(Book::begin);
        let is_changed = AtomicBool::new(true);
        Self { process, ledger: Mutex::new(Ledger::of(domains)), shelf, is_changed, writing: Default::default() }
    }

    /// Under which name this process, and those that go on with its sums after it, give back what they know.
    pub fn process(&self) -> &str {
        &self.process
    }

    /// The counters of this birth have taken what a reservation left that ended: of what it claimed in which periods, and
    /// what became of it. False: they are lost since, and so nothing of it is written down; it has to be posted again.
    pub(super) fn settled(&self, budgets: &[Dated], scopes: &[ScopeClaim], outcome: Outcome, birth: &str) -> bool {
        let amounts = budgets.iter().filter_map(|dated| {
            let claim = scopes.iter().find(|claim| claim.scope == dated.scope)?;
            let reserved = claim.budgets.iter().find(|budget| budget.period == dated.period)?.amount.0;
            let (scope, bounds) = (dated.scope.clone(), Bounds { start_ms: dated.start, end_ms: dated.end });
            Some(Amount { scope, period: dated.period, bounds, nano_usd: outcome.spends(reserved) })
        });
        self.record(amounts, birth)
    }

    /// The counters of this birth have taken what was used without reservation. False: they are lost since, and so nothing
    /// of it is written down; it has to be posted again.
    pub fn spent(&self, spend: &Spend, birth: &str) -> bool {
        let amounts = spend.budgets.iter().map(|budget| Amount {
            scope: spend.scope.clone(),
            period: budget.period,
            bounds: bounds(budget.at_ms, budget.period, &budget.timezone),
            nano_usd: budget.amount,
        });
        self.record(amounts, birth)
    }

    /// All at once: another birth may be heard of at any time, and what was written down before would be posted again with
    /// what was not.
    pub(super) fn record(&self, amounts: impl Iterator<Item = Amount>, birth: &str) -> bool {
        let amounts: SmallVec<[_; 4]> = amounts.collect();
        if amounts.is_empty() {
            return true;
        }
        let is_taken = self.ledger.lock().record(amounts, &birth.into());
        self.is_changed.store(true, Ordering::Release);
        is_taken
    }

    /// Whether something would have to be given back should the domain's counters be lost.
    pub fn has(&self, domain: &str) -> bool {
        self.ledger.lock().has(domain)
    }

    /// The birth of the domain's present counters, as far as it was heard of.
    pub(super) fn birth(&self, domain: &str) -> Option<Birth> {
        self.ledger.lock().birth(domain)
    }

    /// The counters of the domain have this birth, says an answer to what was sent when `known` was the present one.
    /// Whether it is the present one now: the answer may be late.
    pub(super) fn hear(&self, domain: &str, birth: &str, known: Option<&Birth>) -> bool {
        let mut ledger = self.ledger.lock();
        if ledger.birth(domain).as_deref() != Some(birth) && ledger.hear(domain, &birth.into(), known) {
            self.is_changed.store(true, Ordering::Release);
        }
        ledger.birth(domain).as_deref() == Some(birth)
    }

    /// What is owed to the counters of this birth.
    pub(super) fn owed(&self, domain: &str, birth: &Birth) -> Vec<Amount> {
        self.ledger.lock().owed(domain, birth)
    }

    /// The domains in which something is owed to counters that are known.
    pub(super) fn debts(&self) -> Vec<(String, Birth)> {
        self.ledger.lock().debts()
    }

    /// The counters of this birth have been told what is owed to them.
    pub(super) fn seeded(&self, domain: &str, birth: &Birth) {
        self.ledger.lock().seeded(domain, birth);
        self.is_changed.store(true, Ordering::Release);
    }

    /// Writes the sums to the disk every few seconds and, at the end, once more.
    pub async fn keep(self: Arc<Self>, clock: Arc<RedisClock>, stop: CancellationToken) {
        let mut ticks = interval(KEEP_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        while stop.run_until_cancelled(ticks.tick()).await.is_some() {
            self.ledger.lock().forget(clock.millis().saturating_sub(FORGET_AFTER));
            self.save().await;
        }
        self.save().await;
    }

    /// Writes the sums to the disk where they have changed. A disk that takes none is told of in the log, once.
    pub(super) async fn save(self: &Arc<Self>) {
        let mut is_failing = self.writing.lock().await;
        let Some(shelf) = &self.shelf else { return };
        if !self.is_changed.swap(false, Ordering::AcqRel) {
            return;
        }
        let book = Book { process: self.process.clone(), domains: self.ledger.lock().pages() };
        let shelf = shelf.clone();
        let written = tokio::task::spawn_blocking(move || shelf.put(&book)).await;
        let written = written.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        if let Err(reason) = &written {
            self.is_changed.store(true, Ordering::Release);
            if !*is_failing {
                error!(%reason, "sums of budgets cannot be written to the disk: {reason}");
            }
        }
        *is_failing = written.is_err();
    }
}

/// The period that holds a moment.
fn bounds(at_ms: i64, period: Period, timezone: &str) -> Bounds {
    let at = Timestamp::from_millisecond(at_ms).unwrap_or_default();
    let budget::Bounds { start, end } = budget::Bounds::holding(at, period, timezone);
    let millis = |at: Timestamp| Millis::try_from(at.as_millisecond()).unwrap_or_default();
    Bounds { start_ms: millis(start), end_ms: end.map_or(0, millis) }
}

#[cfg(test)]
mod tests;
