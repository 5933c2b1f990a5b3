//! Events in the form and encoding that a watcher asked for.

use bytes::Bytes;
use http::HeaderValue;
use jiff::Timestamp;
use kontiki_api::{
    protobuf::encode as protobuf,
    registry::Resource,
    status::Status,
    table::{self, IncludeObject},
};
use serde_json::{Value, json};

use crate::{
    cache::{CachedObject, Event},
    handlers::encode,
    negotiate::{Accepted, Encoding, Form},
};

/// Media type of a stream of events.
pub(super) fn media_type(accepted: &Accepted) -> HeaderValue {
    match accepted.encoding {
        Encoding::Protobuf => HeaderValue::from_static("application/vnd.kubernetes.protobuf;stream=watch"),
        Encoding::Json | Encoding::Yaml => HeaderValue::from_static("application/json"),
    }
}

/// Makes one watcher's frames.
pub(super) struct Frames {
    resource: &'static Resource,
    accepted: Accepted,
    include: IncludeObject,
    columns_sent: bool,
}

impl Frames {
    pub(super) fn new(resource: &'static Resource, accepted: Accepted, include: IncludeObject) -> Self {
        Self { resource, accepted, include, columns_sent: false }
    }

    /// An object that is there.
    pub(super) fn state(&mut self, object: &CachedObject) -> Bytes {
        self.object("ADDED", object, || line("ADDED", &object.encoded.bytes()))
    }

    /// An object that came or changed.
    pub(super) fn change(&mut self, event: &Event, event_type: &'static str, object: &CachedObject) -> Bytes {
        self.object(event_type, object, || event.frame(event_type, || line(event_type, &object.encoded.bytes())))
    }

    /// An object that went, as it was last, with the version of its going.
    pub(super) fn deletion(&mut self, event: &Event, object: &CachedObject) -> Bytes {
        if self.is_shared() {
            return event.frame("DELETED", || line("DELETED", &event.deleted_bytes(object)));
        }
        let value = serde_json::from_slice(&event.deleted_bytes(object)).unwrap_or_default();
        self.value("DELETED", value)
    }

    /// An object that nobody else gets in this form.
    pub(super) fn own(&mut self, event: &Event, event_type: &'static str, object: &CachedObject) -> Bytes {
        let bytes = if event_type == "DELETED" { event.deleted_bytes(object) } else { object.encoded.bytes() };
        self.value(event_type, serde_json::from_slice(&bytes).unwrap_or_default())
    }

    /// Progress: everything up to a revision was sent. `initial_end` marks the end of the state.
    pub(super) fn bookmark(&mut self, revision: i64, initial_end: bool) -> Bytes {
        let mut metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        if initial_end {
            metadata["annotations"] = json!({ "k8s.io/initial-events-end": "true" });
        }
        let key = &self.resource.key;
        self.value("BOOKMARK", json!({ "kind": key.kind, "apiVersion": key.api_version(), "metadata": metadata }))
    }

    /// Why the watch ends.
    pub(super) fn error(&self, status: &Status) -> Bytes {
        self.encode("ERROR", &serde_json::to_value(status).unwrap_or_default())
    }

    /// Whether this watcher's frames are those of most.
    fn is_shared(&self) -> bool {
        let own_bytes = self.accepted.encoding != Encoding::Protobuf && self.resource.conversion.is_none();
        self.accepted.form == Form::Object && own_bytes
    }

    fn object(&mut self, event_type: &'static str, object: &CachedObject, shared: impl FnOnce() -> Bytes) -> Bytes {
        if self.is_shared() {
            return shared();
        }
        if self.accepted.form == Form::Object
            && self.accepted.encoding == Encoding::Protobuf
            && self.resource.conversion.is_none()
            && let Some(message) = object.protobuf(self.resource)
        {
            let key = &self.resource.key;
            return protobuf::watch_frame(event_type, &protobuf::envelope(&key.api_version(), key.kind, &message));
        }
        self.value(event_type, object.encoded.value())
    }

    fn value(&mut self, event_type: &str, value: Value) -> Bytes {
        let shown = match &self.accepted.form {
            Form::Object if event_type == "BOOKMARK" => value,
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
        self.encode(event_type, &shown)
    }

    fn encode(&self, event_type: &str, value: &Value) -> Bytes {
        if self.accepted.encoding == Encoding::Protobuf
            && let Some(object) = protobuf::encode_any(value)
        {
            return protobuf::watch_frame(event_type, &object);
        }
        line(event_type, value.to_string().as_bytes())
    }
}

/// An event as a line of JSON.
fn line(event_type: &str, object: &[u8]) -> Bytes {
    let parts: [&[u8]; 5] = [b"{\"type\":\"", event_type.as_bytes(), b"\",\"object\":", object, b"}\n"];
    Bytes::from(parts.concat())
}
