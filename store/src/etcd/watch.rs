//! Watch: many watches over one stream, each fed by a task of its own.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use crate::error::Error;
use crate::kv::Kv;
use crate::limits::{WATCH_FRAGMENT_BYTES, WATCH_QUEUE_MAX, WATCHES_PER_STREAM_MAX};
use crate::service::Handle;

/// A stream that requires a leader ends after so many election timeouts without one.
const ELECTIONS_WITHOUT_LEADER: u32 = 3;
/// The watch that answers about all of them.
const ALL: i64 = -1;

type Answers = mpsc::Sender<Result<pb::WatchResponse, Status>>;

#[tonic::async_trait]
impl pb::watch_server::Watch for Services {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, receiver) = mpsc::channel(WATCH_QUEUE_MAX);
        let leader = Leader::of(&request, &self.handle);
        let handle = self.of(&request)?;
        let session = Session { handle, answers, watches: BTreeMap::new(), next: 0, leader };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct Running {
    task: AbortHandle,
    /// The revision up to which everything was sent.
    position: Arc<AtomicI64>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// One stream.
struct Session {
    handle: Handle,
    answers: Answers,
    watches: BTreeMap<i64, Running>,
    next: i64,
    leader: Leader,
}

/// Whether a stream is to end when the leader is lost.
pub(super) struct Leader {
    required: bool,
    known: tokio::sync::watch::Receiver<crate::kv::Leadership>,
    patience: Duration,
}

impl Leader {
    /// As a request's metadata says.
    pub(super) fn of<T>(request: &Request<T>, handle: &Handle) -> Self {
        let required = request.metadata().get("hasleader").is_some_and(|value| value == "true");
        Self { required, known: handle.leadership(), patience: handle.core.options.election.1 * ELECTIONS_WITHOUT_LEADER }
    }

    /// Waits until nobody led for too long; for ever, if that does not matter.
    pub(super) async fn lost(&self) -> Error {
        let mut known = self.known.clone();
        loop {
            let gone = self.required && known.wait_for(|known| known.leader_id.is_none()).await.is_ok();
            if !gone {
                // Whoever does not ask for a leader ends with the member.
                std::future::pending::<()>().await;
            }
            if tokio::time::timeout(self.patience, known.wait_for(|known| known.leader_id.is_some())).await.is_err() {
                return Error::NoLeader;
            }
        }
    }
}

impl Session {
    async fn run(mut self, mut requests: Streaming<pb::WatchRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.message() => request,
                () = self.answers.closed() => return,
                error = self.leader.lost() => {
                    drop(self.answers.send(Err(error.into())).await);
                    return;
                }
            };
            let Ok(request) = request else { return };
            let Some(request) = request else {
                // No more requests; events still come until the client goes.
                self.answers.closed().await;
                return;
            };
            self.watches.retain(|_, watch| !watch.task.is_finished());
            let sent = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.progress().await,
                None => Ok(()),
            };
            if sent.is_err() {
                return;
            }
        }
    }

    fn response(&self, watch_id: i64) -> pb::WatchResponse {
        let header = Some(self.handle.header(self.handle.revision()));
        pb::WatchResponse { header, watch_id, ..Default::default() }
    }

    async fn send(&self, response: pb::WatchResponse) -> Result<(), ()> {
        self.answers.send(Ok(response)).await.map_err(drop)
    }

    async fn create(&mut self, mut create: pb::WatchCreateRequest) -> Result<(), ()> {
        if let Some(reason) = self.refusal(&create) {
            let refused = self.response(ALL);
            return self.send(pb::WatchResponse { created: true, canceled: true, cancel_reason: reason, ..refused }).await;
        }
        let id = match create.watch_id {
            0 => self.free_id(),
            asked => asked,
        };
        create.watch_id = id;
        let notify = create.progress_notify;
        // How far each watch has come is needed to answer about progress.
        create.progress_notify = true;
        let fragment = create.fragment;
        let created = self.response(id);
        if create.start_revision == 0 {
            create.start_revision = created.header.as_ref().map_or(0, |header| header.revision) + 1;
        }
        let begin = create.start_revision - 1;
        self.send(pb::WatchResponse { created: true, ..created }).await?;
        let events = match self.handle.watch(create).await {
            Ok(events) => events,
            Err(error) => {
                let ended = self.response(id);
                let reason = error.to_string();
                return self.send(pb::WatchResponse { canceled: true, cancel_reason: reason, ..ended }).await;
            }
        };
        let position = Arc::new(AtomicI64::new(begin));
        let interval = self.handle.core.options.watch_progress_interval;
        let feed = Feed { answers: self.answers.clone(), position: position.clone(), notify, fragment, interval };
        let task = tokio::spawn(feed.run(events)).abort_handle();
        self.watches.insert(id, Running { task, position });
        Ok(())
    }

    /// Why a watch is not even begun, if it is not.
    fn refusal(&self, create: &pb::WatchCreateRequest) -> Option<String> {
        let (key, range_end) = crate::watch::watched(create);
        if create.start_revision < 0 {
            return Some(Error::Compacted.to_string());
        }
        if let Err(error) = self.handle.may_read(&key, &range_end) {
            // As Go prints an error of gRPC.
            return Some(format!("rpc error: code = {:?} desc = {error}", error.code()));
        }
        if !range_end.is_empty() && range_end != *b"\0".as_slice() && key >= range_end {
            return Some("mvcc: watcher range is empty".to_owned());
        }
        let taken = create.watch_id != 0 && self.watches.contains_key(&create.watch_id);
        (taken || self.watches.len() >= WATCHES_PER_STREAM_MAX)
            .then(|| "mvcc: duplicate watch ID provided on the WatchStream".to_owned())
    }

    fn free_id(&mut self) -> i64 {
        while self.watches.contains_key(&self.next) {
            self.next += 1;
        }
        let id = self.next;
        self.next += 1;
        id
    }

    async fn cancel(&mut self, id: i64) -> Result<(), ()> {
        if self.watches.remove(&id).is_none() {
            return Ok(());
        }
        let ended = self.response(id);
        self.send(pb::WatchResponse { canceled: true, ..ended }).await
    }

    /// Says up to which revision every watch of this stream has sent everything.
    async fn progress(&self) -> Result<(), ()> {
        let current = self.handle.revision();
        let slowest = self.watches.values().map(|watch| watch.position.load(Ordering::Acquire)).min();
        let revision = slowest.map_or(current, |slowest| slowest.min(current));
        // Watches that begin in the future have nothing to miss until then.
        let header = Some(self.handle.header(revision));
        self.send(pb::WatchResponse { header, watch_id: ALL, ..Default::default() }).await
    }
}

/// Carries one watch's events into the stream.
struct Feed {
    answers: Answers,
    position: Arc<AtomicI64>,
    notify: bool,
    fragment: bool,
    interval: Duration,
}

impl Feed {
    async fn run(self, mut events: mpsc::Receiver<pb::WatchResponse>) {
        let mut last_sent = tokio::time::Instant::now();
        let mut idle: Option<pb::WatchResponse> = None;
        loop {
            let response = tokio::select! {
                response = events.recv() => response,
                () = tokio::time::sleep_until(last_sent + self.interval), if self.notify && idle.is_some() => {
                    let Some(progress) = idle.take() else { continue };
                    last_sent = tokio::time::Instant::now();
                    if self.answers.send(Ok(progress)).await.is_err() { return }
                    continue;
                }
            };
            let Some(response) = response else { return };
            let revision = response.header.as_ref().map_or(0, |header| header.revision);
            let ended = response.canceled;
            if response.events.is_empty() && !ended {
                self.position.fetch_max(revision, Ordering::AcqRel);
                idle = Some(response);
                continue;
            }
            idle = None;
            last_sent = tokio::time::Instant::now();
            for part in self.parts(response) {
                if self.answers.send(Ok(part)).await.is_err() {
                    return;
                }
            }
            self.position.fetch_max(revision, Ordering::AcqRel);
            if ended {
                return;
            }
        }
    }

    /// Cuts a large response, if the client asked for fragments.
    fn parts(&self, mut response: pb::WatchResponse) -> Vec<pb::WatchResponse> {
        if !self.fragment || response.encoded_len() <= WATCH_FRAGMENT_BYTES {
            return vec![response];
        }
        let events = std::mem::take(&mut response.events);
        let mut parts = vec![pb::WatchResponse { fragment: true, ..response.clone() }];
        let mut bytes = 0;
        for event in events {
            let size = event.encoded_len();
            if bytes > 0 && bytes + size > WATCH_FRAGMENT_BYTES {
                parts.push(pb::WatchResponse { fragment: true, ..response.clone() });
                bytes = 0;
            }
            bytes += size;
            if let Some(part) = parts.last_mut() {
                part.events.push(event);
            }
        }
        if let Some(last) = parts.last_mut() {
            last.fragment = false;
        }
        parts
    }
}
