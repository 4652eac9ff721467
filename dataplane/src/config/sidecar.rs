//! What makes a data plane the sidecar of a pod: it serves this pod alone, and passes on what is not its own to serve.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use anyhow::{anyhow, bail, ensure};

use super::{Config, follow::FollowConfig};

/// Where a sidecar passes on what it does not serve itself.
#[derive(Clone, Debug, Default, clap::Args)]
#[group(skip)]
pub struct SidecarConfig {
    /// Serves one pod, on loopback alone, and passes requests whose relay key is not in its table to --forward
    #[arg(long, env = "RELAY_SIDECAR")]
    pub sidecar: bool,

    /// Shared data planes that a sidecar passes requests to, as `https://relay.relay-system.svc:8443`
    #[arg(long, env = "RELAY_FORWARD", value_name = "URL")]
    pub forward: Option<String>,

    /// Certificates (PEM) of the authorities that may vouch for the shared data planes, read anew when the file changes
    #[arg(long, env = "RELAY_FORWARD_CA", value_name = "FILE")]
    pub forward_ca: Option<PathBuf>,
}

/// The shared data planes, as the settings name them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SharedPlace {
    /// Scheme, host and port.
    pub url: String,
    /// Who may vouch for them; absent: they are on this machine and speak no TLS.
    pub ca: Option<PathBuf>,
}

impl SidecarConfig {
    /// Where requests are passed to; none: this is no sidecar. Errs where a setting is wrong, or is not for sidecars.
    pub fn shared(&self, config: &Config, follow: &FollowConfig) -> anyhow::Result<Option<SharedPlace>> {
        if !self.sidecar {
            for (is_set, flag) in [(self.forward.is_some(), "forward"), (self.forward_ca.is_some(), "forward-ca")] {
                ensure!(!is_set, "--{flag} ({}) is for sidecars alone: it needs --sidecar", variable(flag));
            }
            return Ok(None);
        }
        let Some(forward) = &self.forward else {
            bail!("--sidecar (RELAY_SIDECAR) needs --forward (RELAY_FORWARD), as `https://relay.relay-system.svc:8443`")
        };
        only_for_this_pod(config)?;
        without_what_is_shared(config, follow)?;
        place(forward, self.forward_ca.clone()).map(Some)
    }

    /// The settings of the data plane that this makes of it.
    pub fn settled(&self, config: Config) -> Config {
        // No Service sends anybody here, so there is nobody to wait for.
        if self.sidecar { Config { deregister_delay: Duration::ZERO, ..config } } else { config }
    }
}

fn variable(flag: &str) -> String {
    format!("RELAY_{}", flag.replace('-', "_").to_uppercase())
}

/// Whoever reaches a sidecar spends what its pod may spend, so nobody but the pod may.
fn only_for_this_pod(config: &Config) -> anyhow::Result<()> {
    let listening = [("listen", Some(config.listen)), ("tls-listen", config.tls_listen), ("admin", Some(config.admin))];
    for (flag, address) in listening {
        let is_open = address.filter(|address| !address.ip().is_loopback());
        if let Some(address) = is_open {
            bail!(
                "--{flag} ({}) is {address}, but a sidecar serves its own pod alone: an address of loopback, as \
                 `127.0.0.1:{}`, would be right",
                variable(flag),
                address.port()
            );
        }
    }
    Ok(())
}

/// Everybody who can create a pod sees what its sidecar sees.
fn without_what_is_shared(config: &Config, follow: &FollowConfig) -> anyhow::Result<()> {
    ensure!(
        config.redis.url.is_none(),
        "--redis (RELAY_REDIS) is not for sidecars: whoever owns the pod would hold the password of counters that \
         others share; what is counted together is passed to --forward"
    );
    ensure!(
        follow.kept_key.is_none() && follow.kept_dir.is_none(),
        "--kept-key (RELAY_KEPT_KEY) and --kept-dir (RELAY_KEPT_DIR) are not for sidecars: the key opens copies with \
         credentials of other namespaces; without a table, requests are passed to --forward"
    );
    Ok(())
}

fn place(forward: &str, ca: Option<PathBuf>) -> anyhow::Result<SharedPlace> {
    let wrong = |what: &str| {
        anyhow!(
            "--forward (RELAY_FORWARD) is `{forward}`: {what}; `https://relay.relay-system.svc:8443` would be right"
        )
    };
    let url = url::Url::parse(forward).map_err(|error| wrong(&format!("it is no URL ({error})")))?;
    let is_plain = match url.scheme() {
        "https" => false,
        "http" => true,
        _ => return Err(wrong("it begins neither with `https://` nor with `http://`")),
    };
    let host = url.host().ok_or_else(|| wrong("it names no host"))?;
    let is_bare = url.username().is_empty() && url.password().is_none();
    ensure!(is_bare, wrong_without_credentials());
    let has_more = url.path() != "/" || url.query().is_some() || url.fragment().is_some();
    ensure!(
        !has_more,
        wrong("it has more than a scheme, a host and a port, but requests keep the paths that they have")
    );
    if is_plain {
        ensure!(is_loopback(&host), wrong("without TLS, relay keys would cross the network in the clear"));
        ensure!(ca.is_none(), "--forward-ca (RELAY_FORWARD_CA) is set, but --forward (RELAY_FORWARD) speaks no TLS");
    } else {
        ensure!(ca.is_some(), "--forward (RELAY_FORWARD) speaks TLS: it needs --forward-ca (RELAY_FORWARD_CA)");
    }
    Ok(SharedPlace { url: url.as_str().trim_end_matches('/').to_owned(), ca })
}

/// Does not repeat the URL, which holds a password.
fn wrong_without_credentials() -> &'static str {
    "--forward (RELAY_FORWARD) has a user or a password before the host: callers show their relay keys, and nothing else"
}

fn is_loopback(host: &url::Host<&str>) -> bool {
    match host {
        url::Host::Domain(name) => *name == "localhost",
        url::Host::Ipv4(address) => SocketAddr::from((*address, 0)).ip().is_loopback(),
        url::Host::Ipv6(address) => SocketAddr::from((*address, 0)).ip().is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        follow: FollowConfig,
        #[command(flatten)]
        sidecar: SidecarConfig,
        #[command(flatten)]
        config: Config,
    }

    const NEEDED: &str = "dp --operator o:1 --operator-ca ca --operator-token-file token --pod-name p --pod-uid u \
                          --pod-namespace n";

    fn shared(more: &str) -> Result<Option<SharedPlace>, String> {
        let words = NEEDED.split_whitespace().chain(more.split_whitespace());
        let line = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        line.sidecar.shared(&line.config, &line.follow).map_err(|error| error.to_string())
    }

    fn refused(more: &str, parts: &[&str]) {
        let error = shared(more).expect_err(more);
        for part in parts {
            assert!(error.contains(part), "{more}: {error}");
        }
    }

    #[test]
    fn a_sidecar_knows_where_the_shared_data_planes_are_and_who_vouches_for_them() {
        let url = "https://relay.relay-system.svc:8443".to_owned();
        let expected = SharedPlace { url: url.clone(), ca: Some("ca.crt".into()) };
        for written in [url.clone(), format!("{url}/")] {
            let found = shared(&format!("--sidecar --forward {written} --forward-ca ca.crt"));
            assert_eq!(found, Ok(Some(expected.clone())), "{written}");
        }
        for plain in ["http://127.0.0.1:8080", "http://localhost:8080", "http://[::1]:8080"] {
            let found = shared(&format!("--sidecar --forward {plain}"));
            assert_eq!(found, Ok(Some(SharedPlace { url: plain.to_owned(), ca: None })));
        }
        assert_eq!(shared("").unwrap(), None);
    }

    #[test]
    fn settings_that_need_each_other_name_each_other() {
        refused("--sidecar", &["--forward (RELAY_FORWARD)"]);
        refused("--sidecar --forward https://r:1", &["--forward-ca (RELAY_FORWARD_CA)"]);
        refused("--forward https://r:1 --forward-ca ca", &["--forward (RELAY_FORWARD)", "--sidecar"]);
        refused("--forward-ca ca", &["--forward-ca (RELAY_FORWARD_CA)", "--sidecar"]);
        refused("--sidecar --forward http://127.0.0.1:1 --forward-ca ca", &["speaks no TLS"]);
    }

    #[test]
    fn an_address_that_is_none_says_what_would_be_right() {
        for (wrong, because) in [
            ("relay:8443", "neither with `https://`"),
            ("ftp://relay", "neither with `https://`"),
            ("http://relay.relay-system.svc:8080", "in the clear"),
            ("http://10.0.0.1:8080", "in the clear"),
            ("https://relay:8443/v1", "more than a scheme"),
            ("https://relay:8443?x=1", "more than a scheme"),
            ("https://", "no URL"),
        ] {
            let line = format!("--sidecar --forward {wrong} --forward-ca ca");
            refused(&line, &[wrong, because, "`https://relay.relay-system.svc:8443` would be right"]);
        }
        let error = shared("--sidecar --forward https://user:canary@relay:1 --forward-ca ca").unwrap_err();
        assert!(error.contains("a user or a password") && !error.contains("canary"), "{error}");
    }

    #[test]
    fn a_sidecar_listens_for_nobody_but_its_pod() {
        let base = "--sidecar --forward https://r:1 --forward-ca ca";
        refused(&format!("{base} --listen 0.0.0.0:8080"), &["--listen (RELAY_LISTEN)", "`127.0.0.1:8080`"]);
        refused(&format!("{base} --admin 10.1.2.3:8081"), &["--admin (RELAY_ADMIN)", "10.1.2.3:8081"]);
        let tls = "--tls-listen [::]:8443 --tls-cert c --tls-key k";
        refused(&format!("{base} {tls}"), &["--tls-listen (RELAY_TLS_LISTEN)", "[::]:8443"]);
        assert!(shared(&format!("{base} --listen [::1]:8080")).is_ok());
    }

    #[test]
    fn a_sidecar_holds_nothing_that_opens_what_others_own() {
        let base = "--sidecar --forward https://r:1 --forward-ca ca";
        refused(&format!("{base} --redis redis://r"), &["--redis (RELAY_REDIS)", "whoever owns the pod"]);
        refused(&format!("{base} --kept-key k"), &["--kept-key (RELAY_KEPT_KEY)", "credentials of other namespaces"]);
    }

    #[test]
    fn nobody_waits_for_a_sidecar_to_be_taken_out_of_a_service() {
        let delay = |more: &str| {
            let words = NEEDED.split_whitespace().chain(more.split_whitespace());
            let line = Line::try_parse_from(words).unwrap();
            line.sidecar.settled(line.config).deregister_delay
        };
        assert_eq!((delay(""), delay("--sidecar")), (Duration::from_secs(10), Duration::ZERO));
    }
}
