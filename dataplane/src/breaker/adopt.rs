//! What a breaker takes over from other processes that use the same key: their openings and closings, not the failures
//! that led to them.

use std::time::{Duration, Instant};

use super::{Opening, RAMP_MOST, Ramp, State, ladder::Window, outcome::Class};

impl State {
    /// Takes over that it was found failing at `at`, and is out until `until`, which may have passed: then it is to be
    /// probed. Whoever tells of it has compared it with what was known here.
    ///
    /// Nothing is counted as a failure seen here; but a cooldown that was earned counts as one here too, so that the next
    /// is longer, whoever finds it.
    pub fn adopt_opening(&mut self, class: Class, at: Instant, until: Instant, now: Instant) {
        let is_known = self.opening.is_some_and(|opening| now < opening.until);
        match class {
            // Mostly told by the provider, and then not earned.
            Class::RateLimit => {}
            Class::Auth | Class::ServerError | Class::Unreachable if is_known => {}
            Class::Auth | Class::ServerError | Class::Unreachable => self.ladder(class).step(),
        }
        self.ramp = None;
        self.turned = Some(now);
        self.opening = Some(Opening { class, until, cooldown: until.saturating_duration_since(at) });
    }

    /// Takes over that it was found well at `at`: it is back, by the same ramp. Changes nothing where it is not out.
    pub fn adopt_closing(&mut self, at: Instant, now: Instant) {
        if self.opening.is_some() {
            self.forgive();
            self.close(at.min(now), now);
        }
    }

    /// No failure was in a row.
    pub(super) fn forgive(&mut self) {
        for class in Class::ALL {
            self.ladder(class).strikes = 0;
        }
    }

    /// Ends an opening; the ramp begins at `from`. False: there was none.
    pub(super) fn close(&mut self, from: Instant, now: Instant) -> bool {
        let Some(opening) = self.opening.take() else { return false };
        let length = opening.cooldown.clamp(Duration::from_secs(1), RAMP_MOST);
        self.ramp = Some(Ramp { class: opening.class, from, length });
        self.window = Window::default();
        self.turned = Some(now);
        true
    }
}
