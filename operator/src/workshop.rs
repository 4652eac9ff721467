//! A thread of its own for work that makes a great many small values, again and again. The allocator keeps memory for the
//! thread that took it, whoever gives it back; with one thread, each run finds what the last one left. Where any of a pool
//! did the work, each would keep as much.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::mpsc,
    thread,
};

use tokio::sync::oneshot;

type Task = Box<dyn FnOnce() + Send>;

/// The thread. It ends when this is dropped and what it was given is done.
#[derive(Debug)]
pub(crate) struct Workshop(mpsc::Sender<Task>);

impl Workshop {
    /// Starts a thread of that name. Errs where the system starts none.
    pub(crate) fn open(name: &str) -> io::Result<Self> {
        let (tasks, given) = mpsc::channel::<Task>();
        let work = move || {
            for task in given {
                task();
            }
        };
        thread::Builder::new().name(name.to_owned()).spawn(work)?;
        Ok(Self(tasks))
    }

    /// Has this done after all that was given before. Absent: it panicked.
    pub(crate) async fn done<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (tell, told) = oneshot::channel();
        let task = move || {
            // Who waits for it hears of the panic, and the thread goes on.
            if let Ok(result) = catch_unwind(AssertUnwindSafe(work)) {
                // Who does not wait any more does not want it.
                let _ = tell.send(result);
            }
        };
        self.0.send(Box::new(task)).ok()?;
        told.await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn everything_is_done_by_one_thread_that_survives_a_panic() {
        let workshop = Workshop::open("test").unwrap();
        let first = workshop.done(|| thread::current().id()).await;
        assert!(first.is_some() && first != Some(thread::current().id()));
        assert_eq!(workshop.done(|| panic!("a panic of this test")).await, None::<()>);
        assert_eq!(workshop.done(|| thread::current().id()).await, first);
    }
}
