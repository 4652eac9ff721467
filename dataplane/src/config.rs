//! The settings of one data plane process: each has a flag, an environment variable, a default and a unit in one place.

pub mod follow;
pub mod otlp;
pub mod redis;
pub mod sealing;
pub mod sidecar;

use std::{net::SocketAddr, num::NonZeroUsize, path::PathBuf, time::Duration};

use ipnet::IpNet;

use self::{otlp::OtlpConfig, redis::RedisConfig, sealing::SealingConfig};

/// How the data plane listens, bounds what it takes, and stops.
#[derive(Clone, Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("tls_listen_pair").args(["tls_cert", "tls_listen_cert"]).multiple(true))]
pub struct Config {
    /// Where applications connect; port 0 picks a free one
    #[arg(long, env = "RELAY_LISTEN", default_value = "127.0.0.1:8080", value_name = "ADDR")]
    pub listen: SocketAddr,

    /// Where health, readiness, metrics and the table dump are served; port 0 picks a free one
    #[arg(long, env = "RELAY_ADMIN", default_value = "127.0.0.1:8081", value_name = "ADDR")]
    pub admin: SocketAddr,

    /// Certificate chain (PEM) for TLS to applications, read anew when it changes; needs --tls-key
    #[arg(long, env = "RELAY_TLS_CERT", requires = "tls_key", value_name = "FILE")]
    pub tls_cert: Option<PathBuf>,

    /// Private key (PEM) for TLS to applications, read anew when it changes; needs --tls-cert
    #[arg(long, env = "RELAY_TLS_KEY", requires = "tls_cert", value_name = "FILE")]
    pub tls_key: Option<PathBuf>,

    /// A second port, with TLS: by --tls-cert, and then --listen is without, or by a pair of its own
    #[arg(long, env = "RELAY_TLS_LISTEN", requires = "tls_listen_pair", value_name = "ADDR")]
    pub tls_listen: Option<SocketAddr>,

    /// Certificate chain (PEM) for --tls-listen alone; may come later, and connections are refused until then
    #[arg(
        long,
        env = "RELAY_TLS_LISTEN_CERT",
        requires = "tls_listen_key",
        requires = "tls_listen",
        value_name = "FILE"
    )]
    pub tls_listen_cert: Option<PathBuf>,

    /// Private key (PEM) for --tls-listen alone; may come later
    #[arg(long, env = "RELAY_TLS_LISTEN_KEY", requires = "tls_listen_cert", value_name = "FILE")]
    pub tls_listen_key: Option<PathBuf>,

    /// Largest request body in bytes, after decompression
    #[arg(long, env = "RELAY_BODY_LIMIT", default_value_t = 32 * 1024 * 1024, value_name = "BYTES")]
    pub body_limit: usize,

    /// How long a client may take to send its request's headers
    #[arg(long, env = "RELAY_HEADER_READ_TIMEOUT", default_value = "30s", value_parser = duration, value_name = "DURATION")]
    pub header_read_timeout: Duration,

    /// How long a client may take to send its request's body
    #[arg(long, env = "RELAY_BODY_READ_TIMEOUT", default_value = "120s", value_parser = duration, value_name = "DURATION")]
    pub body_read_timeout: Duration,

    /// Most requests in flight in this process; further ones are refused with 503
    #[arg(long, env = "RELAY_MAX_IN_FLIGHT", default_value_t = 20_000, value_name = "N")]
    pub max_in_flight: usize,

    /// Threads that requests run on, from 1; absent: as many as there are cores that the process may use
    #[arg(long, env = "RELAY_THREADS", value_name = "N")]
    pub threads: Option<NonZeroUsize>,

    /// Silence of a stream after which a keep-alive of the caller's shape is sent; 0s: never
    #[arg(long, env = "RELAY_KEEP_ALIVE", default_value = "15s", value_parser = duration, value_name = "DURATION")]
    pub keep_alive: Duration,

    /// Networks whose X-Forwarded-For is believed, for allowedCIDRs; comma separated
    #[arg(long, env = "RELAY_TRUSTED_PROXIES", value_delimiter = ',', value_name = "CIDR")]
    pub trusted_proxies: Vec<IpNet>,

    /// How long new connections are still accepted after SIGTERM, while readiness already says no
    #[arg(long, env = "RELAY_DEREGISTER_DELAY", default_value = "10s", value_parser = duration, value_name = "DURATION")]
    pub deregister_delay: Duration,

    /// How long open streams may finish after that
    #[arg(long, env = "RELAY_DRAIN_GRACE", default_value = "600s", value_parser = duration, value_name = "DURATION")]
    pub drain_grace: Duration,

    /// How long after SIGTERM the process is killed: a drain that a DataPlane asks for is cut so that answers are ended
    /// before; absent: never
    #[arg(long, env = "RELAY_STOP_WITHIN", value_parser = duration, value_name = "DURATION")]
    pub stop_within: Option<Duration>,

    /// Which OpenTelemetry collector is told what.
    #[command(flatten)]
    pub otlp: OtlpConfig,

    /// Where limits are counted together with other data planes.
    #[command(flatten)]
    pub redis: RedisConfig,

    /// What sealed credentials open with.
    #[command(flatten)]
    pub sealing: SealingConfig,
}

/// Reads a duration of one or more parts, as `10s`, `1m30s` or `250ms`.
pub fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a duration: write whole numbers with units, as `10s`, `1m30s` or `250ms`");
    let (mut rest, mut total) = (text, Duration::ZERO);
    while !rest.is_empty() {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let amount: u64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = rest[digits..].bytes().take_while(u8::is_ascii_alphabetic).count();
        let millis = match &rest[digits..digits + unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return Err(wrong()),
        };
        total += Duration::from_millis(amount.checked_mul(millis).ok_or_else(wrong)?);
        rest = &rest[digits + unit..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(total) }
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

    #[test]
    fn a_second_port_needs_a_certificate_of_one_way_or_the_other() {
        let parse = |words: &str| Line::try_parse_from(words.split(' ')).map(|line| line.config.tls_listen.is_some());
        assert!(parse("dp --tls-listen [::]:8443 --tls-cert c --tls-key k").unwrap());
        assert!(parse("dp --tls-listen [::]:8443 --tls-listen-cert c --tls-listen-key k").unwrap());
        assert!(
            parse("dp --tls-listen [::]:1 --tls-listen-cert c --tls-listen-key k --tls-cert c --tls-key k").unwrap()
        );
        for (words, named) in [
            ("dp --tls-listen [::]:8443", "--tls-listen-cert"),
            ("dp --tls-listen [::]:8443 --tls-listen-cert c", "--tls-listen-key"),
            ("dp --tls-listen-cert c --tls-listen-key k", "--tls-listen <ADDR>"),
        ] {
            let error = parse(words).unwrap_err().to_string();
            assert!(error.contains(named), "{error}");
        }
    }

    #[test]
    fn durations_add_up_their_parts() {
        assert_eq!(duration("1m30s"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("0s"), Ok(Duration::ZERO));
    }

    #[test]
    fn durations_without_a_unit_are_refused() {
        for text in ["", "10", "s", "1d", "1 s", "-1s"] {
            assert!(duration(text).is_err(), "{text:?}");
        }
    }
}
