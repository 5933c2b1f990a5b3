//! The store in memory: etcd's semantics in the simplest form that is right.
//!
//! Other crates test against it, and the property tests hold the real store to it. In come etcd's
//! requests through [`Kv`], out come the same answers as from a cluster of one.
//! Invariant: [`model::Model`] decides everything; this shell only locks, wakes and measures time.

pub mod model;

use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use kontiki_proto::etcdserverpb as pb;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use self::model::Model;
use crate::error::Error;
use crate::kv::{Kv, Leadership};
use crate::mvcc::check;
use crate::mvcc::range::KeyRange;
use crate::watch::{Batch, History, Watch, start};

/// The identity of the one member.
const MEMBER_ID: u64 = 1;

/// A store that lives as long as the process.
#[derive(Clone, Debug)]
pub struct MemoryStore {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    revision: watch::Sender<i64>,
    leadership: watch::Sender<Leadership>,
}

#[derive(Debug)]
struct State {
    model: Model,
    deadlines: std::collections::BTreeMap<i64, Instant>,
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryStore {
    /// An empty store at revision 1, like a new etcd.
    #[must_use]
    pub fn new() -> Self {
        let model = Model::new();
        let revision = watch::Sender::new(model.revision());
        let leadership = Leadership { member_id: MEMBER_ID, leader_id: Some(MEMBER_ID), term: 1 };
        let state = Mutex::new(State { model, deadlines: std::collections::BTreeMap::new() });
        Self { shared: Arc::new(Shared { state, revision, leadership: watch::Sender::new(leadership) }) }
    }
}

impl Shared {
    /// Runs one operation and wakes the watches if the revision moved.
    fn run<T>(&self, operation: impl FnOnce(&mut Model) -> Result<T, Error>) -> Result<(T, pb::ResponseHeader), Error> {
        let (answer, revision) = {
            let mut state = self.state.lock();
            (operation(&mut state.model), state.model.revision())
        };
        self.revision.send_if_modified(|current| std::mem::replace(current, revision) != revision);
        Ok((answer?, header(revision)))
    }

    fn renew(&self, id: i64, ttl: i64) {
        let ttl = Duration::from_secs(u64::try_from(ttl).unwrap_or(0));
        self.state.lock().deadlines.insert(id, Instant::now() + ttl);
    }
}

fn header(revision: i64) -> pb::ResponseHeader {
    pb::ResponseHeader { cluster_id: 1, member_id: MEMBER_ID, revision, raft_term: 1 }
}

/// Revokes a lease when its time is over, unless it is renewed or gone before.
async fn expire(shared: Weak<Shared>, id: i64) {
    loop {
        let Some(strong) = shared.upgrade() else {
            return;
        };
        let Some(deadline) = strong.state.lock().deadlines.get(&id).copied() else {
            return;
        };
        if deadline <= Instant::now() {
            strong.state.lock().deadlines.remove(&id);
            // Gone already: someone revoked it meanwhile.
            let _ = strong.run(|model| model.lease_revoke(id));
            return;
        }
        drop(strong);
        tokio::time::sleep_until(deadline).await;
    }
}

#[async_trait]
impl History for Shared {
    fn revision(&self) -> watch::Receiver<i64> {
        self.revision.subscribe()
    }

    async fn events(&self, range: &KeyRange, from: i64, to: i64) -> Result<Batch, i64> {
        let state = self.state.lock();
        if from < state.model.compacted() {
            return Err(state.model.compacted());
        }
        Ok(Batch { events: state.model.events(range, from, to), next: to + 1 })
    }

    fn header(&self, revision: i64) -> pb::ResponseHeader {
        header(revision)
    }
}

#[async_trait]
impl Kv for MemoryStore {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        check::range(&request)?;
        let (mut response, header) = self.shared.run(|model| model.range(&request))?;
        response.header = Some(header);
        Ok(response)
    }

    async fn put(&self, request: pb::PutRequest) -> Result<pb::PutResponse, Error> {
        check::put(&request)?;
        let (mut response, header) = self.shared.run(|model| model.put(&request))?;
        response.header = Some(header);
        Ok(response)
    }

    async fn delete_range(&self, request: pb::DeleteRangeRequest) -> Result<pb::DeleteRangeResponse, Error> {
        check::delete_range(&request)?;
        let (mut response, header) = self.shared.run(|model| model.delete_range(&request))?;
        response.header = Some(header);
        Ok(response)
    }

    async fn txn(&self, request: pb::TxnRequest) -> Result<pb::TxnResponse, Error> {
        check::txn(&request, crate::limits::TXN_OPERATIONS_MAX)?;
        let (mut response, header) = self.shared.run(|model| model.txn(&request))?;
        response.header = Some(header);
        Ok(response)
    }

    async fn compact(&self, request: pb::CompactionRequest) -> Result<pb::CompactionResponse, Error> {
        let ((), header) = self.shared.run(|model| model.compact(request.revision))?;
        Ok(pb::CompactionResponse { header: Some(header) })
    }

    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<mpsc::Receiver<pb::WatchResponse>, Error> {
        Ok(start(Watch::new(self.shared.clone(), request)))
    }

    async fn lease_grant(&self, request: pb::LeaseGrantRequest) -> Result<pb::LeaseGrantResponse, Error> {
        let id = if request.id == 0 { rand::random_range(1..i64::MAX) } else { request.id };
        let (ttl, header) = self.shared.run(|model| model.lease_grant(id, request.ttl))?;
        self.shared.renew(id, ttl);
        tokio::spawn(expire(Arc::downgrade(&self.shared), id));
        Ok(pb::LeaseGrantResponse { header: Some(header), id, ttl, error: String::new() })
    }

    async fn lease_revoke(&self, request: pb::LeaseRevokeRequest) -> Result<pb::LeaseRevokeResponse, Error> {
        let ((), header) = self.shared.run(|model| model.lease_revoke(request.id))?;
        self.shared.state.lock().deadlines.remove(&request.id);
        Ok(pb::LeaseRevokeResponse { header: Some(header) })
    }

    async fn lease_keep_alive(&self, id: i64) -> Result<pb::LeaseKeepAliveResponse, Error> {
        let (ttl, header) = self.shared.run(|model| Ok(model.lease(id).map(|lease| lease.ttl)))?;
        if let Some(ttl) = ttl {
            self.shared.renew(id, ttl);
        }
        Ok(pb::LeaseKeepAliveResponse { header: Some(header), id, ttl: ttl.unwrap_or(0) })
    }

    async fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let (lease, header) = self.shared.run(|model| Ok(model.lease(request.id).cloned()))?;
        let Some(lease) = lease else {
            return Ok(pb::LeaseTimeToLiveResponse { header: Some(header), id: request.id, ttl: -1, ..Default::default() });
        };
        let deadline = self.shared.state.lock().deadlines.get(&request.id).copied();
        let left = deadline.map_or(Duration::ZERO, |deadline| deadline.saturating_duration_since(Instant::now()));
        Ok(pb::LeaseTimeToLiveResponse {
            header: Some(header),
            id: request.id,
            ttl: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            granted_ttl: lease.ttl,
            keys: if request.keys { lease.keys.into_iter().collect() } else { vec![] },
        })
    }

    async fn lease_leases(&self) -> Result<pb::LeaseLeasesResponse, Error> {
        let (leases, header) = self.shared.run(|model| Ok(model.leases()))?;
        let leases = leases.into_iter().map(|id| pb::LeaseStatus { id }).collect();
        Ok(pb::LeaseLeasesResponse { header: Some(header), leases })
    }

    async fn member_list(&self) -> Result<pb::MemberListResponse, Error> {
        let (revision, _) = self.shared.run(|model| Ok(model.revision()))?;
        let member = pb::Member { id: MEMBER_ID, name: "memory".to_owned(), ..Default::default() };
        Ok(pb::MemberListResponse { header: Some(header(revision)), members: vec![member] })
    }

    async fn status(&self) -> Result<pb::StatusResponse, Error> {
        let (revision, header) = self.shared.run(|model| Ok(model.revision()))?;
        let index = u64::try_from(revision).unwrap_or(0);
        Ok(pb::StatusResponse {
            header: Some(header),
            version: crate::ETCD_VERSION.to_owned(),
            leader: MEMBER_ID,
            raft_index: index,
            raft_term: 1,
            raft_applied_index: index,
            ..Default::default()
        })
    }

    async fn read_index(&self) -> Result<i64, Error> {
        Ok(*self.shared.revision.borrow())
    }

    fn leadership(&self) -> watch::Receiver<Leadership> {
        self.shared.leadership.subscribe()
    }
}

#[cfg(test)]
mod tests;
