//! watch: the state a client lacks, then every change, then bookmarks; never a gap, never twice.
//!
//! A watcher hears from the cache's index what concerns it. What has left the cache's window, because the watch begins
//! long ago or the client is slow, comes from the store's history; once it has caught up, from the cache again.
//! <https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes>

mod frames;
pub mod limit;
mod options;
mod websocket;

use std::{ops::Bound, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Response, StatusCode};
use kontiki_api::{
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
};
use kontiki_proto::{etcdserverpb as pb, mvccpb};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use self::{
    frames::Frames,
    options::{Options, Start},
};
use super::encode;
use crate::{
    cache::{CachedObject, Change, Event, Interest, ReadError, ResourceCache, Subscription, decode_object},
    limits::{BOOKMARK_PERIOD, WATCH_BATCH, WATCH_QUEUE},
    negotiate,
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Storage, keys},
};

/// Message of a watch that begins before what history is left.
const TOO_OLD: &str = "too old resource version";
/// A last bookmark is sent this long before a watch ends, so that the next one begins near its end.
const LAST_BOOKMARK: Duration = Duration::from_secs(2);

/// The client went away, time is up, or history is gone: the watch ends.
struct Ended;

struct Watch {
    storage: Storage,
    cache: Arc<ResourceCache>,
    resource: &'static Resource,
    prefix: String,
    interest: Interest,
    labels: LabelSelector,
    fields: FieldSelector,
    frames: Frames,
    bookmarks: bool,
    deadline: Instant,
    sender: mpsc::Sender<Bytes>,
    /// Everything up to this revision was sent, or concerns this client not.
    reached: i64,
}

/// watch.
pub async fn run(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let info = &call.info;
    let accepted = negotiate::accept_stream(&call.headers)?;
    let options = Options::of(resource, info)?;
    let cache = server.storage.caches.of(resource).ok_or_else(Status::no_such_path)?;
    let place = limit::take(&server.watches, &call.user.name)?;
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    let namespace = info.namespace_of(resource);
    let watch = Watch {
        storage: server.storage.clone(),
        cache: Arc::clone(&cache),
        resource,
        prefix: keys::collection(resource, namespace),
        interest: interest(resource, namespace, &options.fields),
        labels: options.labels,
        fields: options.fields,
        frames: Frames::new(resource, accepted.clone(), encode::include_object(info)?),
        bookmarks: options.bookmarks,
        deadline: Instant::now() + options.timeout,
        sender,
        reached: 0,
    };
    let state = matches!(options.start, Start::Newest { state: true, .. } | Start::NotOlderThan { state: true, .. });
    match options.start {
        // A client that names no version wants what is true now, not what this member last heard.
        Start::Newest { .. } => {
            server.storage.catch_up().await?;
        }
        Start::NotOlderThan { version, .. } => server.storage.wait_for(version.max(1)).await?,
        Start::After(_) => {}
    }
    if state {
        server.storage.all_readable(resource, &watch.prefix)?;
    }
    let socket = websocket::offered(call)?;
    let shutdown = server.shutdown.clone();
    let mut cut_off = server.storage.cut_off.clone();
    let start = options.start;
    tokio::spawn(async move {
        let _place = place;
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = cache.closed.cancelled() => {}
            _ = cut_off.wait_for(|cut_off| *cut_off) => {}
            _ = watch.follow(start) => {}
        }
    });
    if let Some(socket) = socket {
        return Ok(socket.serve(receiver, &accepted));
    }
    let body = response::stream(ReceiverStream::new(receiver));
    Ok(response::with_body(StatusCode::OK, frames::media_type(&accepted), body))
}

/// The narrowest set of objects that the index knows and that has all that a watch selects.
fn interest(resource: &Resource, namespace: &str, fields: &FieldSelector) -> Interest {
    let whole = namespace.is_empty();
    if let Some(name) = fields.required("metadata.name").filter(|_| !whole || !resource.key.namespaced) {
        return Interest::Object(keys::object(resource, namespace, name));
    }
    let selectable = resource.stored().strategy.selectable_fields().iter().enumerate();
    let field = selectable.filter_map(|(index, path)| Some((index, fields.required(path)?))).next();
    match field {
        Some((index, value)) => Interest::Field(index, value.to_owned()),
        None if whole => Interest::Everything,
        None => Interest::Namespace(keys::collection(resource, namespace)),
    }
}

impl Watch {
    async fn follow(mut self, start: Start) -> Result<(), Ended> {
        let mut subscription = match start {
            Start::Newest { state, end_mark } | Start::NotOlderThan { state, end_mark, .. } => {
                Some(self.begin(state, end_mark).await?)
            }
            Start::After(version) => {
                self.reached = version;
                self.cache.subscribe(self.interest.clone(), version).ok()
            }
        };
        loop {
            subscription = match subscription {
                Some(subscription) => {
                    self.follow_cache(&subscription).await?;
                    None
                }
                None => Some(self.follow_history().await?),
            };
        }
    }

    /// Sends the state, if that is asked for.
    async fn begin(&mut self, state: bool, end_mark: bool) -> Result<Subscription, Ended> {
        let complete = self.storage.caches.current_revision();
        let (objects, last, subscription) = self.cache.snapshot_and_subscribe(self.interest.clone());
        if state {
            let prefix = self.prefix.clone();
            let from = objects.range::<_, str>((Bound::Included(prefix.as_str()), Bound::Unbounded));
            for (_, object) in from.take_while(|(key, _)| key.starts_with(&prefix)) {
                let object = if self.looks_inside() { self.served(object).await? } else { Arc::clone(object) };
                if object.selected(self.resource, &self.labels, &self.fields) {
                    let object = self.served(&object).await?;
                    let frame = self.frames.state(&object);
                    self.send(frame).await?;
                }
            }
        }
        self.reached = complete.max(last);
        if end_mark {
            let frame = self.frames.bookmark(self.reached, true);
            self.send(frame).await?;
        }
        Ok(subscription)
    }

    /// Sends events as the cache hears of them, until some have left its window.
    async fn follow_cache(&mut self, subscription: &Subscription) -> Result<(), Ended> {
        let mut next_bookmark = Instant::now() + BOOKMARK_PERIOD.mul_f64(rand::random_range(0.5..1.0));
        next_bookmark = next_bookmark.min(self.last_bookmark());
        loop {
            // What is in the queue now includes everything up to this revision.
            let complete = self.storage.caches.current_revision();
            loop {
                let Ok(events) = subscription.take(WATCH_BATCH) else { return Ok(()) };
                if events.is_empty() {
                    break;
                }
                for event in &events {
                    self.send_event(event).await?;
                }
            }
            self.reached = self.reached.max(complete);
            let now = Instant::now();
            if self.bookmarks && now >= next_bookmark {
                let frame = self.frames.bookmark(self.reached, false);
                self.send(frame).await?;
                next_bookmark = now + BOOKMARK_PERIOD;
                if now < self.last_bookmark() {
                    next_bookmark = next_bookmark.min(self.last_bookmark());
                }
            }
            tokio::select! {
                () = subscription.filled() => {}
                () = tokio::time::sleep_until(next_bookmark), if self.bookmarks => {}
                () = tokio::time::sleep_until(self.deadline) => return Err(Ended),
                () = self.sender.closed() => return Err(Ended),
            }
        }
    }

    fn last_bookmark(&self) -> Instant {
        self.deadline.checked_sub(LAST_BOOKMARK).unwrap_or(self.deadline)
    }

    /// Sends changes out of the store's history, until the cache's window has the next one.
    async fn follow_history(&mut self) -> Result<Subscription, Ended> {
        let (key, range_end) = match &self.interest {
            Interest::Object(key) => (key.as_str(), Bytes::new()),
            _ => (self.prefix.as_str(), keys::range_end(&self.prefix)),
        };
        let request = pb::WatchCreateRequest {
            key: Bytes::copy_from_slice(key.as_bytes()),
            range_end,
            start_revision: self.reached + 1,
            prev_kv: true,
            ..pb::WatchCreateRequest::default()
        };
        let Ok(mut events) = self.storage.kv.watch(request).await else {
            return self.end_with(&Status::service_unavailable("the store does not answer")).await;
        };
        loop {
            let response = tokio::select! {
                response = events.recv() => response.ok_or(Ended)?,
                () = tokio::time::sleep_until(self.deadline) => return Err(Ended),
                () = self.sender.closed() => return Err(Ended),
            };
            if response.canceled {
                let message = format!("{TOO_OLD}: {} ({})", self.reached, response.compact_revision);
                return self.end_with(&Status::expired(message)).await;
            }
            for event in &response.events {
                match self.decode(event) {
                    Ok(Some(event)) => self.send_event(&event).await?,
                    Ok(None) => {}
                    Err(why) => return self.end_with(&Status::internal_error(why)).await,
                }
            }
            if let Ok(subscription) = self.cache.subscribe(self.interest.clone(), self.reached) {
                return Ok(subscription);
            }
        }
    }

    /// An event of the store's history; none of what is no object.
    ///
    /// # Errors
    /// The object cannot be decrypted: who watches has to list, and is told why there too.
    fn decode(&self, event: &mvccpb::Event) -> Result<Option<Event>, String> {
        let Some(pair) = &event.kv else { return Ok(None) };
        let Ok(key) = std::str::from_utf8(&pair.key) else { return Ok(None) };
        let object = |pair: &mvccpb::KeyValue| match decode_object(
            &self.storage.encryption,
            self.resource.stored(),
            key,
            &pair.value,
            pair.mod_revision,
        ) {
            Ok(object) => Ok(Some(Arc::new(object))),
            Err(ReadError::Sealed(why)) => Err(why),
            Err(ReadError::Malformed(_)) => Ok(None),
        };
        let before = event.prev_kv.as_ref().map(object).transpose()?.flatten();
        let change = if event.r#type == mvccpb::event::EventType::Put as i32 {
            object(pair)?.map(|object| Change::Put(object, before))
        } else {
            before.map(Change::Delete)
        };
        Ok(change.map(|change| Event::new(pair.mod_revision, change)))
    }

    async fn send_event(&mut self, event: &Event) -> Result<(), Ended> {
        // History and cache overlap where the one takes over from the other.
        if event.revision <= self.reached {
            return Ok(());
        }
        self.reached = event.revision;
        let selected = |object: &Arc<CachedObject>| {
            object.key.starts_with(&self.prefix) && object.selected(self.resource, &self.labels, &self.fields)
        };
        if self.resource.strategy.custom().is_some() {
            return self.send_custom(event).await;
        }
        let frame = match &event.change {
            Change::Put(object, before) => match (selected(object), before.as_ref().is_some_and(selected)) {
                (true, false) => self.frames.change(event, "ADDED", object),
                (true, true) => self.frames.change(event, "MODIFIED", object),
                // It is no longer selected: to this client it is gone, and looks as it did.
                (false, true) => {
                    let Some(before) = before else { return Ok(()) };
                    self.frames.deletion(event, before)
                }
                (false, false) => return Ok(()),
            },
            Change::Delete(before) if selected(before) => self.frames.deletion(event, before),
            Change::Delete(_) => return Ok(()),
        };
        self.send(frame).await
    }

    /// An event of a custom resource, whose objects are served in several versions: the frame is this watcher's own.
    async fn send_custom(&mut self, event: &Event) -> Result<(), Ended> {
        let change = if self.looks_inside() { self.served_change(&event.change).await? } else { event.change.clone() };
        let selected = |object: &Arc<CachedObject>| {
            object.key.starts_with(&self.prefix) && object.selected(self.resource, &self.labels, &self.fields)
        };
        let (event_type, object) = match &change {
            Change::Put(object, before) => match (selected(object), before.as_ref().filter(|before| selected(before))) {
                (true, None) => ("ADDED", object),
                (true, Some(_)) => ("MODIFIED", object),
                (false, Some(before)) => ("DELETED", before),
                (false, None) => return Ok(()),
            },
            Change::Delete(before) if selected(before) => ("DELETED", before),
            Change::Delete(_) => return Ok(()),
        };
        let object = self.served(object).await?;
        let frame = self.frames.own(event, event_type, &object);
        self.send(frame).await
    }

    /// An object as this watch's version of its resource has it.
    /// Whether the selector names fields of a custom resource, which each of its versions may have elsewhere.
    fn looks_inside(&self) -> bool {
        self.resource.strategy.custom().is_some() && self.fields.looks_inside()
    }

    async fn served_change(&mut self, change: &Change) -> Result<Change, Ended> {
        Ok(match change {
            Change::Put(object, before) => {
                let before = match before {
                    Some(before) => Some(self.served(before).await?),
                    None => None,
                };
                Change::Put(self.served(object).await?, before)
            }
            Change::Delete(before) => Change::Delete(self.served(before).await?),
        })
    }

    async fn served(&mut self, object: &Arc<CachedObject>) -> Result<Arc<CachedObject>, Ended> {
        match self.storage.serve_one(self.resource, Arc::clone(object)).await {
            Ok(object) => Ok(object),
            Err(status) => self.end_with(&status).await,
        }
    }

    async fn end_with<T>(&mut self, status: &Status) -> Result<T, Ended> {
        let frame = self.frames.error(status);
        self.send(frame).await?;
        Err(Ended)
    }

    async fn send(&self, frame: Bytes) -> Result<(), Ended> {
        self.sender.send(frame).await.map_err(|_| Ended)
    }
}
