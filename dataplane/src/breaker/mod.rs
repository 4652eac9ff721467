//! Decides when a host key, or a host, is taken out and when it may come back: a pure function of what it has seen,
//! the next outcome and the time. Knows four classes of failure, each with its own threshold and ladder of cooldowns;
//! knows nothing of HTTP, of other keys, or of who asks.

pub mod classify;
pub mod hints;
pub mod outcome;

mod adopt;
mod ladder;

use std::time::{Duration, Instant};

use table::Breaker;

use self::{
    ladder::{Ladder, Window},
    outcome::{Class, Horizon, Outcome},
};

/// The share of its usual traffic that a healed key gets at first.
const RAMP_FROM: f64 = 0.1;
/// The longest ramp; a shorter cooldown makes a shorter one.
const RAMP_MOST: Duration = Duration::from_secs(30);
/// A limit that says "now" is still believed this long, so that it does not spin.
const WAIT_LEAST: Duration = Duration::from_millis(50);
/// Where money or a day's quota is spent and the provider names no time.
const LONG_FIRST: Duration = Duration::from_secs(10 * 60);
/// The end of that ladder.
const LONG_MOST: Duration = Duration::from_secs(6 * 60 * 60);
/// A provider's word on a weekly quota is believed this far.
const HORIZON_MOST: Duration = Duration::from_secs(8 * 24 * 60 * 60);
/// The end of the ladder of refused keys.
const AUTH_MOST: Duration = Duration::from_secs(60 * 60);
/// The end of the ladder of what cannot be reached.
const UNREACHABLE_MOST: Duration = Duration::from_secs(60);

/// What is known of one key or host. The default has seen nothing and is closed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    auth: Ladder,
    rate_limit: Ladder,
    server_error: Ladder,
    unreachable: Ladder,
    window: Window,
    opening: Option<Opening>,
    probes: u32,
    ramp: Option<Ramp>,
    /// When it opened or closed last. What started before says nothing about what is now.
    turned: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Opening {
    class: Class,
    until: Instant,
    cooldown: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Ramp {
    class: Class,
    from: Instant,
    length: Duration,
}

/// Where a key or host stands at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Phase {
    /// In use.
    Closed {
        /// The share of its usual traffic, above 0 and at most 1; below 1 after it healed.
        share: f64,
    },
    /// Out.
    Open {
        /// Why.
        class: Class,
        /// When it may be probed.
        until: Instant,
    },
    /// Out, and to be probed.
    HalfOpen {
        /// Why it was opened.
        class: Class,
        /// Since when it may be probed.
        since: Instant,
        /// Probes in flight.
        probes: u32,
    },
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Transition {
    /// Nothing that others see.
    None,
    /// It was taken out, or is out for longer.
    Opened {
        /// Why.
        class: Class,
        /// Until when.
        until: Instant,
    },
    /// It is back.
    Closed,
}

impl State {
    /// Where it stands.
    pub fn phase(&self, now: Instant) -> Phase {
        match self.opening {
            Some(Opening { class, until, .. }) if now < until => Phase::Open { class, until },
            Some(Opening { class, until, .. }) => Phase::HalfOpen { class, since: until, probes: self.probes },
            None => Phase::Closed { share: self.ramp.map_or(1.0, |ramp| ramp.share(now)) },
        }
    }

    /// Takes in how a request ended that was sent at `started`.
    pub fn on(&mut self, outcome: Outcome, started: Instant, now: Instant, settings: &Breaker) -> Transition {
        if self.turned.is_some_and(|turned| started < turned) {
            return self.late(outcome, now, settings);
        }
        match outcome {
            Outcome::Ok => self.succeeded(now, settings),
            Outcome::RateLimited { wait, horizon } => self.limited(wait, horizon, now, settings),
            Outcome::ServerError => {
                self.window.count(true, now, settings.server_error.window);
                self.strike(Class::ServerError, now, settings)
            }
            Outcome::Auth => self.strike(Class::Auth, now, settings),
            Outcome::Unreachable(_) => self.strike(Class::Unreachable, now, settings),
            Outcome::NotServed | Outcome::CallerFault | Outcome::Cancelled => Transition::None,
        }
    }

    /// Takes one of the probes that a half-open state allows. False: not half-open, or all are in flight.
    pub fn lease_probe(&mut self, now: Instant, settings: &Breaker) -> bool {
        match self.phase(now) {
            Phase::HalfOpen { probes, .. } if probes < settings.half_open_probes.max(1) => {
                self.probes += 1;
                true
            }
            Phase::HalfOpen { .. } | Phase::Open { .. } | Phase::Closed { .. } => false,
        }
    }

    /// Gives a leased probe back, whatever came of it; its outcome goes to [`State::on`].
    pub fn release_probe(&mut self) {
        self.probes = self.probes.saturating_sub(1);
    }

    fn succeeded(&mut self, now: Instant, settings: &Breaker) -> Transition {
        self.window.count(false, now, settings.server_error.window);
        self.forgive();
        if self.close(now, now) {
            return Transition::Closed;
        }
        if self.ramp.is_some_and(|ramp| ramp.share(now) >= 1.0) {
            self.ramp = None;
            for class in Class::ALL {
                self.ladder(class).rung = 0;
            }
        }
        Transition::None
    }

    fn strike(&mut self, class: Class, now: Instant, settings: &Breaker) -> Transition {
        let ladder = self.ladder(class);
        ladder.strikes = ladder.strikes.saturating_add(1);
        let strikes = ladder.strikes;
        let (threshold, first, most) = match class {
            Class::Auth => (settings.auth.threshold, settings.auth.cooldown, AUTH_MOST),
            Class::RateLimit => (1, settings.rate_limit.default, settings.rate_limit.max),
            Class::ServerError => {
                (settings.server_error.consecutive, settings.server_error.cooldown, settings.server_error.max)
            }
            Class::Unreachable => (settings.unreachable.consecutive, settings.unreachable.cooldown, UNREACHABLE_MOST),
        };
        let ratio = class == Class::ServerError && self.window.is_over(&settings.server_error);
        // Whoever comes back and fails in the same way at once has not healed.
        let relapse = self.opening.is_some_and(|opening| opening.class == class)
            || self.ramp.is_some_and(|ramp| ramp.class == class && ramp.share(now) < 1.0);
        if !relapse && !ratio && strikes < threshold.max(1) {
            return Transition::None;
        }
        let cooldown = self.ladder(class).climb(first, most);
        self.open(class, cooldown, now)
    }

    fn limited(&mut self, wait: Option<Duration>, horizon: Horizon, now: Instant, settings: &Breaker) -> Transition {
        match told(wait, horizon, settings) {
            Some(cooldown) => self.open(Class::RateLimit, cooldown, now),
            None if horizon == Horizon::Long => {
                let cooldown = self.rate_limit.climb(LONG_FIRST, LONG_MOST);
                self.open(Class::RateLimit, cooldown, now)
            }
            None => self.strike(Class::RateLimit, now, settings),
        }
    }

    /// An outcome of a request that was sent before the last turn: many fail at once, and count as one. Only a limit
    /// that is told to last longer than what is known is news.
    fn late(&mut self, outcome: Outcome, now: Instant, settings: &Breaker) -> Transition {
        let (Outcome::RateLimited { wait, horizon }, Some(opening)) = (outcome, self.opening) else {
            return Transition::None;
        };
        match told(wait, horizon, settings) {
            Some(cooldown) if now + cooldown > opening.until => self.open(Class::RateLimit, cooldown, now),
            Some(_) | None => Transition::None,
        }
    }

    fn open(&mut self, class: Class, cooldown: Duration, now: Instant) -> Transition {
        let until = now + cooldown;
        self.ramp = None;
        self.turned = Some(now);
        let longer = self.opening.filter(|opening| opening.until > until);
        self.opening = Some(longer.unwrap_or(Opening { class, until, cooldown }));
        match longer {
            Some(_) => Transition::None,
            None => Transition::Opened { class, until },
        }
    }

    fn ladder(&mut self, class: Class) -> &mut Ladder {
        match class {
            Class::Auth => &mut self.auth,
            Class::RateLimit => &mut self.rate_limit,
            Class::ServerError => &mut self.server_error,
            Class::Unreachable => &mut self.unreachable,
        }
    }
}

impl Ramp {
    fn share(&self, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(self.from).as_secs_f64() / self.length.as_secs_f64();
        (RAMP_FROM + (1.0 - RAMP_FROM) * passed).min(1.0)
    }
}

/// The cooldown that a provider's word makes, where it gave one and is believed.
fn told(wait: Option<Duration>, horizon: Horizon, settings: &Breaker) -> Option<Duration> {
    let limit = &settings.rate_limit;
    let most = match horizon {
        Horizon::Short if !limit.honor_retry_after => return None,
        Horizon::Short => limit.max,
        Horizon::Long => HORIZON_MOST,
    };
    wait.map(|wait| wait.clamp(WAIT_LEAST.min(most), most))
}

#[cfg(test)]
mod tests;
