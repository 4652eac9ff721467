//! Which Redis, and who we are there: what the settings say, before any connection.

use std::{fmt, path::PathBuf, time::Duration};

use table::Secret;

/// How long a call may take unless the settings say otherwise. An outage delays whoever meets it first by 50 ms at most:
/// timers fire late, by two to four milliseconds on an idle machine and by more on a busy one, and the rest is for that.
pub const TIMEOUT: Duration = Duration::from_millis(40);

/// A Redis, a cluster, or the sentinels that know where it is.
#[derive(Clone, Debug)]
pub struct Target {
    /// The server; or some nodes of the cluster; or the sentinels. At least one, and exactly one for `Standalone`.
    pub nodes: Vec<Address>,
    /// What the nodes are.
    pub mode: Mode,
    /// Absent: connections are in the clear.
    pub tls: Option<Tls>,
    /// The ACL user; absent: the default user.
    pub username: Option<String>,
    /// Absent: connections do not authenticate.
    pub password: Option<Password>,
    /// The database by number; a cluster has only 0.
    pub database: i64,
    /// How long one call may take, redirections included.
    pub timeout: Duration,
}

impl Target {
    /// One server in the clear, without a password, with the usual timeout.
    pub fn standalone(address: Address) -> Self {
        Self {
            nodes: vec![address],
            mode: Mode::Standalone,
            tls: None,
            username: None,
            password: None,
            database: 0,
            timeout: TIMEOUT,
        }
    }
}

/// Where a node listens.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Address {
    /// A name or an IP address, IPv6 without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
}

impl Address {
    /// The address of these parts.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How the nodes make up a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mode {
    /// One server.
    Standalone,
    /// A Redis Cluster, of which the nodes are some.
    Cluster,
    /// The nodes are sentinels.
    Sentinel {
        /// The name under which they watch the server.
        master: String,
    },
}

/// Encrypted connections.
#[derive(Clone, Debug)]
pub struct Tls {
    /// The authorities (PEM) that may vouch for the server; absent: those of the system.
    pub ca: Option<Vec<u8>>,
}

/// A password, or where it is read anew for every connection.
#[derive(Clone, Debug)]
pub enum Password {
    /// It does not change.
    Fixed(Secret<String>),
    /// A file that may change, such as a mounted Secret. Line ends after the password are no part of it.
    File(PathBuf),
}

impl Password {
    /// The password as it is now. Errs, without a word of what was read, when the file cannot be read.
    pub async fn read(&self) -> Result<Secret<String>, String> {
        match self {
            Self::Fixed(password) => Ok(password.clone()),
            Self::File(path) => {
                let text = tokio::fs::read_to_string(path).await;
                let text =
                    text.map_err(|error| format!("cannot read the password file {}: {error}", path.display()))?;
                Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
        }
    }
}
