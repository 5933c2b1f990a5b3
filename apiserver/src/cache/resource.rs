//! One resource: its objects in order of their keys, and a window of its recent events.

use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
};

use bytes::Bytes;
use imbl::OrdMap;
use kontiki_api::{
    object::{Encoded, Header, ObjectError},
    protobuf::encode as protobuf,
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
};
use parking_lot::RwLock;

/// Most events that a window holds.
const WINDOW_EVENTS_MAX: usize = 4096;
/// Most bytes of objects that a window keeps alive.
const WINDOW_BYTES_MAX: usize = 8 << 20;

/// An object as the cache holds it.
#[derive(Debug)]
pub struct CachedObject {
    /// Key in the store.
    pub key: Arc<str>,
    /// The bytes that clients get.
    pub encoded: Encoded,
    /// What selectors look at.
    pub header: Header,
    /// Values of the kind's selectable fields, in the strategy's order.
    pub fields: Vec<String>,
    /// Revision of its last change.
    pub revision: i64,
    protobuf: OnceLock<Option<Bytes>>,
}

impl CachedObject {
    /// Its protobuf message, without the envelope; made on first use. `None` for a kind that has none.
    #[must_use]
    pub fn protobuf(&self, resource: &Resource) -> Option<Bytes> {
        let encode = || protobuf::message(resource.type_()?, &self.encoded.value());
        self.protobuf.get_or_init(encode).clone()
    }

    /// Whether selectors select it.
    #[must_use]
    pub fn selected(&self, resource: &Resource, labels: &LabelSelector, fields: &FieldSelector) -> bool {
        let value_of = |path: &str| match path {
            "metadata.name" => self.header.name.as_str(),
            "metadata.namespace" => self.header.namespace.as_str(),
            other => {
                let position = resource.stored().strategy.selectable_fields().iter().position(|field| *field == other);
                position.and_then(|index| self.fields.get(index)).map_or("", String::as_str)
            }
        };
        labels.matches(&self.header.labels) && fields.matches(value_of)
    }
}

/// Decodes stored bytes into what the cache holds.
pub fn decode_object(resource: &Resource, key: &str, stored: &[u8], revision: i64) -> Result<CachedObject, ObjectError> {
    let encoded = Encoded::from_stored(stored, revision)?;
    let header = Header::decode(&encoded.bytes())?;
    let paths = resource.strategy.selectable_fields();
    let fields = if paths.is_empty() {
        Vec::new()
    } else {
        let value = encoded.value();
        paths.iter().map(|path| resource.strategy.field_value(&value, path)).collect()
    };
    Ok(CachedObject { key: key.into(), encoded, header, fields, revision, protobuf: OnceLock::new() })
}

/// What happened to an object.
#[derive(Clone, Debug)]
pub enum Change {
    /// It was created or changed; the object as it was before, if it was there.
    Put(Arc<CachedObject>, Option<Arc<CachedObject>>),
    /// It was removed; the object as it was last.
    Delete(Arc<CachedObject>),
}

/// One event of a window.
#[derive(Clone, Debug)]
pub struct Event {
    /// Revision of the change.
    pub revision: i64,
    /// What happened.
    pub change: Change,
}

impl Event {
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
    objects: OrdMap<Arc<str>, Arc<CachedObject>>,
    events: VecDeque<Arc<Event>>,
    /// Sequence number of the first event in `events`.
    first: u64,
    bytes: usize,
    /// Every event after this revision is in the window.
    since: i64,
}

/// One resource.
pub struct ResourceCache {
    /// Which resource.
    pub resource: &'static Resource,
    /// Prefix of its keys in the store, with a slash at the end.
    pub prefix: String,
    state: RwLock<State>,
}

impl ResourceCache {
    /// An empty cache.
    #[must_use]
    pub fn new(resource: &'static Resource, prefix: String) -> Self {
        Self { resource, prefix, state: RwLock::default() }
    }

    /// Begins anew with what the store holds at `revision`.
    pub(super) fn reset(&self, objects: Vec<CachedObject>, revision: i64) {
        let mut state = self.state.write();
        state.objects = objects.into_iter().map(|object| (Arc::clone(&object.key), Arc::new(object))).collect();
        state.first += state.events.len() as u64;
        state.events.clear();
        state.bytes = 0;
        state.since = revision;
    }

    pub(super) fn put(&self, object: CachedObject) {
        let object = Arc::new(object);
        let mut state = self.state.write();
        let before = state.objects.insert(Arc::clone(&object.key), Arc::clone(&object));
        let revision = object.revision;
        state.push(Event { revision, change: Change::Put(object, before) });
    }

    pub(super) fn delete(&self, key: &str, revision: i64) {
        let mut state = self.state.write();
        if let Some(before) = state.objects.remove(key) {
            state.push(Event { revision, change: Change::Delete(before) });
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

    /// One object.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<Arc<CachedObject>> {
        self.state.read().objects.get(key).cloned()
    }

    /// All objects as they are now; later changes do not show in it.
    #[must_use]
    pub fn snapshot(&self) -> OrdMap<Arc<str>, Arc<CachedObject>> {
        self.state.read().objects.clone()
    }

    /// All objects and the position after their last change.
    #[must_use]
    pub fn snapshot_and_window(&self) -> (OrdMap<Arc<str>, Arc<CachedObject>>, Window) {
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
    fn push(&mut self, event: Event) {
        self.bytes += event.weight();
        self.events.push_back(Arc::new(event));
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use kontiki_api::registry;

    fn cache() -> ResourceCache {
        ResourceCache::new(registry::find("", "v1", "configmaps").unwrap(), "/registry/configmaps/".into())
    }

    fn put(cache: &ResourceCache, name: &str, revision: i64) {
        let stored = format!(r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"a"}}}}"#);
        cache.put(decode_object(cache.resource, &format!("/registry/configmaps/a/{name}"), stored.as_bytes(), revision).unwrap());
    }

    #[test]
    fn a_position_sees_each_later_event_once() {
        let cache = cache();
        put(&cache, "x", 5);
        let mut window = cache.window_after(5).unwrap();
        put(&cache, "y", 6);
        cache.delete("/registry/configmaps/a/x", 7);
        let events = cache.read(&mut window, 10).unwrap();
        assert_eq!(events.iter().map(|event| event.revision).collect::<Vec<_>>(), [6, 7]);
        assert!(cache.read(&mut window, 10).unwrap().is_empty());
        assert!(cache.get("/registry/configmaps/a/x").is_none());
    }

    #[test]
    fn what_has_left_the_window_is_too_old() {
        let cache = cache();
        let mut slow = cache.window_after(0).unwrap();
        for revision in 1..=(WINDOW_EVENTS_MAX as i64 + 1) {
            put(&cache, "x", revision);
        }
        assert_eq!(cache.read(&mut slow, 1).unwrap_err(), WindowError::TooOld);
        assert_eq!(cache.window_after(0).unwrap_err(), WindowError::TooOld);
        assert!(cache.window_after(1).is_ok());
    }

    #[test]
    fn a_snapshot_does_not_move() {
        let cache = cache();
        put(&cache, "x", 1);
        let before = cache.snapshot();
        put(&cache, "y", 2);
        assert_eq!((before.len(), cache.snapshot().len()), (1, 2));
    }
}
