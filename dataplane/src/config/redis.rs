//! Where the Redis is in which data planes count together, and who we are there. Says what is wrong with a setting
//! without quoting it: a URL may hold a password.

use std::{convert::Infallible, fs, path::PathBuf, time::Duration};

use anyhow::{Context, bail, ensure};
use table::Secret;

use super::duration;
use crate::limit::redis::store::target::{Mode, Password, TIMEOUT, Target, Tls};

mod nodes;

use nodes::Nodes;

const PASSWORD: &str = "RELAY_REDIS_PASSWORD";

/// The Redis that limits are counted in.
#[derive(Clone, Debug, clap::Args)]
#[group(skip)]
pub struct RedisConfig {
    /// Redis that data planes count limits in together, as `redis://[USER[:PASSWORD]@]HOST:PORT[/DB]`, `rediss://` for TLS; more nodes after commas; absent: each counts alone
    #[arg(id = "redis", long = "redis", env = "RELAY_REDIS", hide_env_values = true, value_parser = secret, value_name = "URL")]
    pub url: Option<Secret<String>>,

    /// What --redis names: one server, some nodes of a cluster, or sentinels
    #[arg(
        id = "redis-mode",
        long = "redis-mode",
        env = "RELAY_REDIS_MODE",
        default_value = "standalone",
        value_name = "MODE"
    )]
    pub mode: RedisMode,

    /// Name under which the sentinels watch the server
    #[arg(
        id = "redis-sentinel-master",
        long = "redis-sentinel-master",
        env = "RELAY_REDIS_SENTINEL_MASTER",
        value_name = "NAME"
    )]
    pub sentinel_master: Option<String>,

    /// ACL user at Redis; absent: that of the URL, else the default user
    #[arg(id = "redis-username", long = "redis-username", env = "RELAY_REDIS_USERNAME", value_name = "NAME")]
    pub username: Option<String>,

    /// The password, which has no flag: command lines are read by everybody.
    #[arg(skip = password())]
    pub password: Option<Secret<String>>,

    /// File with the password at Redis, read anew for each connection; or the variable RELAY_REDIS_PASSWORD holds it
    #[arg(id = "redis-password-file", long = "redis-password-file", env = "RELAY_REDIS_PASSWORD_FILE", value_parser = path, value_name = "FILE")]
    pub password_file: Option<PathBuf>,

    /// Certificates (PEM) of the authorities that may vouch for Redis; absent: those of the system
    #[arg(id = "redis-ca", long = "redis-ca", env = "RELAY_REDIS_CA", value_parser = path, value_name = "FILE")]
    pub ca: Option<PathBuf>,

    /// How long one call to Redis may take, from 1ms to 5s
    #[arg(id = "redis-timeout", long = "redis-timeout", env = "RELAY_REDIS_TIMEOUT", default_value = "40ms", value_parser = timeout, value_name = "DURATION")]
    pub timeout: Duration,

    /// What all keys in Redis begin with; deployments that share a Redis need different ones
    #[arg(id = "redis-prefix", long = "redis-prefix", env = "RELAY_REDIS_PREFIX", default_value = "relay", value_parser = prefix, value_name = "TEXT")]
    pub prefix: String,
}

/// What the nodes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum RedisMode {
    /// One server.
    Standalone,
    /// Nodes of a Redis Cluster.
    Cluster,
    /// Sentinels.
    Sentinel,
}

impl Default for RedisConfig {
    /// No Redis, whatever the environment says.
    fn default() -> Self {
        Self {
            url: None,
            mode: RedisMode::Standalone,
            sentinel_master: None,
            username: None,
            password: None,
            password_file: None,
            ca: None,
            timeout: TIMEOUT,
            prefix: "relay".to_owned(),
        }
    }
}

impl RedisConfig {
    /// The Redis that the settings mean; none where there is none. Empty settings are absent ones. Errs, naming the
    /// setting and what would be right, where they do not fit together or name a file that cannot be read.
    pub fn target(&self) -> anyhow::Result<Option<Target>> {
        let Some(url) = self.url.as_ref().filter(|url| !url.expose().is_empty()) else {
            self.nothing_else_is_set()?;
            return Ok(None);
        };
        let nodes = Nodes::parse(url, self.mode)?;
        let mode = self.mode()?;
        ensure!(
            mode != Mode::Cluster || nodes.database == 0,
            "--redis (RELAY_REDIS) names database {}, and a cluster has only 0",
            nodes.database
        );
        let username = self.username(&nodes)?;
        let password = self.password(&nodes)?;
        ensure!(
            username.is_none() || password.is_some(),
            "Redis has a user name but no password: set {PASSWORD} or --redis-password-file (RELAY_REDIS_PASSWORD_FILE)"
        );
        let tls = self.tls(&nodes)?;
        let Nodes { addresses, database, .. } = nodes;
        Ok(Some(Target { nodes: addresses, mode, tls, username, password, database, timeout: self.timeout }))
    }

    fn nothing_else_is_set(&self) -> anyhow::Result<()> {
        let set = [
            ("--redis-mode (RELAY_REDIS_MODE)", self.mode != RedisMode::Standalone),
            ("--redis-sentinel-master (RELAY_REDIS_SENTINEL_MASTER)", is_set(self.sentinel_master.as_ref())),
            ("--redis-username (RELAY_REDIS_USERNAME)", is_set(self.username.as_ref())),
            ("--redis-password-file (RELAY_REDIS_PASSWORD_FILE)", file(self.password_file.as_ref()).is_some()),
            ("--redis-ca (RELAY_REDIS_CA)", file(self.ca.as_ref()).is_some()),
        ];
        match set.iter().find(|(_, is_set)| *is_set) {
            Some((setting, _)) => bail!("{setting} is set, but --redis (RELAY_REDIS) is not: say where Redis is"),
            None => Ok(()),
        }
    }

    fn mode(&self) -> anyhow::Result<Mode> {
        let master = self.sentinel_master.as_ref().filter(|name| !name.is_empty());
        match (self.mode, master) {
            (RedisMode::Standalone, None) => Ok(Mode::Standalone),
            (RedisMode::Cluster, None) => Ok(Mode::Cluster),
            (RedisMode::Sentinel, Some(name)) => Ok(Mode::Sentinel { master: name.clone() }),
            (RedisMode::Sentinel, None) => bail!(
                "--redis-mode sentinel needs --redis-sentinel-master (RELAY_REDIS_SENTINEL_MASTER): the name under which the sentinels watch the server, as in `sentinel monitor NAME ...`"
            ),
            (RedisMode::Standalone | RedisMode::Cluster, Some(name)) => bail!(
                "--redis-sentinel-master (RELAY_REDIS_SENTINEL_MASTER) is `{name}`, which only --redis-mode sentinel knows"
            ),
        }
    }

    fn username(&self, nodes: &Nodes) -> anyhow::Result<Option<String>> {
        let named = self.username.clone().filter(|name| !name.is_empty());
        ensure!(
            named.is_none() || nodes.username.is_none() || named == nodes.username,
            "--redis-username (RELAY_REDIS_USERNAME) and the URL of --redis (RELAY_REDIS) name different users: keep one"
        );
        Ok(named.or_else(|| nodes.username.clone()))
    }

    fn password(&self, nodes: &Nodes) -> anyhow::Result<Option<Password>> {
        let in_variable = self.password.clone().filter(|password| !password.expose().is_empty());
        match (in_variable, file(self.password_file.as_ref()), nodes.password.clone()) {
            (None, None, None) => Ok(None),
            (Some(password), None, None) | (None, None, Some(password)) => Ok(Some(Password::Fixed(password))),
            (None, Some(path), None) => {
                // Read now only to say at the start that it cannot be read.
                fs::read_to_string(path).with_context(|| {
                    format!("reading --redis-password-file (RELAY_REDIS_PASSWORD_FILE) {}", path.display())
                })?;
                Ok(Some(Password::File(path.clone())))
            }
            _ => bail!(
                "the password at Redis is given more than once: keep one of {PASSWORD}, --redis-password-file (RELAY_REDIS_PASSWORD_FILE) and the URL of --redis (RELAY_REDIS)"
            ),
        }
    }

    fn tls(&self, nodes: &Nodes) -> anyhow::Result<Option<Tls>> {
        let ca = file(self.ca.as_ref());
        if !nodes.is_encrypted {
            ensure!(
                ca.is_none(),
                "--redis-ca (RELAY_REDIS_CA) is set, but --redis (RELAY_REDIS) begins with redis://: TLS needs rediss://"
            );
            return Ok(None);
        }
        let read = |path: &PathBuf| {
            fs::read(path).with_context(|| format!("reading --redis-ca (RELAY_REDIS_CA) {}", path.display()))
        };
        Ok(Some(Tls { ca: ca.map(read).transpose()? }))
    }
}

fn is_set(text: Option<&String>) -> bool {
    text.is_some_and(|text| !text.is_empty())
}

fn file(path: Option<&PathBuf>) -> Option<&PathBuf> {
    path.filter(|path| !path.as_os_str().is_empty())
}

fn password() -> Option<Secret<String>> {
    std::env::var(PASSWORD).ok().map(Secret::new)
}

/// Takes every text, because clap quotes what a parser refuses.
fn secret(text: &str) -> Result<Secret<String>, Infallible> {
    Ok(Secret::new(text.to_owned()))
}

/// Takes the empty text too, for environments that cannot leave a variable out.
fn path(text: &str) -> Result<PathBuf, Infallible> {
    Ok(PathBuf::from(text))
}

fn timeout(text: &str) -> Result<Duration, String> {
    let timeout = duration(text)?;
    let fits = (Duration::from_millis(1)..=Duration::from_secs(5)).contains(&timeout);
    if fits { Ok(timeout) } else { Err("a call to Redis may take from `1ms` to `5s`".to_owned()) }
}

fn prefix(text: &str) -> Result<String, String> {
    let fits = |character: char| character.is_ascii_alphanumeric() || "-_.:".contains(character);
    match text {
        "" => Err("keys need a prefix, as `relay`".to_owned()),
        _ if text.chars().all(fits) => Ok(text.to_owned()),
        _ => Err("a prefix is of letters, digits, `-`, `_`, `.` and `:`, as `relay`".to_owned()),
    }
}

#[cfg(test)]
mod tests;
