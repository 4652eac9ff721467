//! One key's breaker as processes tell each other of it: an opening or a closing, as text, and which of two stands.

use std::fmt;

use crate::{breaker::outcome::Class, limit::window::Millis};

/// What is known of a key's breaker. Moments are those of Redis' clock.
///
/// As text `o <until> <class>@<at>` or `c <at>`, in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Record {
    /// It is out.
    Opened {
        /// When that was found.
        at: Millis,
        /// Until when; from then on it is to be probed.
        until: Millis,
        /// Why.
        class: Class,
    },
    /// It is back.
    Closed {
        /// When that was found.
        at: Millis,
    },
}

impl Record {
    /// Reads a text. What another version writes and this one does not know is none.
    pub(super) fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(' ')?;
        match kind {
            "c" => Some(Record::Closed { at: moment(rest)? }),
            "o" => {
                let (until, rest) = rest.split_once(' ')?;
                let (class, at) = rest.split_once('@')?;
                let class = Class::ALL.into_iter().find(|known| known.to_string() == class)?;
                Some(Record::Opened { at: moment(at)?, until: moment(until)?, class })
            }
            _ => None,
        }
    }

    /// When it was found.
    pub(super) fn at(self) -> Millis {
        match self {
            Record::Opened { at, .. } | Record::Closed { at } => at,
        }
    }

    /// The last moment of which it says something.
    pub(super) fn last(self) -> Millis {
        match self {
            Record::Opened { at, until, .. } => at.max(until),
            Record::Closed { at } => at,
        }
    }

    /// As found at another moment.
    pub(super) fn found_at(self, at: Millis) -> Self {
        match self {
            Record::Opened { until, class, .. } => Record::Opened { at, until, class },
            Record::Closed { .. } => Record::Closed { at },
        }
    }

    /// What holds where two processes found something without knowing of each other. Of two openings the longer: both
    /// are right. Of an opening and a closing the later.
    pub(super) fn join(self, heard: Self) -> Self {
        match (self, heard) {
            (Record::Opened { until: own, class: why, .. }, Record::Opened { until, class, .. }) => {
                let longer = if (own, why) > (until, class) { self } else { heard };
                longer.found_at(self.at().max(heard.at()))
            }
            (Record::Opened { .. }, Record::Closed { .. }) => {
                if heard.at() > self.at() {
                    heard
                } else {
                    self
                }
            }
            (Record::Closed { .. }, Record::Opened { .. } | Record::Closed { .. }) => {
                if self.at() > heard.at() {
                    self
                } else {
                    heard
                }
            }
        }
    }
}

/// A moment that scripts can compare exactly.
fn moment(text: &str) -> Option<Millis> {
    text.parse().ok().filter(|at| *at < 1 << 53)
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Record::Opened { at, until, class } => write!(f, "o {until} {class}@{at}"),
            Record::Closed { at } => write!(f, "c {at}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const AUTH: Record = Record::Opened { at: 5, until: 300, class: Class::Auth };
    const LIMITED: Record = Record::Opened { at: 7, until: 12, class: Class::RateLimit };

    #[test]
    fn records_survive_as_text_and_what_is_not_known_is_none() {
        let failing = [Class::ServerError, Class::Unreachable].map(|class| Record::Opened { at: 1, until: 2, class });
        for record in [AUTH, LIMITED, Record::Closed { at: 9 }].into_iter().chain(failing) {
            assert_eq!(Record::read(&record.to_string()), Some(record));
        }
        assert_eq!(AUTH.to_string(), "o 300 auth@5");
        for text in [
            "",
            "o",
            "o 300 auth",
            "o 300 bored@5",
            "o -1 auth@5",
            "c",
            "c x",
            "x 5",
            "o 300 auth@5 more",
            "c 9007199254740992",
        ] {
            assert_eq!(Record::read(text), None, "{text}");
        }
    }

    #[test]
    fn of_two_openings_the_longer_stands_and_a_closing_ends_only_what_was_found_before() {
        let both = Record::Opened { at: 7, until: 300, class: Class::Auth };
        assert_eq!((AUTH.join(LIMITED), LIMITED.join(AUTH)), (both, both));
        for (at, expected) in [(6, AUTH), (8, Record::Closed { at: 8 })] {
            let opened = AUTH.found_at(7);
            let expected = if at < 7 { opened } else { expected };
            let closed = Record::Closed { at };
            assert_eq!((opened.join(closed), closed.join(opened)), (expected, expected));
        }
        let tie = Record::Closed { at: 5 };
        assert_eq!((AUTH.join(tie), tie.join(AUTH)), (AUTH, AUTH));
    }
}
