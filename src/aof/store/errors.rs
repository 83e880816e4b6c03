//! Errors of background work: each reaches one caller, and stays to be looked at.
//!
//! The flusher and the background thread put them in; the next append, flush or close takes the oldest that nobody was told.
//! Appends look at one flag.

use crate::base::Error;
use crate::env::{Env, Mutex};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};

/// How many are kept.
const KEPT_MAX: usize = 64;

/// The errors of one store.
pub(super) struct Errors<E: Env> {
    untold: AtomicBool,
    lists: Mutex<E, Lists>,
}

#[derive(Default)]
struct Lists {
    untold: VecDeque<Error>,
    kept: VecDeque<Error>,
    total: u64,
}

impl<E: Env> Default for Errors<E> {
    fn default() -> Errors<E> {
        Errors { untold: AtomicBool::new(false), lists: Mutex::<E, _>::new(Lists::default()) }
    }
}

impl<E: Env> Errors<E> {
    /// Adds one.
    pub(super) fn push(&self, error: Error) {
        let lists = &mut *self.lists.lock();
        lists.total += 1;
        for list in [&mut lists.untold, &mut lists.kept] {
            if list.len() == KEPT_MAX {
                list.pop_front();
            }
        }
        lists.untold.push_back(error.clone());
        lists.kept.push_back(error);
        self.untold.store(true, Ordering::Release);
    }

    /// Returns true if somebody is to be told something.
    #[inline]
    pub(super) fn any_untold(&self) -> bool {
        self.untold.load(Ordering::Relaxed)
    }

    /// Takes the oldest that nobody was told.
    #[cold]
    pub(super) fn take(&self) -> Option<Error> {
        let mut lists = self.lists.lock();
        let error = lists.untold.pop_front();
        self.untold.store(!lists.untold.is_empty(), Ordering::Release);
        error
    }

    /// Returns the latest, oldest first.
    pub(super) fn kept(&self) -> Vec<Error> {
        self.lists.lock().kept.iter().cloned().collect()
    }

    /// Returns how many there were.
    pub(super) fn total(&self) -> u64 {
        self.lists.lock().total
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::env::StdEnv;

    #[test]
    fn each_error_is_told_once_and_the_latest_are_kept() {
        let errors = Errors::<StdEnv>::default();
        assert!(!errors.any_untold() && errors.take().is_none());
        for number in 0..100 {
            errors.push(Error::invalid_argument(number));
        }
        assert!(errors.any_untold());
        assert_eq!((errors.total(), errors.kept().len()), (100, KEPT_MAX));
        let told = std::iter::from_fn(|| errors.take()).count();
        assert_eq!((told, errors.any_untold(), errors.kept().len()), (KEPT_MAX, false, KEPT_MAX));
    }
}
