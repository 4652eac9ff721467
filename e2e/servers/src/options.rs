//! How a server is to be started: with TLS, with a password, with a user, with other directives.

use std::{fmt::Write, path::Path, sync::Arc};

use crate::certificates::Authority;

/// How a server, or each server of a set, is to be started. A clone shares the certificate authority.
#[derive(Clone, Default)]
pub struct Options {
    authority: Option<Arc<Authority>>,
    user: Option<String>,
    password: Option<String>,
    directives: String,
}

impl Options {
    /// No TLS, no password, nothing kept on disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The port speaks TLS only, with a certificate for `localhost` and `127.0.0.1` by an authority of its own.
    pub fn tls(mut self) -> Self {
        self.authority = Some(Arc::new(Authority::new()));
        self
    }

    /// Whoever connects has to give this password, which stands for the user `default`.
    pub fn password(self, password: &str) -> Self {
        assert_plain(password);
        let mut options = self.directive(&format!("requirepass {password}"));
        options.password = Some(password.to_owned());
        options
    }

    /// Only this user may connect, with the commands and keys that `rules` allow, as in `~relay:* +@read +evalsha`.
    pub fn user(self, name: &str, password: &str, rules: &str) -> Self {
        assert_plain(name);
        assert_plain(password);
        let mut options = self.directive("user default off").directive(&format!("user {name} on >{password} {rules}"));
        options.user = Some(name.to_owned());
        options.password = Some(password.to_owned());
        options
    }

    /// Adds a line to the server's `redis.conf`, as in `maxmemory 1mb`.
    pub fn directive(mut self, line: &str) -> Self {
        writeln!(self.directives, "{line}").expect("a string takes all that is written");
        self
    }

    /// The certificate of the authority that a client has to trust, in PEM, of a server with TLS.
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref().map(Authority::pem)
    }

    /// TLS or not, as here, and nothing else of these options.
    pub(crate) fn transport(&self) -> Self {
        Self { authority: self.authority.clone(), ..Self::default() }
    }

    pub(crate) fn has_tls(&self) -> bool {
        self.authority.is_some()
    }

    /// The URL of a server with these options that listens at `address`, credentials included.
    pub(crate) fn url(&self, address: impl std::fmt::Display) -> String {
        let scheme = if self.authority.is_some() { "rediss" } else { "redis" };
        match (&self.user, &self.password) {
            (None, None) => format!("{scheme}://{address}"),
            (user, password) => {
                let user = user.as_deref().unwrap_or_default();
                let password = password.as_deref().unwrap_or_default();
                format!("{scheme}://{user}:{password}@{address}")
            }
        }
    }

    /// The lines of `redis.conf` for a server on `port` that keeps its files in `directory`.
    pub(crate) fn conf(&self, port: u16, directory: &Path) -> String {
        let mut lines = match &self.authority {
            None => format!("port {port}\n"),
            Some(authority) => {
                authority.write(directory);
                format!("port 0\ntls-port {port}\n{TLS}")
            }
        };
        lines.push_str(&self.directives);
        lines
    }
}

/// What a server with TLS does beside listening: it also talks TLS to the other servers of its set.
const TLS: &str = "tls-cert-file server.pem
tls-key-file server.key
tls-ca-cert-file ca.pem
tls-auth-clients no
tls-replication yes
";

/// Names and passwords stand unquoted in files and URLs.
fn assert_plain(word: &str) {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    assert!(!word.is_empty() && word.bytes().all(plain), "a test's names and passwords are letters, digits and `-`");
}
