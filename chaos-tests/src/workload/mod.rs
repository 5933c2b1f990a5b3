//! Load while faults happen; each keeps a record that the checkers read, and judges nothing itself.

pub mod jobs;
pub mod requests;
pub mod watches;
pub mod writers;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// Time since a scenario began.
#[derive(Clone, Copy, Debug)]
pub struct Clock(Instant);

impl Clock {
    /// Begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// What has passed.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

/// A record that grows while others look.
#[derive(Clone, Debug)]
pub struct Record<T>(Arc<Mutex<Vec<T>>>);

impl<T> Default for Record<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> Record<T> {
    fn locked(&self) -> MutexGuard<'_, Vec<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds one.
    pub fn push(&self, one: T) {
        self.locked().push(one);
    }

    /// All so far.
    #[must_use]
    pub fn all(&self) -> Vec<T> {
        self.locked().clone()
    }

    /// How many so far.
    #[must_use]
    pub fn count(&self) -> usize {
        self.locked().len()
    }
}
