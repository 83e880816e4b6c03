//! The runtime that the client of S3 needs, behind calls that block: [`Runtime`] and [`Pending`].
//!
//! Two threads, made with the store, stopped with it without waiting. The caller's thread is never entered by the
//! runtime, so calls work on any thread, also one of another runtime, which they block.

use crate::base::{Error, Result};
use crate::env::{EnvCondvar, Mutex, StdCondvar, StdEnv};
use std::path::Path;
use std::sync::Arc;

const THREADS: usize = 2;

/// The threads.
pub(super) struct Runtime(Option<tokio::runtime::Runtime>);

impl Runtime {
    /// Starts the threads.
    ///
    /// # Errors
    /// The system has no room for them.
    pub(super) fn start() -> Result<Runtime> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("aidb-s3")
            .enable_io()
            .enable_time()
            .build()
            .map_err(|error| Error::io("start the threads of", Path::new("the S3 client"), error))?;
        Ok(Runtime(Some(runtime)))
    }

    /// Starts `task`.
    pub(super) fn start_task<T: Send + 'static>(&self, task: impl Future<Output = T> + Send + 'static) -> Pending<T> {
        let runtime = self.0.as_ref().expect("it is there until the drop");
        let pending =
            Pending(Arc::new(Slot { state: Mutex::<StdEnv, _>::new(State::Running), ended: StdCondvar::default() }));
        let slot = pending.0.clone();
        let task = runtime.spawn(task);
        runtime.spawn(async move {
            // A task that panicked has no outcome.
            let outcome = task.await.ok();
            *slot.state.lock() = State::Ended(outcome);
            slot.ended.notify_all();
        });
        pending
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            // Waiting would panic on a thread of another runtime.
            runtime.shutdown_background();
        }
    }
}

/// A task under way.
pub(super) struct Pending<T>(Arc<Slot<T>>);

struct Slot<T> {
    state: Mutex<StdEnv, State<T>>,
    ended: StdCondvar,
}

enum State<T> {
    Running,
    Ended(Option<T>),
}

impl<T> Pending<T> {
    /// Blocks until the task has ended and returns its outcome; none if it panicked.
    pub(super) fn wait(self) -> Option<T> {
        let mut state = self.0.state.lock();
        loop {
            if let State::Ended(outcome) = &mut *state {
                return outcome.take();
            }
            self.0.ended.wait(&mut state);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcome_comes_back_also_of_a_panic() {
        let runtime = Runtime::start().unwrap();
        assert_eq!(runtime.start_task(async { 7 }).wait(), Some(7));
        let panics = runtime.start_task(async {
            if true {
                panic!("on purpose");
            }
        });
        assert_eq!(panics.wait(), None);
    }

    #[test]
    fn another_runtime_may_call_and_drop_it() {
        let outer = tokio::runtime::Builder::new_current_thread().build().unwrap();
        outer.block_on(async {
            let runtime = Runtime::start().unwrap();
            assert_eq!(runtime.start_task(async { 8 }).wait(), Some(8));
        });
    }
}
