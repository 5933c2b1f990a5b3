//! Watch: many watches over one stream, each fed by a task of its own.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use kontiki_proto::etcdserverpb as pb;
use parking_lot::Mutex;
use pb::watch_request::RequestUnion;
use prost::Message;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::Services;
use super::progress::Progress;
use crate::error::Error;
use crate::kv::Kv;
use crate::limits::{WATCH_FRAGMENT_BYTES, WATCH_QUEUE_MAX, WATCHES_PER_STREAM_MAX};
use crate::service::Handle;
use crate::watch::Watch;

/// A stream that requires a leader ends after so many election timeouts without one.
const ELECTIONS_WITHOUT_LEADER: u32 = 3;
/// The watch that answers about all of them.
const ALL: i64 = -1;

type Answers = mpsc::Sender<Result<pb::WatchResponse, Status>>;
/// A place in the queue of a stream.
type Room<'a> = mpsc::Permit<'a, Result<pb::WatchResponse, Status>>;

#[tonic::async_trait]
impl pb::watch_server::Watch for Services {
    type WatchStream = Pin<Box<dyn Stream<Item = Result<pb::WatchResponse, Status>> + Send>>;

    async fn watch(&self, request: Request<Streaming<pb::WatchRequest>>) -> Result<Response<Self::WatchStream>, Status> {
        let (answers, receiver) = mpsc::channel(WATCH_QUEUE_MAX);
        let leader = Leader::of(&request, &self.handle);
        let handle = self.of(&request)?;
        let stream = Arc::new(Outgoing { handle: handle.clone(), answers, progress: Mutex::default() });
        let session = Session { handle, stream, watches: BTreeMap::new(), next: 0, leader };
        tokio::spawn(session.run(request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(receiver))))
    }
}

struct Running {
    task: AbortHandle,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What goes out on one stream. Whatever tells a watch a revision enters `answers` under the lock of `progress`, so that
/// an answer about all watches stands in the right place among their events.
struct Outgoing {
    handle: Handle,
    answers: Answers,
    progress: Mutex<Progress>,
}

impl Outgoing {
    async fn send(&self, response: pb::WatchResponse) -> Result<(), ()> {
        self.answers.send(Ok(response)).await.map_err(drop)
    }

    /// Sends what tells a watch everything up to `revision`; `whole` unless more of it follows.
    fn tell(&self, room: Room<'_>, response: pb::WatchResponse, revision: i64, whole: bool) {
        let mut progress = self.progress.lock();
        progress.tell(response.watch_id, revision);
        if whole {
            progress.reach(response.watch_id, revision);
        }
        room.send(Ok(response));
        self.answer_if_due(&mut progress);
    }

    async fn room(&self) -> Result<Room<'_>, ()> {
        self.answers.reserve().await.map_err(drop)
    }

    /// A watch has nothing to hear up to `revision`.
    fn pass(&self, id: i64, revision: i64) {
        let mut progress = self.progress.lock();
        progress.reach(id, revision);
        self.answer_if_due(&mut progress);
    }

    /// Sends a watch's end. Until then it holds progress up: it may have missed what that would cover.
    fn end(&self, room: Room<'_>, response: pb::WatchResponse) {
        let mut progress = self.progress.lock();
        progress.end(response.watch_id);
        room.send(Ok(response));
        self.answer_if_due(&mut progress);
    }

    /// The client asks for progress; it hears at once or when its watches have caught up.
    async fn ask(&self) -> Result<(), ()> {
        let room = self.room().await?;
        let mut progress = self.progress.lock();
        let current = self.handle.revision();
        progress.ask(current);
        if let Some(revision) = progress.answer(current) {
            room.send(Ok(self.about_all(revision)));
        }
        Ok(())
    }

    fn answer_if_due(&self, progress: &mut Progress) {
        if !progress.is_asked() {
            return;
        }
        // A full queue means that the client is behind; its next request asks again.
        let Ok(permit) = self.answers.try_reserve() else { return };
        if let Some(revision) = progress.answer(self.handle.revision()) {
            permit.send(Ok(self.about_all(revision)));
        }
    }

    fn about_all(&self, revision: i64) -> pb::WatchResponse {
        pb::WatchResponse { header: Some(self.handle.header(revision)), watch_id: ALL, ..Default::default() }
    }
}

/// One stream.
struct Session {
    handle: Handle,
    stream: Arc<Outgoing>,
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
                () = self.stream.answers.closed() => return,
                error = self.leader.lost() => {
                    drop(self.stream.answers.send(Err(error.into())).await);
                    return;
                }
            };
            let Ok(request) = request else { return };
            let Some(request) = request else {
                // No more requests; events still come until the client goes.
                self.stream.answers.closed().await;
                return;
            };
            self.watches.retain(|_, watch| !watch.task.is_finished());
            let sent = match request.request_union {
                Some(RequestUnion::CreateRequest(create)) => self.create(create).await,
                Some(RequestUnion::CancelRequest(cancel)) => self.cancel(cancel.watch_id).await,
                Some(RequestUnion::ProgressRequest(_)) => self.stream.ask().await,
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

    async fn create(&mut self, mut create: pb::WatchCreateRequest) -> Result<(), ()> {
        if let Some(reason) = self.refusal(&create) {
            let refused = self.response(ALL);
            return self.stream.send(pb::WatchResponse { created: true, canceled: true, cancel_reason: reason, ..refused }).await;
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
        // Before the client knows of it: what is told to all of the stream's watches is told to this one from then on.
        self.stream.progress.lock().begin(id, begin);
        self.stream.send(pb::WatchResponse { created: true, ..created }).await?;
        let events = match self.handle.position(create) {
            Ok(events) => events,
            Err(error) => {
                let ended = self.response(id);
                let reason = error.to_string();
                let room = self.stream.room().await?;
                self.stream.end(room, pb::WatchResponse { canceled: true, cancel_reason: reason, ..ended });
                return Ok(());
            }
        };
        let interval = self.handle.core.options.watch_progress_interval;
        let feed = Feed { stream: self.stream.clone(), id, notify, fragment, interval };
        let task = tokio::spawn(feed.run(events)).abort_handle();
        self.watches.insert(id, Running { task });
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
        let room = self.stream.room().await?;
        self.stream.end(room, pb::WatchResponse { canceled: true, ..ended });
        Ok(())
    }
}

fn revision_of(response: &pb::WatchResponse) -> i64 {
    response.header.as_ref().map_or(0, |header| header.revision)
}

/// Carries one watch's events into the stream.
struct Feed {
    stream: Arc<Outgoing>,
    id: i64,
    notify: bool,
    fragment: bool,
    interval: Duration,
}

impl Feed {
    async fn run(self, mut watch: Watch) {
        let mut last_sent = tokio::time::Instant::now();
        let mut idle: Option<pb::WatchResponse> = None;
        loop {
            let ready = tokio::select! {
                ready = watch.ready() => ready,
                () = tokio::time::sleep_until(last_sent + self.interval), if self.notify && idle.is_some() => {
                    let Some(progress) = idle.take() else { continue };
                    last_sent = tokio::time::Instant::now();
                    let revision = revision_of(&progress);
                    let Ok(room) = self.stream.room().await else { return };
                    self.stream.tell(room, progress, revision, true);
                    continue;
                }
            };
            if !ready {
                return;
            }
            // Nothing is read before there is room for it: all watches of a client that never reads hold one queue's worth.
            let Ok(room) = self.stream.room().await else { return };
            let Some(response) = watch.read().await else { continue };
            if response.events.is_empty() && !response.canceled {
                drop(room);
                self.stream.pass(self.id, revision_of(&response));
                idle = Some(response);
                continue;
            }
            idle = None;
            last_sent = tokio::time::Instant::now();
            if response.canceled {
                self.stream.end(room, response);
                return;
            }
            if self.tell(room, response).await.is_err() {
                return;
            }
        }
    }

    /// Sends events, the first part into the room that was kept for them.
    async fn tell(&self, room: Room<'_>, response: pb::WatchResponse) -> Result<(), ()> {
        let revision = revision_of(&response);
        let mut kept = Some(room);
        for part in self.parts(response) {
            let room = match kept.take() {
                Some(room) => room,
                None => self.stream.room().await?,
            };
            let whole = !part.fragment;
            self.stream.tell(room, part, revision, whole);
        }
        Ok(())
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
