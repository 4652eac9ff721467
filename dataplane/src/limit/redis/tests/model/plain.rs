//! A plain model of what Redis counts: a list of everything that was ever reserved or used, and sums over it.

use jiff::Timestamp;
use table::Period;

use crate::limit::{LEASE, budget::Bounds};

pub(super) const KEYS: usize = 3;
pub(super) const REQUESTS: u64 = 6;
pub(super) const TOKENS: u64 = 400;
pub(super) const SLOTS: u64 = 4;
pub(super) const BUDGET: u64 = 5_000;
pub(super) const ZONE: &str = "Europe/Berlin";

const MINUTE: i64 = 60_000;

/// Requests, tokens and money.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Amounts {
    pub(super) requests: u64,
    pub(super) tokens: u64,
    pub(super) cost: u64,
}

/// The model. Time is Redis' own, in milliseconds since 1970, and may step back: then counters stay where they were.
pub(super) struct Plain {
    now: i64,
    /// Of each key, and last of what they share.
    scopes: [Scope; KEYS + 1],
    entries: Vec<Entry>,
}

/// How far the counters of a scope have got.
#[derive(Clone, Copy, Default)]
struct Scope {
    minute: i64,
    day: Option<Bounds>,
}

struct Entry {
    key: usize,
    parts: [Part; 2],
    reserved: Amounts,
    at: i64,
    /// When it ends by itself.
    lease: i64,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    Open,
    Expired,
    Ended,
}

/// What an entry counts for in one scope.
#[derive(Clone, Copy)]
struct Part {
    scope: usize,
    minute: i64,
    day: Bounds,
    amounts: Amounts,
}

impl Plain {
    pub(super) fn new(now: i64) -> Self {
        Self { now, scopes: [Scope::default(); KEYS + 1], entries: Vec::new() }
    }

    pub(super) fn now(&self) -> i64 {
        self.now
    }

    pub(super) fn set_clock(&mut self, now: i64) {
        self.now = now;
    }

    /// A reservation that Redis decides; none where it refuses.
    pub(super) fn reserve(&mut self, key: usize, tokens: u64, cost: u64) -> Option<usize> {
        let fits = |scope| {
            let [requests, counted, slots, money] = self.counts(scope);
            requests < REQUESTS && counted + tokens <= TOKENS && slots < SLOTS && money + cost <= BUDGET
        };
        (fits(key) && fits(KEYS)).then(|| self.take(key, tokens, cost))
    }

    /// A reservation that Redis has let in.
    pub(super) fn take(&mut self, key: usize, tokens: u64, cost: u64) -> usize {
        let reserved = Amounts { requests: 1, tokens, cost };
        let parts = [key, KEYS].map(|scope| {
            let (minute, day) = (self.reach_minute(scope), self.reach_day(scope));
            Part { scope, minute, day, amounts: reserved }
        });
        self.entries.push(Entry { key, parts, reserved, at: self.now, lease: self.leased(), state: State::Open });
        self.entries.len() - 1
    }

    /// A reservation has ended, and used so much.
    pub(super) fn end(&mut self, id: usize, used: Amounts) {
        let expired = self.entries[id].state == State::Expired;
        for part in 0..2 {
            let Part { scope, minute, day, .. } = self.entries[id].parts[part];
            let at = self.entries[id].at;
            let reached = self.reach_minute(scope);
            let mut amounts = used;
            if expired {
                // It is put right: windows were given back, and the money stayed as reserved.
                let late = Self::placed(at, reached);
                self.entries[id].parts[part].minute = late.unwrap_or(minute);
                let is_current = self.day(scope) == day && at >= day.start.as_millisecond();
                amounts.cost = if is_current { used.cost } else { self.entries[id].reserved.cost };
                if late.is_none() {
                    (amounts.requests, amounts.tokens) = (0, 0);
                }
            }
            self.entries[id].parts[part].amounts = amounts;
        }
        self.entries[id].state = State::Ended;
    }

    /// So much was used at a time without Redis.
    pub(super) fn spend(&mut self, key: usize, at: i64, used: Amounts) {
        let parts = [key, KEYS].map(|scope| {
            let (minute, day) = (self.reach_minute(scope), self.reach_day(scope));
            let placed = Self::placed(at, minute);
            let cost = if at >= day.start.as_millisecond() { used.cost } else { 0 };
            let (requests, tokens) = if placed.is_some() { (used.requests, used.tokens) } else { (0, 0) };
            Part { scope, minute: placed.unwrap_or(minute), day, amounts: Amounts { requests, tokens, cost } }
        });
        let (reserved, lease) = (Amounts::default(), i64::MIN);
        self.entries.push(Entry { key, parts, reserved, at, lease, state: State::Ended });
    }

    /// The holder of a reservation lives.
    pub(super) fn renew(&mut self, id: usize) {
        let lease = self.leased();
        self.entries[id].lease = lease;
    }

    /// Ends what was not renewed for so long: the money stays.
    pub(super) fn expire(&mut self) {
        for id in 0..self.entries.len() {
            if self.entries[id].state == State::Open && self.entries[id].lease <= self.now {
                self.entries[id].state = State::Expired;
                for part in 0..2 {
                    self.reach_minute(self.entries[id].parts[part].scope);
                    let amounts = &mut self.entries[id].parts[part].amounts;
                    (amounts.requests, amounts.tokens) = (0, 0);
                }
            }
        }
    }

    /// Requests, tokens, slots and money of a scope.
    pub(super) fn counts(&self, scope: usize) -> [u64; 4] {
        let parts = || self.entries.iter().flat_map(|entry| &entry.parts).filter(move |part| part.scope == scope);
        let (minute, covered) = (self.minute(scope), (MINUTE - self.now.rem_euclid(MINUTE)).unsigned_abs());
        let weighted = |amount: fn(&Amounts) -> u64| {
            let sum =
                |minute| parts().filter(|part| part.minute == minute).map(|part| amount(&part.amounts)).sum::<u64>();
            sum(minute) + (sum(minute - 1) * covered).div_ceil(MINUTE.unsigned_abs())
        };
        let open = self.entries.iter().filter(|entry| entry.state == State::Open);
        let slots = open.filter(|entry| scope == KEYS || scope == entry.key).count() as u64;
        let day = self.day(scope);
        let money = parts().filter(|part| part.day.start == day.start).map(|part| part.amounts.cost).sum();
        [weighted(|amounts| amounts.requests), weighted(|amounts| amounts.tokens), slots, money]
    }

    fn leased(&self) -> i64 {
        self.now + i64::try_from(LEASE.as_millis()).expect("a lease has few milliseconds")
    }

    /// Where something counts that was used at a time; nowhere once that is too long ago.
    fn placed(at: i64, minute: i64) -> Option<i64> {
        match minute - at.div_euclid(MINUTE) {
            ..=0 => Some(minute),
            1 => Some(minute - 1),
            _ => None,
        }
    }

    fn minute(&self, scope: usize) -> i64 {
        self.scopes[scope].minute.max(self.now.div_euclid(MINUTE))
    }

    fn reach_minute(&mut self, scope: usize) -> i64 {
        let minute = self.minute(scope);
        self.scopes[scope].minute = minute;
        minute
    }

    fn day(&self, scope: usize) -> Bounds {
        let now = Timestamp::from_millisecond(self.now).expect("tests play in this century");
        let lasts = |day: &Bounds| day.end.is_none_or(|end| now < end);
        self.scopes[scope].day.filter(lasts).unwrap_or_else(|| Bounds::holding(now, Period::Day, ZONE))
    }

    fn reach_day(&mut self, scope: usize) -> Bounds {
        let day = self.day(scope);
        self.scopes[scope].day = Some(day);
        day
    }
}
