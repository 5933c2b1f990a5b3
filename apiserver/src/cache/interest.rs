//! Which watchers want to hear of which object: a write touches those and no others.
//!
//! In: what each watcher watches, and every event of one resource. Out: in each interested watcher's queue, the event's
//! position in the window. A queue holds positions, never objects, and no more of them than the window has events.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use tokio::sync::Notify;

use super::{object::CachedObject, resource::Change};

/// A position that no window has.
const LOST: u64 = u64::MAX;

/// What a watcher watches: more than it selects, never less.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Interest {
    /// Every object.
    Everything,
    /// Objects whose keys begin so: those of a namespace.
    Namespace(String),
    /// The object with this key.
    Object(String),
    /// Objects one of whose selectable fields, by its position, has this value: the pods of a node.
    Field(usize, String),
}

impl Interest {
    /// Whether an event about these states of an object is of interest.
    pub(super) fn wants(&self, change: &Change) -> bool {
        let (new, old) = change.states();
        let Some(object) = new.or(old) else { return false };
        match self {
            Self::Everything => true,
            Self::Namespace(prefix) => object.key.starts_with(prefix.as_str()),
            Self::Object(key) => *object.key == **key,
            Self::Field(index, value) => [new, old].into_iter().flatten().any(|state| state.fields.get(*index) == Some(value)),
        }
    }
}

/// One watcher's queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    positions: Mutex<VecDeque<u64>>,
    filled: Notify,
}

impl Queue {
    pub(super) fn push(&self, position: u64, limit: usize) {
        let mut positions = self.positions.lock();
        // What is pushed out is older than the window: who takes the next one learns that it is too late.
        if positions.len() >= limit {
            positions.pop_front();
            if let Some(oldest) = positions.front_mut() {
                *oldest = 0;
            }
        }
        positions.push_back(position);
        drop(positions);
        self.filled.notify_one();
    }

    /// What the watcher has not taken is in no window any more: it learns that it is too late.
    fn lose(&self) {
        let mut positions = self.positions.lock();
        positions.clear();
        positions.push_back(LOST);
        drop(positions);
        self.filled.notify_one();
    }

    pub(super) fn take(&self, limit: usize) -> Vec<u64> {
        let mut positions = self.positions.lock();
        let count = positions.len().min(limit);
        positions.drain(..count).collect()
    }

    pub(super) async fn filled(&self) {
        self.filled.notified().await;
    }
}

type Queues = HashMap<u64, Arc<Queue>>;

/// The watchers of one resource, found by what they watch.
#[derive(Debug, Default)]
pub(super) struct Interests {
    watchers: RwLock<HashMap<Interest, Queues>>,
    /// How many watchers watch by each selectable field, so that events look at no other fields.
    fields: RwLock<HashMap<usize, usize>>,
    next: AtomicU64,
    touched: AtomicU64,
}

impl Interests {
    /// Adds a watcher; its name is for [`Interests::remove`].
    pub(super) fn add(&self, interest: &Interest, queue: &Arc<Queue>) -> u64 {
        let name = self.next.fetch_add(1, Ordering::Relaxed);
        if let Interest::Field(index, _) = interest {
            *self.fields.write().entry(*index).or_default() += 1;
        }
        self.watchers.write().entry(interest.clone()).or_default().insert(name, Arc::clone(queue));
        name
    }

    pub(super) fn remove(&self, interest: &Interest, name: u64) {
        let mut watchers = self.watchers.write();
        if let Some(queues) = watchers.get_mut(interest) {
            queues.remove(&name);
            if queues.is_empty() {
                watchers.remove(interest);
            }
        }
        drop(watchers);
        if let Interest::Field(index, _) = interest {
            let mut fields = self.fields.write();
            if let Some(count) = fields.get_mut(index) {
                *count -= 1;
                if *count == 0 {
                    fields.remove(index);
                }
            }
        }
    }

    /// Tells the interested watchers of an event.
    pub(super) fn tell(&self, change: &Change, position: u64, limit: usize) {
        let (new, old) = change.states();
        let Some(object) = new.or(old) else { return };
        let watchers = self.watchers.read();
        if watchers.is_empty() {
            return;
        }
        let tell = |interest: &Interest| {
            for queue in watchers.get(interest).into_iter().flat_map(HashMap::values) {
                self.touched.fetch_add(1, Ordering::Relaxed);
                queue.push(position, limit);
            }
        };
        tell(&Interest::Everything);
        tell(&Interest::Namespace(namespace_prefix(object).to_owned()));
        tell(&Interest::Object(object.key.to_string()));
        for index in self.fields.read().keys() {
            let value = |state: Option<&Arc<CachedObject>>| state.and_then(|state| state.fields.get(*index).cloned());
            let (now, before) = (value(new), value(old));
            if before != now
                && let Some(before) = before
            {
                tell(&Interest::Field(*index, before));
            }
            if let Some(now) = now {
                tell(&Interest::Field(*index, now));
            }
        }
    }

    /// Tells every watcher that its place is lost.
    pub(super) fn lose(&self) {
        for queue in self.watchers.read().values().flat_map(HashMap::values) {
            queue.lose();
        }
    }

    /// How often a watcher was told of an event.
    pub(super) fn touched(&self) -> u64 {
        self.touched.load(Ordering::Relaxed)
    }
}

/// The object's key up to its name.
fn namespace_prefix(object: &CachedObject) -> &str {
    object.key.rfind('/').map_or("", |slash| &object.key[..=slash])
}
