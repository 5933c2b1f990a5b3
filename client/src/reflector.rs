//! A local picture of a collection that follows the server: list, then watch, then again.
//!
//! The picture holds projections: `T` decodes only what its consumer needs. Whoever wants to know
//! of changes is called back, in order, after the picture has changed; the call must not block.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use kontiki_api::resources::ResourceKey;
use parking_lot::RwLock;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::value::RawValue;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::{
    client::Client,
    error::Error,
    params::{List, ListParams},
    watch::{WatchEvent, WatchParams},
};

/// Objects of one page of a list.
const PAGE: u32 = 500;
/// First and longest wait after a failure.
const RETRY: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));
/// Seconds after which a watch is begun anew; jittered up to twice this.
const WATCH_SECONDS: u32 = 300;

/// Namespace and name of an object; the namespace is empty where there is none.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
}

impl ObjectKey {
    /// A key.
    #[must_use]
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }
}

impl std::fmt::Display for ObjectKey {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.namespace.is_empty() {
            formatter.write_str(&self.name)
        } else {
            write!(formatter, "{}/{}", self.namespace, self.name)
        }
    }
}

/// What became of one object.
#[derive(Clone, Debug)]
pub struct Change<T> {
    /// Which object.
    pub key: ObjectKey,
    /// As it was; `None` if it is new.
    pub old: Option<Arc<T>>,
    /// As it is; `None` if it is gone.
    pub new: Option<Arc<T>>,
}

/// What to follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ReflectorOptions {
    /// Namespace; empty for all.
    pub namespace: String,
    /// Label selector; empty for all.
    pub label_selector: String,
    /// Field selector; empty for all.
    pub field_selector: String,
}

/// A local picture. Cheap to clone.
pub struct Reflector<T> {
    picture: Arc<RwLock<Picture<T>>>,
    synced: watch::Receiver<bool>,
}

impl<T> Clone for Reflector<T> {
    fn clone(&self) -> Self {
        Self { picture: Arc::clone(&self.picture), synced: self.synced.clone() }
    }
}

struct Entry<T> {
    object: Arc<T>,
    resource_version: String,
}

/// Words under which an object is found besides its name.
pub type Index<T> = fn(&T) -> Vec<String>;

struct Picture<T> {
    objects: BTreeMap<ObjectKey, Entry<T>>,
    index: Index<T>,
    words: HashMap<String, BTreeSet<ObjectKey>>,
}

impl<T> Picture<T> {
    fn new(index: Index<T>) -> Self {
        Self { objects: BTreeMap::new(), index, words: HashMap::new() }
    }

    /// Puts an entry in, or takes one out; returns what was there.
    fn replace(&mut self, key: &ObjectKey, entry: Option<Entry<T>>) -> Option<Arc<T>> {
        let fresh = entry.as_ref().map(|entry| (self.index)(&entry.object)).unwrap_or_default();
        let old = match entry {
            Some(entry) => self.objects.insert(key.clone(), entry),
            None => self.objects.remove(key),
        };
        let old = old.map(|entry| entry.object);
        for word in old.as_deref().map(self.index).unwrap_or_default() {
            if let Some(keys) = self.words.get_mut(&word) {
                keys.remove(key);
                if keys.is_empty() {
                    self.words.remove(&word);
                }
            }
        }
        for word in fresh {
            self.words.entry(word).or_default().insert(key.clone());
        }
        old
    }
}

/// A picture's follower that has not begun: listeners may want to read the picture they are told about.
pub struct Prepared<T> {
    client: Client,
    key: ResourceKey,
    options: ReflectorOptions,
    picture: Arc<RwLock<Picture<T>>>,
    synced: watch::Sender<bool>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Prepared<T> {
    /// Begins to follow; ends with `cancel`.
    pub fn start(self, on_change: impl Fn(&Change<T>) + Send + Sync + 'static, cancel: CancellationToken) {
        let Self { client, key, options, picture, synced } = self;
        let follower = Follower { client, key, options, picture, on_change: Box::new(on_change), synced };
        tokio::spawn(async move {
            tokio::select! {
                () = cancel.cancelled() => {}
                () = follower.run() => {}
            }
        });
    }
}

impl<T: DeserializeOwned + Send + Sync + 'static> Reflector<T> {
    /// Begins to follow; ends with `cancel`.
    pub fn start(
        client: Client,
        key: ResourceKey,
        options: ReflectorOptions,
        on_change: impl Fn(&Change<T>) + Send + Sync + 'static,
        cancel: CancellationToken,
    ) -> Self {
        let (reflector, prepared) = Self::prepare(client, key, options, |_| Vec::new());
        prepared.start(on_change, cancel);
        reflector
    }

    /// An empty picture and what will follow; `index` says under which words objects are found.
    #[must_use]
    pub fn prepare(client: Client, key: ResourceKey, options: ReflectorOptions, index: Index<T>) -> (Self, Prepared<T>) {
        let picture = Arc::new(RwLock::new(Picture::new(index)));
        let (sender, synced) = watch::channel(false);
        let prepared = Prepared { client, key, options, picture: Arc::clone(&picture), synced: sender };
        (Self { picture, synced }, prepared)
    }

    /// A picture that follows nothing, for tests of what reads one.
    #[must_use]
    pub fn fixed(objects: impl IntoIterator<Item = (ObjectKey, T)>) -> Self {
        let mut picture = Picture::new(|_| Vec::new());
        for (key, object) in objects {
            picture.replace(&key, Some(Entry { object: Arc::new(object), resource_version: String::new() }));
        }
        Self { picture: Arc::new(RwLock::new(picture)), synced: watch::channel(true).1 }
    }

    /// One object.
    #[must_use]
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<T>> {
        let key = ObjectKey::new(namespace, name);
        self.picture.read().objects.get(&key).map(|entry| Arc::clone(&entry.object))
    }

    /// All objects of a namespace, in order of their names.
    #[must_use]
    pub fn in_namespace(&self, namespace: &str) -> Vec<Arc<T>> {
        let picture = self.picture.read();
        let from = picture.objects.range(ObjectKey::new(namespace, "")..);
        let near = from.take_while(|(key, _)| *key.namespace == *namespace);
        near.map(|(_, entry)| Arc::clone(&entry.object)).collect()
    }

    /// All objects that the index lists under a word.
    #[must_use]
    pub fn indexed(&self, word: &str) -> Vec<Arc<T>> {
        let picture = self.picture.read();
        let keys = picture.words.get(word).into_iter().flatten();
        keys.filter_map(|key| picture.objects.get(key)).map(|entry| Arc::clone(&entry.object)).collect()
    }

    /// All objects, in order of their keys.
    #[must_use]
    pub fn list(&self) -> Vec<Arc<T>> {
        self.picture.read().objects.values().map(|entry| Arc::clone(&entry.object)).collect()
    }

    /// All objects with their keys, in order.
    #[must_use]
    pub fn entries(&self) -> Vec<(ObjectKey, Arc<T>)> {
        self.picture.read().objects.iter().map(|(key, entry)| (key.clone(), Arc::clone(&entry.object))).collect()
    }

    /// Waits until the first list is in the picture. Returns at once if nothing follows any more.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        let _ = synced.wait_for(|synced| *synced).await;
    }

    /// Whether the first list is in the picture.
    #[must_use]
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }
}

/// Called after the picture has changed; must not block.
type OnChange<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;

struct Follower<T> {
    client: Client,
    key: ResourceKey,
    options: ReflectorOptions,
    picture: Arc<RwLock<Picture<T>>>,
    on_change: OnChange<T>,
    synced: watch::Sender<bool>,
}

#[derive(Deserialize)]
struct Head {
    metadata: HeadMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    resource_version: String,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Follower<T> {
    async fn run(self) {
        let mut delay = RETRY.0;
        loop {
            match self.list_and_watch(&mut delay).await {
                Ok(()) => {}
                Err(error) if error.is_gone() => tracing::debug!(resource = self.key.plural, "history is gone, listing again"),
                Err(error) => {
                    tracing::debug!(resource = self.key.plural, %error, "following failed, retrying");
                }
            }
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            delay = (delay * 2).min(RETRY.1);
        }
    }

    /// Returns only when the next list is due: on an error, or when history is gone.
    async fn list_and_watch(&self, delay: &mut Duration) -> Result<(), Error> {
        let mut version = self.relist().await?;
        self.synced.send_replace(true);
        *delay = RETRY.0;
        loop {
            match self.watch(&mut version).await {
                // The server ended the watch, or went away: what was seen stays true.
                Ok(()) => *delay = RETRY.0,
                Err(Error::Transport { .. } | Error::Timeout { .. } | Error::Decode { .. }) => {}
                Err(Error::Status(status)) if matches!(status.code, 429 | 500 | 503 | 504) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep(delay.mul_f64(rand::random_range(0.5..1.0))).await;
            *delay = (*delay * 2).min(RETRY.1);
        }
    }

    async fn relist(&self) -> Result<String, Error> {
        let mut params = ListParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            limit: PAGE,
            ..ListParams::default()
        };
        let mut seen = HashMap::new();
        loop {
            let page: List<Box<RawValue>> = self.client.list(self.key, &self.options.namespace, &params).await?;
            for object in page.items {
                let (key, entry) = self.decode(object.get().as_bytes())?;
                seen.insert(key, entry);
            }
            if page.metadata.continue_token.is_empty() {
                self.replace(seen);
                return Ok(page.metadata.resource_version);
            }
            params.continue_token = page.metadata.continue_token;
        }
    }

    /// Takes a whole list in: what it lacks is gone, what has another version has changed.
    fn replace(&self, mut seen: HashMap<ObjectKey, Entry<T>>) {
        let known: Vec<_> = self.picture.read().objects.keys().cloned().collect();
        for key in known {
            if !seen.contains_key(&key) {
                self.apply(key, None);
            }
        }
        for (key, entry) in seen.drain() {
            let unchanged =
                self.picture.read().objects.get(&key).is_some_and(|old| old.resource_version == entry.resource_version);
            if !unchanged {
                self.apply(key, Some(entry));
            }
        }
    }

    async fn watch(&self, version: &mut String) -> Result<(), Error> {
        let params = WatchParams {
            label_selector: self.options.label_selector.clone(),
            field_selector: self.options.field_selector.clone(),
            resource_version: version.clone(),
            timeout_seconds: rand::random_range(WATCH_SECONDS..2 * WATCH_SECONDS),
        };
        let mut events = self.client.watch(self.key, &self.options.namespace, &params).await?;
        while let Some(event) = events.next().await? {
            match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let (key, entry) = self.decode(&object)?;
                    version.clone_from(&entry.resource_version);
                    self.apply(key, Some(entry));
                }
                WatchEvent::Deleted(object) => {
                    let head = self.head(&object)?;
                    *version = head.resource_version;
                    self.apply(ObjectKey { namespace: head.namespace, name: head.name }, None);
                }
                WatchEvent::Bookmark(object) => *version = self.head(&object)?.resource_version,
            }
        }
        Ok(())
    }

    fn apply(&self, key: ObjectKey, entry: Option<Entry<T>>) {
        let new = entry.as_ref().map(|entry| Arc::clone(&entry.object));
        let old = self.picture.write().replace(&key, entry);
        if old.is_some() || new.is_some() {
            (self.on_change)(&Change { key, old, new });
        }
    }

    fn head(&self, object: &[u8]) -> Result<HeadMeta, Error> {
        match serde_json::from_slice::<Head>(object) {
            Ok(head) => Ok(head.metadata),
            Err(error) => Err(Error::Decode { path: self.key.plural.to_owned(), message: error.to_string() }),
        }
    }

    fn decode(&self, object: &[u8]) -> Result<(ObjectKey, Entry<T>), Error> {
        let head = self.head(object)?;
        match serde_json::from_slice(object) {
            Ok(decoded) => {
                let entry = Entry { object: Arc::new(decoded), resource_version: head.resource_version };
                Ok((ObjectKey { namespace: head.namespace, name: head.name }, entry))
            }
            Err(error) => Err(Error::Decode { path: format!("{}/{}", self.key.plural, head.name), message: error.to_string() }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_are_found_by_namespace_and_by_word() {
        let mut picture = Picture::new(|value: &u32| vec![if value.is_multiple_of(2) { "even" } else { "odd" }.to_owned()]);
        let entry = |value: u32| Some(Entry { object: Arc::new(value), resource_version: String::new() });
        for (namespace, name, value) in [("a", "x", 1), ("b", "x", 2), ("b", "y", 3), ("c", "x", 4)] {
            picture.replace(&ObjectKey::new(namespace, name), entry(value));
        }
        picture.replace(&ObjectKey::new("c", "x"), entry(5));
        picture.replace(&ObjectKey::new("a", "x"), None);
        let reflector = Reflector { picture: Arc::new(RwLock::new(picture)), synced: watch::channel(true).1 };
        let values = |found: Vec<Arc<u32>>| found.into_iter().map(|value| *value).collect::<Vec<_>>();
        assert_eq!(values(reflector.in_namespace("b")), [2, 3]);
        assert_eq!(values(reflector.indexed("odd")), [3, 5]);
        assert_eq!(values(reflector.indexed("even")), [2]);
    }
}
