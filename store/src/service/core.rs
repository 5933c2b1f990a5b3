//! What all parts of a running member share.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::ReadPolicy;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use parking_lot::Mutex;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;
use wire_pb::peer_client::PeerClient;

use super::heard::Heard;
use super::lessor::Lessor;
use super::membership::Reachable;
use super::options::Options;
use super::waiters::Waiters;
use crate::auth::Caller;
use crate::error::Error;
use crate::kv::Leadership;
use crate::metrics::Metrics;
use crate::raft::log::LogStore;
use crate::raft::network::Network;
use crate::raft::types::{Batch, LeaderId, Raft, StoredMembership};
use crate::state::store::State;

/// A reader that waits for a confirmation; it gets the index to wait for.
pub type Confirmation = oneshot::Sender<Result<u64, Error>>;

/// The shared part.
pub struct Core {
    /// What it was started with.
    pub options: Options,
    /// The address on which clients are really served.
    pub client_address: crate::place::Address,
    /// The cluster.
    pub cluster_id: u64,
    /// This member.
    pub member_id: u64,
    /// The state machine.
    pub state: Arc<State>,
    /// The log.
    pub log: LogStore,
    /// Who waits for what.
    pub waiters: Arc<Waiters>,
    /// Counters.
    pub metrics: Arc<Metrics>,
    /// Set once it runs.
    pub raft: OnceLock<Raft>,
    /// Makes connections.
    pub network: Network,
    /// Connections for what is forwarded to the leader, and where they lead.
    pub peers: Mutex<BTreeMap<u64, (String, PeerClient<tonic::transport::Channel>)>>,
    /// Since when members answer without a break, while this member leads.
    pub reachable: Reachable,
    /// When it heard of its leader last.
    pub heard: Heard,
    /// The leader this member follows, and its term: whom it asks.
    pub leader: watch::Sender<Option<LeaderId>>,
    /// What users are told: the same, unless the leader has been silent for too long.
    pub leadership: watch::Sender<Leadership>,
    /// Readers that wait for a confirmation.
    pub confirmations: mpsc::Sender<Confirmation>,
    /// Deadlines of leases, while this member leads.
    pub lessor: Lessor,
    /// Set once this member introduced itself to a cluster that works.
    pub ready: watch::Sender<bool>,
    /// The others say that this member is no longer one of them.
    pub removed: CancellationToken,
    /// Cancelled when consensus has ended by itself: the disk refused a write, for one.
    pub failed: CancellationToken,
    /// Ends everything.
    pub stop: CancellationToken,
    /// Where consensus runs.
    pub runtime: tokio::runtime::Handle,
}

impl Core {
    /// The running Raft.
    pub fn raft(&self) -> Result<&Raft, Error> {
        self.raft.get().ok_or(Error::Stopped)
    }

    /// Brings the counters of the log up to date.
    pub fn note_progress(&self) {
        let Ok(raft) = self.raft() else { return };
        let index = |id: Option<crate::raft::types::LogId>| id.map_or(0, |id| id.index.cast_signed());
        let data = raft.data_metrics();
        let now = data.borrow_watched();
        self.metrics.proposals_committed.set(index(now.cluster_committed));
        self.metrics.proposals_applied.set(index(now.last_applied));
    }

    /// The leader, if this member knows one.
    #[must_use]
    pub fn leader(&self) -> Option<LeaderId> {
        *self.leader.borrow()
    }

    /// Whether this member leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leader().is_some_and(|leader| leader.node_id == self.member_id)
    }

    /// Whether this member's vote is the only one.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.membership().is_ok_and(|membership| membership.membership().voter_ids().eq([self.member_id]))
    }

    /// The membership in force, applied or not.
    pub fn membership(&self) -> Result<Arc<StoredMembership>, Error> {
        Ok(self.raft()?.server_metrics().borrow_watched().membership_config.clone())
    }

    /// A connection to a leader.
    pub fn peer(&self, leader: LeaderId) -> Result<PeerClient<tonic::transport::Channel>, Error> {
        self.peer_of(leader.node_id)
    }

    /// A connection to a member.
    pub fn peer_of(&self, member: u64) -> Result<PeerClient<tonic::transport::Channel>, Error> {
        let membership = self.membership()?;
        let url = membership.membership().get_node(&member).ok_or(Error::MemberNotFound)?.url();
        let mut peers = self.peers.lock();
        if let Some((known, client)) = peers.get(&member)
            && known == url
        {
            return Ok(client.clone());
        }
        // Lazy channels spawn tasks where they are made.
        let _entered = self.runtime.enter();
        let client = self.network.client(url);
        peers.insert(member, (url.to_owned(), client.clone()));
        Ok(client)
    }

    /// Proposes a batch to this member as exactly that leader. False: certainly not in the log.
    /// An error: unknown.
    pub async fn propose_here(&self, leader: LeaderId, batch: Bytes) -> Result<bool, Error> {
        let (responder, result) = ProgressResponder::complete_only();
        let write = self.raft()?.write(Batch(batch)).with_leader(leader).responder(responder);
        write.await.map_err(|_| Error::Stopped)?;
        match result.await {
            Ok(Ok(_)) => Ok(true),
            Ok(Err(ClientWriteError::LogEntryDiscarded(_))) => Err(Error::LeaderChanged),
            Ok(Err(_)) => Ok(false),
            Err(_) => Err(Error::LeaderChanged),
        }
    }

    /// Confirms with a quorum that this member leads; one round serves all that wait.
    pub async fn confirm_as_leader(&self) -> Result<u64, Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        let (sender, receiver) = oneshot::channel();
        self.confirmations.try_send(sender).map_err(|_| Error::TooManyRequests)?;
        receiver.await.map_err(|_| Error::Stopped)?
    }

    /// Asks openraft for the index that a linearizable read has to wait for.
    pub async fn read_index_here(&self) -> Result<u64, Error> {
        let linearizer = self.raft()?.get_read_linearizer(ReadPolicy::ReadIndex).await;
        linearizer.map(|linearizer| linearizer.read_log_id().index()).map_err(|_| Error::LeaderChanged)
    }

    /// Renews or reads a lease's time, which only the leader keeps.
    pub async fn lease_time_as_leader(&self, request: wire_pb::LeaseTimeRequest) -> Result<wire_pb::LeaseTimeResponse, Error> {
        if !self.leads() {
            return Err(Error::NotLeader);
        }
        if self.state.lease(request.id).is_none() {
            // Granted a moment ago and not applied here yet?
            let index = self.confirm_as_leader().await?;
            self.wait_applied(index).await?;
        }
        let Some(lease) = self.state.lease(request.id) else {
            return Ok(Default::default());
        };
        let left = if lease.remaining > 0 { lease.remaining } else { lease.ttl };
        let remaining = self.lessor.time(request.id, lease.ttl, left, request.renew);
        if request.renew && lease.remaining > 0 {
            // Otherwise the next leader would end it too early.
            let noted = wire_pb::lease_checkpoint::Remaining { id: request.id, seconds: 0 };
            let operation = wire_pb::proposal::Operation::LeaseCheckpoint(wire_pb::LeaseCheckpoint { leases: vec![noted] });
            super::propose::submit(self, &Caller::Trusted, operation).await?;
        }
        Ok(wire_pb::LeaseTimeResponse { found: true, granted_seconds: lease.ttl, remaining_seconds: remaining })
    }

    /// Waits until an entry is applied here.
    pub async fn wait_applied(&self, index: u64) -> Result<(), Error> {
        let mut applied = self.state.applied_index();
        let waiting = applied.wait_for(|applied| *applied >= index);
        match tokio::time::timeout(crate::limits::PROPOSAL_TIMEOUT, waiting).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Error::Stopped),
            Err(_) => Err(Error::TimeoutWaitAppliedIndex),
        }
    }
}
