//! A reservation in the making: gives back what it was granted unless it comes to be.

use std::{mem, sync::Arc};

use tokio::time::Instant;

use super::super::{Inner, wire::Entry};
use crate::limit::{
    counter::{Charge, Outcome},
    reservation::ReservationId,
};

/// What was granted so far; given back when dropped.
pub(super) struct Pending<'a> {
    inner: &'a Arc<Inner>,
    pub(super) domain: Arc<str>,
    pub(super) id: ReservationId,
    pub(super) wire_id: Arc<str>,
    /// When Redis was asked last.
    pub(super) sent: Instant,
    /// Whether Redis may have it.
    pub(super) is_sent: bool,
    pub(super) shared: Vec<Charge>,
    pub(super) attempt: Vec<Charge>,
}

impl<'a> Pending<'a> {
    pub(super) fn new(inner: &'a Arc<Inner>, domain: &str) -> Self {
        let (id, wire_id) = inner.next_id();
        let (shared, attempt) = (Vec::new(), Vec::new());
        Self { inner, domain: domain.into(), id, wire_id, sent: Instant::now(), is_sent: false, shared, attempt }
    }

    /// Gives the id up for another: Redis has seen it.
    pub(super) fn renumber(&mut self) {
        self.release();
        (self.id, self.wire_id) = self.inner.next_id();
    }

    fn release(&mut self) {
        if mem::take(&mut self.is_sent) {
            // It may come to Redis after this: then it must not be taken any more.
            let entry = Entry::Release { id: self.wire_id.clone(), begun: false, doubtful: true };
            self.inner.ledger.batches.push(&self.domain, entry);
        }
    }

    /// Nothing is to be given back: it is granted.
    pub(super) fn granted(mut self) -> (Vec<Charge>, Vec<Charge>) {
        self.is_sent = false;
        (mem::take(&mut self.shared), mem::take(&mut self.attempt))
    }
}

impl Drop for Pending<'_> {
    fn drop(&mut self) {
        self.release();
        self.inner.ledger.shares.conclude(&self.shared, Outcome::NeverRan);
        self.inner.ledger.shares.conclude(&self.attempt, Outcome::NeverRan);
    }
}
