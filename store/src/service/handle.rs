//! A running member, as its users see it.

use std::sync::Arc;
use std::time::Duration;

use kontiki_proto::etcdserverpb as pb;
use kontiki_proto::kontiki::store::v1 as wire_pb;
use wire_pb::proposal::Operation;

use super::consensus::Consensus;
use super::core::Core;
use super::{members, membership, propose, quota};
use crate::auth::Caller;
use crate::error::Error;
use crate::limits::PROPOSAL_TIMEOUT;
use crate::raft::types::Peer;
use crate::state::apply::{Decided, Outcome};
use crate::state::store::State;
use crate::watch::{History, Watch};
use openraft::async_runtime::WatchReceiver;

/// The way to a member; clones share it.
#[derive(Clone)]
pub struct Handle {
    pub(crate) core: Arc<Core>,
    /// Taken when the member stops.
    runtime: Arc<Consensus>,
    /// On whose behalf it is used.
    pub(super) caller: Caller,
}

/// Before a request to a leader that just changed is tried again.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

impl Handle {
    pub(super) fn new(core: Arc<Core>, runtime: Consensus) -> Self {
        Self { core, runtime: Arc::new(runtime), caller: Caller::Trusted }
    }

    /// The same member, on behalf of someone.
    #[must_use]
    pub fn on_behalf_of(&self, caller: Caller) -> Self {
        Self { caller, ..self.clone() }
    }

    /// Waits until this member is part of a cluster that works, or stops.
    pub async fn ready(&self) -> Result<(), Error> {
        let mut ready = self.core.ready.subscribe();
        tokio::select! {
            ready = ready.wait_for(|ready| *ready) => ready.map(drop).map_err(|_| Error::Stopped),
            () = self.core.stop.cancelled() => Err(Error::Stopped),
        }
    }

    /// Waits until the others say that this member is no longer one of them.
    pub async fn removed(&self) {
        self.core.removed.cancelled().await;
    }

    /// Waits until consensus has ended by itself. The member does nothing more; started again it goes on where its disk is.
    pub async fn failed(&self) {
        self.core.failed.cancelled().await;
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
    pub fn client_address(&self) -> &crate::place::Address {
        &self.core.client_address
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

    /// Brings those metrics up to date that are only looked at now and then.
    pub async fn refresh_metrics(&self) {
        self.core.note_progress();
        let database = self.core.state.database();
        let sizes = crate::blocking::run(move || (database.disk_bytes(), database.bytes())).await;
        if let Ok((disk, used)) = sizes {
            self.core.metrics.db_size.set(disk.max(used).cast_signed());
            self.core.metrics.db_size_in_use.set(used.cast_signed());
        }
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
        self.admin()?;
        let state = self.core.state.clone();
        let cleaned = crate::blocking::run(move || {
            state.clean();
            state.flush().map(drop)
        });
        cleaned.await.map_err(|_| Error::Stopped)?.map_err(|error| Error::Internal(error.to_string()))
    }

    /// A hash over what is readable at a revision, the same on every member.
    pub async fn hash_kv(&self, revision: i64) -> Result<pb::HashKvResponse, Error> {
        self.admin()?;
        let hashed = self.read(false, move |state| state.hash(revision)).await?;
        Ok(pb::HashKvResponse {
            header: Some(self.header(self.revision())),
            hash: hashed.hash,
            compact_revision: hashed.compact_revision,
            hash_revision: hashed.revision,
        })
    }

    /// Hands leadership to another member.
    pub async fn move_leader(&self, target: u64) -> Result<(), Error> {
        self.admin()?;
        if !self.core.leads() {
            return Err(Error::NotLeader);
        }
        if target == self.core.member_id {
            return Ok(());
        }
        if !self.core.membership()?.membership().voter_ids().any(|voter| voter == target) {
            return Err(Error::BadLeaderTransferee);
        }
        self.core.raft()?.trigger().transfer_leader(target).await.map_err(|_| Error::Stopped)?;
        let mut leader = self.core.leader.subscribe();
        let moved = leader.wait_for(|leader| leader.is_some_and(|leader| leader.node_id == target));
        tokio::time::timeout(PROPOSAL_TIMEOUT, moved).await.map_err(|_| Error::Timeout)?.map_err(|_| Error::Stopped)?;
        Ok(())
    }

    /// Whether the caller may do what only administrators may.
    pub fn admin(&self) -> Result<(), Error> {
        self.core.state.auth().admin(&self.caller)
    }

    /// Whether the caller may read keys.
    pub fn may_read(&self, key: &bytes::Bytes, range_end: &bytes::Bytes) -> Result<(), Error> {
        self.core.state.auth().read(&self.caller, key, range_end)
    }

    /// A watch that whoever asks moves on.
    pub(crate) fn position(&self, request: pb::WatchCreateRequest) -> Result<Watch, Error> {
        let (key, range_end) = crate::watch::watched(&request);
        self.may_read(&key, &range_end)?;
        Ok(Watch::new(self.core.state.clone(), request))
    }

    /// Whether the caller may know of a lease, and of the keys that go with it.
    pub(super) fn may_see_lease(&self, id: i64, with_keys: bool) -> Result<(), Error> {
        let auth = self.core.state.auth();
        if auth.user(&self.caller)?.is_none() || !with_keys {
            return Ok(());
        }
        let keys = self.core.state.lease(id).map(|lease| lease.keys).unwrap_or_default();
        keys.iter().try_for_each(|key| auth.read(&self.caller, key, &bytes::Bytes::new()))
    }

    /// Whoever keeps a lease alive decides about all keys that go with it.
    pub(super) fn may_renew_lease(&self, id: i64) -> Result<(), Error> {
        let auth = self.core.state.auth();
        if auth.user(&self.caller)?.is_none() {
            return Ok(());
        }
        let keys = self.core.state.lease(id).map(|lease| lease.keys).unwrap_or_default();
        keys.iter().try_for_each(|key| auth.write(&self.caller, key))
    }

    /// Whether this member is a learner, which answers little.
    #[must_use]
    pub fn is_learner(&self) -> bool {
        let (_, membership) = self.core.state.applied();
        membership.membership().get_node(&self.core.member_id).is_some_and(|peer| peer.learner)
    }

    pub(super) fn not_learner(&self) -> Result<(), Error> {
        if self.is_learner() { Err(Error::NotSupportedForLearner) } else { Ok(()) }
    }

    pub(super) fn not_corrupt(&self) -> Result<(), Error> {
        if self.core.state.alarmed(pb::AlarmType::Corrupt) { Err(Error::Corrupt) } else { Ok(()) }
    }

    /// The members, as they are here.
    #[must_use]
    pub fn members(&self) -> Vec<pb::Member> {
        let (_, membership) = self.core.state.applied();
        membership.membership().nodes().map(|(id, peer)| self.member(*id, peer)).collect()
    }

    fn member(&self, id: u64, peer: &Peer) -> pb::Member {
        // A member that never introduced itself has no name yet: etcd shows it as unstarted.
        let attributes = self.core.state.attributes(id).unwrap_or_default();
        pb::Member {
            id,
            name: attributes.name,
            peer_ur_ls: peer.urls.clone(),
            client_ur_ls: attributes.client_urls,
            is_learner: peer.learner,
        }
    }

    /// Adds a member, which is then to be started.
    pub async fn member_add(&self, urls: Vec<String>, learner: bool, now_unix_nanos: u128) -> Result<pb::Member, Error> {
        self.admin()?;
        members::check_urls(&urls)?;
        let mut urls = urls;
        urls.sort_unstable();
        // A new identity each time, so that one that was removed may be added again.
        let id = super::identity::member_id(&now_unix_nanos.to_string(), &urls.join(","));
        let member = wire_pb::Member { id, name: String::new(), peer_urls: urls.clone(), learner };
        membership::change(&self.core, wire_pb::change_membership_request::Change::Add(member)).await?;
        Ok(pb::Member { id, peer_ur_ls: urls, is_learner: learner, ..Default::default() })
    }

    /// Changes the membership otherwise.
    pub async fn member_change(&self, change: wire_pb::change_membership_request::Change) -> Result<(), Error> {
        self.admin()?;
        membership::change(&self.core, change).await
    }

    /// Lists, raises or clears alarms.
    pub async fn alarm(&self, request: pb::AlarmRequest) -> Result<Vec<pb::AlarmMember>, Error> {
        if request.action() == pb::alarm_request::AlarmAction::Get {
            self.core.state.auth().user(&self.caller)?;
            let wanted = |alarm: &pb::AlarmMember| request.alarm() == pb::AlarmType::None || alarm.alarm == request.alarm;
            let mut alarms = crate::state::cluster::alarms(&self.core.state.alarms());
            alarms.retain(wanted);
            return Ok(alarms);
        }
        match self.propose(Operation::Alarm(request)).await? {
            (Outcome::Alarms(alarms), _) => Ok(alarms),
            _ => Ok(vec![]),
        }
    }

    /// Changes users, roles or permissions.
    pub async fn auth_change(&self, change: wire_pb::auth_change::Change) -> Result<pb::ResponseHeader, Error> {
        let change = wire_pb::AuthChange { change: Some(change) };
        self.propose(Operation::Auth(change)).await.map(|(_, header)| header)
    }

    pub(super) async fn propose(&self, operation: Operation) -> Result<(Outcome, pb::ResponseHeader), Error> {
        quota::check(&self.core, &operation).await?;
        let decided: Decided = propose::submit(&self.core, &self.caller, operation).await?;
        let mut header = self.core.state.header(decided.revision);
        header.raft_term = decided.term;
        Ok((decided.result?, header))
    }

    pub(super) async fn lease_time(&self, id: i64, renew: bool) -> Result<wire_pb::LeaseTimeResponse, Error> {
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
    pub(super) async fn read<T: Send + 'static>(
        &self,
        small: bool,
        read: impl FnOnce(&State) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        if small {
            return read(&self.core.state);
        }
        let state = self.core.state.clone();
        crate::blocking::run(move || read(&state)).await.map_err(|_| Error::Stopped)?
    }
}
