//! What the policies of a key say together about routing: each may only narrow what another allows.

use std::{sync::Arc, time::Duration};

use protocol::Strictness;
use table::{PartialTimeouts, Retries, Stickiness, Strategy, Timeouts, Translation};

use crate::world::Policy;

/// What the policies of a key say together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Attempts at most: the lowest of all; at least 1.
    pub max_attempts: u32,
    /// What may be tried again: only what all allow, with the longest pauses.
    pub retries: Retries,
    /// The shortest of each.
    pub timeouts: PartialTimeouts,
    /// Strict where one is.
    pub strictness: Strictness,
    /// The first that is not the default.
    pub strategy: Strategy,
    /// Whether one wants a conversation to stay.
    pub is_sticky: bool,
}

impl Rules {
    /// Takes all policies together. Without any, the defaults hold.
    pub fn of(policies: &[Arc<Policy>]) -> Self {
        let rows = || policies.iter().map(|policy| &policy.row);
        let strategies = rows().map(|row| row.routing.strategy);
        Self {
            max_attempts: rows().map(|row| row.routing.max_attempts).min().unwrap_or(3).max(1),
            retries: rows().map(|row| row.retries.clone()).reduce(stricter).unwrap_or_default(),
            timeouts: rows().map(|row| row.timeouts).reduce(shorter).unwrap_or_default(),
            strictness: strictness(rows().map(|row| row.translation)),
            strategy: strategies.into_iter().find(|strategy| *strategy != Strategy::Priority).unwrap_or_default(),
            is_sticky: rows().any(|row| row.routing.stickiness == Stickiness::Conversation),
        }
    }

    /// The times at a host: its own, where the policies' are not shorter.
    pub fn timeouts_at(&self, host: &table::Host) -> Timeouts {
        let cut = |own: Duration, ours: Option<Duration>| ours.map_or(own, |ours| own.min(ours));
        let first_byte = cut(host.timeouts.first_byte, self.timeouts.first_byte);
        Timeouts {
            connect: host.timeouts.connect,
            first_byte: cut(first_byte, self.retries.per_try_timeout),
            stream_idle: cut(host.timeouts.stream_idle, self.timeouts.stream_idle),
            request: cut(host.timeouts.request, self.timeouts.request),
        }
    }
}

fn stricter(one: Retries, other: Retries) -> Retries {
    Retries {
        on: one.on.into_iter().filter(|failure| other.on.contains(failure)).collect(),
        per_try_timeout: earliest(one.per_try_timeout, other.per_try_timeout),
        backoff_base: one.backoff_base.max(other.backoff_base),
        backoff_max: one.backoff_max.max(other.backoff_max),
        budget_percent: one.budget_percent.min(other.budget_percent),
    }
}

fn shorter(one: PartialTimeouts, other: PartialTimeouts) -> PartialTimeouts {
    PartialTimeouts {
        first_byte: earliest(one.first_byte, other.first_byte),
        stream_idle: earliest(one.stream_idle, other.stream_idle),
        request: earliest(one.request, other.request),
    }
}

fn earliest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    one.into_iter().chain(other).min()
}

fn strictness(mut all: impl Iterator<Item = Translation>) -> Strictness {
    if all.any(|translation| translation == Translation::Strict) { Strictness::Strict } else { Strictness::Lenient }
}

#[cfg(test)]
mod tests {
    use table::RetryOn;

    use super::*;
    use crate::world::build::{Tables, caller};

    const SECOND: Duration = Duration::from_secs(1);

    fn merged(one: impl FnOnce(&mut table::Policy), other: impl FnOnce(&mut table::Policy)) -> Rules {
        let world = Tables::new()
            .policy("p", &["*"], one)
            .policy("q", &["*"], other)
            .relay_key("app", &["p", "q"], |_| ())
            .world();
        Rules::of(&caller(&world, "app").key.policies)
    }

    #[test]
    fn every_policy_narrows_what_the_others_allow() {
        let rules = merged(
            |p| {
                p.routing.max_attempts = 5;
                p.timeouts.request = Some(SECOND * 9);
                p.retries.on = vec![RetryOn::Timeout, RetryOn::Connect];
                p.retries.budget_percent = 10;
                p.routing.stickiness = Stickiness::Conversation;
            },
            |q| {
                q.routing.max_attempts = 2;
                q.timeouts.request = Some(SECOND * 7);
                q.retries.on = vec![RetryOn::Connect, RetryOn::ServerError];
                q.retries.backoff_base = SECOND;
                q.translation = Translation::Strict;
                q.routing.strategy = Strategy::Cheapest;
            },
        );
        let expected = Rules {
            max_attempts: 2,
            retries: Retries {
                on: vec![RetryOn::Connect],
                per_try_timeout: None,
                backoff_base: SECOND,
                backoff_max: SECOND,
                budget_percent: 10,
            },
            timeouts: PartialTimeouts { request: Some(SECOND * 7), ..PartialTimeouts::default() },
            strictness: Strictness::Strict,
            strategy: Strategy::Cheapest,
            is_sticky: true,
        };
        assert_eq!(rules, expected);
    }

    #[test]
    fn the_shorter_of_the_hosts_and_the_policies_times_holds() {
        let rules = merged(
            |p| (p.timeouts.first_byte, p.timeouts.request) = (Some(SECOND * 30), Some(SECOND * 6_000)),
            |q| q.retries.per_try_timeout = Some(SECOND * 20),
        );
        let times = rules.timeouts_at(&crate::world::build::host(protocol::WireShape::OpenaiChat));
        assert_eq!(times, Timeouts { first_byte: SECOND * 20, ..Timeouts::default() });
    }
}
