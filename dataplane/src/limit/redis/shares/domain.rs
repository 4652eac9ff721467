//! The mirrors of one domain, and the batch that is on its way. Pure: the time is an argument.

use std::{collections::HashMap, sync::Arc};

use super::mirror::Mirror;
use crate::limit::{
    counter::{Charge, Now, Outcome},
    redis::exchange::{Row, Total},
    rule::Scope,
    window::Millis,
};

/// How many scopes one call is about at most, so that no script runs for much longer than a third of a millisecond.
const MOST_ROWS: usize = 32;

/// How often it is looked at least whether Redis has lost what it was told.
const LOOK_EVERY: Millis = 5_000;

/// The mirrors of one domain.
#[derive(Debug, Default)]
pub(super) struct Domain {
    mirrors: HashMap<Arc<Scope>, Mirror>,
    /// What was asked last, as long as nobody knows whether it was heard: it has to be asked again under its number.
    pending: Option<Arc<Ask>>,
    /// When the data began that the mirrors know; empty: they know none.
    born: String,
    /// When that was heard last.
    looked: Millis,
}

/// What one exchange says and asks.
#[derive(Clone, Debug, Default)]
pub(super) struct Ask {
    /// The number of its changes; zero: there are none.
    pub(super) batch: u64,
    pub(super) rows: Vec<(Arc<Scope>, Row)>,
}

impl Domain {
    /// The mirror of a scope.
    pub(super) fn mirror(&mut self, scope: &Arc<Scope>, now: Now) -> &mut Mirror {
        if !self.mirrors.contains_key(scope) {
            self.mirrors.insert(scope.clone(), Mirror::new(now));
        }
        self.mirrors.get_mut(scope).expect("it was inserted above")
    }

    pub(super) fn conclude(&mut self, charge: &Charge, outcome: Outcome, now: Now) {
        if let Some(mirror) = self.mirrors.get_mut(&charge.scope) {
            mirror.conclude(charge, outcome, now);
        }
    }

    /// The next call of a round of exchanges, with `number` if it changes anything; `None`: everything was said.
    pub(super) fn ask(&mut self, round: u64, number: impl FnOnce() -> u64, now: Now) -> Option<Arc<Ask>> {
        let ask = match self.pending.take() {
            Some(pending) => self.again(&pending, now),
            None => self.next(round, number, now).or_else(|| self.is_to_look(now).then(Ask::default))?,
        };
        let ask = Arc::new(ask);
        self.pending = (ask.batch > 0).then(|| ask.clone());
        Some(ask)
    }

    /// When the data began that the mirrors know; empty: they know none.
    pub(super) fn born(&self) -> &str {
        &self.born
    }

    /// Takes in the answer, one total for each row; or, where the data began anew, none: then everything has to be told
    /// again, and what was asked has not been heard.
    pub(super) fn heard(&mut self, ask: &Ask, born: String, totals: &[Total], now: Now) {
        self.pending = None;
        if !self.born.is_empty() && self.born != born {
            self.mirrors.values_mut().for_each(Mirror::lost);
        }
        (self.born, self.looked) = (born, now.mono);
        for ((scope, row), total) in ask.rows.iter().zip(totals) {
            if let Some(mirror) = self.mirrors.get_mut(scope) {
                mirror.heard(total.counter(), &row.slots, now);
            }
        }
    }

    /// No answer came: the call may have been heard or not.
    pub(super) fn missed(&mut self, ask: &Ask) {
        for (scope, _) in &ask.rows {
            if let Some(mirror) = self.mirrors.get_mut(scope) {
                mirror.missed();
            }
        }
    }

    /// Whether an exchange would change anything.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        self.pending.is_some() || self.is_to_look(now) || self.mirrors.values_mut().any(|mirror| mirror.is_due(now))
    }

    /// Forgets mirrors that nobody uses. Returns whether any is left.
    pub(super) fn prune(&mut self, now: Now) -> bool {
        self.mirrors.retain(|_, mirror| !mirror.is_forgettable(now));
        self.pending.is_some() || !self.mirrors.is_empty()
    }

    /// How many scopes are mirrored.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.mirrors.len()
    }

    fn is_to_look(&self, now: Now) -> bool {
        now.mono.saturating_sub(self.looked) >= LOOK_EVERY && self.mirrors.values().any(Mirror::has_told)
    }

    fn again(&mut self, pending: &Ask, now: Now) -> Ask {
        let mut ask = pending.clone();
        for (scope, row) in &mut ask.rows {
            if let Some(mirror) = self.mirrors.get_mut(scope) {
                mirror.resend(row, now);
            }
        }
        ask
    }

    fn next(&mut self, round: u64, number: impl FnOnce() -> u64, now: Now) -> Option<Ask> {
        let due = self.mirrors.iter_mut().filter_map(|(scope, mirror)| {
            let is_due = mirror.round != round && mirror.is_due(now);
            is_due.then_some((scope, mirror))
        });
        let rows = due.take(MOST_ROWS).map(|(scope, mirror)| {
            mirror.round = round;
            (scope.clone(), mirror.send(now))
        });
        let rows: Vec<_> = rows.collect();
        let changes = rows.iter().any(|(_, row)| row.changes());
        (!rows.is_empty()).then(|| Ask { batch: if changes { number() } else { 0 }, rows })
    }
}
