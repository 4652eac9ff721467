//! How an attempt ended, as far as breakers care, and whom it tells against.

use std::{fmt, time::Duration};

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// An answer.
    Ok,
    /// The provider refuses the key.
    Auth,
    /// The provider limits the key.
    RateLimited {
        /// When it says to come back; absent: it does not say.
        wait: Option<Duration>,
        /// Over what the limit runs.
        horizon: Horizon,
    },
    /// The provider fails, or answers what is no answer.
    ServerError,
    /// The provider cannot be reached, or falls silent.
    Unreachable(Side),
    /// This host does not have the model or endpoint; another may.
    NotServed,
    /// The request is at fault: no other key would do better.
    CallerFault,
    /// The caller went away.
    Cancelled,
}

/// Over what a limit runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Horizon {
    /// Seconds or minutes.
    Short,
    /// Hours, days, weeks, or until somebody pays.
    Long,
}

/// What could not be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host: name, connection or TLS.
    Host,
    /// The key: a connection was there, and was reset or silent before the headers.
    Key,
}

/// A class of failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// The provider refuses the key.
    Auth,
    /// The provider limits the key.
    RateLimit,
    /// The provider fails.
    ServerError,
    /// The provider cannot be reached.
    Unreachable,
}

/// Whom an outcome tells against.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Blame {
    /// The host key.
    Key,
    /// The host, whatever the key.
    Host,
    /// The model at this host.
    Model,
    /// The caller.
    Caller,
    /// Nobody.
    Nobody,
}

impl Outcome {
    /// Whom it tells against.
    pub fn blame(self) -> Blame {
        match self {
            Outcome::Ok | Outcome::Cancelled => Blame::Nobody,
            Outcome::Auth | Outcome::RateLimited { .. } | Outcome::ServerError | Outcome::Unreachable(Side::Key) => {
                Blame::Key
            }
            Outcome::Unreachable(Side::Host) => Blame::Host,
            Outcome::NotServed => Blame::Model,
            Outcome::CallerFault => Blame::Caller,
        }
    }
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 4] = [Class::Auth, Class::RateLimit, Class::ServerError, Class::Unreachable];
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Class::Auth => "auth",
            Class::RateLimit => "rateLimit",
            Class::ServerError => "serverError",
            Class::Unreachable => "unreachable",
        })
    }
}
