//! Events: what happened to an object, for a person to read.
//!
//! Recording never waits: events go through a bounded queue to one task, and are dropped when it
//! is full. Repeats raise the count of the first one.
//! <https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/event-v1/>

use std::collections::HashMap;

use jiff::Timestamp;
use kontiki_api::resources::EVENTS;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::{client::Client, error::Error, params::Patch};

/// Events that wait to be sent.
const PENDING_MAX: usize = 1000;
/// Distinct events that are remembered to count repeats.
const REMEMBERED_MAX: usize = 4096;

/// The object that an event is about.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectReference {
    /// API version.
    pub api_version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; empty where there is none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Name.
    pub name: String,
    /// UID.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Part of the object, such as `spec.containers{nginx}`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field_path: String,
}

/// Whether an event is good news.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    /// It is.
    Normal,
    /// It is not.
    Warning,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Occurrence {
    object: ObjectReference,
    type_: EventType,
    reason: String,
    message: String,
}

/// Records events of one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<(Occurrence, Timestamp)>,
}

impl Recorder {
    /// A recorder that names `component` (and `host`, for a node's component) as the source.
    #[must_use]
    pub fn start(client: Client, component: &str, host: &str, cancel: CancellationToken) -> Self {
        let (sender, mut receiver) = mpsc::channel(PENDING_MAX);
        let mut sink = Sink { client, component: component.into(), host: host.into(), known: HashMap::new() };
        tokio::spawn(async move {
            while let Some((occurrence, at)) = tokio::select! { next = receiver.recv() => next, () = cancel.cancelled() => None }
            {
                if let Err(error) = sink.send(&occurrence, at).await {
                    tracing::debug!(%error, reason = occurrence.reason, "event not recorded");
                }
            }
        });
        Self { sender }
    }

    /// Records an event.
    pub fn event(&self, object: &ObjectReference, type_: EventType, reason: &str, message: impl Into<String>) {
        let occurrence = Occurrence { object: object.clone(), type_, reason: reason.into(), message: message.into() };
        if self.sender.try_send((occurrence, Timestamp::now())).is_err() {
            tracing::debug!(reason, "event dropped: too many wait");
        }
    }
}

struct Sink {
    client: Client,
    component: String,
    host: String,
    known: HashMap<Occurrence, (String, u32)>,
}

impl Sink {
    async fn send(&mut self, occurrence: &Occurrence, at: Timestamp) -> Result<(), Error> {
        let namespace = if occurrence.object.namespace.is_empty() { "default" } else { &occurrence.object.namespace };
        let time = at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        if let Some((name, count)) = self.known.get_mut(occurrence) {
            *count += 1;
            let patch = Patch::Merge(json!({ "count": *count, "lastTimestamp": time }));
            match self.client.patch::<Value>(EVENTS, namespace, name, None, patch).await {
                // Events expire: a repeat of an expired one is a new one.
                Err(error) if error.is_not_found() => {}
                result => return result.map(drop),
            }
        }
        let name = format!("{}.{:x}", occurrence.object.name, at.as_nanosecond());
        let event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": occurrence.object,
            "type": match occurrence.type_ { EventType::Normal => "Normal", EventType::Warning => "Warning" },
            "reason": occurrence.reason,
            "message": occurrence.message,
            "source": if self.host.is_empty() { json!({ "component": self.component }) } else { json!({ "component": self.component, "host": self.host }) },
            "firstTimestamp": time,
            "lastTimestamp": time,
            "count": 1,
            "reportingComponent": self.component,
            "reportingInstance": self.host,
        });
        self.client.create::<Value>(EVENTS, namespace, &event).await?;
        if self.known.len() >= REMEMBERED_MAX {
            self.known.clear();
        }
        self.known.insert(occurrence.clone(), (name, 1));
        Ok(())
    }
}
