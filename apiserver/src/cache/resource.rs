//! One resource: its objects in order of their keys, and a window of its recent events.

use std::{
    collections::{BTreeMap, VecDeque},
    ops::Bound,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use bytes::Bytes;
use imbl::OrdMap;
use kontiki_api::registry::Resource;
use parking_lot::{Mutex, RwLock};
use tokio_util::sync::CancellationToken;

use super::{
    interest::{Interest, Interests, Queue},
    object::CachedObject,
};

/// Most events that a window holds.
const WINDOW_EVENTS_MAX: usize = 4096;
/// Most bytes of objects that a window keeps alive.
const WINDOW_BYTES_MAX: usize = 8 << 20;
/// Snapshots that are kept for lists in pages; what is not kept comes from the store's history.
const PAGES_MAX: usize = 8;
/// How long a snapshot is kept.
const PAGES_KEPT: Duration = Duration::from_secs(75);

/// Objects by their keys at one moment; a copy shares everything with the cache.
pub type Snapshot = OrdMap<Arc<str>, Arc<CachedObject>>;

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was created or changed; the object as it was before, if it was there.
    Put(Arc<CachedObject>, Option<Arc<CachedObject>>),
    /// It was removed; the object as it was last.
    Delete(Arc<CachedObject>),
}

impl Change {
    /// The object after and before the change.
    pub(super) fn states(&self) -> (Option<&Arc<CachedObject>>, Option<&Arc<CachedObject>>) {
        match self {
            Self::Put(object, before) => (Some(object), before.as_ref()),
            Self::Delete(before) => (None, Some(before)),
        }
    }
}

/// One event of a window.
#[derive(Debug)]
pub struct Event {
    /// Revision of the change.
    pub revision: i64,
    /// What happened.
    pub change: Change,
    /// The event as most watchers get it, made once for all of them.
    frame: OnceLock<(&'static str, Bytes)>,
}

impl Event {
    /// An event.
    #[must_use]
    pub fn new(revision: i64, change: Change) -> Self {
        Self { revision, change, frame: OnceLock::new() }
    }

    /// The event of that type in the form that most watchers want: made by the first.
    #[must_use]
    pub fn frame(&self, event_type: &'static str, make: impl Fn() -> Bytes) -> Bytes {
        let (first, frame) = self.frame.get_or_init(|| (event_type, make()));
        if *first == event_type { frame.clone() } else { make() }
    }

    /// Bytes of the object as the event's watcher gets them: a deletion carries its own revision.
    #[must_use]
    pub fn deleted_bytes(&self, object: &CachedObject) -> Bytes {
        object.encoded.with_resource_version(self.revision)
    }

    fn weight(&self) -> usize {
        match &self.change {
            Change::Put(object, _) | Change::Delete(object) => object.encoded.len(),
        }
    }
}

/// Why events cannot be had from the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowError {
    /// They are older than the window.
    TooOld,
}

/// A position in a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    next: u64,
}

#[derive(Default)]
struct State {
    objects: Snapshot,
    /// Objects that cannot be decrypted, with the reason: by nobody's fault there are none.
    unreadable: BTreeMap<Arc<str>, String>,
    events: VecDeque<Arc<Event>>,
    /// Sequence number of the first event in `events`.
    first: u64,
    bytes: usize,
    /// Every event after this revision is in the window.
    since: i64,
    /// Revision of the last event.
    last: i64,
}

/// One resource.
pub struct ResourceCache {
    /// Which resource.
    pub resource: &'static Resource,
    /// Prefix of its keys in the store, with a slash at the end.
    pub prefix: String,
    /// Ends the watches when the resource is served no longer.
    pub closed: CancellationToken,
    state: RwLock<State>,
    interests: Interests,
    /// Snapshots that lists in pages are read from, with the time of the list.
    pages: Mutex<VecDeque<(i64, Instant, Snapshot)>>,
}

/// A watcher's place: what it has not taken yet is kept for it.
pub struct Subscription {
    cache: Arc<ResourceCache>,
    interest: Interest,
    name: u64,
    queue: Arc<Queue>,
}

impl Subscription {
    /// Waits until there may be events to take.
    pub async fn filled(&self) {
        self.queue.filled().await;
    }

    /// Up to `limit` events of interest, in order.
    ///
    /// # Errors
    /// Some have left the window before they were taken.
    pub fn take(&self, limit: usize) -> Result<Vec<Arc<Event>>, WindowError> {
        let positions = self.queue.take(limit);
        if positions.is_empty() {
            return Ok(Vec::new());
        }
        let state = self.cache.state.read();
        let event = |position: u64| {
            let index = usize::try_from(position.checked_sub(state.first)?).ok()?;
            state.events.get(index).cloned()
        };
        positions.into_iter().map(event).collect::<Option<_>>().ok_or(WindowError::TooOld)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.cache.interests.remove(&self.interest, self.name);
    }
}

impl ResourceCache {
    /// An empty cache.
    #[must_use]
    pub fn new(resource: &'static Resource, prefix: String) -> Self {
        let (interests, pages, closed) = (Interests::default(), Mutex::default(), CancellationToken::new());
        Self { resource, prefix, closed, state: RwLock::default(), interests, pages }
    }

    /// Begins anew with what the store holds at `revision`.
    pub(super) fn reset(&self, objects: Vec<CachedObject>, unreadable: BTreeMap<Arc<str>, String>, revision: i64) {
        let mut state = self.state.write();
        state.objects = objects.into_iter().map(|object| (Arc::clone(&object.key), Arc::new(object))).collect();
        state.unreadable = unreadable;
        self.lose_window(&mut state, revision);
    }

    /// Who watches has to look at the store's history for what happened up to `revision`.
    fn lose_window(&self, state: &mut State, revision: i64) {
        state.first += state.events.len() as u64;
        state.events.clear();
        state.bytes = 0;
        state.since = revision;
        state.last = revision;
        self.interests.lose();
    }

    /// An object has become one that cannot be decrypted. What it was before is not shown either, and no event can tell
    /// of it: watches go to the store's history, and end there.
    pub(super) fn put_unreadable(&self, key: &str, why: String, revision: i64) {
        let mut state = self.state.write();
        state.objects.remove(key);
        state.unreadable.insert(key.into(), why);
        self.lose_window(&mut state, revision);
    }

    /// Why an object cannot be decrypted; `None` for all others.
    #[must_use]
    pub fn unreadable(&self, key: &str) -> Option<String> {
        self.state.read().unreadable.get(key).cloned()
    }

    /// The first object under a prefix that cannot be decrypted, with the reason.
    #[must_use]
    pub fn first_unreadable(&self, prefix: &str) -> Option<(Arc<str>, String)> {
        let state = self.state.read();
        let (key, why) = state.unreadable.range::<str, _>((Bound::Included(prefix), Bound::Unbounded)).next()?;
        key.starts_with(prefix).then(|| (Arc::clone(key), why.clone()))
    }

    pub(super) fn put(&self, object: CachedObject) {
        let object = Arc::new(object);
        let mut state = self.state.write();
        state.unreadable.remove(&object.key);
        let before = state.objects.insert(Arc::clone(&object.key), Arc::clone(&object));
        let revision = object.revision;
        self.push(&mut state, Event::new(revision, Change::Put(object, before)));
    }

    pub(super) fn delete(&self, key: &str, revision: i64) {
        let mut state = self.state.write();
        state.unreadable.remove(key);
        if let Some(before) = state.objects.remove(key) {
            self.push(&mut state, Event::new(revision, Change::Delete(before)));
        }
    }

    /// Number of objects.
    #[must_use]
    pub fn len(&self) -> usize {
        self.state.read().objects.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Differs whenever an object does.
    #[must_use]
    pub fn version(&self) -> (u64, i64) {
        let state = self.state.read();
        (state.first + state.events.len() as u64, state.since)
    }

    fn push(&self, state: &mut State, event: Event) {
        state.last = event.revision;
        let position = state.first + state.events.len() as u64;
        let event = Arc::new(event);
        state.push(Arc::clone(&event));
        self.interests.tell(&event.change, position, WINDOW_EVENTS_MAX);
    }

    /// The events after `revision` that are of interest, and all that come.
    ///
    /// # Errors
    /// Some of them have left the window.
    pub fn subscribe(self: &Arc<Self>, interest: Interest, revision: i64) -> Result<Subscription, WindowError> {
        let state = self.state.read();
        if revision < state.since {
            return Err(WindowError::TooOld);
        }
        Ok(self.subscribe_within(&state, interest, revision))
    }

    /// The objects as they are, the revision at which they are so at least, and all events that come.
    #[must_use]
    pub fn snapshot_and_subscribe(self: &Arc<Self>, interest: Interest) -> (Snapshot, i64, Subscription) {
        let state = self.state.read();
        let subscription = self.subscribe_within(&state, interest, i64::MAX);
        (state.objects.clone(), state.last, subscription)
    }

    /// While the state is held no event can come in between.
    fn subscribe_within(self: &Arc<Self>, state: &State, interest: Interest, revision: i64) -> Subscription {
        let queue = Arc::new(Queue::default());
        let passed = state.events.partition_point(|event| event.revision <= revision);
        for (offset, event) in state.events.iter().enumerate().skip(passed) {
            if interest.wants(&event.change) {
                queue.push(state.first + offset as u64, WINDOW_EVENTS_MAX);
            }
        }
        let name = self.interests.add(&interest, &queue);
        Subscription { cache: Arc::clone(self), interest, name, queue }
    }

    /// How often a watcher was told of an event: what writes have cost by being watched.
    #[must_use]
    pub fn watchers_told(&self) -> u64 {
        self.interests.touched()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<CachedObject>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects as they are now; later changes do not show in it.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.state.read().objects.clone()
    }

    /// All objects as they are now, and the revision of the last change.
    #[must_use]
    pub fn snapshot_and_revision(&self) -> (Snapshot, i64) {
        let state = self.state.read();
        (state.objects.clone(), state.last)
    }

    /// All objects as they were at a revision, if that is how they still are; `complete` is the revision up to which
    /// everything has been heard.
    #[must_use]
    pub fn snapshot_at(&self, revision: i64, complete: i64) -> Option<Snapshot> {
        let state = self.state.read();
        (state.last..=complete).contains(&revision).then(|| state.objects.clone())
    }

    /// The snapshot that was kept for a list in pages.
    #[must_use]
    pub fn kept(&self, revision: i64) -> Option<Snapshot> {
        let pages = self.pages.lock();
        let mut fresh = pages.iter().filter(|(_, since, _)| since.elapsed() < PAGES_KEPT);
        fresh.find(|(kept, _, _)| *kept == revision).map(|(_, _, snapshot)| snapshot.clone())
    }

    /// Keeps a snapshot for a while, because a list in pages will come back to it.
    pub fn keep(&self, revision: i64, snapshot: &Snapshot) {
        let mut pages = self.pages.lock();
        pages.retain(|(_, since, _)| since.elapsed() < PAGES_KEPT);
        // A token does not live for ever by being used: the snapshot is as old as the list.
        if pages.iter().any(|(kept, _, _)| *kept == revision) {
            return;
        }
        while pages.len() >= PAGES_MAX {
            pages.pop_front();
        }
        pages.push_back((revision, Instant::now(), snapshot.clone()));
    }

    /// All objects and the position after their last change.
    #[must_use]
    pub fn snapshot_and_window(&self) -> (Snapshot, Window) {
        let state = self.state.read();
        (state.objects.clone(), Window { next: state.first + state.events.len() as u64 })
    }

    /// The position after `revision`.
    pub fn window_after(&self, revision: i64) -> Result<Window, WindowError> {
        let state = self.state.read();
        if revision < state.since {
            return Err(WindowError::TooOld);
        }
        let passed = state.events.partition_point(|event| event.revision <= revision);
        Ok(Window { next: state.first + passed as u64 })
    }

    /// Up to `limit` events from a position on, which moves past them.
    pub fn read(&self, window: &mut Window, limit: usize) -> Result<Vec<Arc<Event>>, WindowError> {
        let state = self.state.read();
        let Some(skip) = window.next.checked_sub(state.first) else { return Err(WindowError::TooOld) };
        let events: Vec<_> = state.events.iter().skip(usize::try_from(skip).unwrap_or(usize::MAX)).take(limit).cloned().collect();
        window.next += events.len() as u64;
        Ok(events)
    }
}

impl State {
    fn push(&mut self, event: Arc<Event>) {
        self.bytes += event.weight();
        self.events.push_back(event);
        while self.events.len() > WINDOW_EVENTS_MAX || self.bytes > WINDOW_BYTES_MAX && self.events.len() > 1 {
            if let Some(old) = self.events.pop_front() {
                self.first += 1;
                self.bytes -= old.weight();
                self.since = old.revision;
            }
        }
    }
}

#[cfg(test)]
mod tests;
