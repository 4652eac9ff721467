//! The timer that the HTTP library has for the heads of a connection's requests. It arms one for each head; here that is a
//! note for whoever drives the connection.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::{self, Duration},
};

use hyper::rt::{Sleep, Timer};
use tokio::time::Instant;

use crate::lookout::{HeadWait, Kept};

/// Notes when a head is late.
pub(super) struct Heads(pub(super) Arc<Kept>);

/// Ready when a head is late. Whoever drives the connection polls it then.
struct Head(HeadWait);

impl Timer for Heads {
    fn sleep(&self, duration: Duration) -> Pin<Box<dyn Sleep>> {
        self.sleep_until(self.now() + duration)
    }

    fn sleep_until(&self, deadline: time::Instant) -> Pin<Box<dyn Sleep>> {
        Box::pin(Head(self.0.wait_for_head(Instant::from_std(deadline))))
    }

    fn now(&self) -> time::Instant {
        Instant::now().into_std()
    }
}

impl Sleep for Head {}

impl Future for Head {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        if self.0.is_late() { Poll::Ready(()) } else { Poll::Pending }
    }
}
