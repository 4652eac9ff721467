//! The settings of the election of the replica that writes.

use std::time::Duration;

use crate::lease::Timing;

/// How replicas agree on which of them writes.
#[derive(Clone, Debug, clap::Args)]
pub struct Settings {
    /// How long other replicas leave one alone that does not renew the Lease
    #[arg(long, env = "RELAY_LEASE_DURATION", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub lease_duration: Duration,

    /// How long a replica that cannot renew the Lease goes on writing
    #[arg(long, env = "RELAY_LEASE_RENEW_DEADLINE", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub lease_renew_deadline: Duration,

    /// Pause between two attempts to take or renew the Lease
    #[arg(long, env = "RELAY_LEASE_RETRY", default_value = "2s", value_parser = duration, value_name = "DURATION")]
    pub lease_retry: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let Timing { lease, renew_deadline, retry } = Timing::default();
        Self { lease_duration: lease, lease_renew_deadline: renew_deadline, lease_retry: retry }
    }
}

fn duration(text: &str) -> Result<Duration, String> {
    let written = crds::Duration::from(text);
    written.to_std().ok_or_else(|| "write a number and a unit, such as `15s` or `500ms`".to_owned())
}

impl Settings {
    /// The spans of the election. Errs with the setting that cannot work.
    pub fn timing(&self) -> anyhow::Result<Timing> {
        let Self { lease_duration: lease, lease_renew_deadline: renew_deadline, lease_retry: retry } = *self;
        Timing { lease, renew_deadline, retry }.checked().map_err(anyhow::Error::msg)
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Cli {
        #[command(flatten)]
        settings: Settings,
    }

    fn read(arguments: &[&str]) -> Result<Settings, String> {
        let read = Cli::try_parse_from([&["operator"], arguments].concat());
        read.map(|cli| cli.settings).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_election() {
        assert_eq!(read(&[]).unwrap().timing().unwrap(), Timing::default());
    }

    #[test]
    fn a_span_that_is_none_or_cannot_work_is_refused_with_its_setting() {
        let error = read(&["--lease-retry", "soon"]).unwrap_err();
        assert!(error.contains("--lease-retry") && error.contains("such as `15s`"), "{error}");
        let error = read(&["--lease-duration", "5s"]).unwrap().timing().unwrap_err();
        assert!(error.to_string().contains("must be shorter than the lease 5s"), "{error}");
    }
}
