//! watch: the state a client lacks, then every change, then bookmarks; never a gap, never twice.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode};
use jiff::Timestamp;
use kontiki_api::{
    registry::Resource,
    selector::{FieldSelector, LabelSelector},
    status::Status,
    table::{self, IncludeObject},
};
use kontiki_proto::etcdserverpb as pb;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};
use tokio_stream::wrappers::ReceiverStream;

use super::{encode, read};
use crate::{
    cache::{CachedObject, Change, Event, ResourceCache, Window, decode_object},
    limits::{BOOKMARK_PERIOD, WATCH_BATCH, WATCH_QUEUE, WATCH_SECONDS},
    negotiate::{self, Form},
    response::{self, Body},
    service::{ApiServer, Call},
    storage::{Storage, keys},
};

/// Message of a watch that begins before what history is left.
const TOO_OLD: &str = "too old resource version";

/// The client went away, or history is gone: the watch ends.
struct Ended;

struct Watch {
    storage: Storage,
    cache: Arc<ResourceCache>,
    resource: &'static Resource,
    prefix: String,
    labels: LabelSelector,
    fields: FieldSelector,
    form: Form,
    include: IncludeObject,
    bookmarks: bool,
    deadline: Instant,
    sender: mpsc::Sender<Bytes>,
    columns_sent: bool,
}

/// watch.
pub async fn run(server: &ApiServer, call: &Call, resource: &'static Resource) -> Result<Response<Body>, Status> {
    let info = &call.info;
    let accepted = negotiate::accept(&call.headers)?;
    let (labels, fields) = read::selectors(resource, info)?;
    let version = read::parse_version(info.parameter("resourceVersion"))?;
    let is_true = |name: &str| matches!(info.parameter(name), "true" | "1");
    let initial = is_true("sendInitialEvents");
    if initial && info.parameter("resourceVersionMatch") != "NotOlderThan" {
        let message = "resourceVersionMatch: Forbidden: sendInitialEvents requires setting resourceVersionMatch to NotOlderThan";
        return Err(Status::bad_request(message));
    }
    let cache = server.storage.caches.of(resource).ok_or_else(Status::no_such_path)?;
    let seconds = match info.parameter("timeoutSeconds").parse::<u64>() {
        Ok(seconds) if seconds > 0 => seconds,
        _ => rand::random_range(WATCH_SECONDS..2 * WATCH_SECONDS),
    };
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE);
    let watch = Watch {
        storage: server.storage.clone(),
        cache: Arc::clone(cache),
        resource,
        prefix: keys::collection(resource, info.namespace_of(resource)),
        labels,
        fields,
        form: accepted.form,
        include: encode::include_object(info)?,
        bookmarks: is_true("allowWatchBookmarks"),
        deadline: Instant::now() + Duration::from_secs(seconds),
        sender,
        columns_sent: false,
    };
    // A client that names no version wants what is true now, not what this member last heard.
    if initial && version == 0 || info.parameter("resourceVersion").is_empty() {
        server.storage.catch_up().await?;
    } else {
        server.storage.wait_for(version.max(1)).await?;
    }
    let start = if version == 0 || initial { Start::State { end_mark: initial } } else { Start::After(version) };
    let shutdown = server.shutdown.clone();
    tokio::spawn(async move {
        tokio::select! {
            () = shutdown.cancelled() => {}
            _ = watch.follow(start) => {}
        }
    });
    let body = response::stream(ReceiverStream::new(receiver));
    Ok(response::with_body(StatusCode::OK, HeaderValue::from_static("application/json"), body))
}

enum Start {
    /// With the state as it is.
    State {
        /// Whether its end is marked.
        end_mark: bool,
    },
    /// With the changes after a version.
    After(i64),
}

impl Watch {
    async fn follow(mut self, start: Start) -> Result<(), Ended> {
        let window = match start {
            Start::State { end_mark } => self.send_state(end_mark).await?,
            Start::After(version) => match self.cache.window_after(version) {
                Ok(window) => window,
                Err(_) => return self.follow_history(version).await,
            },
        };
        self.follow_window(window).await
    }

    async fn send_state(&mut self, end_mark: bool) -> Result<Window, Ended> {
        let revision = self.storage.caches.current_revision();
        let (objects, window) = self.cache.snapshot_and_window();
        let mut newest = revision;
        for (key, object) in &objects {
            newest = newest.max(object.revision);
            if key.starts_with(&self.prefix) && object.selected(self.resource, &self.labels, &self.fields) {
                self.send("ADDED", object.encoded.bytes()).await?;
            }
        }
        if end_mark {
            self.send_bookmark(newest, true).await?;
        }
        Ok(window)
    }

    async fn follow_window(mut self, mut window: Window) -> Result<(), Ended> {
        let mut revision = self.storage.caches.revision();
        let mut next_bookmark = Instant::now() + BOOKMARK_PERIOD.mul_f64(rand::random_range(0.5..1.0));
        loop {
            // Everything up to this revision is in the window once it was announced.
            let complete = *revision.borrow_and_update();
            loop {
                let Ok(events) = self.cache.read(&mut window, WATCH_BATCH) else {
                    // Too slow for the window: a new list is cheaper for everybody.
                    self.send_error(&Status::expired(TOO_OLD)).await?;
                    return Ok(());
                };
                if events.is_empty() {
                    break;
                }
                for event in &events {
                    self.send_event(event).await?;
                }
            }
            let now = Instant::now();
            if self.bookmarks && now >= next_bookmark {
                self.send_bookmark(complete, false).await?;
                next_bookmark = now + BOOKMARK_PERIOD;
            }
            tokio::select! {
                changed = revision.changed() => changed.map_err(|_| Ended)?,
                () = tokio::time::sleep_until(next_bookmark), if self.bookmarks => {}
                () = tokio::time::sleep_until(self.deadline) => return Ok(()),
                () = self.sender.closed() => return Err(Ended),
            }
        }
    }

    /// Changes that have left the window come from the store.
    async fn follow_history(mut self, version: i64) -> Result<(), Ended> {
        let request = pb::WatchCreateRequest {
            key: Bytes::copy_from_slice(self.prefix.as_bytes()),
            range_end: keys::range_end(&self.prefix),
            start_revision: version + 1,
            prev_kv: true,
            ..pb::WatchCreateRequest::default()
        };
        let Ok(mut events) = self.storage.kv.watch(request).await else {
            return self.send_error(&Status::service_unavailable("the store does not answer")).await;
        };
        loop {
            let response = tokio::select! {
                response = events.recv() => response.ok_or(Ended)?,
                () = tokio::time::sleep_until(self.deadline) => return Ok(()),
                () = self.sender.closed() => return Err(Ended),
            };
            if response.canceled {
                let message = format!("{TOO_OLD}: {version} ({})", response.compact_revision);
                return self.send_error(&Status::expired(message)).await;
            }
            for event in &response.events {
                if let Some(event) = self.decode(event) {
                    self.send_event(&event).await?;
                }
            }
        }
    }

    fn decode(&self, event: &kontiki_proto::mvccpb::Event) -> Option<Event> {
        let pair = event.kv.as_ref()?;
        let key = std::str::from_utf8(&pair.key).ok()?;
        let object = |pair: &kontiki_proto::mvccpb::KeyValue| {
            decode_object(self.resource.stored(), key, &pair.value, pair.mod_revision).ok().map(Arc::new)
        };
        let before = event.prev_kv.as_ref().and_then(object);
        let put = event.r#type == kontiki_proto::mvccpb::event::EventType::Put as i32;
        let change = if put { Change::Put(object(pair)?, before) } else { Change::Delete(before?) };
        Some(Event { revision: pair.mod_revision, change })
    }

    async fn send_event(&mut self, event: &Event) -> Result<(), Ended> {
        let selected = |object: &Arc<CachedObject>| {
            object.key.starts_with(&self.prefix) && object.selected(self.resource, &self.labels, &self.fields)
        };
        let (kind, bytes) = match &event.change {
            Change::Put(object, before) => match (selected(object), before.as_ref().is_some_and(selected)) {
                (true, false) => ("ADDED", object.encoded.bytes()),
                (true, true) => ("MODIFIED", object.encoded.bytes()),
                // It is no longer selected: to this client it is gone, and looks as it did.
                (false, true) => {
                    let Some(before) = before else { return Ok(()) };
                    ("DELETED", event.deleted_bytes(before))
                }
                (false, false) => return Ok(()),
            },
            Change::Delete(before) if selected(before) => ("DELETED", event.deleted_bytes(before)),
            Change::Delete(_) => return Ok(()),
        };
        self.send(kind, bytes).await
    }

    async fn send(&mut self, kind: &str, object: Bytes) -> Result<(), Ended> {
        let object = match &self.form {
            Form::Object if self.resource.conversion.is_none() || kind == "BOOKMARK" => object,
            form => self.transform(&form.clone(), &object),
        };
        self.piece(Bytes::from(format!("{{\"type\":\"{kind}\",\"object\":"))).await?;
        self.piece(object).await?;
        self.piece(Bytes::from_static(b"}\n")).await
    }

    fn transform(&mut self, form: &Form, object: &[u8]) -> Bytes {
        let value: Value = serde_json::from_slice(object).unwrap_or_default();
        let shown = match form {
            Form::Object => self.resource.to_served(value),
            Form::Partial(version) => table::partial_object_metadata(&value, &encode::meta_version(version)),
            Form::Table(version) => {
                let version = encode::meta_version(version);
                let row = table::row(self.resource, &value, Timestamp::now(), self.include, &version);
                let columns = if self.columns_sent { Value::Null } else { table::column_definitions(self.resource) };
                self.columns_sent = true;
                let metadata = json!({ "resourceVersion": value["metadata"]["resourceVersion"] });
                json!({ "kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": columns, "rows": [row] })
            }
        };
        Bytes::from(shown.to_string())
    }

    async fn send_bookmark(&mut self, revision: i64, initial_end: bool) -> Result<(), Ended> {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let object =
            json!({ "kind": self.resource.key.kind, "apiVersion": self.resource.key.api_version(), "metadata": metadata });
        self.send("BOOKMARK", Bytes::from(object.to_string())).await
    }

    async fn send_error(&mut self, status: &Status) -> Result<(), Ended> {
        let status = serde_json::to_string(status).unwrap_or_default();
        self.piece(Bytes::from(format!("{{\"type\":\"ERROR\",\"object\":{status}}}\n"))).await
    }

    async fn piece(&self, bytes: Bytes) -> Result<(), Ended> {
        self.sender.send(bytes).await.map_err(|_| Ended)
    }
}
