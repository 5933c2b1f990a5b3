//! A running member, as its users see it.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use tokio::sync::{mpsc, watch};
use wire_pb::proposal::Operation;

use super::consensus::Consensus;
use super::core::Core;
use super::{propose, read_index};
use crate::error::Error;
use crate::kv::{Kv, Leadership};
use crate::limits::PROPOSAL_TIMEOUT;
use crate::mvcc::check;
use crate::state::apply::{Decided, Outcome};
use crate::state::store::State;
use crate::watch::History;
use openraft::async_runtime::WatchReceiver;

/// The way to a member; clones share it.
#[derive(Clone)]
pub struct Handle {
    core: Arc<Core>,
    /// Taken when the member stops.
    runtime: Arc<Consensus>,
}

/// Before a request to a leader that just changed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Handle {
    pub(super) fn new(core: Arc<Core>, runtime: Consensus) -> Self {
        Self { core, runtime: Arc::new(runtime) }
    }

    /// Stops the member: no more answers, files closed.
    pub async fn shutdown(&self) {
        self.core.stop.cancel();
        let Some(runtime) = self.runtime.take() else {
            return;
        };
        if let Ok(raft) = self.core.raft() {
            let raft = raft.clone();
            // Consensus ends on its own runtime.
            let ended = runtime.spawn(async move { raft.shutdown().await });
            if let Ok(Err(error)) = ended.await {
                tracing::warn!(%error, "consensus did not end cleanly");
            }
        }
        let closing = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(5)));
        drop(closing.await);
    }

    /// The address on which clients are served.
    #[must_use]
    pub fn client_address(&self) -> std::net::SocketAddr {
        self.core.client_address
    }

    /// This member's identity.
    #[must_use]
    pub fn member_id(&self) -> u64 {
        self.core.member_id
    }

    /// Adds this member's metrics, under etcd's names, to a registry.
    pub fn register_metrics(&self, registry: &mut prometheus_client::registry::Registry) {
        self.core.metrics.register(registry);
    }

    /// The first index that this member's log still holds: a follower that lacks more gets a snapshot.
    pub fn log_begin(&self) -> Result<u64, Error> {
        let purged = self.core.raft()?.data_metrics().borrow_watched().purged;
        Ok(purged.map_or(0, |purged| purged.index + 1))
    }

    /// A header at a revision.
    #[must_use]
    pub fn header(&self, revision: i64) -> pb::ResponseHeader {
        self.core.state.header(revision)
    }

    /// The last revision applied here.
    #[must_use]
    pub fn revision(&self) -> i64 {
        self.core.state.current_revision()
    }

    /// Frees disk space that compaction made unreachable, and flushes.
    pub async fn defragment(&self) -> Result<(), Error> {
        let state = self.core.state.clone();
        let cleaned = tokio::task::spawn_blocking(move || {
            state.clean();
            state.flush().map(drop)
        });
        cleaned.await.map_err(|_| Error::Stopped)?.map_err(|error| Error::Internal(error.to_string()))
    }

    /// A hash over what is readable at a revision, the same on every member.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        let wanted = pb::RangeRequest {
            key: bytes::Bytes::from_static(b"\0"),
            range_end: bytes::Bytes::from_static(b"\0"),
            revision,
            ..Default::default()
        };
        let found = self.read(false, move |state| state.range(&wanted)).await?;
        let mut hasher = crc32fast::Hasher::new();
        for kv in &found.kvs {
            hasher.update(&prost::Message::encode_to_vec(kv));
        }
        let current = found.header.as_ref().map_or(0, |header| header.revision);
        Ok(pb::HashKvResponse {
            header: found.header,
            hash: hasher.finalize(),
            compact_revision: self.core.state.compacted(),
            hash_revision: if revision > 0 { revision } else { current },
        })
    }

    /// Hands leadership to another member.
    pub async fn move_leader(&self, target: u64) -> Result<(), Error> {
        if !self.core.members.contains_key(&target) {
            return Err(Error::MemberNotFound);
        }
        if !self.core.leads() {
            return Err(Error::NotLeader);
        }
        self.core.raft()?.trigger().transfer_leader(target).await.map_err(|_| Error::Stopped)?;
        let mut leader = self.core.leader.subscribe();
        let moved = leader.wait_for(|leader| leader.is_some_and(|leader| leader.node_id == target));
        tokio::time::timeout(PROPOSAL_TIMEOUT, moved).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Stopped)?;
        Ok(())
    }

    async fn propose(&self, operation: Operation) -> Result<(Outcome, pb::ResponseHeader), Error> {
        let decided: Decided = propose::submit(&self.core, operation).await?;
        let mut header = self.core.state.header(decided.revision);
        header.raft_term = decided.term;
        Ok((decided.result?, header))
    }

    async fn lease_time(&self, id: i64, renew: bool) -> Result<wire_pb::LeaseTimeResponse, Error> {
        let request = wire_pb::LeaseTimeRequest { id, renew };
        let asking = async {
            loop {
                match self.lease_time_once(request).await {
                    Ok(answer) => return answer,
                    Err(_) => tokio::time::sleep(RETRY_PAUSE).await,
                }
            }
        };
        tokio::select! {
            answer = tokio::time::timeout(PROPOSAL_TIMEOUT, asking) => answer.map_err(|_| Error::Timeout),
            () = self.core.stop.cancelled() => Err(Error::Stopped),
        }
    }

    async fn lease_time_once(&self, request: wire_pb::LeaseTimeRequest) -> Result<wire_pb::LeaseTimeResponse, Error> {
        let leader = self.core.leader().ok_or(Error::NoLeader)?;
        if leader.node_id == self.core.member_id {
            return self.core.lease_time_as_leader(request).await;
        }
        let answer = self.core.peer(leader)?.lease_time(request).await;
        answer.map(tonic::Response::into_inner).map_err(|status| Error::from_message(status.message()))
    }

    /// Runs something that reads the disk, on the caller's thread if it is small.
    async fn read<T: Send + 'static>(
        &self,
        small: bool,
        read: impl FnOnce(&State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if small {
            return read(&self.core.state);
        }
        let state = self.core.state.clone();
        tokio::task::spawn_blocking(move || read(&state)).await.map_err(|_| Error::Stopped)?
    }
}

fn mismatch() -> Error {
    Error::Internal("the result does not fit the request".to_owned())
}

#[async_trait]
impl Kv for Handle {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        check::range(&request)?;
        if !request.serializable {
            read_index::wait(&self.core).await?;
        }
        self.read(State::is_small(&request), move |state| state.range(&request)).await
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        check::put(&request)?;
        match self.propose(Operation::Put(request)).await? {
            (Outcome::Put(response), header) => Ok(pb::PutResponse { header: Some(header), ..response }),
            _ => Err(mismatch()),
        }
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        match self.propose(Operation::DeleteRange(request)).await? {
            (Outcome::DeleteRange(response), header) => Ok(pb::DeleteRangeResponse { header: Some(header), ..response }),
            _ => Err(mismatch()),
        }
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        check::txn(&request)?;
        if check::is_read_only(&request) {
            read_index::wait(&self.core).await?;
            return self.read(false, move |state| state.read_only_txn(&request)).await;
        }
        match self.propose(Operation::Txn(request)).await? {
            (Outcome::Txn(response), header) => Ok(pb::TxnResponse { header: Some(header), ..response }),
            _ => Err(mismatch()),
        }
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        let physical = request.physical;
        let (_, header) = self.propose(Operation::Compact(request)).await?;
        if physical {
            let state = self.core.state.clone();
            drop(tokio::task::spawn_blocking(move || state.clean()).await);
        }
        Ok(pb::CompactionResponse { header: Some(header) })
    }

    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<mpsc::Receiver<pb::WatchResponse>, Error> {
        crate::watch::start(self.core.state.clone(), request)
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        // The identifier is chosen here, so that every member applies the same.
        let id = if request.id == 0 { rand::random_range(1..i64::MAX) } else { request.id };
        match self.propose(Operation::LeaseGrant(pb::LeaseGrantRequest { id, ..request })).await? {
            (Outcome::LeaseGrant(ttl), header) => {
                Ok(pb::LeaseGrantResponse { header: Some(header), id, ttl, error: String::new() })
            }
            _ => Err(mismatch()),
        }
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        let (_, header) = self.propose(Operation::LeaseRevoke(request)).await?;
        Ok(pb::LeaseRevokeResponse { header: Some(header) })
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let time = self.lease_time(id, true).await?;
        let header = self.core.state.header(self.revision());
        // A lease that is gone has no time left; etcd says so without an error.
        Ok(pb::LeaseKeepAliveResponse { header: Some(header), id, ttl: time.granted_seconds })
    }

    async fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let time = self.lease_time(request.id, false).await?;
        let header = Some(self.core.state.header(self.revision()));
        let id = request.id;
        if !time.found {
            return Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: -1, ..Default::default() });
        }
        let keys = if request.keys {
            read_index::wait(&self.core).await?;
            self.core.state.lease(id).map(|lease| lease.keys.into_iter().collect()).unwrap_or_default()
        } else {
            vec![]
        };
        Ok(pb::LeaseTimeToLiveResponse { header, id, ttl: time.remaining_seconds, granted_ttl: time.granted_seconds, keys })
    }

    async fn lease_leases(&self) -> Result<pb::LeaseLeasesResponse, Error> {
        read_index::wait(&self.core).await?;
        let leases = self.core.state.leases().into_iter().map(|(id, _)| pb::LeaseStatus { id }).collect();
        Ok(pb::LeaseLeasesResponse { header: Some(self.core.state.header(self.revision())), leases })
    }

    async fn member_list(&self) -> Result<pb::MemberListResponse, Error> {
        let member = |(id, peer): (&u64, &crate::raft::types::Peer)| {
            // A member that never introduced itself has no name yet: etcd shows it as unstarted.
            let attributes = self.core.state.attributes(*id).unwrap_or_default();
            pb::Member {
                id: *id,
                name: attributes.name,
                peer_ur_ls: vec![peer.url.clone()],
                client_ur_ls: attributes.client_urls,
                is_learner: false,
            }
        };
        let (_, membership) = self.core.state.applied();
        let members = membership.nodes().map(member).collect();
        Ok(pb::MemberListResponse { header: Some(self.core.state.header(self.revision())), members })
    }

    async fn status(&self) -> Result<pb::StatusResponse, Error> {
        let data = self.core.raft()?.data_metrics();
        let (last, applied) = {
            let data = data.borrow_watched();
            (data.last_log.map_or(0, |id| id.index), data.last_applied.map_or(0, |id| id.index))
        };
        let seen = *self.core.leadership.borrow();
        let database = self.core.state.database();
        let size = tokio::task::spawn_blocking(move || database.disk_bytes()).await.map_err(|_| Error::Stopped)?;
        let size = size.cast_signed();
        self.core.metrics.db_size.set(size);
        let errors = if seen.leader_id.is_none() { vec![Error::NoLeader.to_string()] } else { vec![] };
        Ok(pb::StatusResponse {
            header: Some(self.core.state.header(self.revision())),
            version: crate::ETCD_VERSION.to_owned(),
            db_size: size,
            leader: seen.leader_id.unwrap_or(0),
            raft_index: last,
            raft_term: seen.term,
            raft_applied_index: applied,
            errors,
            db_size_in_use: size,
            is_learner: false,
            storage_version: crate::ETCD_VERSION.rsplit_once('.').map_or("", |(minor, _)| minor).to_owned(),
            db_size_quota: 0,
        })
    }

    async fn read_index(&self) -> Result<i64, Error> {
        read_index::wait(&self.core).await?;
        Ok(self.revision())
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.core.leadership.subscribe()
    }
}
