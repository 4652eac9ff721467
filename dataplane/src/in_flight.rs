//! How many requests are in flight, and that they are never more than the most.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Requests in flight. A handle: clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct InFlight(Arc<Counts>);

#[derive(Debug, Default)]
struct Counts {
    now: AtomicUsize,
    most: AtomicUsize,
}

/// One request in flight. Dropped, it has ended.
#[derive(Debug)]
pub(crate) struct Permit(Arc<Counts>);

impl InFlight {
    /// None yet, and no more than `most`.
    pub(crate) fn new(most: usize) -> Self {
        Self(Arc::new(Counts { now: AtomicUsize::new(0), most: AtomicUsize::new(most) }))
    }

    /// No more than these from now on; those that are in flight go on.
    pub(crate) fn allow(&self, most: usize) {
        self.0.most.store(most, Ordering::Relaxed);
    }

    /// One more; errs with the most, where there are as many.
    pub(crate) fn enter(&self) -> Result<Permit, usize> {
        let most = self.0.most.load(Ordering::Relaxed);
        let more = |now: usize| (now < most).then_some(now + 1);
        match self.0.now.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Permit(self.0.clone())),
            Err(_) => Err(most),
        }
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.0.now.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_than_the_most_are_in_flight_also_where_it_changes() {
        let in_flight = InFlight::new(1);
        let first = in_flight.enter().unwrap();
        assert_eq!(in_flight.enter().unwrap_err(), 1);
        in_flight.allow(3);
        let (second, third) = (in_flight.enter().unwrap(), in_flight.enter().unwrap());
        assert_eq!(in_flight.enter().unwrap_err(), 3);
        in_flight.allow(2);
        drop(first);
        assert_eq!(in_flight.enter().unwrap_err(), 2, "two go on, which is the most");
        drop(second);
        let fourth = in_flight.enter().unwrap();
        drop((third, fourth));
        assert!(in_flight.enter().is_ok());
    }
}
