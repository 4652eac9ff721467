//! The mirror of one scope: what all processes counted together as of the last exchange, and what this one changed since.
//!
//! Pure: the time is an argument.

use super::deltas::Deltas;
use crate::limit::{
    LEASE, RuleUsage,
    claims::ScopeClaim,
    counter::{Charge, Counter, Now, Outcome, Verdict},
    redis::exchange::{Row, Slots},
    reservation::{BudgetAlert, Standing},
    window::Millis,
};

/// A scope that was not exchanged for so long is not trusted to admit anything without asking: it is older than the
/// slowest exchange.
pub(super) const STALE_AFTER: Millis = 1_000;

/// A scope that nobody used for so long is forgotten.
const FORGOTTEN_AFTER: Millis = 60_000;

/// A share is this part of the limit, or one request if that is more.
const PARTS: u64 = 20;

/// The mirror of one scope.
#[derive(Debug)]
pub(super) struct Mirror {
    /// As of the last exchange, with what changed since.
    counter: Counter,
    /// What changed since the batch was made that is on its way.
    unsent: Deltas,
    /// What a batch carries of which nobody knows whether it was applied.
    sent: Deltas,
    /// What this process has told of buckets and periods that are not over: Redis may lose it.
    told: Deltas,
    /// This process's requests in flight.
    in_flight: u64,
    slots: SlotsTold,
    /// When it was last exchanged; absent: never, so it holds nothing but this process's own counts.
    heard: Option<Millis>,
    used: Millis,
    /// Whether somebody looked at it since the last exchange.
    wanted: bool,
    /// The last round of exchanges that it was part of.
    pub(super) round: u64,
}

/// What the others know of this process's requests in flight.
#[derive(Debug, Default)]
struct SlotsTold {
    /// Whether any claim limited them; if none did, nobody needs to know.
    limited: bool,
    /// How many they count, as of the last answer.
    told: u64,
    /// How many they count at least and at most, should a call have got lost.
    low: u64,
    high: u64,
    /// When they have to be told of all again, or they take this process for dead.
    renew: Millis,
}

impl Mirror {
    pub(super) fn new(now: Now) -> Self {
        Self {
            counter: Counter::default(),
            unsent: Deltas::default(),
            sent: Deltas::default(),
            told: Deltas::default(),
            in_flight: 0,
            slots: SlotsTold::default(),
            heard: None,
            used: now.mono,
            wanted: true,
            round: 0,
        }
    }

    /// Somebody looks at it, to claim this.
    pub(super) fn look(&mut self, claim: &ScopeClaim, now: Now) {
        self.used = now.mono;
        self.wanted = true;
        if claim.concurrency.is_some() && !self.slots.limited {
            self.slots.limited = true;
            self.heard = None;
        }
    }

    /// Whether what it shows of the others is too old, or nothing.
    pub(super) fn is_stale(&self, now: Now) -> bool {
        self.heard.is_none_or(|heard| now.mono.saturating_sub(heard) > STALE_AFTER)
    }

    /// The rule that refuses the claim longest; none: it fits.
    pub(super) fn refusal(&mut self, claim: &ScopeClaim, now: Now) -> Option<Verdict> {
        self.counter.refusal(claim, now)
    }

    /// Whether this process may still spend so much without asking. One request is always within the share of one that
    /// has spent nothing: otherwise nobody could spend the last of a limit that several share.
    pub(super) fn is_within_share(&mut self, claim: &ScopeClaim, live: u64, now: Now) -> bool {
        self.draws(claim, live, now).all(|Draw { drawn, amount, share }| {
            drawn <= 0 || amount == 0 || drawn.unsigned_abs().saturating_add(amount) <= share
        })
    }

    /// Whether half of the share is spent.
    pub(super) fn is_half_spent(&mut self, claim: &ScopeClaim, live: u64, now: Now) -> bool {
        self.draws(claim, live, now)
            .any(|Draw { drawn, share, .. }| drawn > 0 && drawn.unsigned_abs() >= share.div_ceil(2))
    }

    /// Writes the claim, whether it fits or not.
    pub(super) fn charge(&mut self, claim: &ScopeClaim, now: Now) -> Charge {
        self.in_flight += 1;
        let charge = self.counter.charge(claim, now);
        self.unsent.charge(&charge);
        charge
    }

    /// Ends a charge.
    pub(super) fn conclude(&mut self, charge: &Charge, outcome: Outcome, now: Now) {
        self.in_flight = self.in_flight.saturating_sub(1);
        self.counter.conclude(charge, outcome, now);
        self.unsent.conclude(charge, outcome);
    }

    pub(super) fn stand(&mut self, claim: &ScopeClaim, now: Now, standing: &mut Standing) {
        self.counter.stand(claim, now, standing);
    }

    pub(super) fn alerts(&mut self, claim: &ScopeClaim, now: Now, alerts: &mut Vec<BudgetAlert>) {
        self.counter.alerts(claim, now, alerts);
    }

    pub(super) fn usage(&mut self, claim: &ScopeClaim, now: Now) -> Vec<RuleUsage> {
        self.counter.usage(claim, now)
    }

    /// Whether an exchange would change anything.
    pub(super) fn is_due(&mut self, now: Now) -> bool {
        self.unsent.tidy(&self.counter, now);
        self.wanted || !self.unsent.is_empty() || self.slots.is_due(self.in_flight, now)
    }

    /// Whether forgetting it would change nothing, and lose no money should Redis lose what it was told.
    pub(super) fn is_forgettable(&mut self, now: Now) -> bool {
        self.unsent.tidy(&self.counter, now);
        self.told.tidy(&self.counter, now);
        let is_told = self.unsent.is_empty() && self.sent.is_empty() && !self.told.has_money();
        let at_rest = self.in_flight == 0 && self.slots.high == 0 && is_told;
        at_rest && now.mono.saturating_sub(self.used) > FORGOTTEN_AFTER
    }

    /// What an exchange says of it, with what changed since the last one. From now on that is on its way.
    pub(super) fn send(&mut self, now: Now) -> Row {
        self.unsent.tidy(&self.counter, now);
        let (rates, budgets) = self.unsent.written(&self.counter, now);
        self.sent = std::mem::take(&mut self.unsent);
        self.wanted = false;
        Row { rates, budgets, slots: self.slots.tell(self.in_flight, now) }
    }

    /// What an exchange says once more of it: the same changes, and the requests that are in flight by now.
    pub(super) fn resend(&mut self, row: &mut Row, now: Now) {
        self.wanted = false;
        row.slots = self.slots.tell(self.in_flight, now);
    }

    /// Takes in what an exchange answered to `slots` and to all that was on its way.
    pub(super) fn heard(&mut self, total: Counter, slots: &Slots, now: Now) {
        let others = total.in_flight().saturating_sub(slots.count());
        self.told.absorb(std::mem::take(&mut self.sent));
        self.told.tidy(&self.counter, now);
        self.slots.confirm(slots, now);
        self.counter.adopt(total, others.saturating_add(self.in_flight), now);
        self.unsent.apply(&mut self.counter, now);
        // Where slots came to be limited while the call was on its way, those of others are not known yet.
        self.heard = (!self.slots.limited || *slots != Slots::UNTOLD).then_some(now.mono);
    }

    /// Whether there is anything that Redis may lose.
    pub(super) fn has_told(&self) -> bool {
        !self.told.is_empty()
    }

    /// Redis has lost what it was told: all of it that still matters has to be told again.
    pub(super) fn lost(&mut self) {
        self.unsent.absorb(std::mem::take(&mut self.sent));
        self.unsent.absorb(std::mem::take(&mut self.told));
        self.slots.lost();
        self.wanted = true;
        self.round = 0;
    }

    /// An exchange that may have been heard or not: what it asked for is still wanted.
    pub(super) fn missed(&mut self) {
        self.wanted = true;
    }

    fn draws<'a>(&'a mut self, claim: &'a ScopeClaim, live: u64, now: Now) -> impl Iterator<Item = Draw> + 'a {
        let Self { counter, unsent, sent, in_flight, slots, .. } = self;
        let taken = counter.in_flight();
        let mut draws = Vec::with_capacity(claim.rates.len() + claim.budgets.len() + 1);
        draws.extend(claim.rates.iter().map(|rate| {
            let drawn = [&*unsent, &*sent].map(|deltas| deltas.drawn_from_rate(rate.counted, rate.span, now));
            Draw::new(drawn.iter().sum(), rate.amount, rate.ceiling.limit, counter.room_of_rate(rate, now), live)
        }));
        draws.extend(claim.budgets.iter().filter(|budget| budget.blocks).map(|budget| {
            let drawn = [&*unsent, &*sent].map(|deltas| deltas.drawn_from_budget(budget.period));
            let room = counter.room_of_budget(budget, now);
            Draw::new(drawn.iter().sum(), budget.amount.0, budget.limit.0, room, live)
        }));
        draws.extend(claim.concurrency.map(|limit| {
            let signed = |count: u64| i64::try_from(count).unwrap_or(i64::MAX);
            let drawn = signed(*in_flight) - signed(slots.told);
            Draw::new(drawn, 1, limit, limit.saturating_sub(taken), live)
        }));
        draws.into_iter()
    }
}

/// What was drawn from a rule since the last exchange, what is wanted, and what may be drawn in all.
struct Draw {
    drawn: i64,
    amount: u64,
    share: u64,
}

impl Draw {
    /// `room` is what is left by now.
    fn new(drawn: i64, amount: u64, limit: u64, room: u64, live: u64) -> Self {
        let was_left = room.saturating_add_signed(drawn.max(0));
        let share = (limit / PARTS).max(1).min(was_left.div_ceil(live.max(1)));
        Self { drawn, amount, share }
    }
}

impl SlotsTold {
    fn is_due(&self, in_flight: u64, now: Now) -> bool {
        self.limited && ((self.low, self.high) != (in_flight, in_flight) || (in_flight > 0 && now.mono >= self.renew))
    }

    fn tell(&mut self, in_flight: u64, now: Now) -> Slots {
        if !self.limited {
            return Slots::UNTOLD;
        }
        let low = if now.mono >= self.renew { 0 } else { self.low.min(in_flight) };
        let slots = Slots::new(low, in_flight, self.high.max(in_flight));
        (self.low, self.high) = (self.low.min(in_flight), self.high.max(in_flight));
        slots
    }

    /// The others know of none.
    fn lost(&mut self) {
        (self.low, self.renew) = (0, 0);
    }

    fn confirm(&mut self, slots: &Slots, now: Now) {
        let count = slots.count();
        (self.told, self.low, self.high) = (count, count, count);
        if slots.tells_all() {
            self.renew = now.mono + u64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds") / 3;
        }
    }
}
