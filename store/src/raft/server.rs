//! What this member answers its peers.

use std::pin::Pin;
use std::sync::Arc;

use futures::{Stream, StreamExt};
use kontiki_proto::kontiki::store::v1 as pb;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest};
use pb::peer_server::Peer;
use tonic::{Request, Response, Status, Streaming};

use super::snapshot::Incoming;
use super::types::{Config, LeaderId, Raft, Snapshot};
use super::wire::{self, Malformed};
use crate::error::Error;
use crate::fault::{self, Mistake};
use crate::service::core::Core;
use crate::state::rocks::Budget;

/// The service.
pub struct PeerService {
    raft: Raft,
    core: Arc<Core>,
    budget: Arc<Budget>,
}

impl PeerService {
    /// Over a running Raft.
    #[must_use]
    pub fn new(raft: Raft, core: Arc<Core>, budget: Arc<Budget>) -> Self {
        Self { raft, core, budget }
    }
}

impl From<Malformed> for Status {
    fn from(error: Malformed) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(error.to_string())
}

fn to_append(request: pb::AppendRequest) -> Result<AppendEntriesRequest<Config>, Malformed> {
    Ok(AppendEntriesRequest {
        vote: wire::to_vote(request.vote.as_ref())?,
        prev_log_id: request.previous.as_ref().map(wire::to_log_id),
        entries: request.entries.into_iter().map(wire::to_entry).collect::<Result<_, _>>()?,
        leader_commit: request.committed.as_ref().map(wire::to_log_id),
    })
}

/// The mistake of a follower that acknowledges before it has written.
fn acknowledge_at_once(raft: Raft, requests: Pin<Box<dyn Stream<Item = AppendEntriesRequest<Config>> + Send>>) -> AppendStream {
    Box::pin(requests.map(move |request| {
        let last = request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id);
        let raft = raft.clone();
        tokio::spawn(async move { raft.append_entries(request).await });
        Ok(pb::AppendResponse {
            result: pb::append_response::Result::Success as i32,
            log_id: last.as_ref().map(wire::log_id),
            vote: None,
        })
    }))
}

type AppendStream = Pin<Box<dyn Stream<Item = Result<pb::AppendResponse, Status>> + Send>>;

#[tonic::async_trait]
impl Peer for PeerService {
    type AppendStream = AppendStream;

    async fn append(&self, request: Request<Streaming<pb::AppendRequest>>) -> Result<Response<AppendStream>, Status> {
        use pb::append_response::Result::{Conflict, HigherVote, Success};
        // A message that cannot be read ends the stream; the leader begins another one.
        let requests = request
            .into_inner()
            .map(|message| message.ok().and_then(|message| to_append(message).ok()))
            .take_while(|message| futures::future::ready(message.is_some()))
            .filter_map(futures::future::ready);
        let requests: Pin<Box<dyn Stream<Item = AppendEntriesRequest<Config>> + Send>> = Box::pin(requests);
        if fault::makes(Mistake::EarlyAcknowledgement) {
            return Ok(Response::new(acknowledge_at_once(self.raft.clone(), requests)));
        }
        let answers = self.raft.stream_append(requests);
        let core = self.core.clone();
        let heard = move |answer: &_| {
            if matches!(answer, Ok(Ok(_) | Err(StreamAppendError::Conflict(_)))) {
                core.heard.note();
            }
        };
        let answers = answers.inspect(heard).map(|answer| match answer {
            Ok(Ok(log_id)) => {
                Ok(pb::AppendResponse { result: Success as i32, log_id: log_id.as_ref().map(wire::log_id), vote: None })
            }
            Ok(Err(StreamAppendError::Conflict(log_id))) => {
                Ok(pb::AppendResponse { result: Conflict as i32, log_id: Some(wire::log_id(&log_id)), vote: None })
            }
            Ok(Err(StreamAppendError::HigherVote(vote))) => {
                Ok(pb::AppendResponse { result: HigherVote as i32, log_id: None, vote: Some(wire::vote(&vote)) })
            }
            Err(fatal) => Err(stopped(fatal)),
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn append_once(&self, request: Request<pb::AppendRequest>) -> Result<Response<pb::AppendResponse>, Status> {
        use pb::append_response::Result::{Conflict, HigherVote, Partial, Success};
        let append = to_append(request.into_inner())?;
        let answer = self.raft.append_entries(append).await.map_err(stopped)?;
        if !matches!(answer, AppendEntriesResponse::HigherVote(_)) {
            self.core.heard.note();
        }
        let (result, log_id, vote) = match answer {
            AppendEntriesResponse::Success => (Success, None, None),
            AppendEntriesResponse::PartialSuccess(log_id) => (Partial, log_id, None),
            AppendEntriesResponse::Conflict => (Conflict, None, None),
            AppendEntriesResponse::HigherVote(vote) => (HigherVote, None, Some(vote)),
        };
        Ok(Response::new(pb::AppendResponse {
            result: result as i32,
            log_id: log_id.as_ref().map(wire::log_id),
            vote: vote.as_ref().map(wire::vote),
        }))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        let request = request.into_inner();
        // One that was removed would ask for ever.
        if request.vote.as_ref().is_some_and(|vote| self.core.state.is_removed(vote.candidate)) {
            return Err(Error::MemberRemoved.into());
        }
        let last_log_id = request.last_log_id.as_ref().map(wire::to_log_id);
        let mut asked = VoteRequest::new(wire::to_vote(request.vote.as_ref())?, last_log_id);
        asked.leadership_transfer = request.leadership_transfer;
        let answer = if request.pre_vote { self.raft.pre_vote(asked).await } else { self.raft.vote(asked).await };
        let answer = answer.map_err(stopped)?;
        Ok(Response::new(pb::VoteResponse {
            vote: Some(wire::vote(&answer.vote)),
            granted: answer.vote_granted,
            last_log_id: answer.last_log_id.as_ref().map(wire::log_id),
        }))
    }

    async fn snapshot(&self, request: Request<Streaming<pb::SnapshotChunk>>) -> Result<Response<pb::SnapshotResponse>, Status> {
        let mut parts = request.into_inner();
        let failed = |error: super::snapshot::ReceiveError| Status::internal(error.to_string());
        let mut incoming = Incoming::new(&self.core.state, self.budget.clone()).map_err(failed)?;
        while let Some(part) = parts.message().await? {
            let stored = crate::blocking::run(move || incoming.part(part).map(|()| incoming)).await;
            incoming = stored.map_err(stopped)?.map_err(failed)?;
        }
        let finished = crate::blocking::run(move || incoming.finish()).await;
        let (vote, meta, snapshot) = finished.map_err(stopped)?.map_err(failed)?;
        tracing::info!(last = ?meta.last_log_id, "received a snapshot");
        let answer = self.raft.install_full_snapshot(vote, Snapshot { meta, snapshot }).await.map_err(stopped)?;
        Ok(Response::new(pb::SnapshotResponse { vote: Some(wire::vote(&answer.vote)) }))
    }

    async fn transfer_leader(
        &self,
        request: Request<pb::TransferLeaderRequest>,
    ) -> Result<Response<pb::TransferLeaderResponse>, Status> {
        let request = request.into_inner();
        let from = wire::to_vote(request.from.as_ref())?;
        let last_log_id = request.last_log_id.as_ref().map(wire::to_log_id);
        let transfer = TransferLeaderRequest::new(from, request.to, last_log_id);
        let answer = self.raft.handle_transfer_leader(transfer).await.map_err(stopped)?;
        let refused = answer.err().map(|error| error.to_string()).unwrap_or_default();
        Ok(Response::new(pb::TransferLeaderResponse { refused }))
    }

    async fn propose(&self, request: Request<pb::ProposeRequest>) -> Result<Response<pb::ProposeResponse>, Status> {
        let request = request.into_inner();
        let leader = LeaderId { term: request.term, node_id: request.leader };
        let accepted = self.core.propose_here(leader, request.batch).await.map_err(Status::from)?;
        Ok(Response::new(pb::ProposeResponse { accepted }))
    }

    async fn read_index(&self, request: Request<pb::ReadIndexRequest>) -> Result<Response<pb::ReadIndexResponse>, Status> {
        let request = request.into_inner();
        let vouched = match wire::to_vote(request.vote.as_ref()) {
            Ok(vote) => crate::service::read_index::vouched(&self.core, request.member, vote).await,
            Err(_) => None,
        };
        let index = match vouched {
            Some(index) => index,
            None => self.core.confirm_as_leader().await?,
        };
        Ok(Response::new(pb::ReadIndexResponse { index }))
    }

    async fn lease_time(&self, request: Request<pb::LeaseTimeRequest>) -> Result<Response<pb::LeaseTimeResponse>, Status> {
        let request = request.into_inner();
        Ok(Response::new(self.core.lease_time_as_leader(request).await?))
    }

    async fn members(&self, _request: Request<pb::MembersRequest>) -> Result<Response<pb::MembersResponse>, Status> {
        // A new member asks at once after it was added, perhaps elsewhere.
        crate::service::read_index::wait(&self.core).await?;
        let (_, membership) = self.core.state.applied();
        let members = membership.membership().nodes().map(|(id, peer)| wire::member(*id, peer)).collect();
        Ok(Response::new(pb::MembersResponse { cluster_id: self.core.cluster_id, members }))
    }

    async fn change_membership(
        &self,
        request: Request<pb::ChangeMembershipRequest>,
    ) -> Result<Response<pb::ChangeMembershipResponse>, Status> {
        let index = crate::service::membership::change_as_leader(&self.core, request.into_inner()).await?;
        Ok(Response::new(pb::ChangeMembershipResponse { index }))
    }

    async fn hash(&self, request: Request<pb::HashRequest>) -> Result<Response<pb::HashResponse>, Status> {
        let revision = request.into_inner().revision;
        let state = self.core.state.clone();
        let hashed = crate::blocking::run(move || state.hash(revision)).await.map_err(stopped)?;
        Ok(Response::new(hashed?))
    }
}
