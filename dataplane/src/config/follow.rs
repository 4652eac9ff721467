//! Where a data plane's tables come from, who it is there, and where it keeps the last good one.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail};
use feed::{client::About, sealed::SealKey};
use http::uri::Authority;

use super::duration;

/// The operator that tables come from.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct FollowConfig {
    /// Operator that tables come from; its certificate has to be for that name
    #[arg(long, env = "RELAY_OPERATOR", value_parser = operator, value_name = "HOST:PORT")]
    pub operator: Authority,

    /// Name in the operator's certificate; absent: the host of --operator
    #[arg(long, env = "RELAY_OPERATOR_NAME", value_name = "NAME")]
    pub operator_name: Option<String>,

    /// Certificates (PEM) of the authorities that may vouch for the operator, read anew for each connection
    #[arg(long, env = "RELAY_OPERATOR_CA", value_name = "FILE")]
    pub operator_ca: PathBuf,

    /// File with the token that is shown to the operator, read anew for each connection
    #[arg(long, env = "RELAY_OPERATOR_TOKEN_FILE", value_name = "FILE")]
    pub operator_token_file: PathBuf,

    /// Fleet (DataPlane) whose table is served
    #[arg(long, env = "RELAY_FLEET", default_value = "default", value_name = "NAME")]
    pub fleet: String,

    /// Name of the pod, as in its token
    #[arg(long, env = "RELAY_POD_NAME", value_name = "NAME")]
    pub pod_name: String,

    /// UID of the pod, as in its token
    #[arg(long, env = "RELAY_POD_UID", value_name = "UID")]
    pub pod_uid: String,

    /// Namespace of the pod, as in its token
    #[arg(long, env = "RELAY_POD_NAMESPACE", value_name = "NAME")]
    pub pod_namespace: String,

    /// Node that the pod runs on, for people
    #[arg(long, env = "RELAY_NODE_NAME", default_value = "", hide_default_value = true, value_name = "NAME")]
    pub node_name: String,

    /// File of 32 bytes that copies of the last good table are sealed with; absent: no copies are kept
    #[arg(long, env = "RELAY_KEPT_KEY", value_name = "FILE")]
    pub kept_key: Option<PathBuf>,

    /// Directory that gets a copy of the last good table; needs --kept-key. With --redis there is one in Redis too
    #[arg(long, env = "RELAY_KEPT_DIR", requires = "kept_key", value_name = "DIR")]
    pub kept_dir: Option<PathBuf>,

    /// How long requests are answered from a table that no operator confirms, 2m or more; absent: for ever
    #[arg(long, env = "RELAY_MAX_STALENESS", value_parser = staleness, value_name = "DURATION")]
    pub max_staleness: Option<Duration>,
}

impl FollowConfig {
    /// Who the data plane is.
    pub fn about(&self) -> About {
        About {
            pod: self.pod_name.clone(),
            pod_uid: self.pod_uid.clone(),
            node: self.node_name.clone(),
            namespace: self.pod_namespace.clone(),
            fleet: self.fleet.clone(),
            build: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }

    /// The name that the operator's certificate has to be for.
    pub fn server_name(&self) -> &str {
        let host = self.operator.host().trim_start_matches('[').trim_end_matches(']');
        self.operator_name.as_deref().unwrap_or(host)
    }

    /// What copies are sealed with. Errs, naming the setting, where the file cannot be read or holds no key.
    pub fn seal_key(&self) -> anyhow::Result<Option<SealKey>> {
        let Some(path) = &self.kept_key else {
            if let Some(directory) = &self.kept_dir {
                bail!(
                    "--kept-dir (RELAY_KEPT_DIR) is {}, but --kept-key (RELAY_KEPT_KEY) is not set",
                    directory.display()
                );
            }
            return Ok(None);
        };
        let naming = || format!("--kept-key (RELAY_KEPT_KEY) {}", path.display());
        let bytes = fs::read(path).with_context(naming)?;
        SealKey::new(&bytes).map(Some).with_context(naming)
    }
}

fn operator(text: &str) -> Result<Authority, String> {
    let wrong = || {
        format!(
            "`{text}` is no place of an operator: write a host and a port, as `relay-operator.relay-system.svc:9443`"
        )
    };
    let authority: Authority = text.parse().map_err(|_| wrong())?;
    let is_whole = !authority.host().is_empty() && authority.port_u16().is_some() && !text.contains('@');
    if is_whole { Ok(authority) } else { Err(wrong()) }
}

/// Operators confirm every 15 s, and one that goes away unheard is noticed after a minute.
fn staleness(text: &str) -> Result<Duration, String> {
    let most = duration(text)?;
    if most >= Duration::from_secs(120) {
        Ok(most)
    } else {
        Err("less than `2m` would not outlast an operator's restart".to_owned())
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
    }

    const NEEDED: &str = "dp --operator-ca ca --operator-token-file token --pod-name p --pod-uid u --pod-namespace n";

    fn parse(more: &str) -> Result<FollowConfig, String> {
        let words = NEEDED.split(' ').chain(more.split_whitespace());
        Line::try_parse_from(words).map(|line| line.follow).map_err(|error| error.to_string())
    }

    #[test]
    fn the_name_in_the_certificate_is_the_host_unless_another_is_given() {
        assert_eq!(parse("--operator relay-operator.relay:9443").unwrap().server_name(), "relay-operator.relay");
        assert_eq!(parse("--operator [::1]:9443").unwrap().server_name(), "::1");
        assert_eq!(parse("--operator 127.0.0.1:9443 --operator-name relay").unwrap().server_name(), "relay");
    }

    #[test]
    fn an_operator_without_a_port_is_refused() {
        for wrong in ["relay-operator", ":9443", "user@host:1", "host:port"] {
            let error = parse(&format!("--operator {wrong}")).unwrap_err();
            assert!(error.contains(wrong) && error.contains("relay-operator.relay-system.svc:9443"), "{error}");
        }
    }

    #[test]
    fn a_table_may_not_be_given_up_before_an_operator_can_restart() {
        let parsed = parse("--operator o:1 --max-staleness 15m").unwrap();
        assert_eq!(parsed.max_staleness, Some(Duration::from_secs(900)));
        let error = parse("--operator o:1 --max-staleness 119s").unwrap_err();
        assert!(error.contains("`2m`"), "{error}");
    }

    #[test]
    fn a_key_of_the_wrong_length_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("key");
        fs::write(&path, "short").unwrap();
        let config = parse(&format!("--operator o:1 --kept-key {}", path.display())).unwrap();
        let error = format!("{:#}", config.seal_key().unwrap_err());
        assert!(error.contains("RELAY_KEPT_KEY") && error.contains("5 bytes; 32 would be right"), "{error}");
        fs::write(&path, [7; 32]).unwrap();
        assert!(config.seal_key().unwrap().is_some());
        let error = parse("--operator o:1 --kept-dir d").unwrap_err();
        assert!(error.contains("--kept-key"), "{error}");
    }
}
