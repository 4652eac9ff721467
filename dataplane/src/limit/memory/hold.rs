//! An open reservation: what was charged for it, and which candidates it may still turn to.

use std::sync::Weak;

use crate::limit::{claims::CandidateClaim, counter::Charge, window::Millis};

/// An open reservation.
#[derive(Debug)]
pub(super) struct Hold {
    /// Whether its holder lives.
    pub(super) pulse: Weak<()>,
    /// When it ends by itself unless its holder lives.
    pub(super) expires: Millis,
    /// What the caller's scopes were charged.
    pub(super) caller: Vec<Charge>,
    /// What the current candidate's scopes were charged.
    pub(super) attempt: Vec<Charge>,
    /// The current candidate; absent: none is needed.
    pub(super) current: Option<usize>,
    /// Whether an attempt was begun.
    pub(super) begun: bool,
    /// All candidates of the claims.
    pub(super) candidates: Vec<CandidateClaim>,
    /// Those of them, by their index, that were not open.
    pub(super) closed: Vec<usize>,
}

impl Hold {
    /// What an attempt on `candidate` would claim; absent: it is not one of the open candidates.
    pub(super) fn claim(&self, candidate: usize) -> Option<CandidateClaim> {
        self.candidates.get(candidate).filter(|_| !self.closed.contains(&candidate)).cloned()
    }
}
