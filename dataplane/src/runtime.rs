//! The threads that requests run on.

use std::{io, num::NonZeroUsize, thread::available_parallelism};

use tokio::runtime::{Builder, Runtime};

/// A runtime of so many threads; absent: one for each core that this process may use. Where it is one, requests run on the thread
/// that waits for the runtime, so that there is nobody to share with and nobody to be woken. Errs when the system has no
/// thread to give.
pub fn start(threads: Option<NonZeroUsize>) -> io::Result<Runtime> {
    let threads = threads.or_else(|| available_parallelism().ok()).map_or(1, NonZeroUsize::get);
    let mut builder = if threads == 1 { Builder::new_current_thread() } else { Builder::new_multi_thread() };
    if threads > 1 {
        builder.worker_threads(threads);
    }
    builder.enable_all().build()
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Handle, RuntimeFlavor};

    use super::*;

    fn started(threads: usize) -> (RuntimeFlavor, usize) {
        let runtime = start(NonZeroUsize::new(threads)).unwrap();
        runtime.block_on(async { (Handle::current().runtime_flavor(), Handle::current().metrics().num_workers()) })
    }

    #[test]
    fn one_thread_shares_with_nobody_and_more_share_their_work() {
        assert_eq!(started(1), (RuntimeFlavor::CurrentThread, 1));
        assert_eq!(started(3), (RuntimeFlavor::MultiThread, 3));
    }

    #[test]
    fn there_are_as_many_as_cores_where_nobody_says() {
        let runtime = start(None).unwrap();
        assert_eq!(runtime.metrics().num_workers(), available_parallelism().unwrap().get());
    }
}
