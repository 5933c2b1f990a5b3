//! Watches: a position in history for each, moved forward by a task of its own when there is room for what it reads.
//!
//! In comes a [`History`] (recent events in memory, older ones from disk) and a request; out comes a
//! bounded stream of responses. A watch pulls; nothing is pushed to it. So a slow consumer merely
//! reads later, from disk if it must, and holds up nobody.
//! Invariant: events arrive in revision order, none lost or repeated, a revision never split.

use std::sync::Arc;

use async_trait::async_trait;
use kontiki_proto::etcdserverpb::watch_create_request::FilterType;
use kontiki_proto::etcdserverpb::{ResponseHeader, WatchCreateRequest, WatchResponse};
use kontiki_proto::mvccpb::{Event, event::EventType};
use tokio::sync::{mpsc, watch};

use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::limits::WATCH_QUEUE_MAX;
use crate::mvcc::range::KeyRange;

/// A piece of history.
#[derive(Debug, Default)]
pub struct Batch {
    /// The events of the wanted keys, in order, with their previous values.
    pub events: Vec<Event>,
    /// The first revision that the batch does not cover.
    pub next: i64,
}

/// Where watches read from.
#[async_trait]
pub trait History: Send + Sync + 'static {
    /// The last revision that may be read; changes wake the watches.
    fn revision(&self) -> watch::Receiver<i64>;
    /// Events of `range` from revision `from` on up to at most `to`; whole revisions only, at least
    /// one. `Err` holds the compacted revision that `from` lies before.
    async fn events(&self, range: &KeyRange, from: i64, to: i64) -> Result<Batch, i64>;
    /// A response's header at a revision.
    fn header(&self, revision: i64) -> ResponseHeader;
}

/// Lets a watch run. Nothing is read before there is room for it.
pub fn start(mut watch: Watch) -> mpsc::Receiver<WatchResponse> {
    let (sender, receiver) = mpsc::channel(WATCH_QUEUE_MAX);
    tokio::spawn(async move {
        loop {
            let ready = tokio::select! {
                ready = watch.ready() => ready,
                () = sender.closed() => return,
            };
            if !ready {
                return;
            }
            let Ok(room) = sender.reserve().await else { return };
            let Some(response) = watch.read().await else { continue };
            let ended = response.canceled;
            room.send(response);
            if ended {
                return;
            }
        }
    });
    receiver
}

/// The keys that a watch wants. Unlike elsewhere, an empty key is the first of all keys.
#[must_use]
pub fn watched(request: &WatchCreateRequest) -> (bytes::Bytes, bytes::Bytes) {
    let first = bytes::Bytes::from_static(b"\0");
    (if request.key.is_empty() { first } else { request.key.clone() }, request.range_end.clone())
}

fn is_left_out(event: &Event) -> bool {
    fault::makes(Mistake::SkippedEvent) && event.kv.as_ref().is_some_and(|kv| kv.mod_revision % 7 == 0)
}

/// How far a watch has come.
pub struct Watch {
    history: Arc<dyn History>,
    request: WatchCreateRequest,
    range: KeyRange,
    next: i64,
    revision: watch::Receiver<i64>,
}

impl Watch {
    /// One that begins where it was asked to.
    pub fn new(history: Arc<dyn History>, request: WatchCreateRequest) -> Self {
        let mut revision = history.revision();
        let next = match request.start_revision {
            start if start > 0 => start,
            _ => *revision.borrow_and_update() + 1,
        };
        let (key, range_end) = watched(&request);
        let range = KeyRange::new(&key, &range_end);
        Self { history, request, range, next, revision }
    }

    /// Waits until there is something to read; tells whether there ever will be.
    pub async fn ready(&mut self) -> bool {
        let next = self.next;
        self.revision.wait_for(|current| *current >= next).await.is_ok()
    }

    /// Reads on, once it is ready. If there is anything to say it is in the response; after one that is canceled comes
    /// nothing more.
    pub async fn read(&mut self) -> Option<WatchResponse> {
        let current = *self.revision.borrow_and_update();
        match self.history.events(&self.range, self.next, current).await {
            Ok(mut batch) => {
                batch.events.retain(|event| !is_left_out(event));
                if fault::makes(Mistake::RepeatedEvent) && batch.next % 7 == 0 {
                    batch.events.extend(batch.events.last().cloned());
                }
                self.next = batch.next;
                self.response(batch.events)
            }
            Err(compacted) => Some(self.compacted(compacted, current)),
        }
    }

    /// The response for a batch, if there is anything to say: events, or how far the watch has come.
    fn response(&self, mut events: Vec<Event>) -> Option<WatchResponse> {
        let filtered = |event: &Event| {
            let kind = if event.r#type == EventType::Put as i32 { FilterType::Noput } else { FilterType::Nodelete };
            self.request.filters.contains(&(kind as i32))
        };
        events.retain(|event| !filtered(event));
        if !self.request.prev_kv {
            for event in &mut events {
                event.prev_kv = None;
            }
        }
        if events.is_empty() && !self.request.progress_notify {
            return None;
        }
        Some(WatchResponse {
            header: Some(self.history.header(self.next - 1)),
            watch_id: self.request.watch_id,
            events,
            ..Default::default()
        })
    }

    fn compacted(&self, compact_revision: i64, current: i64) -> WatchResponse {
        WatchResponse {
            header: Some(self.history.header(current)),
            watch_id: self.request.watch_id,
            canceled: true,
            compact_revision,
            cancel_reason: Error::Compacted.to_string(),
            ..Default::default()
        }
    }
}
