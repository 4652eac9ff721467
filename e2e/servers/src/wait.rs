//! Waits for what servers do by themselves.

use std::{
    thread,
    time::{Duration, Instant},
};

/// How long a set of servers may take to agree on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// Waits until `holds`, and panics with `what` when it does not hold in time.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < deadline, "waited in vain for {what}");
        thread::sleep(Duration::from_millis(5));
    }
}
