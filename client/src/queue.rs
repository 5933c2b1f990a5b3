//! A queue of keys that want work, as client-go's work queue: a key is in it once, is never worked
//! on twice at the same time, and comes back later after a failure.
//!
//! Bounded by the number of distinct keys: adding one that waits already adds nothing.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use crate::metrics;

/// First wait after a failure.
const RETRY_MIN: Duration = Duration::from_millis(5);
/// Longest wait after a failure: a level-triggered reconciler loses nothing by looking again.
const RETRY_MAX: Duration = Duration::from_secs(60);

/// A queue of keys.
pub struct WorkQueue<K> {
    name: &'static str,
    state: Mutex<State<K>>,
    changed: Notify,
}

struct State<K> {
    ready: VecDeque<K>,
    /// Keys that want work: in `ready`, or being worked on and changed since.
    dirty: HashSet<K>,
    processing: HashSet<K>,
    delayed: BinaryHeap<Reverse<(Instant, u64)>>,
    delayed_keys: HashMap<u64, K>,
    /// The earliest time for which each key waits.
    due: HashMap<K, Instant>,
    sequence: u64,
    failures: HashMap<K, u32>,
}

impl<K: Clone + Eq + Hash + Send> WorkQueue<K> {
    /// An empty queue; `name` labels its metrics.
    #[must_use]
    pub fn new(name: &'static str) -> Self {
        let state = State {
            ready: VecDeque::new(),
            dirty: HashSet::new(),
            processing: HashSet::new(),
            delayed: BinaryHeap::new(),
            delayed_keys: HashMap::new(),
            due: HashMap::new(),
            sequence: 0,
            failures: HashMap::new(),
        };
        Self { name, state: Mutex::new(state), changed: Notify::new() }
    }

    /// Adds a key. One that is worked on now comes again afterwards.
    pub fn add(&self, key: K) {
        if self.state.lock().add(key) {
            metrics::count_add(self.name);
        }
        self.changed.notify_one();
    }

    /// Adds a key after a while, unless it comes earlier anyway.
    pub fn add_after(&self, key: K, delay: Duration) {
        if delay.is_zero() {
            return self.add(key);
        }
        self.state.lock().delay(key, Instant::now() + delay);
        self.changed.notify_one();
    }

    /// Adds a key that failed: each time in a row it waits twice as long, with jitter.
    pub fn add_rate_limited(&self, key: K) {
        let mut state = self.state.lock();
        let failures = state.failures.entry(key.clone()).or_default();
        let wait = RETRY_MIN.saturating_mul(1 << (*failures).min(20)).min(RETRY_MAX);
        *failures += 1;
        let wait = wait.mul_f64(rand::random_range(1.0..1.25));
        state.delay(key, Instant::now() + wait);
        drop(state);
        metrics::count_retry(self.name);
        self.changed.notify_one();
    }

    /// The key succeeded: its next failure waits the shortest time again.
    pub fn forget(&self, key: &K) {
        self.state.lock().failures.remove(key);
    }

    /// How often the key failed in a row.
    #[must_use]
    pub fn failures(&self, key: &K) -> u32 {
        self.state.lock().failures.get(key).copied().unwrap_or(0)
    }

    /// Takes the next key; [`WorkQueue::done`] must follow. Cancellation-safe.
    pub async fn next(&self) -> K {
        loop {
            let due = {
                let mut state = self.state.lock();
                state.promote(Instant::now());
                if let Some(key) = state.ready.pop_front() {
                    state.dirty.remove(&key);
                    state.processing.insert(key.clone());
                    if !state.ready.is_empty() {
                        // One permit may stand for several adds: wake the next worker too.
                        self.changed.notify_one();
                    }
                    return key;
                }
                state.delayed.peek().map(|Reverse((at, _))| *at)
            };
            match due {
                Some(at) => {
                    tokio::select! {
                        () = self.changed.notified() => {}
                        () = tokio::time::sleep_until(at) => {}
                    }
                }
                None => self.changed.notified().await,
            }
        }
    }

    /// The work on a key has ended.
    pub fn done(&self, key: &K) {
        let mut state = self.state.lock();
        state.processing.remove(key);
        if state.dirty.contains(key) {
            state.ready.push_back(key.clone());
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Number of keys that wait.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.lock().ready.len()
    }

    /// Whether no key waits.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    fn add(&mut self, key: K) -> bool {
        if !self.dirty.insert(key.clone()) {
            return false;
        }
        if !self.processing.contains(&key) {
            self.ready.push_back(key);
        }
        true
    }

    fn delay(&mut self, key: K, at: Instant) {
        if self.due.get(&key).is_some_and(|earlier| *earlier <= at) {
            return;
        }
        self.sequence += 1;
        self.due.insert(key.clone(), at);
        self.delayed.push(Reverse((at, self.sequence)));
        self.delayed_keys.insert(self.sequence, key);
    }

    fn promote(&mut self, now: Instant) {
        while let Some(Reverse((at, sequence))) = self.delayed.peek().copied() {
            if at > now {
                return;
            }
            self.delayed.pop();
            if let Some(key) = self.delayed_keys.remove(&sequence) {
                // An entry that an earlier one overtook says nothing any more.
                if self.due.get(&key) == Some(&at) {
                    self.due.remove(&key);
                    self.add(key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_key_that_changes_while_it_is_worked_on_comes_again_once() {
        let queue = WorkQueue::new("test");
        queue.add("a");
        queue.add("a");
        assert_eq!(queue.next().await, "a");
        queue.add("a");
        queue.add("a");
        assert!(queue.is_empty(), "not while it is worked on");
        queue.done(&"a");
        assert_eq!(queue.next().await, "a");
        queue.done(&"a");
        assert!(queue.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn delayed_keys_come_in_order_of_time_and_the_earliest_counts() {
        let queue = WorkQueue::new("test");
        let start = Instant::now();
        queue.add_after("late", Duration::from_secs(9));
        queue.add_after("late", Duration::from_secs(3));
        queue.add_after("soon", Duration::from_secs(1));
        assert_eq!(queue.next().await, "soon");
        assert_eq!(queue.next().await, "late");
        assert_eq!(start.elapsed().as_secs(), 3);
        queue.done(&"late");
        let again = tokio::time::timeout(Duration::from_secs(20), queue.next()).await;
        assert!(again.is_err(), "the later time was dropped");
    }

    #[tokio::test(start_paused = true)]
    async fn failures_wait_longer_until_forgotten() {
        let queue = WorkQueue::new("test");
        let mut waits = Vec::new();
        for _ in 0..3 {
            let start = Instant::now();
            queue.add_rate_limited("a");
            queue.next().await;
            queue.done(&"a");
            waits.push(start.elapsed());
        }
        assert!(waits[1] > waits[0] && waits[2] > waits[1], "{waits:?}");
        queue.forget(&"a");
        assert_eq!(queue.failures(&"a"), 0);
    }
}
