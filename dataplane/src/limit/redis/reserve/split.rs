//! Which claims are decided where.

use table::LimitMode;

use super::super::ledger::split;
use crate::limit::claims::{Claims, ScopeClaim};

/// The claims of a request by where they are decided.
pub(super) struct Split {
    /// In Redis, by the script.
    pub(super) exact: Vec<ScopeClaim>,
    /// By shares of this process.
    pub(super) leased: Vec<ScopeClaim>,
    /// By candidate: what the script can reach.
    pub(super) here: Vec<Vec<ScopeClaim>>,
    /// By candidate: what lives elsewhere.
    pub(super) elsewhere: Vec<Vec<ScopeClaim>>,
}

impl Split {
    pub(super) fn of(claims: &Claims) -> Self {
        let is_exact = |claim: &ScopeClaim| claim.mode == LimitMode::Exact && *claim.scope.domain() == *claims.domain;
        let (exact, leased) = claims.scopes.iter().cloned().partition(is_exact);
        let (here, elsewhere) = claims.candidates.iter().map(|candidate| split(candidate, &claims.domain)).unzip();
        Self { exact, leased, here, elsewhere }
    }

    /// Whether Redis has to be asked about these candidates.
    pub(super) fn needs_redis(&self, candidates: &[usize]) -> bool {
        !self.exact.is_empty() || candidates.iter().any(|at| !self.here[*at].is_empty())
    }
}
