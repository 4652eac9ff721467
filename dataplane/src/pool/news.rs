//! What one process finds out of host keys and others may want to know: the last turn of each key's breaker. Only keys:
//! whether a host can be reached at all is each process' own business, for what one cannot reach another may.

use std::{sync::Arc, time::Instant};

use table::Breaker;
use tokio::sync::Notify;

use crate::breaker::{
    Phase, State, Transition,
    outcome::{Class, Outcome},
};

/// A key's breaker opened or closed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Turn {
    /// It was taken out, or is out for longer.
    Opened {
        /// Why.
        class: Class,
        /// When it was found.
        at: Instant,
        /// Until when; may have passed: it is to be probed.
        until: Instant,
    },
    /// It is back.
    Closed {
        /// When it was found.
        at: Instant,
    },
}

/// A key's breaker, with the last turn that was found here and not told yet.
#[derive(Debug, Default)]
pub(super) struct Told {
    state: State,
    news: Option<Turn>,
}

/// Rings when any key has news.
#[derive(Clone, Debug, Default)]
pub(super) struct Bell(Arc<Notify>);

impl Bell {
    pub(super) fn ring(&self) {
        self.0.notify_one();
    }

    pub(super) async fn heard(&self) {
        self.0.notified().await;
    }
}

impl Told {
    pub(super) fn phase(&self, now: Instant) -> Phase {
        self.state.phase(now)
    }

    /// Takes in an outcome; a turn that it makes is news.
    pub(super) fn on(&mut self, outcome: Outcome, began: Instant, now: Instant, settings: &Breaker) -> Transition {
        let transition = self.state.on(outcome, began, now, settings);
        match transition {
            Transition::Opened { class, until } => self.news = Some(Turn::Opened { class, at: now, until }),
            Transition::Closed => self.news = Some(Turn::Closed { at: now }),
            Transition::None => {}
        }
        transition
    }

    /// The last turn that was found here; once.
    pub(super) fn take_news(&mut self) -> Option<Turn> {
        self.news.take()
    }

    /// Takes over what others found; that is no news. False: there is news of this key that was not taken, with which it
    /// would have to be compared first; then nothing has changed.
    pub(super) fn adopt(&mut self, turn: Turn, now: Instant) -> bool {
        if self.news.is_some() {
            return false;
        }
        match turn {
            Turn::Opened { class, at, until } => self.state.adopt_opening(class, at, until, now),
            Turn::Closed { at } => self.state.adopt_closing(at, now),
        }
        true
    }

    pub(super) fn lease_probe(&mut self, now: Instant, settings: &Breaker) -> bool {
        self.state.lease_probe(now, settings)
    }

    pub(super) fn release_probe(&mut self) {
        self.state.release_probe();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_turn_is_news_once_and_what_was_taken_over_is_none() {
        let (now, settings, mut told) = (Instant::now(), Breaker::default(), Told::default());
        told.on(Outcome::Auth, now, now, &settings);
        let later = now + Duration::from_secs(1);
        told.on(Outcome::Ok, later, later, &settings);
        assert_eq!(told.take_news(), Some(Turn::Closed { at: later }), "the last");
        assert_eq!(told.take_news(), None);
        let until = later + Duration::from_secs(60);
        assert!(told.adopt(Turn::Opened { class: Class::Auth, at: later, until }, later));
        assert_eq!(told.phase(later), Phase::Open { class: Class::Auth, until });
        assert_eq!(told.take_news(), None);
    }

    #[test]
    fn nothing_is_taken_over_while_there_is_news_to_compare_it_with() {
        let (now, settings, mut told) = (Instant::now(), Breaker::default(), Told::default());
        told.on(Outcome::Auth, now, now, &settings);
        let before = told.phase(now);
        assert!(!told.adopt(Turn::Closed { at: now }, now));
        assert_eq!(told.phase(now), before);
        assert!(told.take_news().is_some());
        assert!(told.adopt(Turn::Closed { at: now }, now));
        assert!(matches!(told.phase(now), Phase::Closed { .. }));
    }
}
