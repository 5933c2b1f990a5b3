//! The store's operations as a trait: what in-process users call and what the etcd services serve.
//!
//! Requests and responses are etcd's own messages (`bytes::Bytes` for keys and values), so that an
//! in-process caller and a gRPC client get the same answers without a conversion or a copy.

use async_trait::async_trait;
use kontiki_proto::etcdserverpb as pb;
use tokio::sync::{mpsc, watch};

use crate::error::Error;

/// A replicated key-value store with etcd's semantics.
#[async_trait]
pub trait Kv: Send + Sync + 'static {
    /// Reads keys; linearizable unless `serializable` is set.
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error>;
    /// Writes one key.
    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error>;
    /// Removes keys.
    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error>;
    /// Compares, then acts, at one revision. Acknowledged once a quorum has fsynced it.
    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error>;
    /// Discards history before a revision.
    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error>;
    /// Starts a watch. Events arrive in revision order, none lost or repeated; the responses of one
    /// revision are never split over two messages unless fragments were asked for. A watch whose
    /// start was compacted ends with a response that says so. Dropping the receiver cancels it.
    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<mpsc::Receiver<pb::WatchResponse>, Error>;
    /// Grants a lease.
    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error>;
    /// Revokes a lease and removes its keys.
    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error>;
    /// Renews a lease once.
    async fn lease_keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error>;
    /// Remaining time of a lease and its keys.
    async fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Result<pb::LeaseTimeToLiveResponse, Error>;
    /// All leases.
    async fn lease_leases(&self) -> Result<pb::LeaseLeasesResponse, Error>;
    /// Members of the cluster.
    async fn member_list(&self) -> Result<pb::MemberListResponse, Error>;
    /// This member's own state.
    async fn status(&self) -> Result<pb::StatusResponse, Error>;
    /// Confirms with a quorum what is committed, waits until this member has applied it, and
    /// returns the store's revision: a read of local state at it is linearizable.
    async fn read_index(&self) -> Result<i64, Error>;
    /// What this member knows of the leader; changes are seen at once.
    fn leadership(&self) -> watch::Receiver<Leadership>;
}

/// What one member knows of the cluster's leader.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Leadership {
    /// This member.
    pub member_id: u64,
    /// The leader this member follows; `None` while it knows of none.
    pub leader_id: Option<u64>,
    /// Raft term.
    pub term: u64,
}
