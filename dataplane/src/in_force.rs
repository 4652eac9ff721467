//! Which settings are in force: what the DataPlane of the fleet sets, which comes with the table, and else the flags of
//! this process. A drain that the process would not live to see the end of is cut to what it lives.

use std::time::Duration;

use table::PodSettings;
use tracing::{info, warn};

use crate::config::Config;

/// What the end of a process takes beside its drain: last words to clients that do not read, and usage records.
const REST: Duration = Duration::from_secs(15);

/// The settings in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InForce {
    /// How the process stops.
    pub stopping: Stopping,
    /// How long a table is served that no operator confirms, where the fleet says so.
    pub max_staleness: Option<Duration>,
    /// Largest body of a request in bytes, after decompression.
    pub body_limit: usize,
    /// How long a client may take to send a body.
    pub body_read_timeout: Duration,
    /// Most requests in flight.
    pub max_in_flight: usize,
}

/// How long each phase of stopping takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stopping {
    /// From SIGTERM until no new connections are taken.
    pub deregister: Duration,
    /// From then on until open answers are ended.
    pub grace: Duration,
}

impl InForce {
    /// What holds where the fleet sets this.
    pub fn new(config: &Config, fleet: &PodSettings) -> Self {
        let body_limit = fleet.body_limit.map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX));
        let max_in_flight = fleet.max_in_flight.map(|most| usize::try_from(most).unwrap_or(usize::MAX));
        Self {
            stopping: asked(config, fleet).within(config.stop_within),
            max_staleness: fleet.max_staleness,
            body_limit: body_limit.unwrap_or(config.body_limit),
            body_read_timeout: fleet.body_read_timeout.unwrap_or(config.body_read_timeout),
            max_in_flight: max_in_flight.unwrap_or(config.max_in_flight),
        }
    }

    /// Tells what holds from now on, and what of it the process does not live long enough for.
    pub(crate) fn tell(&self, config: &Config, fleet: &PodSettings) {
        let Self { stopping, body_limit, body_read_timeout, max_in_flight, max_staleness } = self;
        info!(
            drain_grace = ?stopping.grace,
            deregister_delay = ?stopping.deregister,
            max_staleness = ?max_staleness,
            body_limit,
            body_read_timeout = ?body_read_timeout,
            max_in_flight,
            "other settings are in force, as the DataPlane of the fleet says"
        );
        let asked = asked(config, fleet);
        if let Some(limit) = config.stop_within.filter(|_| asked != *stopping) {
            warn!(
                "the DataPlane asks for a drain of {:?} and a delay of {:?}, but this process is killed {limit:?} after it is \
                 told to stop: answers are ended after {:?} and {:?}",
                asked.grace, asked.deregister, stopping.grace, stopping.deregister
            );
        }
    }
}

fn asked(config: &Config, fleet: &PodSettings) -> Stopping {
    Stopping {
        deregister: fleet.deregister_delay.unwrap_or(config.deregister_delay),
        grace: fleet.drain_grace.unwrap_or(config.drain_grace),
    }
}

impl Stopping {
    /// The same in a process that lives no longer than this once it is told to stop; the grace gives way first.
    fn within(self, limit: Option<Duration>) -> Self {
        let Some(room) = limit.map(|limit| limit.saturating_sub(REST)) else { return self };
        let deregister = self.deregister.min(room);
        Self { deregister, grace: self.grace.min(room - deregister) }
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        config: Config,
    }

    const fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn config(flags: &str) -> Config {
        Line::parse_from(["relay"].into_iter().chain(flags.split_whitespace())).config
    }

    fn stopping(deregister: u64, grace: u64) -> Stopping {
        Stopping { deregister: seconds(deregister), grace: seconds(grace) }
    }

    #[test]
    fn what_the_fleet_sets_wins_over_the_flag_and_the_flag_holds_elsewhere() {
        let flags = "--drain-grace 60s --body-limit 1000 --body-read-timeout 9s --max-in-flight 7";
        let of_flags = InForce {
            stopping: stopping(10, 60),
            max_staleness: None,
            body_limit: 1_000,
            body_read_timeout: seconds(9),
            max_in_flight: 7,
        };
        assert_eq!(InForce::new(&config(flags), &PodSettings::default()), of_flags);
        let fleet = PodSettings {
            drain_grace: Some(seconds(90)),
            max_staleness: Some(seconds(120)),
            body_limit: Some(2_000),
            ..PodSettings::default()
        };
        let expected =
            InForce { stopping: stopping(10, 90), max_staleness: Some(seconds(120)), body_limit: 2_000, ..of_flags };
        assert_eq!(InForce::new(&config(flags), &fleet), expected);
        let rest = PodSettings {
            deregister_delay: Some(seconds(1)),
            body_read_timeout: Some(seconds(2)),
            max_in_flight: Some(3),
            ..PodSettings::default()
        };
        let expected =
            InForce { stopping: stopping(1, 60), body_read_timeout: seconds(2), max_in_flight: 3, ..of_flags };
        assert_eq!(InForce::new(&config(flags), &rest), expected);
    }

    #[test]
    fn a_drain_ends_before_the_process_is_killed() {
        let within = |deregister, grace, limit| stopping(deregister, grace).within(Some(seconds(limit)));
        assert_eq!(within(10, 600, 625), stopping(10, 600), "as the chart computes it");
        assert_eq!(within(10, 3_600, 625), stopping(10, 600));
        assert_eq!(within(700, 60, 625), stopping(610, 0));
        assert_eq!(within(10, 60, 5), stopping(0, 0));
        assert_eq!(stopping(10, 3_600).within(None), stopping(10, 3_600));
    }
}
