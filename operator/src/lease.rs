//! Who may write: the holder of one Lease. Decides as client-go's leader election does, from the Lease as it was read
//! and this machine's own clock. Other machines' clocks are never compared with it: what counts is when *we* saw the
//! Lease change. Talks to nobody: [`keep`] does.

mod keep;

use std::time::{Duration, Instant};

use jiff::Timestamp;

pub use keep::{Keeper, Standing, keep};

/// One moment on both clocks: the local one decides, the other is only written down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Never jumps.
    pub local: Instant,
    /// What people read.
    pub wall: Timestamp,
}

impl Moment {
    /// This moment.
    pub fn now() -> Self {
        Self { local: Instant::now(), wall: Timestamp::now() }
    }
}

/// The spans of an election.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// How long others leave a holder alone that is not heard of.
    pub lease: Duration,
    /// How long a holder that cannot renew goes on writing. Shorter than `lease`, so that it has stopped when another
    /// begins.
    pub renew_deadline: Duration,
    /// The pause between two attempts.
    pub retry: Duration,
}

impl Default for Timing {
    /// 15 s, 10 s and 2 s, as controllers of Kubernetes itself have them.
    fn default() -> Self {
        Self { lease: Duration::from_secs(15), renew_deadline: Duration::from_secs(10), retry: Duration::from_secs(2) }
    }
}

impl Timing {
    /// The timing, if it can work. Errs with the setting that is wrong.
    pub fn checked(self) -> Result<Self, String> {
        let Self { lease, renew_deadline, retry } = self;
        if lease.as_secs() < 1 || lease.subsec_nanos() != 0 || lease.as_secs() > 3600 {
            return Err(format!("the lease duration is {lease:?}: it must be whole seconds, 1 s to 1 h"));
        }
        if renew_deadline >= lease {
            return Err(format!("the renew deadline {renew_deadline:?} must be shorter than the lease {lease:?}"));
        }
        // Attempts are up to a fifth later than asked for, and one of them must fit.
        if retry.is_zero() || retry.mul_f64(1.2) >= renew_deadline {
            return Err(format!(
                "the retry period {retry:?} must be shorter than 5/6 of the deadline {renew_deadline:?}"
            ));
        }
        Ok(self)
    }
}

/// What stands in a Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Who holds it; empty: nobody.
    pub holder: String,
    /// How long the holder asks to be left alone.
    pub lease: Duration,
    /// When the holder took it.
    pub acquired: Option<Timestamp>,
    /// When the holder renewed it last.
    pub renewed: Option<Timestamp>,
    /// How often it changed hands.
    pub transitions: i32,
}

/// What to do with the Lease.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// There is none: create it.
    Create(Record),
    /// Write this over what was read, unless it changed since.
    Replace(Record),
    /// Another has it.
    Wait,
}

/// One candidate's view.
#[derive(Clone, Debug)]
pub struct Election {
    identity: String,
    timing: Timing,
    seen: Option<(Record, Instant)>,
    leading_until: Option<Instant>,
}

impl Election {
    /// A candidate that has not looked yet. No two processes, nor one process before and after a restart, may have the
    /// same identity.
    pub fn new(identity: impl Into<String>, timing: Timing) -> Self {
        Self { identity: identity.into(), timing, seen: None, leading_until: None }
    }

    /// The spans.
    pub fn timing(&self) -> Timing {
        self.timing
    }

    /// Takes note of the Lease as it stands (`None`: there is none), and says what to do.
    pub fn read(&mut self, found: Option<Record>, now: Moment) -> Step {
        let Some(found) = found else {
            self.seen = None;
            return Step::Create(self.record(now, Some(now.wall), 0));
        };
        if self.seen.as_ref().is_none_or(|(seen, _)| *seen != found) {
            self.seen = Some((found.clone(), now.local));
        }
        if found.holder == self.identity {
            return Step::Replace(self.record(now, found.acquired, found.transitions));
        }
        self.leading_until = None;
        if !found.holder.is_empty() && !self.has_expired(now.local) {
            return Step::Wait;
        }
        Step::Replace(self.record(now, Some(now.wall), found.transitions.saturating_add(1)))
    }

    /// The API server took the record. `began` is when the request was sent: the lease runs from no later than that.
    pub fn wrote(&mut self, record: Record, began: Instant) {
        self.leading_until = (record.holder == self.identity).then(|| began + self.timing.renew_deadline);
        self.seen = Some((record, began));
    }

    /// Stops leading at once. The record, if any, to write over what was found, so that another need not wait.
    pub fn give_back(&mut self, found: Option<Record>, now: Moment) -> Option<Record> {
        self.leading_until = None;
        let found = found.filter(|found| found.holder == self.identity)?;
        let lease = Duration::from_secs(1);
        Some(Record { holder: String::new(), lease, renewed: Some(now.wall), ..found })
    }

    /// Whether this candidate was the holder when the Lease was last seen, in time or not.
    pub fn is_holder(&self) -> bool {
        self.holder() == Some(&self.identity)
    }

    /// Whether this candidate may write at `now`.
    pub fn is_leading(&self, now: Instant) -> bool {
        self.leading_until.is_some_and(|until| now < until)
    }

    /// Until when it may write if it does not renew.
    pub fn leading_until(&self) -> Option<Instant> {
        self.leading_until
    }

    /// Who held the Lease when it was last seen.
    pub fn holder(&self) -> Option<&str> {
        self.seen.as_ref().map(|(seen, _)| seen.holder.as_str()).filter(|holder| !holder.is_empty())
    }

    /// Whether the record that was seen has not changed for as long as it asks for.
    fn has_expired(&self, now: Instant) -> bool {
        self.seen.as_ref().is_none_or(|(seen, at)| now.saturating_duration_since(*at) >= seen.lease)
    }

    fn record(&self, now: Moment, acquired: Option<Timestamp>, transitions: i32) -> Record {
        let renewed = Some(now.wall);
        Record { holder: self.identity.clone(), lease: self.timing.lease, acquired, renewed, transitions }
    }
}

#[cfg(test)]
mod tests;
