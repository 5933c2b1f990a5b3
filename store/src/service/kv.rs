//! The store's operations on a running member, for whoever calls: checked, permitted, carried out.

use async_trait::async_trait;
use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use openraft::async_runtime::WatchReceiver;
use tokio::sync::{mpsc, watch};
use wire_pb::proposal::Operation;

use super::handle::Handle;
use super::read_index;
use crate::error::Error;
use crate::kv::{Kv, Leadership};
use crate::mvcc::check;
use crate::state::apply::Outcome;
use crate::state::store::State;
use crate::watch::History;

fn alarm_text(alarm: &pb::AlarmMember) -> String {
    format!("memberID:{} alarm:{} ", alarm.member_id, alarm.alarm().as_str_name())
}

fn mismatch() -> Error {
    Error::Internal("the result does not fit the request".to_owned())
}

#[async_trait]
impl Kv for Handle {
    async fn range(&self, request: pb::RangeRequest) -> Result<pb::RangeResponse, Error> {
        check::range(&request)?;
        if !request.serializable {
            self.not_learner()?;
            read_index::wait(&self.core).await?;
        }
        self.not_corrupt()?;
        let caller = self.caller.clone();
        let small = State::is_small(&request);
        let read = move |state: &State| {
            state.auth().read(&caller, &request.key, &request.range_end)?;
            state.range(&request)
        };
        self.read(small, read).await
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
        check::txn(&request, self.core.options.txn_operations_max)?;
        if check::is_read_only(&request) {
            if !check::is_serializable(&request) {
                read_index::wait(&self.core).await?;
            }
            self.not_corrupt()?;
            let caller = self.caller.clone();
            let read = move |state: &State| {
                state.auth().txn(&caller, &request)?;
                state.read_only_txn(&request)
            };
            return self.read(false, read).await;
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
            drop(crate::blocking::run(move || state.clean()).await);
        }
        Ok(pb::CompactionResponse { header: Some(header) })
    }

    async fn watch(&self, request: pb::WatchCreateRequest) -> Result<mpsc::Receiver<pb::WatchResponse>, Error> {
        Ok(crate::watch::start(self.position(request)?))
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
        self.may_renew_lease(id)?;
        let time = self.lease_time(id, true).await?;
        let header = self.core.state.header(self.revision());
        // A lease that is gone has no time left; etcd says so without an error.
        Ok(pb::LeaseKeepAliveResponse { header: Some(header), id, ttl: time.granted_seconds })
    }

    async fn lease_time_to_live(&self, request: pb::LeaseTimeToLiveRequest) -> Result<pb::LeaseTimeToLiveResponse, Error> {
        let time = self.lease_time(request.id, false).await?;
        self.may_see_lease(request.id, request.keys)?;
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
        self.core.state.leases().iter().try_for_each(|(id, ..)| self.may_see_lease(*id, true))?;
        let leases = self.core.state.leases().into_iter().map(|(id, ..)| pb::LeaseStatus { id }).collect();
        Ok(pb::LeaseLeasesResponse { header: Some(self.core.state.header(self.revision())), leases })
    }

    async fn member_list(&self) -> Result<pb::MemberListResponse, Error> {
        let header = Some(self.core.state.header(self.revision()));
        Ok(pb::MemberListResponse { header, members: self.members() })
    }

    async fn status(&self) -> Result<pb::StatusResponse, Error> {
        let data = self.core.raft()?.data_metrics();
        let (last, applied) = {
            let data = data.borrow_watched();
            (data.last_log.map_or(0, |id| id.index), data.last_applied.map_or(0, |id| id.index))
        };
        let seen = *self.core.leadership.borrow();
        let database = self.core.state.database();
        let sizes = crate::blocking::run(move || (database.disk_bytes(), database.bytes()));
        let (disk, used) = sizes.await.map_err(|_| Error::Stopped)?;
        // What is not flushed yet is on no disk but the log's.
        let (size, used) = (disk.max(used).cast_signed(), used.cast_signed());
        self.core.metrics.db_size.set(size);
        self.core.metrics.db_size_in_use.set(used);
        let mut errors = if seen.leader_id.is_none() { vec![Error::NoLeader.to_string()] } else { vec![] };
        errors.extend(crate::state::cluster::alarms(&self.core.state.alarms()).iter().map(alarm_text));
        Ok(pb::StatusResponse {
            header: Some(self.core.state.header(self.revision())),
            version: crate::ETCD_VERSION.to_owned(),
            db_size: size,
            leader: seen.leader_id.unwrap_or(0),
            raft_index: last,
            raft_term: seen.term,
            raft_applied_index: applied,
            errors,
            db_size_in_use: used,
            is_learner: self.is_learner(),
            storage_version: crate::API_VERSION.to_owned(),
            db_size_quota: self.core.options.quota_bytes.cast_signed(),
            downgrade_info: Some(pb::DowngradeInfo::default()),
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
