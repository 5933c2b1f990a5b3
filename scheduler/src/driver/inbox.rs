//! What the reflectors say, until the scheduler has time for it: per object the newest state alone, so that what
//! waits is bounded by what there is.

use std::{collections::HashMap, sync::Arc};

use kontiki_api::resources::ResourceKey;
use kontiki_client::{
    Client,
    reflector::{Change, ObjectKey, Reflector, ReflectorOptions},
};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// News of one kind of objects.
pub struct Inbox<T> {
    news: Arc<Mutex<HashMap<ObjectKey, Option<Arc<T>>>>>,
    reflector: Reflector<T>,
}

impl<T: DeserializeOwned + Send + Sync + 'static> Inbox<T> {
    /// Follows a resource; `notify` is called at every change.
    pub fn open(client: &Client, key: ResourceKey, notify: &Arc<Notify>, cancel: &CancellationToken) -> Self {
        let news: Arc<Mutex<HashMap<ObjectKey, Option<Arc<T>>>>> = Arc::default();
        let (inbox, notify) = (Arc::clone(&news), Arc::clone(notify));
        let on_change = move |change: &Change<T>| {
            inbox.lock().insert(change.key.clone(), change.new.clone());
            notify.notify_one();
        };
        let reflector = Reflector::start(client.clone(), key, ReflectorOptions::default(), on_change, cancel.clone());
        Self { news, reflector }
    }

    /// Takes the news.
    pub fn take(&self) -> HashMap<ObjectKey, Option<Arc<T>>> {
        std::mem::take(&mut *self.news.lock())
    }

    /// Waits until the first list is there.
    pub async fn synced(&self) {
        self.reflector.synced().await;
    }
}
