//! Who may push how hard: reserve before the answer is known, settle when it is.
//!
//! Decides whether all claims of a request fit at once, and what is given back. Knows nothing of HTTP, of routing or of
//! what a token costs. [`Limiter`] is the seam: [`memory::Memory`] counts in this process, and the suite in `contract`
//! holds every implementation to the same promises.

pub mod budget;
pub mod claims;
pub mod clock;
#[cfg(any(test, feature = "contract"))]
pub mod contract;
mod counter;
pub mod estimate;
pub mod memory;
pub mod redis;
pub mod reservation;
pub mod rule;
pub mod terms;
pub mod window;

use std::{fmt, time::Duration};

use futures::future::BoxFuture;

use self::{
    claims::{Claims, ScopeClaim},
    reservation::Reservation,
    rule::{Rule, RuleRef, Scope},
};

/// How long a reservation lives whose holder gives no sign of life: what a process that died still holds.
pub const LEASE: Duration = Duration::from_secs(30);

/// When a request that met a concurrency limit should come again: nobody can know when another one ends.
pub const CONCURRENCY_RETRY: Duration = Duration::from_secs(1);

/// Counts what was claimed and used, and decides whether more fits.
///
/// An implementation decides all claims first and then writes all or nothing, so that one script call can do it.
pub trait Limiter: Send + Sync + 'static {
    /// Claims everything that a request may need, at once: every scope of the caller and the first candidate that is
    /// open. Errs when a rule refuses, or when the counters cannot be reached.
    ///
    /// Dropping the future gives back whatever it may have claimed.
    fn reserve(&self, claims: Claims) -> BoxFuture<'_, Result<Reservation, LimitError>>;

    /// What is used and left of every rule of these scopes; amounts in the claims are ignored and nothing is written.
    fn usage(&self, scopes: Vec<ScopeClaim>) -> BoxFuture<'_, Result<Vec<RuleUsage>, LimitError>>;

    /// Waits until everything that was posted has taken effect, at most so long: for the end of the process.
    fn close(&self, within: Duration) -> BoxFuture<'_, ()>;
}

/// Why nothing was reserved.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// A rule refuses.
    #[error(transparent)]
    Refused(Refused),
    /// The counters cannot be reached, and a policy says that nothing passes then.
    #[error(
        "limits cannot be checked at the moment, and a policy of this relay key lets nothing pass then \
         (`redisOutage.mode` is `Closed`): try again in a moment"
    )]
    Unavailable,
}

/// A rule that refuses. Its text is for the caller: names the rule and its scope, and never a host key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Of the rules that refuse, the one that does so longest.
    pub rule: RuleRef,
    /// What it allows.
    pub limit: u64,
    /// What is left of it; less than was asked for.
    pub remaining: u64,
    /// After this the same request passes if nothing else comes; just before, it does not. Absent: it never will.
    /// For concurrency a guess, [`CONCURRENCY_RETRY`].
    pub retry_after: Option<Duration>,
    /// Whether it was decided without the counters that replicas share, by this process' part of the limit.
    pub degraded: bool,
}

impl std::error::Error for Refused {}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { rule: RuleRef { scope, rule }, limit, remaining, .. } = self;
        let of = match &**scope {
            Scope::RelayKey(key) => format!("relay key `{}`", key.name),
            Scope::Policy { policy, .. } => format!("policy `{}`", policy.name),
            Scope::Model { policy, model, .. } => format!("model `{model}` in policy `{}`", policy.name),
            Scope::HostKey(_) | Scope::Host(_) => "the upstream".to_owned(),
        };
        match rule {
            Rule::Budget(_) => {
                let (limit, left) = (table::NanoUsd(*limit), table::NanoUsd(*remaining));
                write!(f, "the {rule} of {of} is spent: {left} of {limit} USD left")?;
            }
            Rule::Rate { .. } | Rule::Concurrency => {
                write!(f, "the limit of {limit} {rule} of {of} is reached: {remaining} left")?;
            }
        }
        if self.degraded {
            f.write_str(" (the shared counters cannot be reached, so each data plane holds to its part)")?;
        }
        Ok(())
    }
}

/// How one rule stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleUsage {
    /// The rule.
    pub rule: RuleRef,
    /// What it allows: requests, tokens or nano-USD.
    pub limit: u64,
    /// What counts against it now, reservations included; may exceed the limit.
    pub used: u64,
    /// What still fits; never above the limit.
    pub remaining: u64,
    /// When nothing will count against it any more if nothing else comes; absent for concurrency and for `Total`.
    pub resets_in: Option<Duration>,
}
