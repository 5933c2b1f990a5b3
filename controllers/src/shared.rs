//! One reflector for all controllers that look at a kind.
//!
//! Controllers say what they want to be told of before anything is followed; then it begins once.

use std::ops::Deref;

use futures::future::BoxFuture;
use kontiki_api::resources::ResourceKey;
use kontiki_client::{
    Client,
    reflector::{Change, Index, Prepared, Reflector, ReflectorOptions},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;

use crate::model::{Meta, Object};

type Listener<T> = Box<dyn Fn(&Change<T>) + Send + Sync>;
/// Told of the metadata before and after each change.
pub type MetaListener = Box<dyn Fn(Option<&Meta>, Option<&Meta>) + Send + Sync>;

/// What has not begun.
struct Idle<T> {
    prepared: Prepared<T>,
    listeners: Vec<Listener<T>>,
}

/// A reflector and those whom it tells.
pub struct Shared<T> {
    key: ResourceKey,
    reflector: Reflector<T>,
    idle: Mutex<Option<Idle<T>>>,
}

impl<T> Deref for Shared<T> {
    type Target = Reflector<T>;

    fn deref(&self) -> &Reflector<T> {
        &self.reflector
    }
}

impl<T: Object + DeserializeOwned> Shared<T> {
    /// A reflector of all objects of a kind.
    pub fn new(client: &Client, key: ResourceKey) -> Self {
        Self::with(client, key, ReflectorOptions::default(), |_| Vec::new())
    }

    /// A reflector of some objects of a kind, found by the words of an index.
    pub fn with(client: &Client, key: ResourceKey, options: ReflectorOptions, index: Index<T>) -> Self {
        let (reflector, prepared) = Reflector::prepare(client.clone(), key, options, index);
        Self { key, reflector, idle: Mutex::new(Some(Idle { prepared, listeners: Vec::new() })) }
    }

    /// Calls `listener` after each change; it must not block. Says nothing once following has begun.
    pub fn on_change(&self, listener: impl Fn(&Change<T>) + Send + Sync + 'static) {
        if let Some(idle) = self.idle.lock().as_mut() {
            idle.listeners.push(Box::new(listener));
        }
    }

    /// Calls `listener` with each version of an object that changed.
    pub fn on_version(&self, listener: impl Fn(&T) + Send + Sync + 'static) {
        self.on_change(move |change| change.old.iter().chain(&change.new).for_each(|object| listener(object)));
    }
}

/// A shared reflector of whatever kind.
pub trait Followed: Send + Sync {
    /// Which kind.
    fn key(&self) -> ResourceKey;
    /// Calls `listener` with the metadata before and after each change.
    fn on_meta(&self, listener: MetaListener);
    /// Begins to follow.
    fn start(&self, cancel: CancellationToken);
    /// Waits until the first list is there.
    fn synced(&self) -> BoxFuture<'_, ()>;
}

impl<T: Object + DeserializeOwned> Followed for Shared<T> {
    fn key(&self) -> ResourceKey {
        self.key
    }

    fn on_meta(&self, listener: MetaListener) {
        self.on_change(move |change| {
            listener(change.old.as_deref().map(Object::metadata), change.new.as_deref().map(Object::metadata));
        });
    }

    fn start(&self, cancel: CancellationToken) {
        if let Some(Idle { prepared, listeners }) = self.idle.lock().take() {
            prepared.start(move |change| listeners.iter().for_each(|listener| listener(change)), cancel);
        }
    }

    fn synced(&self) -> BoxFuture<'_, ()> {
        Box::pin(self.reflector.synced())
    }
}
