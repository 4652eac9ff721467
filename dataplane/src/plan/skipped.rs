//! What could not serve a request, and why: kept for explanations, and made into a refusal where nobody could.

use std::{fmt, sync::Arc, time::Duration};

use protocol::WireShape;
use table::ObjectRef;

use crate::{breaker::outcome::Class, denied::Denied, world::HostKey};

/// What was not taken, and why.
#[derive(Clone, Debug)]
pub struct Skipped {
    /// What.
    pub place: Place,
    /// Why.
    pub why: Why,
}

/// What was not taken.
#[derive(Clone, Debug)]
pub enum Place {
    /// A Model, with all its hosts.
    Model(ObjectRef),
    /// A model at a host.
    Host {
        /// The public id; absent: the model that was asked for, which no Model names.
        model: Option<String>,
        /// The host.
        host: ObjectRef,
    },
    /// A host key.
    Key(Arc<HostKey>),
}

/// Why something was not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// It is out of service: suspended, missing, invalid or not permitted.
    Disabled(String),
    /// The key cannot be drawn.
    Key(&'static str),
    /// There is no key of this host that can be drawn.
    NoKey,
    /// Its breaker is open.
    Out {
        /// For which class of failure.
        class: Class,
        /// For how long; zero: a probe is due or on its way.
        wait: Duration,
    },
    /// This policy keeps it out.
    Policy(String),
    /// The request is pinned elsewhere.
    NotPinned,
    /// It cannot do what the request needs.
    Lacks(&'static str),
    /// The conversation is thought to be larger than its window.
    TooSmall {
        /// Tokens that fit.
        window: u64,
        /// Tokens of the input, estimated.
        input: u64,
    },
    /// The endpoint is not translated, and the host speaks another shape.
    Shape(WireShape),
    /// The same model at the same host comes before.
    Repeated,
    /// It stands for itself.
    Cycle,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Place::Model(model) => write!(f, "Model {model} {}", self.why),
            Place::Host { model: Some(model), host } => write!(f, "{model} at {host} {}", self.why),
            Place::Host { model: None, host } => write!(f, "host {host} {}", self.why),
            Place::Key(key) => write!(f, "key {} of {} {}", key.id, key.row.host, self.why),
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Disabled(reason) => write!(f, "is out of service: {reason}"),
            Why::Key(reason) => f.write_str(reason),
            Why::Out { class, wait } => write!(f, "is out for {:.1} s after {}", wait.as_secs_f64(), words(*class)),
            Why::NoKey => f.write_str("has no key that can be drawn"),
            Why::Policy(policy) => write!(f, "is kept out by policy `{policy}`"),
            Why::NotPinned => f.write_str("is not what the request is pinned to"),
            Why::Lacks(lacks) => write!(f, "lacks {lacks}"),
            Why::TooSmall { window, input } => write!(f, "takes {window} tokens, about {input} are sent"),
            Why::Shape(shape) => write!(f, "speaks {shape}, and this endpoint is not translated"),
            Why::Repeated => f.write_str("is tried already"),
            Why::Cycle => f.write_str("stands for itself"),
        }
    }
}

fn words(class: Class) -> &'static str {
    match class {
        Class::Auth => "a refusal of the key",
        Class::RateLimit => "a limit of the provider",
        Class::ServerError => "failures of the provider",
        Class::Unreachable => "failures to reach it",
    }
}

/// What the caller is told where nobody can serve: what it can change itself where that is all there is, else what the
/// operator has to.
pub(super) fn denial(model: &str, skipped: &[Skipped]) -> Denied {
    let model = model.to_owned();
    let is_about_hosts = |skipped: &&Skipped| match skipped.why {
        Why::Disabled(_) if matches!(skipped.place, Place::Key(_)) => false,
        Why::Key(_) | Why::Out { .. } | Why::Repeated | Why::NotPinned => false,
        Why::Disabled(_)
        | Why::NoKey
        | Why::Policy(_)
        | Why::Lacks(_)
        | Why::TooSmall { .. }
        | Why::Shape(_)
        | Why::Cycle => true,
    };
    let hosts: Vec<&Skipped> = skipped.iter().filter(is_about_hosts).collect();
    let policy = hosts.iter().find_map(|skipped| match (&skipped.place, &skipped.why) {
        (Place::Host { host, .. }, Why::Policy(policy)) => Some((host.name.clone(), policy.clone())),
        (Place::Model(model), Why::Policy(policy)) => Some((model.name.clone(), policy.clone())),
        _ => None,
    });
    let lacks = hosts.iter().find_map(|skipped| match &skipped.why {
        Why::Lacks(lacks) => Some((*lacks).to_owned()),
        Why::Shape(_) => Some("a host that speaks this endpoint's shape".to_owned()),
        _ => None,
    });
    let is_mendable = hosts.iter().any(|skipped| matches!(skipped.why, Why::Disabled(_) | Why::NoKey | Why::Cycle));
    match (is_mendable, lacks, policy) {
        (false, Some(lacks), _) => Denied::NotCapable { model, lacks },
        (false, None, Some((host, policy))) => Denied::HostNotGranted { host, policy },
        (true, ..) | (false, None, None) => Denied::NothingEnabled { model, reason: reason(&hosts) },
    }
}

/// The first three reasons.
fn reason(hosts: &[&Skipped]) -> String {
    if hosts.is_empty() {
        return "it has no host".to_owned();
    }
    let reasons: Vec<String> = hosts.iter().take(3).map(ToString::to_string).collect();
    reasons.join("; ")
}
