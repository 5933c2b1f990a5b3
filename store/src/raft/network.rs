//! This member's way to its peers: connections of their own, mutual TLS, heartbeats apart.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use kontiki_proto::kontiki::store::v1 as pb;
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendError, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use pb::peer_client::PeerClient;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;
use tonic::{Code, Request, Status, Streaming};

use super::snapshot::{Outgoing, SnapshotHandle};
use super::types::{Config, Membership, Peer, Snapshot, Vote};
use super::wire::{self, Malformed};
use crate::error::Error;
use crate::limits::PEER_MESSAGE_BYTES_MAX;
use crate::state::store::State;
use crate::tls::Connector;

/// How long a peer that could not be reached is left alone: first and at most. One that comes back is found within a second.
const UNREACHABLE_PAUSE: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(400));

/// The pause after so many failures in a row.
fn pause(failures: u32) -> Duration {
    UNREACHABLE_PAUSE.0.saturating_mul(2_u32.saturating_pow(failures.saturating_sub(1))).min(UNREACHABLE_PAUSE.1)
}

/// Makes connections.
#[derive(Clone)]
pub struct Network {
    connector: Connector,
    state: Arc<State>,
    /// Where members are found now; one that moved is found again with the next message.
    addresses: Arc<Mutex<BTreeMap<u64, String>>>,
    /// Cancelled once the others say that this member is no longer one of them.
    removed: CancellationToken,
}

impl Network {
    /// With the identity of this member.
    #[must_use]
    pub fn new(connector: Connector, state: Arc<State>, removed: CancellationToken) -> Self {
        Self { connector, state, addresses: Arc::default(), removed }
    }

    /// Learns where the members are.
    pub fn learn(&self, membership: &Membership) {
        let mut addresses = self.addresses.lock();
        addresses.clear();
        addresses.extend(membership.nodes().map(|(id, peer)| (*id, peer.url().to_owned())));
    }

    /// A client of a peer.
    #[must_use]
    pub fn client(&self, url: &str) -> PeerClient<Channel> {
        PeerClient::new(self.connector.channel(url))
            .max_decoding_message_size(PEER_MESSAGE_BYTES_MAX)
            .max_encoding_message_size(PEER_MESSAGE_BYTES_MAX)
    }
}

impl RaftNetworkFactory<Config> for Network {
    type Network = Connection;

    async fn new_client(&mut self, target: u64, node: &Peer) -> Connection {
        Connection::new(self, target, node, true)
    }

    async fn new_heartbeat_client(&mut self, target: u64, node: &Peer) -> Connection {
        Connection::new(self, target, node, false)
    }
}

/// One connection to one peer, for one purpose.
pub struct Connection {
    network: Network,
    target: u64,
    url: String,
    client: PeerClient<Channel>,
    /// Whether many appends may be under way at once.
    pipelined: bool,
    /// How often in a row no stream of appends came about.
    failures: u32,
    /// The stream of the heartbeats, while nothing is under way on it.
    heartbeats: Option<Heartbeats>,
}

/// One stream for many heartbeats: a call of its own for each costs both sides twice as much, and every linearizable read
/// waits for one.
struct Heartbeats {
    requests: mpsc::Sender<pb::AppendRequest>,
    answers: Streaming<pb::AppendResponse>,
}

impl Heartbeats {
    async fn open(client: &mut PeerClient<Channel>) -> Result<Self, Status> {
        // One is under way at a time.
        let (requests, receiver) = mpsc::channel(1);
        let answers = client.append(ReceiverStream::new(receiver)).await?.into_inner();
        Ok(Self { requests, answers })
    }

    async fn ask(&mut self, append: pb::AppendRequest) -> Result<pb::AppendResponse, Status> {
        let ended = || Status::unavailable("the peer ended the stream of heartbeats");
        self.requests.send(append).await.map_err(|_| ended())?;
        self.answers.message().await?.ok_or_else(ended)
    }
}

impl Connection {
    fn new(network: &Network, target: u64, node: &Peer, pipelined: bool) -> Self {
        let (network, url) = (network.clone(), node.url().to_owned());
        Self { client: network.client(&url), network, target, url, pipelined, failures: 0, heartbeats: None }
    }

    /// The client, of where the peer is now.
    fn client(&mut self) -> &mut PeerClient<Channel> {
        let now = self.network.addresses.lock().get(&self.target).cloned();
        if let Some(url) = now.filter(|url| *url != self.url) {
            self.client = self.network.client(&url);
            self.url = url;
        }
        &mut self.client
    }
}

fn failed(status: &Status) -> RPCError<Config> {
    match status.code() {
        Code::Unavailable => RPCError::Unreachable(Unreachable::new(status)),
        _ => RPCError::Network(NetworkError::new(status)),
    }
}

fn malformed(error: &Malformed) -> RPCError<Config> {
    RPCError::Network(NetworkError::new(error))
}

/// With the time that openraft gives an answer.
fn request<T>(message: T, option: &RPCOption) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(option.hard_ttl());
    request
}

fn append_request(append: &AppendEntriesRequest<Config>) -> pb::AppendRequest {
    pb::AppendRequest {
        vote: Some(wire::vote(&append.vote)),
        previous: append.prev_log_id.as_ref().map(wire::log_id),
        entries: append.entries.iter().map(wire::entry).collect(),
        committed: append.leader_commit.as_ref().map(wire::log_id),
    }
}

fn stream_result(response: &pb::AppendResponse) -> Result<StreamAppendResult<Config>, Malformed> {
    use pb::append_response::Result::{Conflict, HigherVote, Partial, Success};
    let log_id = response.log_id.as_ref().map(wire::to_log_id);
    Ok(match response.result() {
        Success | Partial => Ok(log_id),
        Conflict => Err(StreamAppendError::Conflict(log_id.ok_or(Malformed("conflict with nothing"))?)),
        HigherVote => Err(StreamAppendError::HigherVote(wire::to_vote(response.vote.as_ref())?)),
    })
}

impl RaftNetworkV2<Config> for Connection {
    type SnapshotData = SnapshotHandle;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Config>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Config>, RPCError<Config>> {
        use pb::append_response::Result::{Conflict, HigherVote, Partial, Success};
        let answer = self.client().append_once(request(append_request(&rpc), &option)).await;
        let answer = answer.map_err(|status| failed(&status))?.into_inner();
        Ok(match answer.result() {
            Success => AppendEntriesResponse::Success,
            Partial => AppendEntriesResponse::PartialSuccess(answer.log_id.as_ref().map(wire::to_log_id)),
            Conflict => AppendEntriesResponse::Conflict,
            HigherVote => {
                let vote = wire::to_vote(answer.vote.as_ref()).map_err(|error| malformed(&error))?;
                AppendEntriesResponse::HigherVote(vote)
            }
        })
    }

    fn stream_append<'s, S>(
        &'s mut self,
        input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Config>, RPCError<Config>>>, RPCError<Config>>>
    where
        S: Stream<Item = AppendEntriesRequest<Config>> + OptionalSend + Unpin + 'static,
    {
        if !self.pipelined {
            let beats = futures::stream::unfold((self, input), |(connection, mut input)| async move {
                let append = input.next().await?;
                Some((connection.heartbeat(&append).await, (connection, input)))
            });
            return Box::pin(async move {
                let beats: BoxStream<'s, _> = Box::pin(beats);
                Ok(beats)
            });
        }
        Box::pin(async move {
            let answers = self.client().append(input.map(|append| append_request(&append))).await;
            let answers = match answers {
                Ok(answers) => answers.into_inner(),
                Err(status) => {
                    // openraft waits between the messages of a stream; where there is none, it would try again at once.
                    self.failures = self.failures.saturating_add(1);
                    tokio::time::sleep(pause(self.failures)).await;
                    return Err(failed(&status));
                }
            };
            self.failures = 0;
            let results = answers.map(|answer| {
                let answer = answer.map_err(|status| failed(&status))?;
                stream_result(&answer).map_err(|error| malformed(&error))
            });
            let results: BoxStream<'s, _> = Box::pin(results);
            Ok(results)
        })
    }

    async fn vote(&mut self, rpc: VoteRequest<Config>, option: RPCOption) -> Result<VoteResponse<Config>, RPCError<Config>> {
        self.ask_vote(rpc, &option, false).await
    }

    async fn pre_vote(&mut self, rpc: VoteRequest<Config>, option: RPCOption) -> Result<VoteResponse<Config>, RPCError<Config>> {
        self.ask_vote(rpc, &option, true).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        _snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Config>, StreamingError<Config>> {
        let state = self.network.state.clone();
        let outgoing = crate::blocking::run(move || Outgoing::new(&state, Some(&vote))).await;
        let failed = |error: &dyn std::fmt::Display| StreamingError::Network(NetworkError::from_string(error));
        let outgoing = outgoing.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
        let sending = self.client().snapshot(parts(outgoing));
        let answer = tokio::select! {
            closed = cancel => return Err(StreamingError::Closed(closed)),
            answer = sending => answer,
        };
        let answer = answer.map_err(|status| match status.code() {
            Code::Unavailable => StreamingError::Unreachable(Unreachable::new(&status)),
            _ => StreamingError::Network(NetworkError::new(&status)),
        })?;
        let vote = wire::to_vote(answer.into_inner().vote.as_ref());
        Ok(SnapshotResponse { vote: vote.map_err(|error| StreamingError::Network(NetworkError::new(&error)))? })
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Config>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Config>, RPCError<Config>> {
        let message = pb::TransferLeaderRequest {
            from: Some(wire::vote(req.from_leader())),
            to: *req.to_node_id(),
            last_log_id: req.last_log_id().map(wire::log_id),
        };
        let answer = self.client().transfer_leader(request(message, &option)).await;
        let answer = answer.map_err(|status| failed(&status))?.into_inner();
        if answer.refused.is_empty() {
            return Ok(Ok(()));
        }
        Err(RPCError::Network(NetworkError::from_string(answer.refused)))
    }
}

/// The parts of a snapshot. One that cannot be read ends them too early, and the follower notices.
fn parts(outgoing: Outgoing) -> impl Stream<Item = pb::SnapshotChunk> + Send + 'static {
    futures::stream::unfold(outgoing, |mut outgoing| async move {
        let read = crate::blocking::run(move || (outgoing.part(), outgoing)).await.ok()?;
        match read {
            (Ok(part), outgoing) => part.map(|part| (part, outgoing)),
            (Err(error), _) => {
                tracing::warn!(%error, "cannot send a snapshot");
                None
            }
        }
    })
}

impl Connection {
    /// Sends one heartbeat on the stream that is open. A stream is taken out for that: one that is given up in the middle is
    /// never used again, for its next answer would be to the wrong question.
    async fn heartbeat(&mut self, append: &AppendEntriesRequest<Config>) -> Result<StreamAppendResult<Config>, RPCError<Config>> {
        let message = append_request(append);
        if let Some(mut open) = self.heartbeats.take()
            && let Ok(answer) = open.ask(message.clone()).await
        {
            return self.heard(open, &answer);
        }
        // None was open, or the peer had ended it, which says nothing of the peer now.
        let mut open = Heartbeats::open(self.client()).await.map_err(|status| failed(&status))?;
        let answer = open.ask(message).await.map_err(|status| failed(&status))?;
        self.heard(open, &answer)
    }

    /// What an answer says. After a refusal the peer ends the stream.
    fn heard(&mut self, open: Heartbeats, answer: &pb::AppendResponse) -> Result<StreamAppendResult<Config>, RPCError<Config>> {
        let result = stream_result(answer).map_err(|error| malformed(&error))?;
        self.heartbeats = result.is_ok().then_some(open);
        Ok(result)
    }

    async fn ask_vote(
        &mut self,
        rpc: VoteRequest<Config>,
        option: &RPCOption,
        pre_vote: bool,
    ) -> Result<VoteResponse<Config>, RPCError<Config>> {
        let message = pb::VoteRequest {
            vote: Some(wire::vote(&rpc.vote)),
            last_log_id: rpc.last_log_id.as_ref().map(wire::log_id),
            leadership_transfer: rpc.leadership_transfer,
            pre_vote,
        };
        let answer = self.client().vote(request(message, option)).await;
        if answer.as_ref().is_err_and(|status| status.message() == Error::MemberRemoved.to_string()) {
            self.network.removed.cancel();
        }
        let answer = answer.map_err(|status| failed(&status))?.into_inner();
        let vote = wire::to_vote(answer.vote.as_ref()).map_err(|error| malformed(&error))?;
        let last_log_id = answer.last_log_id.as_ref().map(wire::to_log_id);
        Ok(VoteResponse::new(vote, last_log_id, answer.granted))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pause_grows_up_to_its_bound() {
        let pauses = [1, 2, 3, 4, 5, u32::MAX].map(|failures| pause(failures).as_millis());
        assert_eq!(pauses, [50, 100, 200, 400, 400, 400]);
    }
}
